//! Which proxy a request goes through. It owns the meaning of the proxy variables, which arrive as
//! data; it never reads the process environment.

use reqwest::{NoProxy, Proxy};

use crate::error::BuildError;

/// The proxy variables every command-line tool honours, as read by the caller.
///
/// Values may hold credentials, therefore `Debug` shows only which are set.
#[derive(Clone, Default)]
pub struct ProxySettings {
    http: Option<String>,
    https: Option<String>,
    all: Option<String>,
    no_proxy: Option<String>,
}

impl ProxySettings {
    /// Reads the settings through `lookup`, the lower-case name before the upper-case one.
    ///
    /// An empty variable counts as not set. `HTTP_PROXY` is ignored where `REQUEST_METHOD` is set:
    /// under CGI a client could set it by a header (<https://httpoxy.org>).
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| {
            lookup(name)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let either = |lower: &str, upper: &str| given(lower).or_else(|| given(upper));
        Self {
            http: given("http_proxy")
                .or_else(|| given("HTTP_PROXY").filter(|_| given("REQUEST_METHOD").is_none())),
            https: either("https_proxy", "HTTPS_PROXY"),
            all: either("all_proxy", "ALL_PROXY"),
            no_proxy: either("no_proxy", "NO_PROXY"),
        }
    }

    /// The proxies in the order in which the client asks them.
    pub(crate) fn proxies(&self) -> Result<Vec<Proxy>, BuildError> {
        // The library would except names by it and still send addresses through the proxy.
        if self.excepts_everything() {
            return Ok(Vec::new());
        }
        let no_proxy = self.no_proxy.as_deref().and_then(NoProxy::from_string);
        let mut proxies = Vec::new();
        for (variable, value, build) in [
            (
                "HTTPS_PROXY",
                &self.https,
                (|url| Proxy::https(url)) as fn(&str) -> reqwest::Result<Proxy>,
            ),
            ("HTTP_PROXY", &self.http, |url| Proxy::http(url)),
            ("ALL_PROXY", &self.all, |url| Proxy::all(url)),
        ] {
            let Some(value) = value else { continue };
            // `host:port` without a scheme is what most people write; reqwest takes it as http.
            let proxy = build(value).map_err(|source| BuildError::Proxy {
                variable,
                source: source.without_url(),
            })?;
            proxies.push(proxy.no_proxy(no_proxy.clone()));
        }
        Ok(proxies)
    }
}

impl ProxySettings {
    fn excepts_everything(&self) -> bool {
        let entries = self.no_proxy.as_deref().unwrap_or_default().split(',');
        entries.map(str::trim).any(|entry| entry == "*")
    }
}

impl std::fmt::Debug for ProxySettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ProxySettings")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("all", &self.all.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> ProxySettings {
        ProxySettings::from_lookup(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        assert!(
            settings(&[("HTTPS_PROXY", " "), ("https_proxy", "")])
                .proxies()
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn http_proxy_is_ignored_under_cgi() {
        assert!(
            settings(&[("HTTP_PROXY", "http://p:1"), ("REQUEST_METHOD", "GET")])
                .http
                .is_none()
        );
    }

    #[test]
    fn credentials_of_a_proxy_are_not_shown() {
        let shown = format!(
            "{:?}",
            settings(&[("HTTPS_PROXY", "http://ann:hidden@proxy:3128")])
        );
        assert!(!shown.contains("hidden"), "{shown}");
        let error = settings(&[("HTTPS_PROXY", "http://ann:hidden@[bad")])
            .proxies()
            .unwrap_err();
        assert!(!format!("{error:?}").contains("hidden"), "{error:?}");
    }
}
