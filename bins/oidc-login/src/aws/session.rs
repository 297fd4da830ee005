//! The session of a role over the steps of a job: opened once, kept in a private file, and what it signs
//! for clusters. Its keys go nowhere else.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use switchyard_http::Method;
use switchyard_runner::{Console, Failure, Kind, Secret};

use super::names::{ClusterName, Service};
use super::signing::{Keys, Scope, Unsigned, presigned};
use super::sts::{RoleSession, assume};
use crate::credential::{Assume, Eks, Kept, Obtained, Shared, Token};
use crate::explain::Expectations;
use crate::github::Claims;
use crate::session::Session;

/// What EKS's tokens begin with.
const PREFIX: &str = "k8s-aws-v1.";

/// How long the request in a token may wait to be sent; the cluster counts fifteen minutes all the same.
/// <https://github.com/kubernetes-sigs/aws-iam-authenticator#api-authorization-from-outside-a-cluster>
const PRESIGNED_LIFE: Duration = Duration::from_secs(60);

/// What must be left of a session that is handed out: AWS's SDKs ask again when it is less.
const LASTING: Duration = Duration::from_secs(15 * 60);

/// How long a token is given out: a minute less than the cluster takes it.
const TOKEN_LIFE: Duration = Duration::from_secs(14 * 60);

/// A session as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    access_key: String,
    secret: String,
    token: String,
    arn: String,
    /// In seconds.
    ahead: i64,
}

/// Opens a session, and keeps it for the plugin.
///
/// # Errors
/// When AWS gives none; a refusal is explained in the log first.
pub(crate) async fn open(
    session: &Session,
    recipe: &Assume,
    expectations: &Expectations,
) -> Result<(RoleSession, Claims), Failure> {
    let (opened, claims) = opened(session, recipe, expectations).await?;
    shared(session, recipe).keep(&opened.to_token());
    Ok((opened, claims))
}

/// A token for a cluster, signed by the session that is kept, else by a new one.
///
/// # Errors
/// When AWS gives no session; a refusal is explained in the log first.
pub(crate) async fn cluster_token(
    session: &Session,
    eks: &Eks,
    expectations: &Expectations,
) -> Result<Obtained, Failure> {
    let (role_session, claims) = current(session, &eks.assume, expectations).await?;
    let token = role_session.token_for(session, &eks.assume, &eks.cluster)?;
    Ok(Obtained { token, claims })
}

/// The session that is kept, else a new one with what the token for it said.
///
/// # Errors
/// When AWS gives none; a refusal is explained in the log first.
pub(crate) async fn current(
    session: &Session,
    recipe: &Assume,
    expectations: &Expectations,
) -> Result<(RoleSession, Option<Claims>), Failure> {
    let is_good = |token: &Token| is_session(token) && token.is_fresh(Timestamp::now());
    let another = another(session, recipe, expectations);
    let shared = shared(session, recipe);
    let obtained = shared.one_for_all(session, is_good, another).await?;
    let current = RoleSession::read_back(&obtained.token, session.console())?;
    Ok((current, obtained.claims))
}

/// The session that is kept, for somebody who uses it for a while: only one that lasts.
pub(crate) fn kept(shared: &Shared, console: &Console) -> Option<RoleSession> {
    RoleSession::read_back(&shared.look(lasts)?, console).ok()
}

/// A session for somebody who uses it for a while, where none that lasts is kept: a new one, else the one that is
/// still good for anything.
///
/// # Errors
/// When AWS gives none and none is kept; a refusal is explained in the log first.
pub(crate) async fn lasting(
    session: &Session,
    recipe: &Assume,
    shared: &Shared,
) -> Result<RoleSession, Failure> {
    let expectations = Expectations::default();
    let another = another(session, recipe, &expectations);
    let token = match shared.another(session, lasts, another).await {
        Ok(obtained) => obtained.token,
        Err(failure) => shared.last_resort(failure, is_session)?,
    };
    RoleSession::read_back(&token, session.console())
}

fn lasts(token: &Token) -> bool {
    is_session(token) && token.lasts(Timestamp::now(), LASTING)
}

fn is_session(token: &Token) -> bool {
    RoleSession::of_token(token).is_some()
}

