//! Tables that had rows before and have none after: what an `UPDATE` loses nobody can see, a lost table
//! everybody can. It refuses to judge growth and shrinkage: the application goes on writing.

use std::collections::BTreeSet;

use switchyard_postgres::{PostgresError, RelationKind, Session};

/// Names of the tables with at least one row, as `schema.table`.
pub(crate) type WithRows = BTreeSet<String>;

/// Reads which tables have rows: one row of each is looked for, none is counted.
///
/// # Errors
/// As the server's; a table that the role may not read is one.
pub(crate) async fn tables_with_rows(session: &Session) -> Result<WithRows, PostgresError> {
    let what = "look for a row in each table";
    let mut with_rows = WithRows::new();
    for relation in session.relations().await? {
        if !matches!(relation.kind, RelationKind::Table) {
            continue;
        }
        let [schema, name] = [&relation.schema, &relation.name].map(|part| quoted(part));
        let sql = format!("SELECT EXISTS (SELECT FROM ONLY {schema}.{name}) AS has_rows");
        let row = session.row(what, &sql, &[]).await?;
        if session.column(what, &row, "has_rows")? {
            with_rows.insert(format!("{}.{}", relation.schema, relation.name));
        }
    }
    Ok(with_rows)
}

/// Tables that had rows, are still there, and have none.
pub(crate) fn emptied(
    before: &WithRows,
    after: &WithRows,
    there: &BTreeSet<String>,
) -> Vec<String> {
    let lost = before
        .difference(after)
        .filter(|table| there.contains(*table));
    lost.cloned().collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_emptied_when_it_is_there_without_its_rows() {
        let set = |names: &[&str]| {
            names
                .iter()
                .map(ToString::to_string)
                .collect::<BTreeSet<_>>()
        };
        let before = set(&["public.orders", "public.items", "public.old"]);
        let after = set(&["public.items"]);
        let there = set(&["public.orders", "public.items"]);
        assert_eq!(emptied(&before, &after, &there), ["public.orders"]);
    }
}
