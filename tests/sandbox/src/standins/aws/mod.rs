//! One account of AWS: the issuers that it trusts, its roles, and the sessions that STS gave out. The
//! services beside it (STS, EKS, ECR) ask it who signed a request and what he may.

pub mod ecr;
pub mod eks;
mod sigv4;
pub mod sts;
mod xml;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{clock::Clock, jwt::KeyRing, random::opaque};
pub use ecr::Ecr;
pub use eks::Eks;
pub use sts::Sts;

/// The account's number.
pub const ACCOUNT: &str = "111122223333";
/// The audience of a token that is shown to STS.
pub const STS_AUDIENCE: &str = "sts.amazonaws.com";

/// A role with its trust policy and what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Longest session, in seconds.
    pub longest_session: i64,
    /// Subjects that may assume it with a token; `*` stands for anything (`StringLike`).
    pub subjects: Vec<String>,
    /// Roles (by ARN) whose sessions may assume it.
    pub trusted_roles: Vec<String>,
    /// Actions that it allows.
    pub actions: Vec<String>,
}

impl Role {
    /// A role that a subject may assume, and that allows nothing.
    #[must_use]
    pub fn new(name: &str, subject: &str) -> Self {
        Self {
            name: name.to_owned(),
            longest_session: 3_600,
            subjects: vec![subject.to_owned()],
            trusted_roles: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// The role allowing one more action, e.g. `eks:DescribeCluster`.
    #[must_use]
    pub fn allowing(mut self, action: &str) -> Self {
        self.actions.push(action.to_owned());
        self
    }

    /// Its ARN.
    #[must_use]
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/{}", self.name)
    }
}

/// A session of a role, with its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The access key's identifier.
    pub access_key: String,
    /// The secret that signs.
    pub secret: String,
    /// The session token.
    pub token: String,
    /// When it ends, in seconds since 1970.
    pub until: i64,
    /// The role.
    pub role: String,
    /// The session's name.
    pub name: String,
}

impl Session {
    /// Who the session is.
    #[must_use]
    pub fn arn(&self) -> String {
        format!(
            "arn:aws:sts::{ACCOUNT}:assumed-role/{}/{}",
            self.role, self.name
        )
    }

    /// The identifier of who the session is.
    #[must_use]
    pub fn user_id(&self) -> String {
        format!("{}:{}", role_id(&self.role), self.name)
    }
}

/// The unique identifier of a role.
fn role_id(name: &str) -> String {
    let letters = name
        .to_uppercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "0");
    format!("AROA{letters:0<17.17}")
}

/// An OpenID Connect provider of the account.
struct Provider {
    keys: Arc<KeyRing>,
    audiences: Vec<String>,
}

/// The account.
pub struct Account {
    /// The clock of all its services.
    pub clock: Clock,
    /// The region of the services here.
    pub region: &'static str,
    providers: BTreeMap<String, Provider>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    roles: Vec<Role>,
    sessions: Vec<Session>,
}

impl Account {
    /// An account in `eu-central-1` that trusts nobody.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock: Clock::default(),
            region: "eu-central-1",
            providers: BTreeMap::new(),
            state: Mutex::default(),
        }
    }

    /// The account trusting an issuer's tokens for STS's audience.
    #[must_use]
    pub fn trusting(mut self, issuer: &str, keys: Arc<KeyRing>) -> Self {
        let audiences = vec![STS_AUDIENCE.to_owned()];
        self.providers
            .insert(issuer.to_owned(), Provider { keys, audiences });
        self
    }

    /// Adds a role, or replaces the one of its name.
    pub fn add(&self, role: Role) {
        let mut state = self.lock();
        state.roles.retain(|known| known.name != role.name);
        state.roles.push(role);
    }

    /// Every session that was given out and not forgotten.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        self.lock().sessions.clone()
    }

    /// The secret half of every session: nobody else may see it.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let sessions = self.sessions().into_iter();
        sessions
            .flat_map(|session| [session.secret, session.token])
            .collect()
    }

    /// Presigns a request to a service as a client with this session does, and returns its URL.
    ///
    /// # Panics
    /// When what is given is no URL.
    #[must_use]
    pub fn presigned(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        session: &Session,
        service: &str,
    ) -> String {
        let scope = format!("{}/{service}", self.region);
        sigv4::presigned(url, headers, session, &scope, self.clock.now())
    }

    fn role(&self, arn: &str) -> Option<Role> {
        self.lock()
            .roles
            .iter()
            .find(|role| role.arn() == arn)
            .cloned()
    }

    fn allows(&self, session: &Session, action: &str) -> bool {
        let state = self.lock();
        let role = state.roles.iter().find(|role| role.name == session.role);
        role.is_some_and(|role| role.actions.iter().any(|allowed| allowed == action))
    }

    fn open_session(&self, role: &Role, name: &str, seconds: i64) -> Session {
        let session = Session {
            access_key: format!("ASIA{}", opaque(16).to_uppercase()),
            secret: opaque(40),
            token: format!("FwoGZXIvYXdzE{}", opaque(300)),
            until: self.clock.now() + seconds,
            role: role.name.clone(),
            name: name.to_owned(),
        };
        self.lock().sessions.push(session.clone());
        session
    }

    fn session(&self, access_key: &str) -> Option<Session> {
        let state = self.lock();
        state
            .sessions
            .iter()
            .find(|session| session.access_key == access_key)
            .cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Account {
    fn default() -> Self {
        Self::new()
    }
}