fn shared(session: &Session, recipe: &Assume) -> Shared {
    session.shared(Kept::Session, &recipe.arguments())
}

/// A new session, as it is kept.
async fn another(
    session: &Session,
    recipe: &Assume,
    expectations: &Expectations,
) -> Result<Obtained, Failure> {
    let (opened, claims) = opened(session, recipe, expectations).await?;
    Ok(Obtained {
        token: opened.to_token(),
        claims: Some(claims),
    })
}

async fn opened(
    session: &Session,
    recipe: &Assume,
    expectations: &Expectations,
) -> Result<(RoleSession, Claims), Failure> {
    let opened = assume(session, recipe).await;
    opened.map_err(|error| error.into_failure(session, expectations))
}

impl RoleSession {
    /// The session in a token, masked.
    fn read_back(token: &Token, console: &Console) -> Result<Self, Failure> {
        let session = Self::of_token(token).ok_or_else(|| {
            Failure::message(Kind::Bug, "the session of the role cannot be read back")
        })?;
        console.mask(&session.keys.secret);
        console.mask(&session.keys.token);
        Ok(session)
    }

    /// A token for a cluster: a request that asks STS who we are, signed, for the cluster to send.
    ///
    /// # Errors
    /// Of kind bug when it cannot be signed.
    pub(crate) fn token_for(
        &self,
        session: &Session,
        recipe: &Assume,
        cluster: &ClusterName,
    ) -> Result<Token, Failure> {
        let query = [("Action", "GetCallerIdentity"), ("Version", "2011-06-15")];
        let cluster = cluster.to_string();
        let unsigned = Unsigned {
            method: Method::GET,
            url: recipe.sts().with_query(query),
            headers: &[("x-k8s-aws-id", cluster.as_str())],
            body: String::new(),
        };
        let scope = Scope {
            region: &recipe.region,
            service: Service::Sts.name(),
            at: self.now(),
        };
        let since = Timestamp::now();
        let url = presigned(&unsigned, &self.keys, scope, PRESIGNED_LIFE).map_err(Failure::bug)?;
        let encoded = URL_SAFE_NO_PAD.encode(url.expose());
        let secret = Secret::new(format!("{PREFIX}{encoded}"));
        session.mask(&secret);
        let left = Duration::try_from(self.until.duration_since(since)).unwrap_or_default();
        Ok(Token::new(secret, since, TOKEN_LIFE.min(left)))
    }

    fn to_token(&self) -> Token {
        let entry = Entry {
            access_key: self.keys.access_key.clone(),
            secret: self.keys.secret.expose().to_owned(),
            token: self.keys.token.expose().to_owned(),
            arn: self.arn.clone(),
            ahead: self.ahead.as_secs(),
        };
        let text = serde_json::to_string(&entry).unwrap_or_default();
        Token {
            secret: Secret::new(URL_SAFE_NO_PAD.encode(text)),
            since: self.since,
            until: self.until,
        }
    }

    fn of_token(token: &Token) -> Option<Self> {
        let text = URL_SAFE_NO_PAD.decode(token.secret.expose()).ok()?;
        let entry: Entry = serde_json::from_slice(&text).ok()?;
        Some(Self {
            keys: Keys {
                access_key: entry.access_key,
                secret: Secret::new(entry.secret),
                token: Secret::new(entry.token),
            },
            arn: entry.arn,
            since: token.since,
            until: token.until,
            ahead: SignedDuration::from_secs(entry.ahead),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_session_is_the_same_again() {
        let session = RoleSession {
            keys: Keys {
                access_key: "ASIA".to_owned(),
                secret: Secret::new("a/b+c"),
                token: Secret::new("t=="),
            },
            arn: "arn:aws:sts::111122223333:assumed-role/deploy/run-1".to_owned(),
            since: Timestamp::from_second(1000).unwrap(),
            until: Timestamp::from_second(4600).unwrap(),
            ahead: SignedDuration::from_secs(-400),
        };
        let token = session.to_token();
        assert_eq!(RoleSession::of_token(&token).as_ref(), Some(&session));
        assert_eq!(session.account(), "111122223333");
    }
}
