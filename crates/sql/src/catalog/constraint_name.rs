//! The names that PostgreSQL makes up for constraints and indexes.

use crate::statement::{Constraint, ConstraintKind};

/// Longest name that PostgreSQL keeps whole, in bytes.
const LONGEST: usize = 63;

/// The name of a constraint: its own, or the one that PostgreSQL makes up. A number is added where
/// `is_taken` says so.
pub(super) fn constraint_name(
    table: &str,
    constraint: &Constraint,
    is_taken: impl Fn(&str) -> bool,
) -> String {
    if let Some(name) = &constraint.name {
        return name.clone();
    }
    let (columns, label): (Vec<&str>, &str) = match &constraint.kind {
        ConstraintKind::Check { columns, .. } => {
            // Only a check of a single column is named after it.
            let columns = if columns.len() == 1 {
                columns.as_slice()
            } else {
                &[]
            };
            (words(columns), "check")
        }
        ConstraintKind::Unique { columns, .. } => (words(columns), "key"),
        ConstraintKind::PrimaryKey { .. } => (Vec::new(), "pkey"),
        ConstraintKind::Exclude => (Vec::new(), "excl"),
        ConstraintKind::ForeignKey { columns, .. } => (words(columns), "fkey"),
        ConstraintKind::NotNull { column } => (vec![column], "not_null"),
    };
    made_up(table, &columns.join("_"), label, is_taken)
}

/// The name of an index of its own: `table_column_idx`.
pub(super) fn index_name(
    table: &str,
    columns: &[String],
    is_taken: impl Fn(&str) -> bool,
) -> String {
    let columns = if columns.is_empty() {
        "expr".to_owned()
    } else {
        columns.join("_")
    };
    made_up(table, &columns, "idx", is_taken)
}

fn words(columns: &[String]) -> Vec<&str> {
    columns.iter().map(String::as_str).collect()
}

/// `table_columns_label`, as `makeObjectName` cuts it: the longer of the first two loses bytes first.
fn made_up(table: &str, columns: &str, label: &str, is_taken: impl Fn(&str) -> bool) -> String {
    for number in 0_u32.. {
        let suffix = if number == 0 {
            String::new()
        } else {
            number.to_string()
        };
        let label = format!("{label}{suffix}");
        let separators = 1 + usize::from(!columns.is_empty());
        let room = LONGEST.saturating_sub(label.len() + separators);
        let (mut first, mut second) = (table.len(), columns.len());
        while first + second > room {
            if first > second {
                first -= 1;
            } else {
                second -= 1;
            }
        }
        let (table, columns) = (cut(table, first), cut(columns, second));
        let name = if columns.is_empty() {
            format!("{table}_{label}")
        } else {
            format!("{table}_{columns}_{label}")
        };
        if !is_taken(&name) {
            return name;
        }
    }
    unreachable!("there are more numbers than constraints")
}

fn cut(text: &str, mut length: usize) -> &str {
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    &text[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_up_as_postgresql_does() {
        let key = Constraint {
            name: None,
            kind: ConstraintKind::ForeignKey {
                columns: vec!["a".into(), "b".into()],
                references: crate::Name::plain("p"),
                referenced: Vec::new(),
            },
            is_not_valid: false,
        };
        assert_eq!(constraint_name("t", &key, |_| false), "t_a_b_fkey");
        assert_eq!(
            constraint_name("t", &key, |name| name == "t_a_b_fkey"),
            "t_a_b_fkey1"
        );
        let long = "x".repeat(80);
        assert_eq!(constraint_name(&long, &key, |_| false).len(), 63);
    }
}
