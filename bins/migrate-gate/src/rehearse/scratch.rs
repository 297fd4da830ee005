//! Whether a copy is one that migrations may be let loose on: what its role may do, that it is not production's
//! server and role, and that it has production's schema.
//!
//! Rehearsed SQL runs with all rights of the role: it can drop databases, create roles, start programs.

use switchyard_postgres::{PostgresError, SchemaDescription, ServerVersion, Session};
use switchyard_runner::{Failure, Kind};

use super::target::is_production;
use crate::database;

/// Most differences that are told.
const TOLD: usize = 20;

/// Where a session is, beyond the names in its URL: a name may lead to the same server in many ways. A physical copy
/// of a server has its identifier, but not the moment of its start.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    started: String,
    database: u32,
    database_name: String,
    server: String,
}

/// What is known of the role on a copy beside its rights.
#[derive(Debug, Default, PartialEq, Eq)]
struct Powers {
    /// What it may do beyond its database, each as a clause.
    dangers: Vec<String>,
}

/// Refuses a copy that is production, or whose role could reach more than the copy.
///
/// # Errors
/// Kind input, naming what the role may do; kind remote when a server does not answer.
pub(super) async fn require_harmless(
    copy: &Session,
    production: Option<&Session>,
    may_be_privileged: bool,
) -> Result<(), Failure> {
    let mut powers = powers(copy).await.map_err(database::failure)?;
    if let Some(production) = production {
        let identity_of = async |session| identity(session).await.map_err(database::failure);
        let (ours, theirs) = (identity_of(copy).await?, identity_of(production).await?);
        if (&ours.server, &ours.started) == (&theirs.server, &theirs.started) {
            if ours.database == theirs.database {
                return Err(is_production(&production.place().to_string()));
            }
            let on_same = on_the_same_server(copy, production, &theirs.database_name).await;
            powers.dangers.extend(on_same.map_err(database::failure)?);
        }
    }
    if powers.dangers.is_empty() || may_be_privileged {
        return Ok(());
    }
    let text = format!(
        "role `{}` of the scratch database {}",
        copy.place().role,
        powers.dangers.join(", ")
    );
    Err(Failure::message(Kind::Input, text)
        .hint("rehearsed SQL could do the same: give the copy a role of its own without rights beyond it, or a server of its own")
        .hint("where nothing is lost with that server, `allow-privileged-scratch: true` takes the role as it is"))
}

async fn identity(session: &Session) -> Result<Identity, PostgresError> {
    let what = "read which server it is";
    let sql = "
        SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS server,
               pg_catalog.pg_postmaster_start_time()::timestamptz AT TIME ZONE 'UTC' || '' AS started,
               d.oid AS database, d.datname::text AS name
        FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";
    let row = session.row(what, sql, &[]).await?;
    Ok(Identity {
        server: session.column(what, &row, "server")?,
        started: session.column(what, &row, "started")?,
        database: session.column(what, &row, "database")?,
        database_name: session.column(what, &row, "name")?,
    })
}

/// A role that is a member of another may become it with `SET ROLE`, also where it does not inherit its rights.
async fn powers(copy: &Session) -> Result<Powers, PostgresError> {
    let rights = copy.rights().await?;
    let mut dangers = Vec::new();
    if rights.is_superuser {
        dangers.push("is a superuser".to_owned());
        return Ok(Powers { dangers });
    }
    if rights.can_create_roles {
        dangers.push("may create roles".to_owned());
    }
    if rights.reaches_the_machine {
        dangers.push("may run programs or reach files on the server".to_owned());
    }
    let what = "read what the role may become";
    let sql = "
        SELECT r.rolname::text AS name FROM pg_catalog.pg_roles r
        WHERE r.rolname <> current_user AND pg_catalog.pg_has_role(r.oid, 'MEMBER')
          AND (r.rolsuper OR r.rolcreaterole OR r.rolname IN (
               'pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files'))
        ORDER BY 1";
    for row in copy.rows(what, sql, &[]).await? {
        let name: String = copy.column(what, &row, "name")?;
        dangers.push(format!("may become `{name}`"));
    }
    Ok(Powers { dangers })
}

