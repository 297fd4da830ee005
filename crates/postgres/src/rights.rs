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
    /// It may run programs and read or write files on the server's machine.
    pub reaches_the_machine: bool,
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
                   (SELECT bool_or(pg_catalog.pg_has_role(r.oid, m.oid, 'USAGE')) FROM pg_catalog.pg_roles m
                    WHERE m.rolname IN ('pg_execute_server_program', 'pg_write_server_files',
                                        'pg_read_server_files')) AS reaches
            FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";
        let row = self.row(what, sql, &[]).await?;
        Ok(Rights {
            role: self.column(what, &row, "role")?,
            is_superuser: self.column(what, &row, "rolsuper")?,
            can_create_databases: self.column::<bool>(what, &row, "rolcreatedb")?
                || self.column::<bool>(what, &row, "rolsuper")?,
            can_create_roles: self.column::<bool>(what, &row, "rolcreaterole")?
                || self.column::<bool>(what, &row, "rolsuper")?,
            reaches_the_machine: self.column(what, &row, "reaches")?,
        })
    }
}
