//! GitHub's container registry, which takes the job's token as a password.
//! <https://docs.github.com/packages/working-with-a-github-packages-registry/working-with-the-container-registry>

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    Access, RegistryTokens, refused,
    registry::{Door, TrustedTokens},
};
use crate::{
    standins::{
        clock::Clock,
        received::Received,
        server::{Answer, Service},
    },
    tls::TlsAuthority,
};

const REALM: &str = "/token";
const SERVICE: &str = "ghcr.io";
const ISSUER: &str = "ghcr.io";
const LIFE: i64 = 300;

/// The registry, for one owner's packages.
pub struct Ghcr {
    /// The service's clock.
    pub clock: Clock,
    /// The token that opens it.
    pub token: String,
    /// The owner of the packages that it opens, lower-case.
    pub owner: String,
    /// What the token may do with them.
    pub actions: Vec<&'static str>,
    tokens: RegistryTokens,
    behind: PathBuf,
}

impl Ghcr {
    /// The registry in front of a docker-registry at a socket, for packages of `acme`.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(token: &str, authority: &TlsAuthority, behind: PathBuf) -> io::Result<Self> {
        Ok(Self {
            clock: Clock::default(),
            token: token.to_owned(),
            owner: "acme".to_owned(),
            actions: vec!["pull"],
            tokens: RegistryTokens::new(authority, ISSUER)?,
            behind,
        })
    }

    fn give(&self, request: &Received) -> Answer {
        if request.query("service") != Some(SERVICE) {
            return refused(400, "DENIED", "invalid service");
        }
        let scope = request.query("scope").unwrap_or_default();
        let Some(access) = Access::parse(scope) else {
            return refused(400, "DENIED", "invalid scope");
        };
        let own = format!("{}/", self.owner);
        let is_known = match request.basic() {
            // Without credentials only public packages open, and there are none.
            None => false,
            Some((_, password)) if password == self.token => true,
            Some(_) => return refused(403, "DENIED", "denied"),
        };
        if !is_known && !access.is_empty() {
            return refused(401, "UNAUTHORIZED", "authentication required");
        }
        if access
            .iter()
            .any(|access| !access.repository.starts_with(&own))
        {
            return refused(403, "DENIED", "requested access to the resource is denied");
        }
        let access: Vec<Access> = access
            .into_iter()
            .map(|access| access.limited_to(&self.actions))
            .collect();
        let now = self.clock.now();
        let token = self.tokens.sign(SERVICE, &self.owner, &access, now, LIFE);
        Answer::json(200, &json!({"token": token}))
    }

    /// The registry's challenge names a scope that is nobody's.
    fn challenge(request: &Received) -> Answer {
        let realm = format!("{}{}", request.base_url, REALM);
        let challenge = format!(
            "Bearer realm=\"{realm}\",service=\"{SERVICE}\",scope=\"repository:user/image:pull\""
        );
        refused(401, "UNAUTHORIZED", "authentication required")
            .with_header("www-authenticate", challenge)
    }
}

impl Service for Ghcr {
    fn answer(&self, request: &Received) -> Answer {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/token") => self.give(request),
            ("GET", "/v2/") => Self::challenge(request),
            _ => refused(404, "NOT_FOUND", "not found"),
        }
    }

    fn state(&self) -> Value {
        json!({"owner": self.owner})
    }

    fn behind(&self, request: &Received) -> Option<PathBuf> {
        let is_challenge = request.path == "/v2/" && request.header("authorization").is_none();
        (request.path.starts_with("/v2") && !is_challenge).then(|| self.behind.clone())
    }
}

impl Door for Ghcr {
    fn socket_behind(&self) -> &Path {
        &self.behind
    }

    fn trusted(&self, base_url: &str) -> Option<TrustedTokens> {
        Some(TrustedTokens {
            realm: format!("{base_url}{REALM}"),
            service: SERVICE.to_owned(),
            issuer: ISSUER,
        })
    }

    fn authorization_to_fill(&self, _: &str, repository: &str) -> String {
        let access = Access {
            repository: repository.to_owned(),
            actions: vec!["pull".to_owned(), "push".to_owned()],
        };
        let now = self.clock.now();
        let token = self.tokens.sign(SERVICE, "filler", &[access], now, 60);
        format!("Bearer {token}")
    }
}
