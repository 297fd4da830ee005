//! TLS as libpq understands it: what `sslmode` promises, over rustls with `ring`.
//!
//! Source: <https://www.postgresql.org/docs/15/libpq-ssl.html>.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::url::UrlError;

/// Where Debian and its kin keep the machine's root certificates, for programs that take a file.
const SYSTEM_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// Only where the server takes nothing else.
    Allow,
    /// Where the server offers it, without looking at its certificate.
    Prefer,
    /// Always. Looks at the certificate only where `sslrootcert` is given, and then as `verify-ca`.
    Require,
    /// Always, with a certificate signed by a known authority.
    VerifyCa,
    /// As `verify-ca`, and the certificate names the host.
    VerifyFull,
}

impl TlsMode {
    /// Its name in a URL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether it needs to know authorities.
    pub(crate) fn verifies(self) -> bool {
        match self {
            Self::Disable | Self::Allow | Self::Prefer | Self::Require => false,
            Self::VerifyCa | Self::VerifyFull => true,
        }
    }

    /// What is tried, in this order, as long as the server refuses.
    pub(crate) fn attempts(self) -> &'static [Encryption] {
        match self {
            Self::Disable => &[Encryption::Without],
            Self::Allow => &[Encryption::Without, Encryption::With],
            Self::Prefer => &[Encryption::Offered, Encryption::Without],
            Self::Require | Self::VerifyCa | Self::VerifyFull => &[Encryption::With],
        }
    }
}

impl FromStr for TlsMode {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let all = [
            Self::Disable,
            Self::Allow,
            Self::Prefer,
            Self::Require,
            Self::VerifyCa,
            Self::VerifyFull,
        ];
        let found = all.into_iter().find(|mode| mode.name() == text);
        found.ok_or(UrlError::Value {
            name: "sslmode",
            allowed: "`disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`",
        })
    }
}

/// One way to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    Without,
    Offered,
    With,
}

impl Encryption {
    pub(crate) fn mode(self) -> tokio_postgres::config::SslMode {
        match self {
            Self::Without => tokio_postgres::config::SslMode::Disable,
            Self::Offered => tokio_postgres::config::SslMode::Prefer,
            Self::With => tokio_postgres::config::SslMode::Require,
        }
    }
}

/// `sslrootcert`: the authorities that a server's certificate may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCertificates {
    /// None is given.
    None,
    /// Those of the machine.
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

impl RootCertificates {
    /// The file for programs that read it themselves.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::System => Some(Path::new(SYSTEM_FILE)),
            Self::File(path) => Some(path),
        }
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootsError {
    #[error("cannot read `{}` (sslrootcert)", .0.display())]
    File(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("`{}` (sslrootcert) holds no certificate", .0.display())]
    Empty(PathBuf),
    #[error("this machine has no root certificates (sslrootcert=system)")]
    NoSystem,
    #[error("TLS cannot be set up")]
    Rustls(#[source] rustls::Error),
}

/// The client's side of TLS.
pub(crate) fn client_config(
    mode: TlsMode,
    roots: &RootCertificates,
) -> Result<ClientConfig, RootsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier {
        trust: trust(mode, roots)?,
        is_name_checked: mode == TlsMode::VerifyFull,
        provider: provider.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(RootsError::Rustls)?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn trust(mode: TlsMode, roots: &RootCertificates) -> Result<Trust, RootsError> {
    let is_checked = match mode {
        TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer => false,
        // As libpq does for the sake of old configurations.
        TlsMode::Require => *roots != RootCertificates::None,
        TlsMode::VerifyCa | TlsMode::VerifyFull => true,
    };
    if !is_checked {
        return Ok(Trust::Anybody);
    }
    let certificates = match roots {
        RootCertificates::None => Vec::new(),
        RootCertificates::System => rustls_native_certs::load_native_certs().certs,
        RootCertificates::File(path) => read_file(path)?,
    };
    if certificates.is_empty() {
        return Err(match roots.path() {
            Some(path) if *roots != RootCertificates::System => RootsError::Empty(path.to_owned()),
            _ => RootsError::NoSystem,
        });
    }
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.iter().cloned());
    Ok(Trust::Only {
        store,
        certificates,
    })
}

fn read_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let failed = |cause| RootsError::File(path.to_owned(), cause);
    let certificates = CertificateDer::pem_file_iter(path).map_err(failed)?;
    certificates.collect::<Result<_, _>>().map_err(failed)
}

/// Whose certificates are taken.
#[derive(Debug)]
enum Trust {
    Anybody,
    Only {
        store: RootCertStore,
        certificates: Vec<CertificateDer<'static>>,
    },
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    is_name_checked: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        match &self.trust {
            Trust::Anybody => {}
            // A server's own certificate as its root is common, and no authority's certificate for webpki.
            Trust::Only { certificates, .. } if certificates.contains(end_entity) => {}
            Trust::Only { store, .. } => verify_server_cert_signed_by_trust_anchor(
                &certificate,
                store,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?,
        }
        if self.is_name_checked {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
