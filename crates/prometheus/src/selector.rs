//! Is a query nothing but a selector of series? Such a one can be asked for its samples as they were scraped.

/// Whether `promql` is a metric's name with or without matchers, `metric{label="value"}`, and nothing around it.
#[must_use]
pub fn is_plain_selector(promql: &str) -> bool {
    let text = promql.trim();
    let name_ends = text
        .find(|character: char| !(character.is_ascii_alphanumeric() || "_:".contains(character)))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(name_ends);
    let begins_well = name.starts_with(|first: char| !first.is_ascii_digit());
    if rest.is_empty() {
        return begins_well;
    }
    (name.is_empty() || begins_well) && rest.starts_with('{') && closes_at_its_end(rest)
}

/// Whether the brace that opens the text closes with its last character, quotes read as PromQL does.
fn closes_at_its_end(text: &str) -> bool {
    let mut quote = None;
    let mut is_escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match (quote, character) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some('"' | '\''), '\\') => is_escaped = true,
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(character),
            (None, '}') => return index + 1 == text.len(),
            (None, _) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::is_plain_selector;

    #[test]
    fn a_selector_is_a_name_with_or_without_matchers() {
        for plain in [
            "up",
            " job:requests:rate5m ",
            r#"http_requests_total{code=~"5..",path="/a}b"}"#,
            r#"{__name__="up"}"#,
            r#"up{a="\"}"}"#,
            "up{}",
        ] {
            assert!(is_plain_selector(plain), "{plain}");
        }
        for other in [
            "",
            "1",
            "up[5m]",
            "up + up",
            "sum(up)",
            "up offset 5m",
            r#"up{a="b"} / down{a="b"}"#,
            r#"up{a="b"#,
            r#"up{a="b"}[5m]"#,
        ] {
            assert!(!is_plain_selector(other), "{other}");
        }
    }
}
