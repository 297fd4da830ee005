//! GitHub's token service: the endpoint at which a job asks for a token of its own, and the issuer's
//! public half (discovery and key set). Answers as GitHub's do; refusals as the service behind it, an
//! Azure DevOps service, words them.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    clock::Clock,
    job::{Job, SubjectFormat},
    jwt::KeyRing,
    random::{opaque, uuid},
    received::Received,
    server::{Answer, Service, StandIn},
};

/// The issuer of github.com.
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";
/// How long a token lives, in seconds.
const LIFE: i64 = 300;
/// How far before its making a token is valid already, in seconds.
const BACKDATED: i64 = 600;

/// The token service of one job, and of other jobs of the same run.
pub struct TokenService {
    /// The bearer token that the job asks with (`ACTIONS_ID_TOKEN_REQUEST_TOKEN`).
    pub request_token: String,
    /// The keys that sign.
    pub keys: Arc<KeyRing>,
    /// The service's clock.
    pub clock: Clock,
    path: String,
    settings: Mutex<Settings>,
}

struct Settings {
    job: Job,
    /// Other jobs, by the token that each asks with.
    others: Vec<(String, Job)>,
    issuer: String,
    life: i64,
}

/// What another process may change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// The job's environment; none when empty.
    environment: Option<String>,
    /// The subject's format.
    subject: Option<NamedFormat>,
    /// The tokens' life in seconds.
    life: Option<i64>,
    issuer: Option<String>,
    /// How far the clock goes ahead, in seconds.
    skew: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum NamedFormat {
    Legacy,
    Immutable,
}

impl From<NamedFormat> for SubjectFormat {
    fn from(named: NamedFormat) -> Self {
        match named {
            NamedFormat::Legacy => Self::Legacy,
            NamedFormat::Immutable => Self::Immutable,
        }
    }
}

impl TokenService {
    /// The service of github.com for the default job, with keys of its own.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new() -> io::Result<Self> {
        Ok(Self::with_keys(KeyRing::generate()?))
    }

    /// The service of github.com for the default job.
    #[must_use]
    pub fn with_keys(keys: Arc<KeyRing>) -> Self {
        let (plan, job) = (uuid(), uuid());
        Self {
            request_token: request_token(),
            keys,
            clock: Clock::default(),
            path: format!("/{}/idtoken/{plan}/{job}", opaque(50)),
            settings: Mutex::new(Settings {
                job: Job::default(),
                others: Vec::new(),
                issuer: GITHUB_ISSUER.to_owned(),
                life: LIFE,
            }),
        }
    }

    /// What `ACTIONS_ID_TOKEN_REQUEST_URL` is to a job that reaches this service at a base URL.
    #[must_use]
    pub fn request_url(&self, base_url: &str) -> String {
        format!("{base_url}{}?api-version=2.0", self.path)
    }

    /// Asks for another job from now on.
    pub fn run(&self, job: Job) {
        self.lock().job = job;
    }

    /// Runs one more job, and returns the token that it asks with.
    #[must_use]
    pub fn run_beside(&self, job: Job) -> String {
        let token = request_token();
        self.lock().others.push((token.clone(), job));
        token
    }

    /// Makes the tokens live so many seconds instead of 300.
    pub fn set_life(&self, seconds: i64) {
        self.lock().life = seconds;
    }

    /// Names another issuer in the tokens: an enterprise's own (`…/SLUG`) or that of a GitHub
    /// Enterprise Server (`https://HOST/_services/token`).
    pub fn set_issuer(&self, issuer: &str) {
        self.lock().issuer = issuer.to_owned();
    }

    /// The issuer in the tokens.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.lock().issuer.clone()
    }

    /// A token for an audience, as the endpoint gives it out.
    #[must_use]
    pub fn token(&self, audience: &str) -> String {
        let job = self.lock().job.clone();
        self.token_of(&job, audience)
    }

    fn token_of(&self, job: &Job, audience: &str) -> String {
        let settings = self.lock();
        let now = self.clock.now();
        let mut claims = job.claims();
        for (name, value) in [
            ("jti", json!(uuid())),
            ("sub", json!(job.subject())),
            ("aud", json!(audience)),
            ("iss", json!(settings.issuer)),
            ("nbf", json!(now - BACKDATED)),
            ("iat", json!(now)),
            ("exp", json!(now + settings.life)),
        ] {
            claims[name] = value;
        }
        self.keys.sign(&claims)
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, request: &Received) -> Answer {
        if request.method != "GET" {
            let text = format!(
                "The requested resource does not support http method '{}'.",
                request.method
            );
            return Answer::json(405, &json!({"message": text}));
        }
        let Some(job) = request.bearer().and_then(|token| self.job(token)) else {
            return Answer::text(401, "").with_header("www-authenticate", "Bearer");
        };
        if let Some(refused) = version_refused(request) {
            return refused;
        }
        let owner = format!(
            "https://github.com/{}",
            job.claims()["repository_owner"]
                .as_str()
                .unwrap_or_default()
        );
        let audience = request.query("audience").filter(|text| !text.is_empty());
        let token = self.token_of(&job, audience.unwrap_or(&owner));
        Answer::json(200, &json!({"count": token.len(), "value": token}))
    }

    /// The job that asks with this token.
    fn job(&self, token: &str) -> Option<Job> {
        let settings = self.lock();
        if token == self.request_token {
            return Some(settings.job.clone());
        }
        let mut others = settings.others.iter();
        others
            .find(|(known, _)| known == token)
            .map(|(_, job)| job.clone())
    }

    fn discovery(&self) -> Answer {
        let issuer = self.issuer();
        Answer::json(
            200,
            &discovery(&issuer, &format!("{issuer}/.well-known/jwks")),
        )
    }
}

