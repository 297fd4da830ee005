//! Why Entra refuses, each with the code, the words and the status that it gives them.
//! <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>

use serde_json::json;

use crate::standins::{
    clock::{formatted, iso},
    jwt::Token,
    random::uuid,
    server::Answer,
};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    WrongMethod(String),
    MissingParameter(&'static str),
    UnsupportedGrant(String),
    InvalidTenant(String),
    UnknownTenant(String),
    OtherCloud,
    UnknownClient(String),
    ScopeWithoutDefault(String),
    UnknownResource(String),
    NoSecret,
    WrongAssertionType,
    MalformedAssertion,
    NoCredentials { client: String, name: String },
    Issuer(String),
    Audience(String),
    Subject(String),
    SubjectCase(String),
    Expression(String),
    NoMetadata(String),
    UnknownKey { key: String, issuer: String },
    OutsideOfLife { now: i64, from: i64, until: i64 },
    Propagating(Presented),
}

/// What an assertion says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Presented {
    issuer: String,
    subject: String,
    audience: String,
}

impl From<Token> for Presented {
    fn from(token: Token) -> Self {
        let [issuer, subject, audience] =
            ["iss", "sub", "aud"].map(|name| token.text(name).to_owned());
        Self {
            issuer,
            subject,
            audience,
        }
    }
}

/// The advice behind most of what is wrong with an assertion.
const COMPARE: &str = "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation";

impl Refusal {
    /// The AADSTS code.
    fn code(&self) -> u32 {
        match self {
            Self::WrongMethod(_) => 900_561,
            Self::MissingParameter(_) => 900_144,
            Self::UnsupportedGrant(_) => 70_003,
            Self::InvalidTenant(_) => 900_023,
            Self::UnknownTenant(_) => 90_002,
            Self::OtherCloud => 900_382,
            Self::UnknownClient(_) => 700_016,
            Self::ScopeWithoutDefault(_) => 1_002_012,
            Self::UnknownResource(_) => 500_011,
            Self::NoSecret => 7_000_218,
            Self::WrongAssertionType => 7_000_217,
            Self::MalformedAssertion => 50_027,
            Self::NoCredentials { .. } => 70_025,
            Self::Issuer(_) => 700_211,
            Self::Audience(_) => 700_212,
            Self::Subject(_) => 700_213,
            Self::SubjectCase(_) => 7_002_138,
            Self::Expression(_) => 7_002_131,
            Self::NoMetadata(_) => 501_661,
            Self::UnknownKey { .. } => 7_000_272,
            Self::OutsideOfLife { .. } => 700_024,
            Self::Propagating(_) => 70_021,
        }
    }

    /// The status and OAuth's own word for it.
    fn kind(&self) -> (u16, &'static str) {
        match self {
            Self::WrongMethod(_)
            | Self::MissingParameter(_)
            | Self::InvalidTenant(_)
            | Self::UnknownTenant(_)
            | Self::OtherCloud
            | Self::WrongAssertionType
            | Self::MalformedAssertion => (400, "invalid_request"),
            Self::UnsupportedGrant(_) => (400, "unsupported_grant_type"),
            Self::UnknownClient(_) => (400, "unauthorized_client"),
            Self::ScopeWithoutDefault(_) => (400, "invalid_scope"),
            Self::UnknownResource(_) => (400, "invalid_resource"),
            Self::NoSecret
            | Self::NoCredentials { .. }
            | Self::Issuer(_)
            | Self::Audience(_)
            | Self::Subject(_)
            | Self::SubjectCase(_)
            | Self::Expression(_)
            | Self::NoMetadata(_)
            | Self::UnknownKey { .. }
            | Self::OutsideOfLife { .. }
            | Self::Propagating(_) => (401, "invalid_client"),
        }
    }

