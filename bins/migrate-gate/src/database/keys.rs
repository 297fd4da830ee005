//! `database-urls`: lines `KEY=URL`, as in a file of environment variables.

use std::collections::BTreeMap;

use switchyard_runner::Secret;

/// URLs by their keys.
#[derive(Debug, Default)]
pub(crate) struct UrlKeys(BTreeMap<String, Secret>);

impl UrlKeys {
    /// Parses lines; empty ones and those that begin with `#` say nothing, quotes around a URL and `export` before a
    /// key are taken away.
    ///
    /// # Errors
    /// Naming the line by its number, never by its text.
    pub(crate) fn parse(text: &Secret) -> Result<Self, String> {
        let mut keys = BTreeMap::new();
        for (number, line) in (1..).zip(text.expose().lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, url)) = line.split_once('=') else {
                return Err(format!("line {number} is not `KEY=URL`"));
            };
            let key = key.trim().trim_start_matches("export ").trim();
            let is_key =
                !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_key {
                return Err(format!("line {number} is not `KEY=URL`"));
            }
            let url = Secret::new(unquoted(url.trim()));
            if keys.insert(key.to_owned(), url).is_some() {
                return Err(format!("line {number} gives key `{key}` again"));
            }
        }
        Ok(Self(keys))
    }

    /// The URL of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Secret> {
        self.0.get(key)
    }

    /// All of them, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(key, url)| (key.as_str(), url))
    }

    /// The keys, for a hint.
    pub(crate) fn names(&self) -> String {
        if self.0.is_empty() {
            return "none".to_owned();
        }
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        names.join(", ")
    }
}

fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_given_twice_is_refused() {
        let error = UrlKeys::parse(&Secret::new("A=x\nA=y")).unwrap_err();
        assert_eq!(error, "line 2 gives key `A` again");
    }
}
