//! What the catalog was before an attempt and is after it, without the ledgers' own tables, and what a
//! migration may do that the catalog does not show.

use switchyard_postgres::{PostgresError, SchemaDescription, Session};

use super::attempt::Catalog;
use crate::database::{DatabaseGroup, Located};
use crate::project::Migration;
use crate::rehearse::report::comparable;

/// Lines of a difference that a report shows.
const SHOWN: usize = 20;

/// Reads what of the schema migrations change: everything but the ledgers of the database.
///
/// # Errors
/// As the server's.
pub(crate) async fn read(
    session: &Session,
    group: &DatabaseGroup,
) -> Result<SchemaDescription, PostgresError> {
    let description = session.describe_schema().await?;
    let namespaces = group.schemas.iter().map(Located::namespace);
    Ok(comparable(&description, namespaces))
}

/// Compares, where only one migration can have changed something.
pub(crate) fn compare(
    before: &SchemaDescription,
    after: &SchemaDescription,
    applied: usize,
) -> Catalog {
    match (applied, before == after) {
        (_, true) => Catalog::AsBefore,
        (0, false) => Catalog::Changed,
        (_, false) => Catalog::NotComparable,
    }
}

/// The differences, as many as a person reads.
pub(crate) fn shown(before: &SchemaDescription, after: &SchemaDescription) -> Vec<String> {
    let mut lines = before.differences(after);
    if lines.len() > SHOWN {
        let more = lines.len() - SHOWN;
        lines.truncate(SHOWN);
        lines.push(format!("… and {more} more"));
    }
    lines
}

/// Whether a migration may write rows: then an unchanged catalog does not prove that nothing is left of it.
/// Only statements that are known to define things are taken for harmless.
pub(crate) fn may_write_rows(migration: &Migration) -> bool {
    const DEFINING: [&str; 9] = [
        "ALTER", "COMMENT", "CREATE", "DROP", "GRANT", "REINDEX", "RESET", "REVOKE", "SET",
    ];
    let script = migration.script();
    switchyard_sql::cut(script)
        .into_iter()
        .filter_map(|piece| piece.statement)
        .any(|statement| {
            let text = &script[statement];
            let first = text.split(|c: char| !c.is_ascii_alphabetic()).next();
            let first = first.unwrap_or_default().to_ascii_uppercase();
            !DEFINING.contains(&first.as_str())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Wrapping;

    fn migration(text: &str) -> Migration {
        Migration {
            name: "1".to_owned(),
            file: "1.sql".into(),
            text: text.to_owned(),
            forward: 0..text.len(),
            wrapping: Wrapping::OneString,
        }
    }

    #[test]
    fn only_what_is_known_to_define_things_writes_no_rows() {
        for text in [
            "CREATE TABLE a (id int);",
            "-- widen\nALTER TABLE a ADD b int; create index concurrently x on a (b);",
            "SET lock_timeout = '1s';\nDROP TABLE a;",
        ] {
            assert!(!may_write_rows(&migration(text)), "{text}");
        }
        for text in [
            "ALTER TABLE a ADD b int; UPDATE a SET b = 1;",
            "DO $$ BEGIN END $$;",
            "SELECT rebuild();",
            "WITH x AS (DELETE FROM a RETURNING 1) SELECT 1;",
        ] {
            assert!(may_write_rows(&migration(text)), "{text}");
        }
    }

    #[test]
    fn a_change_is_only_somebodys_when_nothing_else_was_applied() {
        let is = |line: &str| SchemaDescription::from_lines([line.to_owned()]);
        assert_eq!(compare(&is("a"), &is("a"), 0), Catalog::AsBefore);
        assert_eq!(compare(&is("a"), &is("b"), 0), Catalog::Changed);
        assert_eq!(compare(&is("a"), &is("b"), 1), Catalog::NotComparable);
    }
}
