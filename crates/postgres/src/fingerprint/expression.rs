//! PostgreSQL writes one expression in two ways before and after a dump: `status IN ('a', 'b')` over a `varchar`
//! column comes back with its casts and brackets elsewhere. Here both become the same text.
//!
//! Casts between the text types go, and brackets around a single term. Brackets around an operator stay: they
//! can change what an expression means.

/// Casts that say nothing: PostgreSQL puts them in by itself.
const TEXT_CASTS: &[&str] = &["::character varying", "::text", "::bpchar"];

/// The text without what a dump and its restoration change.
pub(crate) fn normalize(text: &str) -> String {
    let mut tokens = tokens(&without_casts(text));
    while let Some((open, close)) = needless_brackets(&tokens) {
        tokens.remove(close);
        tokens.remove(open);
    }
    tokens.concat()
}

/// Leaves string literals, quoted identifiers and dollar-quoted bodies as they are.
fn without_casts(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(length) = quoted_length(rest) {
            kept.push_str(&rest[..length]);
            rest = &rest[length..];
        } else if let Some(after) = after_cast(rest) {
            rest = after;
        } else {
            kept.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    kept
}

fn after_cast(text: &str) -> Option<&str> {
    let after = TEXT_CASTS.iter().find_map(|cast| text.strip_prefix(cast))?;
    let after = after.strip_prefix("[]").unwrap_or(after);
    // `::character varying(20)` and `::text_pattern` are something else.
    let is_other = after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '(');
    (!is_other).then_some(after)
}

/// Length of a quoted piece at the beginning, its quotes included.
fn quoted_length(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if first == '$' {
        let end = text[1..].find('$')? + 2;
        let tag = &text[..end];
        let is_tag = tag[1..end - 1]
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_')
            && !tag[1..].starts_with(|c: char| c.is_ascii_digit());
        return is_tag.then(|| {
            text[end..]
                .find(tag)
                .map_or(text.len(), |at| end + at + end)
        });
    }
    if first != '\'' && first != '"' {
        return None;
    }
    // A doubled quote is two quoted pieces side by side, which does no harm.
    let close = text[1..].find(first).map_or(text.len(), |at| at + 2);
    Some(close)
}

/// Quoted pieces, words, and single characters.
fn tokens(text: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = quoted_length(rest).unwrap_or_else(|| {
            if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            }
        });
        tokens.push(rest[..length].to_owned());
        rest = &rest[length..];
    }
    tokens
}

/// The first brackets that hold a single term: a word, a literal, an array, or other brackets.
fn needless_brackets(tokens: &[String]) -> Option<(usize, usize)> {
    tokens.iter().enumerate().find_map(|(open, token)| {
        if token != "(" || is_call(tokens, open) {
            return None;
        }
        let close = closing(tokens, open)?;
        let inner = &tokens[open + 1..close];
        is_single_term(inner).then_some((open, close))
    })
}

/// Whether the brackets belong to a name: `lower(x)`, `numeric(10)`, `ANY (…)` is none.
fn is_call(tokens: &[String], open: usize) -> bool {
    let Some(before) = open.checked_sub(1).map(|at| &tokens[at]) else {
        return false;
    };
    before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"')
}

fn closing(tokens: &[String], open: usize) -> Option<usize> {
    let (opening, closing) = if tokens[open] == "[" {
        ("[", "]")
    } else {
        ("(", ")")
    };
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if token == opening {
            depth += 1;
        } else if token == closing {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

fn is_single_term(inner: &[String]) -> bool {
    match inner {
        [] => false,
        [word] => !matches!(word.as_str(), " " | "*" | ","),
        [open, .., last] if open == "(" && last == ")" => {
            closing(inner, 0) == Some(inner.len() - 1)
        }
        [array, open, .., last] if array == "ARRAY" && open == "[" && last == "]" => {
            closing(inner, 1) == Some(inner.len() - 1)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_list_of_texts_are_one() {
        let before = "CHECK (((status)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))";
        let after = "CHECK (((status)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))";
        assert_eq!(normalize(before), normalize(after));
        assert_eq!(normalize(before), "CHECK (status = ANY ARRAY['a', 'b'])");
    }

    #[test]
    fn brackets_that_change_the_meaning_stay() {
        assert_ne!(normalize("((a OR b) AND c)"), normalize("(a OR (b AND c))"));
        assert_ne!(normalize("lower(x)"), normalize("lower x"));
    }

    #[test]
    fn what_is_quoted_stays() {
        for text in [
            "'x'::date",
            "'(a)::text'",
            "\"(a)\"",
            "$$ SELECT (a)::text $$",
            "$f$ (a)::text $f$ x",
            "'it''s (a)'",
        ] {
            assert_eq!(normalize(text), text);
        }
        assert_eq!(
            normalize("x::character varying(20)"),
            "x::character varying(20)"
        );
    }
}
