//! Entra's token endpoint for a workload that shows another issuer's token instead of a secret:
//! `POST /{tenant}/oauth2/v2.0/token`. Checks in the order in which Entra does: the form, the tenant,
//! the client, the scope, and then the assertion against the client's federated credentials.
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>

mod access;
mod cloud;
mod federation;
mod refusal;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    clock::Clock,
    jwt::{KeyRing, Signature, Token},
    received::Received,
    server::{Answer, Fault, Service, StandIn},
};
pub(crate) use access::discovery;
pub use access::{AKS_SERVER, AccessTokens, Resource, Unacceptable};
pub use cloud::Cloud;
pub(super) use federation::matches;
pub use federation::{Application, FederatedCredential, SubjectMatch};
use refusal::Refusal;

/// The tenant of the stand-ins.
pub const TENANT: &str = "5a7e11a7-0c0d-4e5f-8a9b-1c2d3e4f5a6b";
/// A domain of it, which names it as well.
pub const TENANT_DOMAIN: &str = "acme.onmicrosoft.com";
/// Scopes of OpenID Connect, which Microsoft's libraries add and which mean nothing for an application.
const OPENID: [&str; 3] = ["openid", "offline_access", "profile"];
/// The kind of assertion that is shown.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Entra of one cloud, with one tenant.
pub struct Entra {
    /// The cloud: it decides which audience an assertion needs.
    pub cloud: Cloud,
    /// What it gives out, for whoever checks it.
    pub tokens: Arc<AccessTokens>,
    /// The service's clock.
    pub clock: Clock,
    issuers: BTreeMap<String, Arc<KeyRing>>,
    settings: Mutex<Settings>,
}

#[derive(Default)]
struct Settings {
    applications: Vec<Application>,
    /// Exchanges that are still answered as if the newest credential had not arrived everywhere.
    propagating: u32,
    /// Identifiers of tenants that live in another cloud.
    foreign_tenants: Vec<String>,
    /// Tokens given out.
    given: u32,
}

/// What another process may change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Exchanges that are still to be answered as if the credential had not arrived.
    propagating: Option<u32>,
    /// How far the clock goes ahead, in seconds.
    skew: Option<i64>,
    /// The life of access tokens, in seconds.
    life: Option<i64>,
}

