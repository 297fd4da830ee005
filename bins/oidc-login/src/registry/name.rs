//! What a registry is called: host, and port where it has one.

use std::fmt;
use std::str::FromStr;

use switchyard_http::DisplaySafeUrl;

/// The name of a registry, such as `ghcr.io`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistryName(String);

impl RegistryName {
    /// Its base URL; registries are only reached with TLS.
    pub(crate) fn url(&self) -> DisplaySafeUrl {
        DisplaySafeUrl::parse(&format!("https://{}", self.0)).expect("it was read as a host")
    }

    /// The registry that a client means, which may say a URL.
    pub(crate) fn of_client(text: &str) -> Option<Self> {
        let text = text.trim();
        let host = text.split_once("://").map_or(text, |(_, rest)| rest);
        host.split('/').next()?.parse().ok()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RegistryName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:".contains(c));
        let url = DisplaySafeUrl::parse(&format!("https://{text}"));
        if is_plain && url.is_ok_and(|url| url.host() == text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "a registry's host in lower case is needed, such as `ghcr.io`, without `https://` and path"
                    .to_owned(),
            )
        }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_a_host_and_nothing_more() {
        for text in ["ghcr.io", "127.0.0.1:5000", "shop.azurecr.io"] {
            assert!(text.parse::<RegistryName>().is_ok(), "{text}");
            let asked = RegistryName::of_client(&format!("https://{text}/v2/\n")).unwrap();
            assert_eq!(asked.as_str(), text);
        }
        for text in [
            "",
            "https://ghcr.io",
            "ghcr.io/acme",
            "GHCR.io",
            "u@ghcr.io",
            "a b",
        ] {
            assert!(text.parse::<RegistryName>().is_err(), "{text}");
        }
    }
}
