//! Azure Container Registry: an Entra token becomes a refresh token, that one an access token for some
//! repositories, and that one opens the registry behind.
//! <https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::{
    Access, RegistryTokens, login_server, refused,
    registry::{Door, TrustedTokens},
};
use crate::{
    standins::{
        clock::Clock,
        entra::{AccessTokens, Resource},
        jwt::{KeyRing, Signature, Token},
        received::Received,
        server::{Answer, Service},
    },
    tls::TlsAuthority,
};

const ISSUER: &str = "Azure Container Registry";
/// The user name beside a refresh token that is shown as a password.
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";
const REFRESH_LIFE: i64 = 3 * 3_600;
const ACCESS_LIFE: i64 = 75 * 60;

/// One registry.
pub struct Acr {
    /// The service's clock.
    pub clock: Clock,
    entra: Arc<AccessTokens>,
    refresh_keys: Arc<KeyRing>,
    tokens: RegistryTokens,
    behind: PathBuf,
    /// Object ids of principals with what each may do.
    assignments: Mutex<BTreeMap<String, Vec<&'static str>>>,
}

impl Acr {
    /// A registry that takes Entra's tokens, in front of a docker-registry at a socket.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(
        entra: Arc<AccessTokens>,
        authority: &TlsAuthority,
        behind: PathBuf,
    ) -> io::Result<Self> {
        Ok(Self {
            clock: Clock::default(),
            entra,
            refresh_keys: KeyRing::generate()?,
            tokens: RegistryTokens::new(authority, ISSUER)?,
            behind,
            assignments: Mutex::default(),
        })
    }

    /// Assigns the role AcrPull to a principal.
    pub fn assign_pull(&self, object_id: &str) {
        let mut assignments = self
            .assignments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assignments.insert(object_id.to_owned(), vec!["pull"]);
    }

    fn actions(&self, object_id: &str) -> Option<Vec<&'static str>> {
        let assignments = self
            .assignments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assignments.get(object_id).cloned()
    }

    fn exchange(&self, request: &Received) -> Result<Answer, Answer> {
        let fields = request
            .form_fields()
            .ok_or_else(|| bad("the request is not a form"))?;
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        if field("grant_type") != "access_token" {
            return Err(bad("grant_type not supported"));
        }
        let service = login_server(&request.base_url);
        if field("service") != service {
            return Err(bad("service does not name this registry"));
        }
        let now = self.clock.now();
        let token = self
            .entra
            .check(field("access_token"), &Resource::ContainerRegistry, now);
        let token = token.map_err(|_| unauthorized())?;
        let tenant = field("tenant");
        if !tenant.is_empty() && tenant != token.text("tid") {
            return Err(unauthorized());
        }
        let object_id = token.text("oid");
        self.actions(object_id).ok_or_else(unauthorized)?;
        let claims = json!({
            "iss": ISSUER, "aud": service, "sub": object_id, "grant_type": "refresh_token",
            "appid": token.text("appid"), "tenant": token.text("tid"),
            "iat": now, "nbf": now, "exp": now + REFRESH_LIFE,
        });
        Ok(Answer::json(
            200,
            &json!({"refresh_token": self.refresh_keys.sign(&claims)}),
        ))
    }

    /// The OAuth form of the token endpoint.
    fn token_for_form(&self, request: &Received) -> Result<Answer, Answer> {
        let fields = request
            .form_fields()
            .ok_or_else(|| bad("the request is not a form"))?;
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        if field("grant_type") != "refresh_token" {
            return Err(bad("grant_type not supported"));
        }
        self.token(
            request,
            field("refresh_token"),
            field("service"),
            field("scope"),
        )
    }

    /// The token endpoint as clients of any registry ask it: with a user name and password.
    fn token_for_basic(&self, request: &Received) -> Result<Answer, Answer> {
        let (user, password) = request.basic().ok_or_else(unauthorized)?;
        if user != TOKEN_USER {
            return Err(unauthorized());
        }
        let scopes: Vec<&str> = request
            .query
            .iter()
            .filter(|(name, _)| name == "scope")
            .map(|(_, value)| value.as_str())
            .collect();
        let service = request.query("service").unwrap_or_default();
        self.token(request, &password, service, &scopes.join(" "))
    }

    fn token(
        &self,
        request: &Received,
        refresh: &str,
        service: &str,
        scope: &str,
    ) -> Result<Answer, Answer> {
        let own = login_server(&request.base_url);
        if service != own {
            return Err(bad("service does not name this registry"));
        }
        let now = self.clock.now();
        let refresh = Token::parse(refresh).filter(|token| {
            self.refresh_keys.check(token) == Signature::Good
                && token.lives_at(now)
                && token.text("aud") == own
        });
        let refresh = refresh.ok_or_else(unauthorized)?;
        let allowed = self.actions(refresh.text("sub")).ok_or_else(unauthorized)?;
        let access = Access::parse(scope).ok_or_else(|| bad("scope is not valid"))?;
        let access: Vec<Access> = access
            .into_iter()
            .map(|access| access.limited_to(&allowed))
            .collect();
        let token = self
            .tokens
            .sign(own, refresh.text("sub"), &access, now, ACCESS_LIFE);
        Ok(Answer::json(200, &json!({"access_token": token})))
    }
}

fn unauthorized() -> Answer {
    refused(
        401,
        "UNAUTHORIZED",
        "authentication required, visit https://aka.ms/acr/authorization for more information.",
    )
}

fn bad(message: &str) -> Answer {
    refused(400, "BAD_REQUEST", message)
}

impl Service for Acr {
    fn answer(&self, request: &Received) -> Answer {
        let answer = match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/oauth2/exchange") => self.exchange(request),
            ("POST", "/oauth2/token") => self.token_for_form(request),
            ("GET", "/oauth2/token") => self.token_for_basic(request),
            (_, "/oauth2/exchange" | "/oauth2/token") => {
                Err(refused(405, "UNSUPPORTED", "The operation is unsupported."))
            }
            _ => Err(refused(404, "NOT_FOUND", "not found")),
        };
        answer.unwrap_or_else(|refusal| refusal)
    }

    fn state(&self) -> Value {
        let assignments = self
            .assignments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        json!({"assignments": *assignments})
    }

    fn behind(&self, request: &Received) -> Option<PathBuf> {
        request.path.starts_with("/v2").then(|| self.behind.clone())
    }
}

impl Door for Acr {
    fn socket_behind(&self) -> &Path {
        &self.behind
    }

    fn trusted(&self, base_url: &str) -> Option<TrustedTokens> {
        Some(TrustedTokens {
            realm: format!("{base_url}/oauth2/token"),
            service: login_server(base_url).to_owned(),
            issuer: ISSUER,
        })
    }

    fn authorization_to_fill(&self, base_url: &str, repository: &str) -> String {
        let access = Access {
            repository: repository.to_owned(),
            actions: vec!["pull".to_owned(), "push".to_owned()],
        };
        let (service, now) = (login_server(base_url), self.clock.now());
        let token = self.tokens.sign(service, "filler", &[access], now, 60);
        format!("Bearer {token}")
    }
}
