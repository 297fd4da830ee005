//! Finds what the expressions of a workflow refer to. It knows the syntax of `${{ … }}`; it refuses to
//! know what a context holds.

/// A reference such as `steps.apply.outputs.slot`, as its parts.
pub(crate) type Reference = Vec<String>;

/// The references of every `${{ … }}` in a text.
pub(crate) fn references(text: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${{") {
        let inner = &rest[start + 3..];
        let end = inner.find("}}").unwrap_or(inner.len());
        found.extend(references_of(&inner[..end]));
        rest = &inner[end..];
    }
    found
}

/// The references of an `if:`, which is an expression with or without `${{ }}`.
pub(crate) fn references_of_condition(text: &str) -> Vec<Reference> {
    if text.contains("${{") {
        references(text)
    } else {
        references_of(text)
    }
}

/// The references of a bare expression: dotted names outside string literals. A name with no dot is a
/// function, a literal or a whole context, and refers to nothing in particular.
fn references_of(expression: &str) -> Vec<Reference> {
    let outside_literals: String = expression
        .split('\'')
        .enumerate()
        .map(|(index, part)| if index % 2 == 0 { part } else { " " })
        .collect();
    outside_literals
        .split(|character: char| {
            !(character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | '*'))
        })
        .map(|name| name.split('.').map(str::to_owned).collect::<Reference>())
        .filter(|parts| parts.len() > 1 && parts.iter().all(|part| !part.is_empty()))
        .filter(|parts| !parts[0].starts_with(|first: char| first.is_ascii_digit()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dotted(references: Vec<Reference>) -> Vec<String> {
        references.iter().map(|parts| parts.join(".")).collect()
    }

    #[test]
    fn finds_every_reference_outside_literals() {
        let text = "a ${{ inputs.min-ready || format('{0}-x.y', inputs.environment) }} b ${{ steps.a_1.outputs.b }} 1.5";
        assert_eq!(
            dotted(references(text)),
            [
                "inputs.min-ready",
                "inputs.environment",
                "steps.a_1.outputs.b"
            ]
        );
    }

    #[test]
    fn reads_a_condition_with_and_without_braces() {
        for condition in [
            "always() && needs.deploy.result != 'success'",
            "${{ always() && needs.deploy.result != 'success' }}",
        ] {
            assert_eq!(
                dotted(references_of_condition(condition)),
                ["needs.deploy.result"]
            );
        }
    }
}
