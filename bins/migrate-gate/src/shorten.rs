//! Shortens what would be too long for a person to read.

/// The beginning of a text on one line, at most `longest` characters of it.
pub(crate) fn beginning(text: &str, longest: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = line.chars().take(longest).collect();
    if shown.len() < line.len() {
        shown + "…"
    } else {
        shown
    }
}

/// The first `most` of some things, and how many more there are.
pub(crate) fn few(all: &[String], most: usize, between: &str) -> String {
    let first = all.get(..most).unwrap_or(all);
    let mut text = first.join(between);
    if all.len() > first.len() {
        let more = all.len() - first.len();
        text.push_str(&format!("{between}and {more} more"));
    }
    text
}

/// The first of some sentences whose others are in a report; `None` where there is none.
pub(crate) fn first(all: &[String]) -> Option<String> {
    let (first, others) = all.split_first()?;
    Some(match others.len() {
        0 => first.clone(),
        more => format!("{first} (and {more} more, see the report)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_text_is_cut_by_characters_and_says_so() {
        assert_eq!(beginning("a\n  b", 3), "a b");
        assert_eq!(beginning("äöü", 2), "äö…");
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let all = texts(&["a", "b", "c"]);
        assert_eq!(few(&all, 2, "; "), "a; b; and 1 more");
        assert_eq!(few(&all, 3, ", "), "a, b, c");
        assert_eq!(few(&[], 3, ", "), "");
        assert_eq!(first(&all).unwrap(), "a (and 2 more, see the report)");
        assert_eq!(first(&all[..1]).unwrap(), "a");
        assert_eq!(first(&[]), None);
    }
}
