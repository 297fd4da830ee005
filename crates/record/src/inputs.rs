//! The hash of a step's inputs: whether a re-run is made of the same.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::identity::hex;

/// Hash of the inputs that define what a step deploys, by name. The order of the pairs does not
/// count. Leave out what may differ between attempts (time limits), and never give secrets.
#[must_use]
pub fn inputs_hash<'a>(inputs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut pairs: Vec<_> = inputs.into_iter().collect();
    pairs.sort_unstable();
    let mut text = String::new();
    for (name, value) in pairs {
        // The lengths make the text unambiguous. Writing to a String cannot fail.
        let _ = writeln!(text, "{}:{name}={}:{value}", name.len(), value.len());
    }
    let mut hash = hex(&Sha256::digest(text.as_bytes()));
    hash.truncate(16);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_count_but_names_and_values_do() {
        let one = inputs_hash([("images", "web=1.1"), ("slot", "auto")]);
        assert_eq!(one, inputs_hash([("slot", "auto"), ("images", "web=1.1")]));
        assert_ne!(one, inputs_hash([("images", "web=1.2"), ("slot", "auto")]));
        assert_ne!(
            inputs_hash([("a", "b\n1:c=1:d")]),
            inputs_hash([("a", "b"), ("c", "d")])
        );
    }
}
