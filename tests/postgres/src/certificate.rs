//! A certificate authority that lives as long as a test.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Signs certificates of servers; nobody trusts it unless told to. Clones are the same authority.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A fresh one.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("make a key");
        let mut parameters = CertificateParams::default();
        let names = &mut parameters.distinguished_name;
        names.push(DnType::CommonName, "authority of a test");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).expect("sign the authority");
        Self(Arc::new(Inner {
            certificate: certificate.pem(),
            issuer: Issuer::new(parameters, key),
        }))
    }

    /// Its certificate, PEM: what a client has to trust.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.0.certificate
    }

    /// A certificate and its key, both PEM, for a server of these names and addresses.
    ///
    /// # Panics
    /// When a name is none, or no key can be made.
    #[must_use]
    pub fn issue(&self, names: &[String]) -> (String, String) {
        let key = KeyPair::generate().expect("make a key");
        let mut parameters =
            CertificateParams::new(names.to_vec()).expect("names for a certificate");
        let subject = &mut parameters.distinguished_name;
        subject.push(DnType::CommonName, "server of a test");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.signed_by(&key, &self.0.issuer);
        let certificate = certificate.expect("sign a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}
