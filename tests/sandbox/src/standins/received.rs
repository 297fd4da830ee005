//! A request as a service sees it.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
#[cfg(test)]
use serde_json::Value;

/// A request as a service sees it.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method, upper-case.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query's pairs, decoded, in order.
    pub query: Vec<(String, String)>,
    /// The query as it was sent: what a signature covers.
    pub raw_query: String,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
    /// The server's own base URL, for links in answers.
    pub base_url: String,
}

impl Received {
    /// A header by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// A request with a JSON body, for tests of a service without a socket.
    #[cfg(test)]
    pub(crate) fn post(path: &str, body: &Value) -> Self {
        let headers = [
            ("content-type", "application/json; charset=utf-8"),
            ("user-agent", "test"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            method: "POST".to_owned(),
            path: path.to_owned(),
            query: Vec::new(),
            raw_query: String::new(),
            headers: headers.into(),
            body: Bytes::from(body.to_string()),
            base_url: "http://127.0.0.1".to_owned(),
        }
    }

    /// A request without a body, for tests of a service without a socket.
    #[cfg(test)]
    pub(crate) fn get(url: &str) -> Self {
        let url: url::Url = url.parse().expect("a URL");
        let raw_query = url.query().unwrap_or_default().to_owned();
        Self {
            method: "GET".to_owned(),
            path: url.path().to_owned(),
            query: url.query_pairs().into_owned().collect(),
            raw_query,
            headers: [("host".to_owned(), url.authority().to_owned())].into(),
            body: Bytes::new(),
            base_url: url.origin().ascii_serialization(),
        }
    }

    /// A request with a form as its body, for tests of a service without a socket.
    #[cfg(test)]
    pub(crate) fn form(url: &str, fields: &[(&str, &str)]) -> Self {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        Self {
            method: "POST".to_owned(),
            body: Bytes::from(form.finish()),
            ..Self::get(url)
        }
        .with_header("content-type", "application/x-www-form-urlencoded")
    }

    /// Sets a header; an empty value takes it away.
    #[cfg(test)]
    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.remove(name);
        if !value.is_empty() {
            self.headers.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    /// The first value of a query parameter.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter();
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The fields of a form in the body; `None` where the body does not say that it is one.
    #[must_use]
    pub fn form_fields(&self) -> Option<BTreeMap<String, String>> {
        let is_form = self.media_type().as_deref() == Some("application/x-www-form-urlencoded");
        is_form.then(|| {
            url::form_urlencoded::parse(&self.body)
                .into_owned()
                .collect()
        })
    }

    /// The bearer token.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    }

    /// User name and password of basic authentication.
    #[must_use]
    pub fn basic(&self) -> Option<(String, String)> {
        let (scheme, encoded) = self.header("authorization")?.split_once(' ')?;
        let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        let is_basic = scheme.eq_ignore_ascii_case("basic");
        is_basic.then(|| (user.to_owned(), password.to_owned()))
    }

    /// The media type of the body without parameters, lower-case.
    #[must_use]
    pub fn media_type(&self) -> Option<String> {
        let value = self.header("content-type")?;
        Some(
            value
                .split(';')
                .next()
                .unwrap_or(value)
                .trim()
                .to_ascii_lowercase(),
        )
    }
}
