//! Who takes a token, told by its audience, and what must be configured there for this very token.

use serde_json::{Value, json};

use crate::azure::Cloud;
use crate::github::Claims;

/// Who a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    /// Entra of one of Azure's clouds.
    Entra(Cloud),
    /// AWS's Security Token Service.
    Aws,
    /// An API server that trusts GitHub's issuer, or anybody else.
    Other,
}

const AWS_AUDIENCE: &str = "sts.amazonaws.com";

impl Party {
    /// Told by the audience.
    pub(crate) fn of(audience: &str) -> Self {
        match Cloud::of_audience(audience) {
            Some(cloud) => Self::Entra(cloud),
            None if audience == AWS_AUDIENCE => Self::Aws,
            None => Self::Other,
        }
    }

    /// What the document of [`Party::trust`] is, and where it goes.
    pub(crate) fn introduction(self) -> &'static str {
        match self {
            Self::Entra(_) => {
                "a federated credential of Entra that matches this token (`az ad app federated-credential create --id CLIENT_ID --parameters FILE`)"
            }
            Self::Aws => {
                "a statement of the role's trust policy that matches this token (put the account's number in)"
            }
            Self::Other => {
                "an issuer in the API server's AuthenticationConfiguration, and a subject for its role bindings, that match this token"
            }
        }
    }

    /// What must be configured for a token with these claims.
    pub(crate) fn trust(self, claims: &Claims) -> Value {
        match self {
            Self::Entra(_) => federated_credential(claims),
            Self::Aws => trust_statement(claims),
            Self::Other => authenticator(claims),
        }
    }
}

fn federated_credential(claims: &Claims) -> Value {
    json!({
        "name": credential_name(&claims.subject),
        "issuer": claims.issuer,
        "subject": claims.subject,
        "audiences": claims.audience,
    })
}

/// Longest name that Entra takes.
const LONGEST_NAME: usize = 120;

/// A name of letters, digits and single hyphens, as Entra wants it.
fn credential_name(subject: &str) -> String {
    let mut name = String::from("github");
    for word in subject.split(|c: char| !c.is_ascii_alphanumeric()) {
        if !word.is_empty() && name.len() + 1 + word.len() <= LONGEST_NAME {
            name.push('-');
            name.push_str(word);
        }
    }
    name
}

fn trust_statement(claims: &Claims) -> Value {
    // IAM names a provider, and the claims in conditions, by the issuer without its scheme.
    let provider = claims
        .issuer
        .strip_prefix("https://")
        .unwrap_or(&claims.issuer);
    let mut equal = serde_json::Map::new();
    let audience = claims.audience.first().cloned().unwrap_or_default();
    equal.insert(format!("{provider}:aud"), audience.into());
    equal.insert(format!("{provider}:sub"), claims.subject.clone().into());
    json!({
        "Effect": "Allow",
        "Principal": { "Federated": format!("arn:aws:iam::ACCOUNT:oidc-provider/{provider}") },
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": { "StringEquals": equal },
    })
}

/// The prefix keeps a token of GitHub's from being anybody else in the cluster.
const USERNAME_PREFIX: &str = "github:";

fn authenticator(claims: &Claims) -> Value {
    json!({
        "jwt": [{
            "issuer": { "url": claims.issuer, "audiences": claims.audience },
            "claimMappings": { "username": { "claim": "sub", "prefix": USERNAME_PREFIX } },
        }],
        "subject": {
            "kind": "User",
            "apiGroup": "rbac.authorization.k8s.io",
            "name": format!("{USERNAME_PREFIX}{}", claims.subject),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::{Jwt, unsigned};

    fn claims(audience: &str) -> Claims {
        let claims = json!({
            "iss": "https://token.actions.githubusercontent.com", "aud": audience, "iat": 0, "exp": 300,
            "sub": "repo:example@42/shop@1001:environment:production",
        });
        Jwt::parse(unsigned(&claims)).unwrap().claims().clone()
    }

    fn trust(audience: &str) -> Value {
        Party::of(audience).trust(&claims(audience))
    }

    #[test]
    fn entra_gets_a_federated_credential_with_the_claims_as_they_are() {
        let expected = json!({
            "name": "github-repo-example-42-shop-1001-environment-production",
            "issuer": "https://token.actions.githubusercontent.com",
            "subject": "repo:example@42/shop@1001:environment:production",
            "audiences": ["api://AzureADTokenExchangeChina"],
        });
        assert_eq!(trust("api://AzureADTokenExchangeChina"), expected);
    }

    #[test]
    fn the_name_of_a_credential_is_one_that_entra_takes() {
        let name = credential_name(&format!("repo:o/r:ref:refs/heads/{}/x", "y".repeat(200)));
        assert_eq!(name, "github-repo-o-r-ref-refs-heads-x");
    }

    #[test]
    fn aws_gets_a_statement_that_allows_this_subject_alone() {
        let statement = trust("sts.amazonaws.com");
        let equal = &statement["Condition"]["StringEquals"];
        assert_eq!(
            equal["token.actions.githubusercontent.com:aud"],
            "sts.amazonaws.com"
        );
        assert_eq!(
            equal["token.actions.githubusercontent.com:sub"],
            "repo:example@42/shop@1001:environment:production"
        );
        assert_eq!(
            statement["Principal"]["Federated"],
            "arn:aws:iam::ACCOUNT:oidc-provider/token.actions.githubusercontent.com"
        );
    }

    #[test]
    fn a_cluster_gets_an_issuer_and_a_subject_for_its_bindings() {
        let documents = trust("https://cluster.example.test");
        assert_eq!(
            documents["jwt"][0]["issuer"]["audiences"][0],
            "https://cluster.example.test"
        );
        assert_eq!(
            documents["subject"]["name"],
            "github:repo:example@42/shop@1001:environment:production"
        );
    }
}
