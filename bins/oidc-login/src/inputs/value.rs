//! What single inputs may be.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use switchyard_http::DisplaySafeUrl;

/// The id of an application: `8-4-4-4-12` hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApplicationId(String);

impl FromStr for ApplicationId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        let is_id =
            lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
        if is_id {
            Ok(Self(text.to_owned()))
        } else {
            Err("an id like `01234567-89ab-cdef-0123-456789abcdef` is needed".to_owned())
        }
    }
}

impl fmt::Display for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tenant, by its id or a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantName(String);

impl FromStr for TenantName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
            && text.chars().any(|c| c.is_ascii_alphanumeric());
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err("the tenant's id or one of its domains is needed".to_owned())
        }
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A certificate authority, which is no secret and may be given as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CertificateAuthority {
    File(PathBuf),
    /// PEM text.
    Text(String),
}

impl FromStr for CertificateAuthority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        const END: &str = "-----END CERTIFICATE-----";
        let text = text.trim();
        if !text.starts_with("-----BEGIN") {
            return Ok(Self::File(text.into()));
        }
        if text.starts_with(BEGIN) && text.ends_with(END) {
            Ok(Self::Text(format!("{text}\n")))
        } else {
            Err(format!(
                "PEM text of certificates alone is needed, from `{BEGIN}` to `{END}`"
            ))
        }
    }
}

/// The base URL of a service that is shown tokens: always with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpsUrl(DisplaySafeUrl);

impl From<DisplaySafeUrl> for HttpsUrl {
    /// Takes a URL that this program made itself.
    fn from(url: DisplaySafeUrl) -> Self {
        debug_assert_eq!(url.expose().scheme(), "https");
        Self(url)
    }
}

impl HttpsUrl {
    pub(crate) fn url(&self) -> &DisplaySafeUrl {
        &self.0
    }
}

impl FromStr for HttpsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = DisplaySafeUrl::parse(text).map_err(|cause| cause.to_string())?;
        let exposed = url.expose();
        if exposed.scheme() != "https" {
            return Err("tokens are sent there: it must begin with `https://`".to_owned());
        }
        if exposed.query().is_some()
            || exposed.fragment().is_some()
            || !exposed.username().is_empty()
        {
            return Err("it must be a base URL, without user, query and fragment".to_owned());
        }
        Ok(Self(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_named_by_its_id_alone() {
        assert!(
            "01234567-89ab-cdef-0123-456789abcdef"
                .parse::<ApplicationId>()
                .is_ok()
        );
        for text in [
            "",
            "my-app",
            "01234567-89ab-cdef-0123-456789abcdeg",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert!(text.parse::<ApplicationId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_tenant_cannot_lead_to_another_path() {
        assert!("example.onmicrosoft.com".parse::<TenantName>().is_ok());
        for text in ["", "..", "a/b", "a?b", "a b"] {
            assert!(text.parse::<TenantName>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_authority_is_a_file_or_the_text_of_certificates() {
        let read = |text: &str| text.parse::<CertificateAuthority>();
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        assert_eq!(
            read("ca.pem").unwrap(),
            CertificateAuthority::File("ca.pem".into())
        );
        let text = CertificateAuthority::Text(format!("{pem}\n"));
        assert_eq!(read(&format!("{pem}\n\n")).unwrap(), text);
        assert!(read("-----BEGIN PRIVATE KEY-----").is_err());
        assert!(read(&pem.replace('\n', " ")[..40]).is_err());
    }

    #[test]
    fn tokens_are_sent_nowhere_without_tls() {
        assert!("https://login.example.test".parse::<HttpsUrl>().is_ok());
        for text in [
            "http://login.example.test",
            "https://u@x.test",
            "https://x.test?y",
            "x.test",
        ] {
            assert!(text.parse::<HttpsUrl>().is_err(), "{text}");
        }
    }
}