impl StandIn<TokenService> {
    /// Every token that jobs were given or ask with: nobody else may see one of them.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let given = self.exchanges().into_iter().filter_map(|exchange| {
            let answer: Value = serde_json::from_str(&exchange.answer).ok()?;
            answer["value"].as_str().map(str::to_owned)
        });
        let settings = self.service().lock();
        let others = settings.others.iter().map(|(token, _)| token.clone());
        let own = self.service().request_token.clone();
        given.chain(others).chain([own]).collect()
    }
}

/// A JWT itself on GitHub; here nobody looks inside.
fn request_token() -> String {
    format!("request-{}", opaque(40))
}

/// GitHub's discovery document.
pub(crate) fn discovery(issuer: &str, keys: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": keys,
        "subject_types_supported": ["public", "pairwise"],
        "response_types_supported": ["id_token"],
        "claims_supported": [
            "sub", "aud", "exp", "iat", "iss", "jti", "nbf", "ref", "sha", "repository",
            "repository_id", "repository_owner", "repository_owner_id", "run_id", "run_attempt",
            "environment", "job_workflow_ref", "event_name",
        ],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
    })
}

/// A version has to be named, in the query or in `Accept`, and has to be one that there is.
fn version_refused(request: &Received) -> Option<Answer> {
    let accept = request.header("accept").unwrap_or("*/*");
    let kinds: Vec<&str> = accept
        .split(';')
        .next()
        .unwrap_or(accept)
        .split(',')
        .collect();
    if !kinds
        .iter()
        .any(|kind| matches!(kind.trim(), "*/*" | "application/*" | "application/json"))
    {
        return Some(Answer::text(406, ""));
    }
    let accepted = accept
        .split(';')
        .find_map(|part| part.trim().strip_prefix("api-version="));
    let (text, kind) = match accepted.or(request.query("api-version")) {
        Some("2.0") => return None,
        Some(version) => (
            format!("The requested REST API version of {version} is out of range for this server."),
            "VssVersionOutOfRangeException",
        ),
        None => (
            format!(
                "No api-version was supplied for the \"{}\" request. The version must be supplied either as part of the Accept header (e.g. \"application/json; api-version=1.0\") or as a query parameter (e.g. \"?api-version=1.0\").",
                request.method
            ),
            "VssVersionNotSpecifiedException",
        ),
    };
    let document = json!({
        "$id": "1", "innerException": null, "message": text, "typeKey": kind,
        "typeName": format!("Microsoft.VisualStudio.Services.WebApi.{kind}, Microsoft.VisualStudio.Services.WebApi"),
        "errorCode": 0, "eventId": 3000,
    });
    Some(Answer::json(400, &document))
}

impl Service for TokenService {
    fn answer(&self, request: &Received) -> Answer {
        if request.path == self.path {
            return self.give(request);
        }
        match request.path.rsplit_once("/.well-known/") {
            Some((_, "openid-configuration")) if request.method == "GET" => self.discovery(),
            Some((_, "jwks")) if request.method == "GET" => Answer::json(200, &self.keys.key_set()),
            _ => Answer::text(404, ""),
        }
    }

    fn state(&self) -> Value {
        let settings = self.lock();
        json!({"issuer": settings.issuer, "subject": settings.job.subject(), "life": settings.life})
    }

