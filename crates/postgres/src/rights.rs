//! What the role of a session may do.

use serde::{Deserialize, Serialize};

use crate::error::PostgresError;
use crate::session::Session;

/// Rights of the role that logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The role.
    pub role: String,
    /// It may do everything.
    pub is_superuser: bool,
    /// It may create databases.
    pub can_create_databases: bool,
    /// It may create roles.
    pub can_create_roles: bool,
    /// Row security does not hide rows from it.
    pub sees_all_rows: bool,
    /// It sees what other roles' sessions do.
    pub sees_all_activity: bool,
    /// It may run programs and read or write files on the server's machine.
    pub reaches_the_machine: bool,
    /// It owns the database.
    pub owns_the_database: bool,
}

impl Session {
    /// Reads what the session's role may do, memberships included.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn rights(&self) -> Result<Rights, PostgresError> {
        let what = "read the rights of the role";
        let sql = "
            SELECT r.rolname::text AS role, r.rolsuper, r.rolcreatedb, r.rolcreaterole,
                   r.rolsuper OR r.rolbypassrls AS sees_rows,
                   pg_catalog.pg_has_role(r.oid, 'pg_read_all_stats', 'USAGE') AS sees_activity,
                   (SELECT bool_or(pg_catalog.pg_has_role(r.oid, m.oid, 'USAGE')) FROM pg_catalog.pg_roles m
                    WHERE m.rolname IN ('pg_execute_server_program', 'pg_write_server_files',
                                        'pg_read_server_files')) AS reaches,
                   pg_catalog.pg_has_role(r.oid, d.datdba, 'USAGE') AS owns
            FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
            WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()";
        let row = self.row(what, sql, &[]).await?;
        Ok(Rights {
            role: self.column(what, &row, "role")?,
            is_superuser: self.column(what, &row, "rolsuper")?,
            can_create_databases: self.column::<bool>(what, &row, "rolcreatedb")?
                || self.column::<bool>(what, &row, "rolsuper")?,
            can_create_roles: self.column::<bool>(what, &row, "rolcreaterole")?
                || self.column::<bool>(what, &row, "rolsuper")?,
            sees_all_rows: self.column(what, &row, "sees_rows")?,
            sees_all_activity: self.column(what, &row, "sees_activity")?,
            reaches_the_machine: self.column(what, &row, "reaches")?,
            owns_the_database: self.column(what, &row, "owns")?,
        })
    }
}