    fn words(&self) -> String {
        let none = "No matching federated identity record found for presented assertion";
        match self {
            Self::WrongMethod(method) => format!("The endpoint only accepts POST, OPTIONS requests. Received a {method} request."),
            Self::MissingParameter(name) => format!("The request body must contain the following parameter: '{name}'."),
            Self::UnsupportedGrant(grant) => format!("The app requested an unsupported grant type '{grant}'."),
            Self::InvalidTenant(tenant) => format!("Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain."),
            Self::UnknownTenant(tenant) => format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."),
            Self::OtherCloud => "Confidential Client is not supported in Cross Cloud request.".to_owned(),
            Self::UnknownClient(client) => format!("Application with identifier '{client}' was not found in the directory 'Acme'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."),
            Self::ScopeWithoutDefault(scope) => format!("The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."),
            Self::UnknownResource(resource) => format!("The resource principal named {resource} was not found in the tenant named Acme. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant."),
            Self::NoSecret => "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.".to_owned(),
            Self::WrongAssertionType => "The 'client_assertion_type' parameter has an unsupported value.".to_owned(),
            Self::MalformedAssertion => "JWT token is invalid or malformed.".to_owned(),
            Self::NoCredentials { client, name } => format!("The client '{client}'({name}) has no configured federated identity credentials."),
            Self::Issuer(issuer) => format!("{none} issuer '{issuer}'. {COMPARE}"),
            Self::Audience(audience) => format!("{none} audience '{audience}'. {COMPARE}"),
            Self::Subject(subject) => format!("{none} subject '{subject}'. {COMPARE}"),
            Self::SubjectCase(subject) => format!("{none} subject '{subject}'. The subject matches with case-insensitive comparison, but not with case-sensitive comparison. {COMPARE} See breaking change notification and remediation at: https://learn.microsoft.com/en-us/entra/identity-platform/reference-breaking-changes#august-2024."),
            Self::Expression(subject) => format!("{none} subject '{subject}'. No expression of a flexible federated identity credential matches it. {COMPARE}"),
            Self::NoMetadata(issuer) => format!("Unable to retrieve the OpenID Connect metadata of identity provider {issuer}."),
            Self::UnknownKey { key, issuer } => format!("The certificate with identifier {key} used to sign the federated credential could not be found in the metadata of identity provider {issuer}. Please validate that your Identity Provider's metadata exposes the key used to sign the incoming token."),
            Self::OutsideOfLife { now, from, until } => format!("Client assertion is not within its valid time range. Current time: {}, assertion valid from {}, expiry time of assertion {}. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .", fine(*now), fine(*from), fine(*until)),
            Self::Propagating(Presented { issuer, subject, audience }) => format!("{none}. Assertion Issuer: '{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'. https://docs.microsoft.com/en-us/azure/active-directory/develop/workload-identity-federation"),
        }
    }

    /// The answer at a second.
    pub(super) fn answer(&self, now: i64) -> Answer {
        let (status, kind) = self.kind();
        answer(status, kind, self.code(), &self.words(), now)
    }
}

/// The answer with a code and its words.
pub(super) fn answer(status: u16, kind: &str, code: u32, words: &str, now: i64) -> Answer {
    let (trace_id, correlation_id) = (uuid(), uuid());
    let timestamp = formatted(now, "%Y-%m-%d %H:%M:%SZ");
    // Escapes in the text are what clients trip over.
    let text = format!(
        "AADSTS{code}: {words}\r\nTrace ID: {trace_id}\r\nCorrelation ID: {correlation_id}\r\nTimestamp: {timestamp}"
    );
    let document = json!({
        "error": kind, "error_description": text, "error_codes": [code], "timestamp": timestamp,
        "trace_id": trace_id, "correlation_id": correlation_id,
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    Answer::json(status, &document)
        .with_header("cache-control", "no-store, no-cache")
        .with_header("x-ms-request-id", trace_id)
}

/// A second with the seven decimals that Entra prints.
fn fine(second: i64) -> String {
    iso(second).replace('Z', ".0000000Z")
}
