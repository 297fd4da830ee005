//! A URL that can be shown. It owns what of a URL may reach a log; it refuses to guess that an
//! unknown query value is harmless.

use std::fmt;

use url::Url;

/// An absolute `http` or `https` URL whose `Display` and `Debug` never show a secret.
///
/// Userinfo and fragment are left out, values of the query are replaced by `***`, and the path is
/// left out when it is a credential: of a URL made by [`DisplaySafeUrl::webhook`], and of the
/// well-known webhook services. The real text is only reachable through [`DisplaySafeUrl::expose`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DisplaySafeUrl {
    url: Url,
    hides_path: bool,
}

/// Why a text is not a URL this client can use. Never holds the text: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// The text does not parse; the cause says where it went wrong, without the text.
    #[error("not a URL: {0}")]
    Malformed(url::ParseError),
    /// The scheme is neither `http` nor `https`.
    #[error("scheme `{0}` is not `http` or `https`")]
    Scheme(String),
    /// The URL names no host.
    #[error("the URL names no host")]
    NoHost,
}

impl DisplaySafeUrl {
    /// Parses an absolute URL whose path may be shown.
    ///
    /// # Errors
    /// When the text is not an absolute `http` or `https` URL with a host.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let url = Url::parse(text.trim()).map_err(InvalidUrl::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidUrl::Scheme(url.scheme().to_owned()));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(InvalidUrl::NoHost);
        }
        let hides_path = is_known_webhook(&url);
        Ok(Self { url, hides_path })
    }

    /// Parses a URL whose path is a credential by itself, as that of an incoming webhook.
    ///
    /// # Errors
    /// As [`DisplaySafeUrl::parse`].
    pub fn webhook(text: &str) -> Result<Self, InvalidUrl> {
        let parsed = Self::parse(text)?;
        Ok(Self {
            hides_path: true,
            ..parsed
        })
    }

    /// The URL of `segments` below this one; each segment is percent-encoded.
    #[must_use]
    pub fn join_segments<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Self {
            url,
            hides_path: self.hides_path,
        }
    }

    /// The URL of a path, with its query, below this one. `None` where the two make no URL.
    #[must_use]
    pub fn with_path_and_query(&self, path_and_query: &str) -> Option<Self> {
        let base = self.url.path().trim_end_matches('/');
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let mut url = self.url.clone();
        url.set_path(&format!("{base}/{}", path.trim_start_matches('/')));
        url.set_query(query);
        // `..` in the path must not lead out of the base.
        url.path().starts_with(base).then_some(Self {
            url,
            hides_path: self.hides_path,
        })
    }

    /// This URL with more pairs in its query; names and values are encoded.
    #[must_use]
    pub fn with_query<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(pairs);
        Self {
            url,
            hides_path: self.hides_path,
        }
    }

    /// The URL a redirect's `Location` leads to, judged anew for what may be shown of it.
    pub(crate) fn resolve(&self, location: &str) -> Option<Self> {
        let url = self.url.join(location).ok()?;
        let resolved = Self::parse(url.as_str()).ok()?;
        Some(Self {
            hides_path: resolved.hides_path || self.hides_path,
            ..resolved
        })
    }

    /// Whether both URLs have the same scheme, host and port.
    #[must_use]
    pub fn same_origin(&self, other: &Self) -> bool {
        self.url.origin() == other.url.origin()
    }

    /// Host and, when it is not the scheme's own, port; what an error may always name.
    #[must_use]
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The URL with its secrets, for the request itself. Never print what this returns.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.url
    }

    /// The parts of this URL that must not be shown, longest first.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        if self.hides_path {
            secrets.push(self.url.path().to_owned());
            secrets.extend(
                self.url
                    .path_segments()
                    .into_iter()
                    .flatten()
                    .map(str::to_owned),
            );
        }
        secrets.extend(self.url.query().map(str::to_owned));
        secrets.extend(self.url.query_pairs().map(|(_, value)| value.into_owned()));
        secrets.extend(self.url.password().map(str::to_owned));
        secrets
    }
}

impl fmt::Display for DisplaySafeUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.url.scheme(), self.host())?;
        if self.hides_path {
            return formatter.write_str("/***");
        }
        formatter.write_str(self.url.path())?;
        for (index, (name, _)) in self.url.query_pairs().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            // The name is percent-encoded again, so that it cannot break the line it is shown in.
            let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
            write!(formatter, "{separator}{name}=***")?;
        }
        Ok(())
    }
}

impl fmt::Debug for DisplaySafeUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DisplaySafeUrl({self})")
    }
}

/// Services whose webhook paths are credentials, so that a URL given without care is still hidden.
fn is_known_webhook(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let path = url.path();
    host == "hooks.slack.com"
        || host == "hooks.slack-gov.com"
        || host.ends_with(".webhook.office.com")
        || host.ends_with(".logic.azure.com")
        || (host.ends_with("discord.com") && path.starts_with("/api/webhooks/"))
        || (host == "events.pagerduty.com" && path.starts_with("/integration/"))
        || path.starts_with("/services/T")
        || path.starts_with("/hooks/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_neither_userinfo_nor_query_values_nor_fragment() {
        let url =
            DisplaySafeUrl::parse("https://ann:pw@example.test:8443/a/b?sig=topsecret&x=1#frag")
                .unwrap();
        assert_eq!(
            url.to_string(),
            "https://example.test:8443/a/b?sig=***&x=***"
        );
        assert_eq!(
            format!("{url:?}"),
            "DisplaySafeUrl(https://example.test:8443/a/b?sig=***&x=***)"
        );
    }

    #[test]
    fn shows_no_path_of_a_webhook() {
        for text in [
            "https://hooks.slack.com/services/T0/B0/abcdef",
            "https://slack.internal.test/services/T0/B0/abcdef",
            "https://discord.com/api/webhooks/1/abcdef",
        ] {
            let url = DisplaySafeUrl::parse(text).unwrap();
            assert!(!url.to_string().contains("abcdef"), "{url}");
        }
        let url = DisplaySafeUrl::webhook("http://127.0.0.1:9/whatever/abcdef").unwrap();
        assert_eq!(url.to_string(), "http://127.0.0.1:9/***");
    }

    #[test]
    fn an_invalid_url_is_refused_without_being_repeated() {
        for text in [
            "hooks.slack.com/services/T0/B0/abcdef",
            "xoxb-abcdef",
            "ftp://abcdef@host/abcdef",
            "",
        ] {
            let error = DisplaySafeUrl::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("abcdef"));
        }
    }

    #[test]
    fn segments_are_encoded_and_appended_below_the_base_path() {
        let base = DisplaySafeUrl::parse("https://ghe.test/api/v3/").unwrap();
        let url = base.join_segments(["repos", "a b", "c/d"]);
        assert_eq!(
            url.expose().as_str(),
            "https://ghe.test/api/v3/repos/a%20b/c%2Fd"
        );
        let url = base.with_path_and_query("/repos/a/b?x=1").unwrap();
        assert_eq!(
            url.expose().as_str(),
            "https://ghe.test/api/v3/repos/a/b?x=1"
        );
        assert!(base.with_path_and_query("/../../x").is_none());
        let url = url.with_query([("audience", "api://a b&c")]);
        assert_eq!(
            url.expose().as_str(),
            "https://ghe.test/api/v3/repos/a/b?x=1&audience=api%3A%2F%2Fa+b%26c"
        );
    }
}
