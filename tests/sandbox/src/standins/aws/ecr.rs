//! ECR: GetAuthorizationToken, and the registry's front door that takes the token as a password.
//! <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    ACCOUNT, Account,
    eks::{error, refused, require},
    sigv4::signer,
};
use crate::standins::{
    oci::{Door, TrustedTokens},
    random::opaque,
    received::Received,
    server::{Answer, Service},
};

const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
/// How long a password is good, in seconds.
const LIFE: i64 = 12 * 3_600;

/// The service of a region, and the account's registry in it.
pub struct Ecr {
    account: Arc<Account>,
    /// Passwords with the second at which each ends.
    passwords: Mutex<Vec<(String, i64)>>,
    /// The socket of the registry behind the front door.
    behind: Option<PathBuf>,
}

impl Ecr {
    /// ECR of an account, without a registry behind its front door.
    #[must_use]
    pub fn new(account: Arc<Account>) -> Self {
        Self {
            account,
            passwords: Mutex::default(),
            behind: None,
        }
    }

    /// ECR in front of a docker-registry at a socket.
    #[must_use]
    pub fn before(mut self, behind: PathBuf) -> Self {
        self.behind = Some(behind);
        self
    }

    /// Whether a password opens the registry now.
    #[must_use]
    pub fn is_open_to(&self, user: &str, password: &str) -> bool {
        let now = self.account.clock.now();
        let passwords = self
            .passwords
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut passwords = passwords.iter();
        user == "AWS" && passwords.any(|(known, until)| known == password && now < *until)
    }

    fn give(&self, request: &Received) -> Result<Answer, Answer> {
        let session = signer(request, &self.account, "ecr").map_err(|fault| Answer {
            status: 400,
            ..refused(&fault)
        })?;
        if request.header("content-type") != Some("application/x-amz-json-1.1") {
            return Err(error(404, "UnknownOperationException", ""));
        }
        if request.header("x-amz-target") != Some(TARGET) {
            return Err(error(400, "UnknownOperationException", ""));
        }
        let input: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        if !input.is_object() {
            return Err(error(
                400,
                "SerializationException",
                "Start of structure or map found where not expected.",
            ));
        }
        require(
            &self.account,
            &session,
            "ecr:GetAuthorizationToken",
            "*",
            400,
        )?;
        let (token, until) = self.password();
        let region = self.account.region;
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are small")]
        let expires = until as f64;
        let data = json!({
            "authorizationToken": token, "expiresAt": expires,
            "proxyEndpoint": format!("https://{ACCOUNT}.dkr.ecr.{region}.amazonaws.com"),
        });
        let answer = Answer::json(200, &json!({"authorizationData": [data]}));
        Ok(answer.with_header("content-type", "application/x-amz-json-1.1"))
    }

    /// A new password as the token for basic authentication, and the second at which it ends.
    fn password(&self) -> (String, i64) {
        let until = self.account.clock.now() + LIFE;
        let password = opaque(1_200);
        let token = STANDARD.encode(format!("AWS:{password}"));
        let mut passwords = self
            .passwords
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        passwords.push((password, until));
        (token, until)
    }

    fn lets_in(&self, request: &Received) -> bool {
        let given = request.basic();
        given.is_some_and(|(user, password)| self.is_open_to(&user, &password))
    }

    fn enter(&self, request: &Received) -> Answer {
        if self.lets_in(request) {
            return Answer::json(200, &json!({}));
        }
        let challenge = format!(
            "Basic realm=\"{}/\",service=\"ecr.amazonaws.com\"",
            request.base_url
        );
        Answer::text(401, "Not Authorized\n").with_header("www-authenticate", challenge)
    }
}

impl Service for Ecr {
    fn answer(&self, request: &Received) -> Answer {
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/") => self.give(request).unwrap_or_else(|refusal| refusal),
            (_, path) if path.starts_with("/v2/") && !self.lets_in(request) => self.enter(request),
            ("GET" | "HEAD", "/v2/") => self.enter(request),
            _ => Answer::text(404, ""),
        }
    }

    fn behind(&self, request: &Received) -> Option<PathBuf> {
        let is_let_in = request.path.starts_with("/v2/") && self.lets_in(request);
        is_let_in.then(|| self.behind.clone()).flatten()
    }

    fn state(&self) -> Value {
        let passwords = self
            .passwords
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        json!({"given": passwords.len()})
    }
}

impl Door for Ecr {
    fn socket_behind(&self) -> &Path {
        self.behind.as_deref().unwrap_or(Path::new(""))
    }

    fn trusted(&self, _: &str) -> Option<TrustedTokens> {
        None
    }

    fn authorization_to_fill(&self, _: &str, _: &str) -> String {
        format!("Basic {}", self.password().0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Role, sigv4};
    use super::*;

    #[test]
    fn a_password_is_given_to_whoever_may_have_it_and_opens_the_registry() {
        let account = Arc::new(Account::new());
        let role = Role::new("deploy", "*");
        let session = account.open_session(&role, "run", 900);
        account.add(role.clone());
        let ecr = Ecr::new(Arc::clone(&account));
        let ask = |target: &str, kind: &str, body: &str| {
            let mut request = Received::form("https://127.0.0.1:9000/", &[])
                .with_header("content-type", kind)
                .with_header("x-amz-target", target);
            request.body = body.to_owned().into();
            let now = account.clock.now();
            ecr.answer(&sigv4::signed(request, &session, "eu-central-1/ecr", now))
        };
        let kind = "application/x-amz-json-1.1";
        for (answer, status, code) in [
            (ask(TARGET, kind, "{}"), 400, "AccessDeniedException"),
            (ask("Other", kind, "{}"), 400, "UnknownOperationException"),
            (
                ask(TARGET, "application/json", "{}"),
                404,
                "UnknownOperationException",
            ),
            (ask(TARGET, kind, "x"), 400, "SerializationException"),
        ] {
            assert_eq!(answer.status, status, "{}", answer.body);
            assert_eq!(answer.headers["x-amzn-errortype"], code);
        }
        account.add(role.allowing("ecr:GetAuthorizationToken"));
        let given: Value = serde_json::from_str(&ask(TARGET, kind, "{}").body).unwrap();
        let token = given["authorizationData"][0]["authorizationToken"]
            .as_str()
            .unwrap()
            .to_owned();
        let enter = |token: &str| {
            let request = Received::get("https://127.0.0.1:9000/v2/");
            ecr.answer(&request.with_header("authorization", &format!("Basic {token}")))
        };
        assert_eq!(enter(&token).status, 200);
        let refused = enter("QVdTOng=");
        assert_eq!(refused.status, 401);
        assert!(refused.headers["www-authenticate"].starts_with("Basic realm="));
        account.clock.skew(13 * 3_600);
        assert_eq!(enter(&token).status, 401);
    }
}
