//! Whether an `INSERT` leaves a column out: the server takes such a statement when it is prepared, and refuses its rows.

use super::required::Column;
use crate::queries::{Token, tokens};

/// Whether a statement inserts into the column's table without naming the column. One that names no columns at all
/// gives values for those that were there when it was written.
pub(super) fn omits(statement: &str, column: &Column, namespaces: &[&str]) -> bool {
    let tokens = tokens(statement);
    let starts = (0..tokens.len().saturating_sub(1))
        .filter(|at| tokens[*at].is_word("insert") && tokens[at + 1].is_word("into"));
    starts
        .map(|at| &tokens[at + 2..])
        .any(|rest| inserts_without(rest, column, namespaces))
}

fn inserts_without(tokens: &[Token], column: &Column, namespaces: &[&str]) -> bool {
    let Some(first) = tokens.first().and_then(Token::name) else {
        return false;
    };
    let (schema, table, mut rest) = match (tokens.get(1), tokens.get(2).and_then(Token::name)) {
        (Some(Token::Sign('.')), Some(table)) => (Some(first), table, &tokens[3..]),
        _ => (None, first, &tokens[1..]),
    };
    let is_schema = match schema {
        Some(schema) => schema == column.table.schema,
        None => {
            column.table.schema == "public" || namespaces.contains(&column.table.schema.as_str())
        }
    };
    if !is_schema || table != column.table.name {
        return false;
    }
    if rest.first().is_some_and(|token| token.is_word("as")) {
        rest = rest.get(2..).unwrap_or_default();
    }
    if rest.first() != Some(&Token::Sign('(')) {
        return true;
    }
    let list: Vec<&Token> = rest[1..]
        .iter()
        .take_while(|token| **token != Token::Sign(')'))
        .collect();
    // `INSERT INTO t (SELECT …)` names no columns either.
    let is_query = list.first().is_some_and(|token| {
        ["select", "values", "with", "table"]
            .iter()
            .any(|word| token.is_word(word))
    });
    is_query || !list.iter().any(|token| token.name() == Some(&column.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearse::tables::TableName;

    #[test]
    fn inserts_that_leave_a_column_out_are_found() {
        let column = Column {
            table: TableName {
                schema: "public".into(),
                name: "User".into(),
            },
            name: "email".into(),
        };
        for (statement, expected) in [
            (
                r#"INSERT INTO "public"."User" ("id","name") VALUES ($1,$2)"#,
                true,
            ),
            (
                r#"INSERT INTO "public"."User" ("id","email") VALUES ($1,$2)"#,
                false,
            ),
            (r#"INSERT INTO "User" AS u (id) VALUES ($1)"#, true),
            (r#"INSERT INTO "User" VALUES ($1)"#, true),
            (r#"INSERT INTO "User" (SELECT email FROM x)"#, true),
            (
                r#"WITH x AS (SELECT 1) INSERT INTO "User" (id) SELECT 1"#,
                true,
            ),
            ("INSERT INTO user (id) VALUES ($1)", false),
            (r#"INSERT INTO other."User" (id) VALUES ($1)"#, false),
            (r#"SELECT 'INSERT INTO "User" (id)'"#, false),
            (r#"UPDATE "User" SET id = $1"#, false),
            ("INSERT INTO", false),
            (r#"INSERT INTO "User"#, true),
        ] {
            assert_eq!(
                omits(statement, &column, &["public"]),
                expected,
                "{statement}"
            );
        }
    }
}
