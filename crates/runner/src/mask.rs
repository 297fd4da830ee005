//! Masks: telling the runner which texts to hide in the log, before anything else is printed.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::Secret;

/// Shortest line worth a mask: shorter ones would blacken ordinary text.
const SHORTEST: usize = 4;

/// Every form of a secret that could appear in a log: its lines, base64 (with and without padding, URL
/// alphabet), percent-encoded.
#[must_use]
pub fn forms(secret: &Secret) -> Vec<String> {
    let text = secret.expose();
    let mut forms: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    forms.push(STANDARD.encode(text));
    forms.push(URL_SAFE.encode(text));
    forms.push(percent_encode(text));
    for index in 0..forms.len() {
        let bare = forms[index].trim_end_matches('=').to_owned();
        forms.push(bare);
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms.sort();
    forms.dedup();
    forms
}

/// The `add-mask` lines for a secret. `act` prints a value that holds `::` as it is instead of masking
/// it, so such a form is left out there.
#[must_use]
pub fn commands(secret: &Secret, is_act: bool) -> Vec<String> {
    forms(secret)
        .into_iter()
        .filter(|form| !(is_act && form.contains("::")))
        .map(|form| crate::workflow_command::render("add-mask", &[], &form))
        .collect()
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_secret_is_masked() {
        let commands = commands(&Secret::new("pa:ss w\nsecond line"), false);
        for form in [
            "pa:ss w",
            "second line",
            "cGE6c3Mgdw",
            "pa%253Ass%2520w%250Asecond%2520line",
        ] {
            assert!(
                commands.iter().any(|line| line.contains(form)),
                "{form}: {commands:?}"
            );
        }
    }

    #[test]
    fn text_too_short_to_be_a_secret_is_not_masked() {
        assert!(
            commands(&Secret::new("a"), false)
                .iter()
                .all(|line| line != "::add-mask::a")
        );
    }

    #[test]
    fn act_is_not_given_a_value_that_it_would_print() {
        assert!(
            commands(&Secret::new("pass::word"), true)
                .iter()
                .all(|line| !line.contains("pass::word"))
        );
    }
}
