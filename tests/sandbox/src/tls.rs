//! TLS servers with certificates of an authority: the sandbox's own, or one that lives as long as a
//! test outside of any sandbox.

use std::{net::IpAddr, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{
    authority::{Authority, Identity, Purpose, node_names},
    error::{Context as _, Result},
    instance::Layout,
};

/// Who signs the certificates of servers.
#[derive(Debug)]
pub struct TlsAuthority(Authority);

impl TlsAuthority {
    /// A fresh authority, which nobody trusts unless told to.
    ///
    /// # Errors
    /// No key can be made.
    pub fn throw_away() -> Result<Self> {
        Authority::throw_away("a test").map(Self)
    }

    /// The authority of a sandbox.
    pub(crate) fn of(layout: &Layout) -> Result<Self> {
        Authority::load_or_create(layout).map(Self)
    }

    /// Its certificate, PEM: what a client has to trust.
    #[must_use]
    pub fn certificate(&self) -> &str {
        self.0.certificate()
    }

    /// A certificate and key (PEM) for a client with this common name.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn client_identity(&self, common_name: &str) -> Result<(String, String)> {
        let identity = self
            .0
            .issue(common_name, &Purpose::Client { group: None })?;
        Ok((identity.certificate, identity.key))
    }

    /// A certificate and key (PEM) as AKS gives them to a cluster's administrator: to an API server
    /// that takes this authority's clients, its holder may do everything.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn administrator_identity(&self) -> Result<(String, String)> {
        let group = Some("system:masters");
        let identity = self.0.issue("masterclient", &Purpose::Client { group })?;
        Ok((identity.certificate, identity.key))
    }

    /// A certificate and key for a server at this address, beside the sandbox's own names.
    pub(crate) fn server_identity(&self, common_name: &str, address: IpAddr) -> Result<Identity> {
        let mut names = node_names();
        if !names.contains(&address.to_string()) {
            names.push(address.to_string());
        }
        self.0.issue(common_name, &Purpose::Server(names))
    }

    /// The configuration of a server at this address, for HTTP/1.1.
    pub(crate) fn server(&self, common_name: &str, address: IpAddr) -> Result<Arc<ServerConfig>> {
        let identity = self.server_identity(common_name, address)?;
        server_config(&identity).context(|| format!("cannot serve TLS as `{common_name}`"))
    }
}

fn server_config(
    identity: &Identity,
) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    // One request after the other on a connection: a cut then hits exactly one.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