/// What the copy's role could do to production where both are on one server.
async fn on_the_same_server(
    copy: &Session,
    production: &Session,
    database: &str,
) -> Result<Vec<String>, PostgresError> {
    let role = &production.place().role;
    let place = production.place();
    if copy.place().role == *role {
        return Ok(vec![format!(
            "is the role of production, on production's server {}",
            place.server
        )]);
    }
    let what = "read what the role may do to production";
    let sql = "
        SELECT pg_catalog.pg_has_role(d.datdba, 'MEMBER') AS owns,
               coalesce((SELECT pg_catalog.pg_has_role(r.oid, 'MEMBER') FROM pg_catalog.pg_roles r
                         WHERE r.rolname = $2), false) AS becomes
        FROM pg_catalog.pg_database d WHERE d.datname = $1";
    let row = copy.row(what, sql, &[&database, role]).await?;
    let mut dangers = Vec::new();
    if copy.column::<bool>(what, &row, "owns")? {
        dangers.push(format!(
            "could drop production's database `{database}` on {}",
            place.server
        ));
    }
    if copy.column::<bool>(what, &row, "becomes")? {
        dangers.push(format!("may become production's role `{role}`"));
    }
    Ok(dangers)
}

/// Refuses a copy on a server of another major version: it takes other locks, and writes definitions in another way, so
/// that no fingerprint of it would be production's.
///
/// # Errors
/// Kind gate, naming both versions.
pub(super) fn require_same_major(
    copy: ServerVersion,
    production: ServerVersion,
) -> Result<(), Failure> {
    if copy.major() == production.major() {
        return Ok(());
    }
    let text = format!("the copy is on PostgreSQL {copy}, and production on {production}");
    Err(Failure::message(Kind::Gate, text)
        .hint("restore the copy on a server of production's major version"))
}

/// Refuses a copy whose schema is another one than production's.
///
/// # Errors
/// Kind gate, naming the first differences.
pub(super) fn require_alike(
    copy: &SchemaDescription,
    production: &SchemaDescription,
    place: &str,
) -> Result<(), Failure> {
    let differences = production.differences(copy);
    if differences.is_empty() {
        return Ok(());
    }
    let mut told: Vec<String> = differences.iter().take(TOLD).cloned().collect();
    if differences.len() > TOLD {
        told.push(format!("… and {} more", differences.len() - TOLD));
    }
    let text = format!(
        "the copy has another schema than {place} (`-` production alone, `+` the copy alone):\n{}",
        told.join("\n")
    );
    Err(Failure::message(Kind::Gate, text)
        .hint("restore it anew: it is of an older backup, or an earlier rehearsal has changed it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_on_another_major_version_is_refused_and_one_on_another_minor_is_not() {
        let version = ServerVersion::from_number;
        assert!(require_same_major(version(150_018), version(150_002)).is_ok());
        let failure = require_same_major(version(160_001), version(150_018)).unwrap_err();
        assert!(failure.chain().contains("16.1"), "{}", failure.chain());
    }

    #[test]
    fn differences_are_told_and_a_long_list_is_cut() {
        let description = |lines: &[String]| SchemaDescription::from_lines(lines.iter().cloned());
        let many: Vec<String> = (0..30)
            .map(|n| format!("relation public.t{n} r p"))
            .collect();
        assert!(require_alike(&description(&many), &description(&many), "shop").is_ok());
        let failure = require_alike(&description(&[]), &description(&many), "shop").unwrap_err();
        let text = failure.chain();
        assert!(
            text.contains("- relation public.t0 r p") && text.contains("… and 10 more"),
            "{text}"
        );
    }
}
