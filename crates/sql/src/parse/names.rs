//! Names and types as they are written.

use squawk_syntax::{SyntaxKind, SyntaxNode, SyntaxToken};

use crate::{DataType, Name};

/// The words of a node: its tokens without space and comments.
pub(super) fn tokens(node: &SyntaxNode) -> impl Iterator<Item = SyntaxToken> {
    let elements = node.descendants_with_tokens();
    elements
        .filter_map(|element| element.into_token())
        .filter(|token| !token.kind().is_trivia())
}

/// The name that a node is made of, with its schema where one is written.
pub(super) fn name(node: &SyntaxNode) -> Option<Name> {
    let mut parts = Vec::new();
    for token in tokens(node) {
        match token.kind() {
            SyntaxKind::DOT | SyntaxKind::L_PAREN | SyntaxKind::R_PAREN | SyntaxKind::STAR => {}
            SyntaxKind::ONLY_KW
                if parts.is_empty() && token.text().eq_ignore_ascii_case("only") => {}
            _ => parts.push(identifier(token.text())?),
        }
    }
    let name = parts.pop()?;
    Some(Name {
        schema: parts.pop(),
        name,
    })
}

/// The last part of a name: columns and constraints have no other.
pub(super) fn word(node: &SyntaxNode) -> Option<String> {
    name(node).map(|name| name.name)
}

/// An identifier as PostgreSQL compares it. `U&"…"` is not read.
pub(super) fn identifier(text: &str) -> Option<String> {
    if let Some(quoted) = text.strip_prefix('"') {
        return Some(quoted.strip_suffix('"')?.replace("\"\"", "\""));
    }
    if text.contains(['"', '\'', '&']) {
        return None;
    }
    Some(text.to_lowercase())
}

/// The type that a node is made of.
pub(super) fn data_type(node: &SyntaxNode) -> Option<DataType> {
    let (mut schema, mut words, mut modifiers) = (None, Vec::new(), None);
    let (mut is_array, mut in_parentheses) = (false, false);
    for token in tokens(node) {
        let text = token.text();
        match token.kind() {
            SyntaxKind::L_PAREN => {
                in_parentheses = true;
                modifiers = Some(Vec::new());
            }
            SyntaxKind::R_PAREN => in_parentheses = false,
            SyntaxKind::L_BRACK | SyntaxKind::ARRAY_KW => is_array = true,
            _ if in_parentheses => {
                if text != "," {
                    let numbers: &mut Vec<i64> = modifiers.as_mut()?;
                    // Words as in `geometry(Point, 4326)` are told apart by nothing that matters here.
                    numbers.push(text.parse().unwrap_or(-1));
                }
            }
            SyntaxKind::DOT => schema = words.pop(),
            // What stands in the brackets of an array.
            _ if is_array => {}
            _ => words.push(identifier(text)?),
        }
    }
    if words.is_empty() {
        return None;
    }
    let name = words.join(" ");
    let modifiers = modifiers.filter(|modifiers| !modifiers.is_empty());
    Some(DataType::new(&Name { schema, name }, modifiers, is_array))
}

/// The text of a string literal without its quotes; `None` for anything else.
pub(super) fn string(text: &str) -> Option<String> {
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    Some(inner.replace("''", "'"))
}
