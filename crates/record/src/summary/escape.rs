//! Making untrusted text harmless in markdown, HTML and mermaid.

use std::fmt::Write as _;

/// Longest text that a cell shows.
const MAX_CHARACTERS: usize = 200;

/// Untrusted text as inline code in a markdown table: nothing in it is markup, a mention, a link
/// or the end of the cell. Entities keep GitHub from reading markdown in it, the element keeps
/// it from linking names and numbers.
pub(super) fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("<code>{}</code>", entities(text))
}

/// Every character but letters, digits and the most harmless signs as an entity.
fn entities(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars().take(MAX_CHARACTERS) {
        match c {
            c if c.is_control() => escaped.push(' '),
            c if c.is_alphanumeric() || matches!(c, ' ' | '.' | ',' | '/' | '=') => escaped.push(c),
            // Writing to a String cannot fail.
            c => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
        }
    }
    if text.chars().nth(MAX_CHARACTERS).is_some() {
        escaped.push('…');
    }
    escaped
}

/// Untrusted text as a label in mermaid, where `:`, `;`, `#` and `,` are syntax and where words
/// like `end` can be: only letters, digits, `.`, `-`, `_`, `/` and spaces are left.
pub(super) fn label(text: &str) -> String {
    text.chars()
        .take(60)
        .map(|c| match c {
            c if c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ' ') => c,
            _other => '_',
        })
        .collect()
}

/// A link whose target is one of ours: http or https without anything that ends a link.
pub(super) fn link(text: &str, url: &str) -> String {
    let is_plain = (url.starts_with("https://") || url.starts_with("http://"))
        && url.chars().all(|c| {
            c.is_ascii_graphic()
                && !matches!(c, '(' | ')' | '<' | '>' | '"' | '\'' | '`' | '\\' | '|')
        });
    if is_plain {
        format!("[{}]({url})", entities(text))
    } else {
        code(url)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_mentions_and_cells_are_text() {
        assert_eq!(
            code("<b>@all|`x`\n#1</b>"),
            "<code>&#60;b&#62;&#64;all&#124;&#96;x&#96; &#35;1&#60;/b&#62;</code>"
        );
    }

    #[test]
    fn a_link_that_could_end_early_is_shown_as_text() {
        assert_eq!(
            link("run", "https://example.com/1"),
            "[run](https://example.com/1)"
        );
        assert!(link("run", "https://example.com/) [x](y").starts_with("<code>"));
        assert!(link("run", "javascript:alert(1)").starts_with("<code>"));
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_cell_or_its_line(text in any::<String>()) {
            let code = code(&text);
            prop_assert!(!code.contains(['|', '\n', '\r', '`', '@']));
            let inner = code.strip_prefix("<code>").unwrap_or_default();
            let inner = inner.strip_suffix("</code>").unwrap_or_default();
            prop_assert!(!inner.contains(['<', '>']));
            prop_assert!(!label(&text).contains([':', ';', '#', ',', '\n', '\r', '%', '`']));
        }
    }
}
