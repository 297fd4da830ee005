//! Keeps secrets out of texts that came from elsewhere: error pages repeat URLs, headers and bodies.
//! It owns the replacement, not the decision what a secret is.

use std::fmt;

/// Shorter texts than this, in bytes, are not looked for: replacing them would shred the message
/// without hiding anything.
const SHORTEST: usize = 6;

/// A set of texts that must not appear in anything shown.
#[derive(Clone, Default)]
pub struct Redaction {
    needles: Vec<String>,
}

impl Redaction {
    /// Adds a text to hide; also in the forms in which servers repeat it: escaped for JSON, with
    /// and without escaped slashes, for HTML, and percent-encoded.
    pub fn add(&mut self, secret: &str) {
        let quoted = serde_json::Value::from(secret).to_string();
        let json = quoted[1..quoted.len() - 1].to_owned();
        let html = secret
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let percent = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        for form in [
            secret.to_owned(),
            json.replace('/', "\\/"),
            json,
            html,
            percent,
        ] {
            if form.len() >= SHORTEST && !self.needles.contains(&form) {
                self.needles.push(form);
            }
        }
        // The longest first, so that a part never uncovers the rest of the whole.
        self.needles
            .sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    }

    /// The text with every hidden text replaced by `***`.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        let mut redacted = text.to_owned();
        for needle in &self.needles {
            if redacted.contains(needle.as_str()) {
                redacted = redacted.replace(needle.as_str(), "***");
            }
        }
        redacted
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Redaction({} texts)", self.needles.len())
    }
}

/// Length in characters of the part of a body that an error shows.
const EXCERPT: usize = 240;

/// The beginning of a body as one printable line: redacted before it is cut, so that a cut cannot
/// leave half a secret; control and bidirectional characters escaped.
pub(crate) fn excerpt(body: &[u8], redaction: &Redaction) -> String {
    let text = redaction.apply(&String::from_utf8_lossy(body));
    let text = text.trim();
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == EXCERPT {
            shown.push('…');
            break;
        }
        if character.is_control() || is_bidirectional(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Characters that reorder the text around them (Unicode TR 9), which could fake a message.
fn is_bidirectional(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_excerpt_is_one_short_printable_line() {
        let shown = excerpt(
            b"  <h1>no</h1>\r\n::error::x\x1b[31m  ",
            &Redaction::default(),
        );
        assert_eq!(shown, "<h1>no</h1>\\r\\n::error::x\\u{1b}[31m");
        assert_eq!(
            excerpt(&[b'x'; 1000], &Redaction::default())
                .chars()
                .count(),
            EXCERPT + 1
        );
    }

    #[test]
    fn a_secret_across_the_cut_is_not_half_shown() {
        let mut redaction = Redaction::default();
        redaction.add("supersecret");
        let body = format!("{}supersecret", "x".repeat(EXCERPT - 5));
        assert!(!excerpt(body.as_bytes(), &redaction).contains("super"));
    }

    proptest! {
        #[test]
        fn no_form_of_a_secret_survives(secret in "[!-)+-~]{6,40}", before in "[a-z ]{0,20}") {
            let mut redaction = Redaction::default();
            redaction.add(&secret);
            let json = serde_json::json!({ "echo": format!("{before}{secret}") }).to_string();
            let shown = redaction.apply(&json);
            let escaped = serde_json::Value::from(secret.as_str()).to_string();
            prop_assert!(!shown.contains(&escaped[1..escaped.len() - 1]));
            prop_assert!(!redaction.apply(&secret).contains(&secret));
        }
    }
}