impl Entra {
    /// Entra of a cloud with keys of its own.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(cloud: Cloud) -> io::Result<Self> {
        Ok(Self::with_keys(cloud, KeyRing::generate()?))
    }

    /// Entra of a cloud.
    #[must_use]
    pub fn with_keys(cloud: Cloud, keys: Arc<KeyRing>) -> Self {
        Self {
            cloud,
            tokens: Arc::new(AccessTokens::new(cloud, keys)),
            clock: Clock::default(),
            issuers: BTreeMap::new(),
            settings: Mutex::default(),
        }
    }

    /// Lets it find the keys of an issuer, as it finds those of every issuer on the internet.
    #[must_use]
    pub fn reaching(mut self, issuer: &str, keys: Arc<KeyRing>) -> Self {
        self.issuers.insert(issuer.to_owned(), keys);
        self
    }

    /// Registers an application with its federated credentials.
    pub fn register(&self, application: Application) {
        let mut settings = self.lock();
        settings
            .applications
            .retain(|known| known.client_id != application.client_id);
        settings.applications.push(application);
    }

    /// Answers the next so many exchanges as if their credential had not arrived everywhere yet.
    pub fn propagate(&self, exchanges: u32) {
        self.lock().propagating = exchanges;
    }

    /// Knows a tenant as one of another cloud.
    pub fn know_as_foreign(&self, tenant: &str) {
        self.lock().foreign_tenants.push(tenant.to_owned());
    }

    /// A refusal with any code, for what only a tenant's policy or an outage brings about.
    #[must_use]
    pub fn refusal(&self, code: u32, words: &str) -> Fault {
        Fault::Answer(refusal::answer(
            401,
            "invalid_client",
            code,
            words,
            self.clock.now(),
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchange(&self, request: &Received, tenant: &str) -> Result<Answer, Refusal> {
        let fields = request.form_fields().unwrap_or_default();
        let field = |name: &str| {
            fields
                .get(name)
                .map(String::as_str)
                .filter(|text| !text.is_empty())
        };
        let required = |name: &'static str| field(name).ok_or(Refusal::MissingParameter(name));
        let grant = required("grant_type")?;
        self.check_tenant(tenant)?;
        if grant != "client_credentials" {
            return Err(Refusal::UnsupportedGrant(grant.to_owned()));
        }
        let client = required("client_id")?;
        let application = self.application(client)?;
        let scope = required("scope")?;
        let words = scope.split(' ').filter(|word| !OPENID.contains(word));
        let own: Vec<&str> = words.collect();
        let audience = self.tokens.audience(&own.join(" "))?;
        if !fields.contains_key("client_assertion") {
            return Err(Refusal::NoSecret);
        }
        if required("client_assertion_type")? != ASSERTION_TYPE {
            return Err(Refusal::WrongAssertionType);
        }
        let assertion = field("client_assertion").and_then(Token::parse);
        let assertion = assertion.ok_or(Refusal::MalformedAssertion)?;
        self.check(&assertion, &application)?;
        let mut settings = self.lock();
        if settings.propagating > 0 {
            settings.propagating -= 1;
            return Err(Refusal::Propagating(assertion.into()));
        }
        settings.given += 1;
        drop(settings);
        Ok(self.tokens.give(&application, &audience, self.clock.now()))
    }

    fn check_tenant(&self, tenant: &str) -> Result<(), Refusal> {
        let named = tenant.to_owned();
        if self.lock().foreign_tenants.contains(&named) {
            return Err(Refusal::OtherCloud);
        }
        if [TENANT, TENANT_DOMAIN]
            .iter()
            .any(|own| tenant.eq_ignore_ascii_case(own))
        {
            return Ok(());
        }
        let is_id = tenant.len() == TENANT.len() && tenant.matches('-').count() == 4;
        if is_id || tenant.contains('.') {
            Err(Refusal::UnknownTenant(named))
        } else {
            Err(Refusal::InvalidTenant(named))
        }
    }

    fn application(&self, client: &str) -> Result<Application, Refusal> {
        let settings = self.lock();
        let mut applications = settings.applications.iter();
        let found = applications.find(|known| known.client_id.eq_ignore_ascii_case(client));
        found
            .cloned()
            .ok_or_else(|| Refusal::UnknownClient(client.to_owned()))
    }

    fn check(&self, assertion: &Token, application: &Application) -> Result<(), Refusal> {
        federation::match_credential(assertion, application)?;
        let issuer = assertion.text("iss");
        let keys = self
            .issuers
            .get(issuer)
            .ok_or_else(|| Refusal::NoMetadata(issuer.to_owned()))?;
        if keys.check(assertion) != Signature::Good {
            return Err(Refusal::UnknownKey {
                key: assertion.key_id(),
                issuer: issuer.to_owned(),
            });
        }
        let now = self.clock.now();
        if !assertion.lives_at(now) {
            return Err(Refusal::OutsideOfLife {
                now,
                from: assertion.number("nbf"),
                until: assertion.number("exp"),
            });
        }
        Ok(())
    }
}

impl StandIn<Entra> {
    /// Every token that was given out: nobody else may see one of them.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let given = self.exchanges().into_iter().filter_map(|exchange| {
            let answer: Value = serde_json::from_str(&exchange.answer).ok()?;
            answer["access_token"].as_str().map(str::to_owned)
        });
        given.collect()
    }
}

impl Service for Entra {
    fn answer(&self, request: &Received) -> Answer {
        let segments: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", [tenant, "oauth2", "v2.0", "token"]) => {
                let now = self.clock.now();
                self.exchange(request, tenant)
                    .unwrap_or_else(|refusal| refusal.answer(now))
            }
            (method, [_, "oauth2", "v2.0", "token"]) => {
                Refusal::WrongMethod(method.to_owned()).answer(self.clock.now())
            }
            (
                "GET",
                [TENANT, "v2.0", ".well-known", "openid-configuration"]
                | [TENANT, ".well-known", "openid-configuration"],
            ) => {
                let own = |path: &str| format!("{}/{TENANT}{path}", request.base_url);
                let mut document = discovery(self.cloud, &own("/discovery/v2.0/keys"));
                document["token_endpoint"] = json!(own("/oauth2/v2.0/token"));
                document["authorization_endpoint"] = json!(own("/oauth2/v2.0/authorize"));
                Answer::json(200, &document)
            }
            ("GET", [TENANT, "discovery", "v2.0", "keys"]) => {
                Answer::json(200, &self.tokens.keys.key_set())
            }
            _ => Answer::text(404, ""),
        }
    }

    fn state(&self) -> Value {
        let settings = self.lock();
        let clients: Vec<&str> = settings
            .applications
            .iter()
            .map(|known| known.client_id.as_str())
            .collect();
        json!({"tenant": TENANT, "clients": clients, "given": settings.given})
    }

    fn set(&self, settings: &Value) -> Result<(), String> {
        let change = Change::deserialize(settings).map_err(|cause| cause.to_string())?;
        if let Some(exchanges) = change.propagating {
            self.propagate(exchanges);
        }
        if let Some(seconds) = change.skew {
            self.clock.skew(seconds);
        }
        if let Some(seconds) = change.life {
            self.tokens.set_life(seconds);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
