//! What tells the API server whose tokens to take and whom to ask about them. Pure.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration>

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{TrustedIssuer, address};
use crate::standins::entra::AKS_SERVER;

/// The audience of a token of GitHub's that is shown to the API server itself.
pub const DIRECT_AUDIENCE: &str = "https://kubernetes.sandbox";

/// The structured authentication configuration. It names the issuers as their tokens do, and finds
/// their keys here.
pub(crate) fn authentication(ca: &str) -> Value {
    let jwt: Vec<Value> = TrustedIssuer::ALL
        .map(|issuer| authenticator(issuer, ca))
        .into();
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": jwt,
    })
}

fn authenticator(issuer: TrustedIssuer, ca: &str) -> Value {
    let discovery = format!(
        "{}/{}/.well-known/openid-configuration",
        address(),
        issuer.name()
    );
    let (audience, mappings) = match issuer {
        TrustedIssuer::GitHub => (
            DIRECT_AUDIENCE,
            json!({
                "username": {"claim": "sub", "prefix": "github:"},
                "groups": {"claim": "repository", "prefix": "github:"},
                "extra": [{
                    "key": "github.com/job-workflow-ref", "valueExpression": "claims.job_workflow_ref",
                }],
            }),
        ),
        // A principal is its object id, its groups are theirs: as AKS has it.
        TrustedIssuer::Entra => (
            AKS_SERVER,
            json!({
                "username": {"claim": "oid", "prefix": ""},
                "groups": {"claim": "groups", "prefix": ""},
            }),
        ),
    };
    json!({
        "issuer": {
            "url": issuer.url(), "discoveryURL": discovery, "certificateAuthority": ca,
            "audiences": [audience],
        },
        "claimMappings": mappings,
    })
}

/// The kubeconfig of the token webhook.
pub(crate) fn token_webhook(ca: &str) -> Value {
    let server = format!("{}/token-review", address());
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "identity",
            "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca)},
        }],
        "users": [{"name": "apiserver", "user": {}}],
        "contexts": [{"name": "identity", "context": {"cluster": "identity", "user": "apiserver"}}],
        "current-context": "identity",
    })
}
