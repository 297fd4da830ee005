//! Reads the ledger of a schema from its database.

use switchyard_postgres::{PostgresError, Session, identifier};

use super::Located;
use crate::ledger::{Ledger, PrismaRow, Tables};
use crate::project::Tool;

/// Reads the ledger of a schema.
///
/// # Errors
/// When the server does not answer, or the ledger's table is not of the form that the tool gives it.
pub(crate) async fn read_ledger(
    session: &Session,
    located: &Located,
) -> Result<Ledger, PostgresError> {
    read_ledger_in(session, located.schema.schema.tool, located.namespace()).await
}

/// Reads the ledger of a tool in a schema of whatever database a session leads to, such as a copy.
///
/// # Errors
/// As [`read_ledger`].
pub(crate) async fn read_ledger_in(
    session: &Session,
    tool: Tool,
    namespace: &str,
) -> Result<Ledger, PostgresError> {
    match tool {
        Tool::Prisma => read_prisma(session, namespace).await,
        Tool::Command => Ok(Ledger::Untracked),
    }
}

async fn read_prisma(session: &Session, namespace: &str) -> Result<Ledger, PostgresError> {
    let table = format!("{}._prisma_migrations", identifier(namespace));
    let what = "look for Prisma's ledger";
    let sql = "SELECT pg_catalog.to_regclass($1) IS NOT NULL";
    let is_there: bool = session.row(what, sql, &[&table]).await?.get(0);
    if !is_there {
        return Ok(Ledger::NoTable(tables(session, namespace).await?));
    }
    let what = format!("read Prisma's ledger `{namespace}._prisma_migrations`");
    let sql = format!(
        "SELECT migration_name::text, checksum::text, finished_at IS NOT NULL, rolled_back_at IS NOT NULL, logs::text
         FROM {table}"
    );
    let rows = session.rows(&what, &sql, &[]).await?;
    let rows = rows.iter().map(|row| PrismaRow {
        name: row.get(0),
        checksum: row.get(1),
        is_finished: row.get(2),
        is_rolled_back: row.get(3),
        logs: row.get(4),
    });
    Ok(Ledger::Prisma(rows.collect()))
}

/// Whether the schema holds anything that Prisma would call "not empty": tables, views, types of somebody's.
async fn tables(session: &Session, namespace: &str) -> Result<Tables, PostgresError> {
    let what = "look whether the schema is empty";
    let sql = "
        SELECT EXISTS (
          SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                            WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                              AND d.deptype = 'e'))";
    let is_used: bool = session.row(what, sql, &[&namespace]).await?.get(0);
    Ok(if is_used { Tables::Some } else { Tables::None })
}
