//! Why Azure Resource Manager refuses, with its own codes, words and statuses.

use serde_json::json;

use super::ACTION;
use crate::standins::{clock::formatted, entra::Unacceptable, jwt::Token, server::Answer};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    NoToken,
    Token {
        reason: Unacceptable,
        text: String,
        now: i64,
    },
    NoVersion,
    UnknownVersion(String),
    NoRoute(String),
    WrongMethod(String),
    NoLength,
    UnexpectedBody,
    InvalidParameter(&'static str, String),
    UnknownSubscription(String),
    NotAuthorized {
        principal: String,
        scope: String,
    },
    UnknownGroup(String),
    UnknownCluster {
        name: String,
        group: String,
    },
    Throttled(u32),
}

impl Refusal {
    fn status(&self) -> u16 {
        match self {
            Self::NoToken | Self::Token { .. } => 401,
            Self::NoVersion
            | Self::UnknownVersion(_)
            | Self::UnexpectedBody
            | Self::InvalidParameter(..) => 400,
            Self::NotAuthorized { .. } => 403,
            Self::NoRoute(_)
            | Self::UnknownSubscription(_)
            | Self::UnknownGroup(_)
            | Self::UnknownCluster { .. } => 404,
            Self::WrongMethod(_) => 405,
            Self::NoLength => 411,
            Self::Throttled(_) => 429,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "AuthenticationFailed",
            Self::Token { reason, .. } => match reason {
                Unacceptable::Invalid => "InvalidAuthenticationToken",
                Unacceptable::OutsideOfLife => "ExpiredAuthenticationToken",
                Unacceptable::OtherAudience => "InvalidAuthenticationTokenAudience",
            },
            Self::NoVersion => "MissingApiVersionParameter",
            Self::UnknownVersion(_) => "NoRegisteredProviderFound",
            Self::NoRoute(_) => "InvalidResourceType",
            Self::WrongMethod(_) => "MethodNotAllowed",
            Self::NoLength => "LengthRequired",
            Self::UnexpectedBody | Self::InvalidParameter(..) => "InvalidParameter",
            Self::UnknownSubscription(_) => "SubscriptionNotFound",
            Self::NotAuthorized { .. } => "AuthorizationFailed",
            Self::UnknownGroup(_) => "ResourceGroupNotFound",
            Self::UnknownCluster { .. } => "ResourceNotFound",
            Self::Throttled(_) => "TooManyRequests",
        }
    }

    fn words(&self) -> String {
        match self {
            Self::NoToken => {
                "Authentication failed. The 'Authorization' header is missing.".to_owned()
            }
            Self::Token { reason, text, now } => token_words(*reason, text, *now),
            Self::NoVersion => {
                "The api-version query parameter (?api-version=) is required for all requests."
                    .to_owned()
            }
            Self::UnknownVersion(version) => format!(
                "No registered resource provider found for location 'westeurope' and API version '{version}' for type 'managedClusters'. The supported api-versions are '{}'. The supported locations are 'westeurope'.",
                super::VERSIONS.join(", ")
            ),
            Self::NoRoute(path) => {
                format!("The resource type could not be found for the request '{path}'.")
            }
            Self::WrongMethod(method) => {
                format!("The requested resource does not support http method '{method}'.")
            }
            Self::NoLength => "The request must be chunked or have a content length.".to_owned(),
            Self::UnexpectedBody => "The request has a body, and takes none.".to_owned(),
            Self::InvalidParameter(name, value) => {
                format!("The value of parameter {name} is invalid: '{value}'.")
            }
            Self::UnknownSubscription(id) => format!("The subscription '{id}' could not be found."),
            Self::NotAuthorized { principal, scope } => format!(
                "The client '{principal}' with object id '{principal}' does not have authorization to perform action '{ACTION}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials."
            ),
            Self::UnknownGroup(group) => format!("Resource group '{group}' could not be found."),
            Self::UnknownCluster { name, group } => format!(
                "The Resource 'Microsoft.ContainerService/managedClusters/{name}' under resource group '{group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
            ),
            Self::Throttled(seconds) => format!(
                "The request is being throttled as the limit has been reached for operation type - ListClusterUserCredential. Please try again after '{seconds}' seconds."
            ),
        }
    }

    /// The answer.
    pub(super) fn answer(&self) -> Answer {
        let document = json!({"error": {"code": self.code(), "message": self.words()}});
        let answer = Answer::json(self.status(), &document);
        if self.status() != 401 {
            return answer;
        }
        let challenge = format!(
            "Bearer authorization_uri=\"https://login.windows.net/\", error=\"invalid_token\", error_description=\"{}\"",
            self.words()
        );
        answer.with_header("www-authenticate", challenge)
    }
}

fn token_words(reason: Unacceptable, text: &str, now: i64) -> String {
    let token = Token::parse(text);
    let shown = |second: i64| formatted(second, "%-m/%-d/%Y %-I:%M:%S %p");
    match (reason, token) {
        (Unacceptable::OtherAudience, Some(token)) => format!(
            "The access token has been obtained for wrong audience or resource '{}'. It should exactly match with one of the allowed audiences 'https://management.core.windows.net/','https://management.core.windows.net','https://management.azure.com/','https://management.azure.com'.",
            token.text("aud")
        ),
        (Unacceptable::OutsideOfLife, Some(token)) => format!(
            "The access token expiry UTC time '{}' is earlier than current UTC time '{}'.",
            shown(token.number("exp")),
            shown(now)
        ),
        (Unacceptable::Invalid | Unacceptable::OtherAudience | Unacceptable::OutsideOfLife, _) => {
            "The access token is invalid.".to_owned()
        }
    }
}
