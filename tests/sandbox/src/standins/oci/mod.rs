//! Registries that take a token: ACR and GHCR as the doors to a real docker-registry, which checks what
//! they sign. <https://distribution.github.io/distribution/spec/auth/token/>

mod acr;
mod ghcr;
mod registry;

use std::{fmt, io, net::Ipv4Addr};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::{random::opaque, server::Answer};
use crate::tls::TlsAuthority;
pub use acr::Acr;
pub use ghcr::Ghcr;
pub use registry::{Door, OpenRegistry, TrustedTokens};

/// How far a token is dated back, in seconds: the registry's clock is another one.
const BACKDATED: i64 = 5;

/// What a token allows: some actions on one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The repository.
    pub repository: String,
    /// `pull`, `push`, …
    pub actions: Vec<String>,
}

impl Access {
    /// Reads a scope: `repository:NAME:ACTION,…`, any number of them between spaces.
    #[must_use]
    pub fn parse(scope: &str) -> Option<Vec<Self>> {
        let parts = scope.split(' ').filter(|part| !part.is_empty());
        parts
            .map(|part| {
                // The name may hold a port, and with it a colon.
                let (rest, actions) = part.rsplit_once(':')?;
                let repository = rest.strip_prefix("repository:")?;
                let actions = actions.split(',').map(str::to_owned).collect();
                Some(Self {
                    repository: repository.to_owned(),
                    actions,
                })
            })
            .collect()
    }

    /// The access without the actions that are not among these.
    fn limited_to(mut self, actions: &[&str]) -> Self {
        self.actions
            .retain(|action| actions.contains(&action.as_str()));
        self
    }
}

/// Signs the tokens that a docker-registry takes: ES256, with a certificate of an authority that the
/// registry trusts.
pub struct RegistryTokens {
    key: EcdsaKeyPair,
    certificate: String,
    issuer: &'static str,
}

impl fmt::Debug for RegistryTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryTokens")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl RegistryTokens {
    fn new(authority: &TlsAuthority, issuer: &'static str) -> io::Result<Self> {
        let identity = authority.server_identity("registry tokens", Ipv4Addr::LOCALHOST.into());
        let identity = identity.map_err(io::Error::other)?;
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
        let certificate = certificate.map_err(io::Error::other)?;
        let key =
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(io::Error::other)?;
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, key.secret_der(), &random);
        Ok(Self {
            key: key.map_err(|rejected| io::Error::other(rejected.to_string()))?,
            certificate: STANDARD.encode(certificate),
            issuer,
        })
    }

    /// A token for a service, good from a second on for so many seconds.
    fn sign(&self, service: &str, subject: &str, access: &[Access], now: i64, life: i64) -> String {
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]});
        let access: Vec<Value> = access
            .iter()
            .map(|access| {
                json!({"type": "repository", "name": access.repository, "actions": access.actions})
            })
            .collect();
        let claims = json!({
            "iss": self.issuer, "sub": subject, "aud": service, "jti": opaque(20), "access": access,
            "iat": now - BACKDATED, "nbf": now - BACKDATED, "exp": now + life,
        });
        let encode = |document: &Value| URL_SAFE_NO_PAD.encode(document.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.expect("a key that was read signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A refusal in the form of the distribution specification.
fn refused(status: u16, code: &str, message: &str) -> Answer {
    let error = json!({"code": code, "message": message, "detail": null});
    Answer::json(status, &json!({"errors": [error]}))
}

/// Host and port of a base URL: what a registry is called.
fn login_server(base_url: &str) -> &str {
    base_url
        .split_once("://")
        .map_or(base_url, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_or_refused() {
        let access = |repository: &str, actions: &[&str]| Access {
            repository: repository.to_owned(),
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        };
        let parsed = Access::parse("repository:a/b:pull repository:c:pull,push");
        assert_eq!(
            parsed,
            Some(vec![
                access("a/b", &["pull"]),
                access("c", &["pull", "push"])
            ])
        );
        assert_eq!(Access::parse(""), Some(Vec::new()));
        assert_eq!(Access::parse("registry:catalog:*"), None);
        assert_eq!(
            access("c", &["pull", "push"]).limited_to(&["pull"]),
            access("c", &["pull"])
        );
    }
}
