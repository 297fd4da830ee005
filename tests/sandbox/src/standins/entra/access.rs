//! The access tokens that Entra gives out: what each opens, and the check of whoever is shown one.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use serde_json::{Value, json};

use super::{Application, Cloud, TENANT, refusal::Refusal};
use crate::standins::{
    jwt::{KeyRing, Signature, Token},
    random::{opaque, uuid},
    server::Answer,
};

/// The application that stands for the API servers of AKS, in every cloud.
pub const AKS_SERVER: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
const CONTAINER_REGISTRY: &str = "https://containerregistry.azure.net";
/// How long an access token lives, in seconds.
const LIFE: i64 = 3_599;

/// What an access token opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// Azure Resource Manager.
    ResourceManager,
    /// The API server of an AKS cluster.
    KubernetesServer,
    /// Azure Container Registry.
    ContainerRegistry,
}

/// The access tokens of a tenant.
#[derive(Debug)]
pub struct AccessTokens {
    /// The keys that sign.
    pub keys: Arc<KeyRing>,
    cloud: Cloud,
    life: AtomicI64,
    further_managers: Mutex<Vec<String>>,
}

/// Why an access token does not open something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unacceptable {
    /// It is not one of this tenant's tokens.
    Invalid,
    /// Its time is over, or has not come.
    OutsideOfLife,
    /// It opens something else.
    OtherAudience,
}

impl AccessTokens {
    pub(super) fn new(cloud: Cloud, keys: Arc<KeyRing>) -> Self {
        Self {
            keys,
            cloud,
            life: AtomicI64::new(LIFE),
            further_managers: Mutex::default(),
        }
    }

    /// Makes the tokens live so many seconds instead of an hour.
    pub fn set_life(&self, seconds: i64) {
        self.life.store(seconds, Ordering::Relaxed);
    }

    /// Takes a further address for that of Azure Resource Manager, as a private cloud has it.
    pub fn accept_manager(&self, address: &str) {
        let mut further = self
            .further_managers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        further.push(address.trim_end_matches('/').to_owned());
    }

    /// The audience that a scope names.
    pub(super) fn audience(&self, scope: &str) -> Result<String, Refusal> {
        let Some(named) = scope.strip_suffix("/.default") else {
            return Err(Refusal::ScopeWithoutDefault(scope.to_owned()));
        };
        // `https://management.azure.com//.default` keeps its slash in the audience.
        match self.opened_by(named) {
            Some(_) => Ok(named.to_owned()),
            None => Err(Refusal::UnknownResource(named.to_owned())),
        }
    }

    fn opened_by(&self, audience: &str) -> Option<Resource> {
        let plain = audience.strip_suffix('/').unwrap_or(audience);
        let further = self
            .further_managers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if plain == self.cloud.resource_manager() || further.iter().any(|known| known == plain) {
            return Some(Resource::ResourceManager);
        }
        match plain {
            AKS_SERVER => Some(Resource::KubernetesServer),
            CONTAINER_REGISTRY => Some(Resource::ContainerRegistry),
            _ => None,
        }
    }

    /// The answer that gives an application a token.
    pub(super) fn give(&self, application: &Application, audience: &str, now: i64) -> Answer {
        let life = self.life.load(Ordering::Relaxed);
        let token = self.token(application, audience, now, life);
        let document = json!({
            "token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token,
        });
        Answer::json(200, &document).with_header("cache-control", "no-store, no-cache")
    }

    fn token(&self, application: &Application, audience: &str, now: i64, life: i64) -> String {
        let issuer = self.cloud.issuer(TENANT);
        let mut claims = json!({
            "aud": audience, "iss": issuer, "iat": now, "nbf": now, "exp": now + life,
            "aio": opaque(40), "appid": application.client_id, "appidacr": "2", "idp": issuer,
            "idtyp": "app", "oid": application.object_id, "sub": application.object_id,
            "rh": format!("0.{}", opaque(30)), "tid": TENANT, "uti": uuid(), "ver": "1.0",
        });
        if !application.groups.is_empty() {
            claims["groups"] = json!(application.groups);
        }
        self.keys.sign(&claims)
    }

    /// Checks a token that is shown to a resource, as the resource does.
    ///
    /// # Errors
    /// Why it does not open that resource at that second.
    pub fn check(&self, text: &str, resource: &Resource, now: i64) -> Result<Token, Unacceptable> {
        let token = Token::parse(text).ok_or(Unacceptable::Invalid)?;
        if self.keys.check(&token) != Signature::Good || token.text("tid") != TENANT {
            return Err(Unacceptable::Invalid);
        }
        if !token.lives_at(now) {
            return Err(Unacceptable::OutsideOfLife);
        }
        if self.opened_by(token.text("aud")).as_ref() != Some(resource) {
            return Err(Unacceptable::OtherAudience);
        }
        Ok(token)
    }
}

/// The discovery document of the tenant's access tokens.
pub(crate) fn discovery(cloud: Cloud, keys: &str) -> Value {
    json!({
        "issuer": cloud.issuer(TENANT),
        "jwks_uri": keys,
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": [
            "client_secret_post", "private_key_jwt", "client_secret_basic",
        ],
    })
}