    fn set(&self, settings: &Value) -> Result<(), String> {
        let change: Change = Change::deserialize(settings).map_err(|cause| cause.to_string())?;
        let mut own = self.lock();
        if let Some(environment) = change.environment {
            own.job.environment = (!environment.is_empty()).then_some(environment);
        }
        if let Some(format) = change.subject {
            own.job.subject = format.into();
        }
        own.life = change.life.unwrap_or(own.life);
        own.issuer = change.issuer.unwrap_or_else(|| own.issuer.clone());
        if let Some(seconds) = change.skew {
            self.clock.skew(seconds);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::jwt::{Signature, Token};
    use super::*;

    fn ask(service: &TokenService, audience: &str) -> Received {
        let url = service.request_url("http://127.0.0.1");
        let bearer = format!("Bearer {}", service.request_token);
        Received::get(&format!("{url}&audience={audience}"))
            .with_header("authorization", &bearer)
            .with_header("accept", "application/json; api-version=2.0")
    }

    fn token(answer: &Answer) -> Token {
        let document: Value = serde_json::from_str(&answer.body).expect("JSON");
        Token::parse(document["value"].as_str().expect("a token")).expect("a JWT")
    }

    #[test]
    fn a_job_gets_a_token_for_the_audience_that_it_names() {
        let service = TokenService::new().unwrap();
        let got = token(&service.answer(&ask(&service, "api%3A%2F%2FAzureADTokenExchange")));
        assert_eq!(got.text("aud"), "api://AzureADTokenExchange");
        assert_eq!(got.text("iss"), GITHUB_ISSUER);
        assert_eq!(got.text("sub"), "repo:acme/shop:ref:refs/heads/main");
        assert_eq!(got.number("exp") - got.number("iat"), 300);
        assert_eq!(service.keys.check(&got), Signature::Good);
        let own = token(&service.answer(&ask(&service, "")));
        assert_eq!(own.text("aud"), "https://github.com/acme");
    }

    #[test]
    fn job_life_issuer_and_clock_can_be_changed() {
        let service = TokenService::new().unwrap();
        service.run(Job::default().in_environment("production"));
        service.set_life(5);
        service.set_issuer("https://ghes.example/_services/token");
        service.clock.skew(3_600);
        let got = token(&service.answer(&ask(&service, "x")));
        assert_eq!(got.text("sub"), "repo:acme/shop:environment:production");
        assert_eq!(got.text("environment"), "production");
        assert_eq!(got.text("iss"), "https://ghes.example/_services/token");
        assert_eq!(got.number("exp") - got.number("iat"), 5);
        assert!(!got.lives_at(Clock::default().now()));
        let document = Received::get("http://127.0.0.1/.well-known/openid-configuration");
        let document = service.answer(&document);
        assert!(
            document
                .body
                .contains("https://ghes.example/_services/token/.well-known/jwks")
        );
    }

    #[test]
    fn each_job_of_a_run_is_told_from_the_others_by_what_it_asks_with() {
        let service = TokenService::new().unwrap();
        let rescue = service.run_beside(Job::default().in_environment("production-rollback"));
        let asked = ask(&service, "x").with_header("authorization", &format!("Bearer {rescue}"));
        let got = token(&service.answer(&asked));
        let subject = "repo:acme/shop:environment:production-rollback";
        assert_eq!(got.text("sub"), subject);
        let own = token(&service.answer(&ask(&service, "x")));
        assert_eq!(own.text("sub"), "repo:acme/shop:ref:refs/heads/main");
    }

    #[test]
    fn another_process_changes_the_job_and_its_tokens() {
        let service = TokenService::new().unwrap();
        let change = json!({"environment": "production", "subject": "immutable", "life": 5});
        service.set(&change).unwrap();
        let got = Token::parse(&service.token("x")).unwrap();
        assert_eq!(
            got.text("sub"),
            "repo:acme@12345678/shop@987654321:environment:production"
        );
        assert_eq!(got.number("exp") - got.number("iat"), 5);
        service.set(&json!({"environment": ""})).unwrap();
        let got = Token::parse(&service.token("x")).unwrap();
        assert!(got.text("sub").ends_with(":ref:refs/heads/main"));
        assert!(
            service.set(&json!({"enviroment": "x"})).is_err(),
            "a misspelt setting"
        );
    }

    #[test]
    fn a_request_is_refused_for_what_github_refuses() {
        let service = TokenService::new().unwrap();
        let good = || ask(&service, "x");
        let without_version = Received {
            query: Vec::new(),
            ..good().with_header("accept", "application/json")
        };
        for (request, status, words) in [
            (good().with_header("authorization", ""), 401, ""),
            (good().with_header("authorization", "Bearer other"), 401, ""),
            (good().with_header("accept", "text/html"), 406, ""),
            (
                good().with_header("accept", "application/json; api-version=9.0"),
                400,
                "version of 9.0 is out of range",
            ),
            (without_version, 400, "No api-version was supplied"),
            (
                Received {
                    method: "POST".to_owned(),
                    ..good()
                },
                405,
                "does not support http method 'POST'",
            ),
            (Received::get("http://127.0.0.1/elsewhere"), 404, ""),
        ] {
            let answer = service.answer(&request);
            assert_eq!(answer.status, status, "{}", answer.body);
            assert!(answer.body.contains(words), "{}", answer.body);
        }
    }
}
