//! How deep a text nests, before a parser that goes down by recursion sees it.

use crate::cut::text_spans;

/// Stack for a text that nests deep; only what is used of it takes memory.
pub(super) const LARGE_STACK: usize = 1024 * 1024 * 1024;

/// Parentheses in each other that the stack of any thread has room for.
const USUAL_PARENTHESES: usize = 30;

/// The same for words and signs behind each other.
const USUAL_CHAIN: usize = 400;

/// How deep a text nests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nesting {
    /// As people write.
    Usual,
    /// As programs write: it needs a stack of its own.
    Deep,
    /// As nobody writes.
    Absurd,
}

/// How deep a text nests. Operators nest as well: `1 + 1 + 1` is a tree as deep as it is long, until a
/// comma, a semicolon or a parenthesis begins another one.
pub(super) fn nesting(text: &str) -> Nesting {
    let opened = text.bytes().filter(|byte| matches!(byte, b'(' | b'['));
    // Most texts are too short for more, whatever is in them.
    if text.len() <= USUAL_CHAIN && opened.count() <= USUAL_PARENTHESES {
        return Nesting::Usual;
    }
    let spans = text_spans(text);
    let mut deepest = measure(text, &spans);
    // Bodies of functions and blocks are parsed too.
    for span in spans {
        let body = &text[span];
        let inner = measure(body, &[]);
        deepest = (deepest.0.max(inner.0), deepest.1.max(inner.1));
    }
    match deepest {
        (parentheses, chain) if parentheses > 500 || chain > 20_000 => Nesting::Absurd,
        (parentheses, chain) if parentheses > USUAL_PARENTHESES || chain > USUAL_CHAIN => {
            Nesting::Deep
        }
        _ => Nesting::Usual,
    }
}

/// The deepest parentheses and the longest chain of words and signs, quoted spans left out.
fn measure(text: &str, quoted: &[std::ops::Range<usize>]) -> (usize, usize) {
    let (mut depth, mut deepest, mut chain, mut longest) = (0_usize, 0, 0_usize, 0);
    let mut quoted = quoted.iter().peekable();
    let mut was_word = false;
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        if let Some(span) = quoted.next_if(|span| span.start <= at) {
            at = span.end.max(at + 1);
            chain += 1;
            was_word = false;
            continue;
        }
        let byte = bytes[at];
        at += 1;
        let is_word = byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        match byte {
            b'(' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' => depth = depth.saturating_sub(1),
            b',' | b';' => chain = 0,
            _ if byte.is_ascii_whitespace() || (is_word && was_word) => {}
            _ => chain += 1,
        }
        longest = longest.max(chain);
        was_word = is_word;
    }
    (deepest, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_usual() {
        let values: Vec<String> = (0..5000)
            .map(|n| format!("({n}, 'some text of {n}')"))
            .collect();
        assert_eq!(
            nesting(&format!("INSERT INTO t VALUES {}", values.join(", "))),
            Nesting::Usual
        );
        let prose = "a long text without any sign ".repeat(13);
        assert_eq!(
            nesting(&format!("COMMENT ON TABLE t IS '{prose}'")),
            Nesting::Usual
        );
    }

    #[test]
    fn what_nobody_writes_is_told() {
        assert_eq!(nesting(&"(".repeat(100)), Nesting::Deep);
        assert_eq!(nesting(&"(".repeat(100_000)), Nesting::Absurd);
        assert_eq!(nesting(&"1+".repeat(1000)), Nesting::Deep);
        assert_eq!(nesting(&"NOT ".repeat(100_000)), Nesting::Absurd);
        assert_eq!(
            nesting(&format!("DO $$ {} $$", "(".repeat(100_000))),
            Nesting::Absurd
        );
    }
}
