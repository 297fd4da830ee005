//! What a database is apart from what is in it: owner, settings, grants. A dump of its contents has none of
//! it, so a restored database would run with other time-outs, and its application be refused.

use switchyard_postgres::{
    PostgresError, ServerSettings, ServerVersion, Session, identifier, literal,
};

/// A database without its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shell {
    owner: String,
    made: ServerSettings,
    server: ServerVersion,
    connection_limit: i32,
    /// `None` for where every new database lies: naming that one is a right of its own.
    tablespace: Option<String>,
    settings: Vec<Setting>,
    /// `None` where nobody ever granted or revoked anything.
    grants: Option<Vec<Grant>>,
}

/// A setting of the database, or of a role in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    role: Option<String>,
    name: String,
    value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    /// `None` for everybody.
    grantee: Option<String>,
    privilege: String,
    is_grantable: bool,
}

/// Settings whose values are lists of names that are kept with their quotes (`GUC_LIST_QUOTE` in PostgreSQL's
/// guc_tables.c): they are written back as they are.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

impl Shell {
    /// Reads the shell of a database over a session to any database of its server.
    ///
    /// # Errors
    /// As the server's.
    pub(super) async fn read(session: &Session, name: &str) -> Result<Self, PostgresError> {
        let what = "read how the database was made";
        let sql = "
            SELECT r.rolname::text AS owner, d.datconnlimit, t.spcname::text AS tablespace,
                   d.datacl IS NULL AS is_default
            FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
            JOIN pg_catalog.pg_database template ON template.datname = 'template0'
            LEFT JOIN pg_catalog.pg_tablespace t
              ON t.oid = d.dattablespace AND t.oid <> template.dattablespace
            WHERE d.datname = $1";
        let row = session.row(what, sql, &[&name]).await?;
        let is_default: bool = session.column(what, &row, "is_default")?;
        Ok(Self {
            owner: session.column(what, &row, "owner")?,
            made: session.settings_of_database(name).await?,
            server: session.version(),
            connection_limit: session.column(what, &row, "datconnlimit")?,
            tablespace: session.column(what, &row, "tablespace")?,
            settings: settings(session, name).await?,
            grants: match is_default {
                true => None,
                false => Some(grants(session, name).await?),
            },
        })
    }

    /// The statement that makes an empty database like it.
    pub(super) fn create(&self, name: &str) -> String {
        let mut sql = format!(
            "{} OWNER {} CONNECTION LIMIT {}",
            self.made.create_database(name, self.server),
            identifier(&self.owner),
            self.connection_limit,
        );
        if let Some(tablespace) = &self.tablespace {
            sql.push_str(&format!(" TABLESPACE {}", identifier(tablespace)));
        }
        sql
    }

    /// The statements that give a database its settings and grants.
    pub(super) fn dress(&self, name: &str) -> Vec<String> {
        let database = identifier(name);
        let mut statements = Vec::new();
        for setting in &self.settings {
            let value = if LISTS.contains(&setting.name.as_str()) {
                setting.value.clone()
            } else {
                literal(&setting.value)
            };
            let of = match &setting.role {
                Some(role) => format!("ALTER ROLE {} IN DATABASE {database}", identifier(role)),
                None => format!("ALTER DATABASE {database}"),
            };
            statements.push(format!(
                "{of} SET {} TO {value}",
                setting_name(&setting.name)
            ));
        }
        if let Some(grants) = &self.grants {
            statements.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
            statements.push(format!(
                "REVOKE ALL ON DATABASE {database} FROM {}",
                identifier(&self.owner)
            ));
            for grant in grants {
                let grantee = grant
                    .grantee
                    .as_deref()
                    .map_or_else(|| "PUBLIC".to_owned(), identifier);
                let option = if grant.is_grantable {
                    " WITH GRANT OPTION"
                } else {
                    ""
                };
                statements.push(format!(
                    "GRANT {} ON DATABASE {database} TO {grantee}{option}",
                    grant.privilege
                ));
            }
        }
        statements
    }
}

async fn settings(session: &Session, name: &str) -> Result<Vec<Setting>, PostgresError> {
    let what = "read the settings of the database";
    let sql = "
        SELECT r.rolname::text AS role, unnest(s.setconfig) AS setting
        FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole WHERE d.datname = $1 ORDER BY 1 NULLS FIRST, 2";
    let mut settings = Vec::new();
    for row in session.rows(what, sql, &[&name]).await? {
        let setting: String = session.column(what, &row, "setting")?;
        if let Some((name, value)) = setting.split_once('=') {
            settings.push(Setting {
                role: session.column(what, &row, "role")?,
                name: name.to_owned(),
                value: value.to_owned(),
            });
        }
    }
    Ok(settings)
}

async fn grants(session: &Session, name: &str) -> Result<Vec<Grant>, PostgresError> {
    let what = "read the grants of the database";
    let sql = "
        SELECT r.rolname::text AS grantee, a.privilege_type::text AS privilege, a.is_grantable
        FROM pg_catalog.pg_database d, LATERAL pg_catalog.aclexplode(d.datacl) a
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
        WHERE d.datname = $1 ORDER BY 1 NULLS FIRST, 2";
    let mut grants = Vec::new();
    for row in session.rows(what, sql, &[&name]).await? {
        grants.push(Grant {
            grantee: session.column(what, &row, "grantee")?,
            privilege: session.column(what, &row, "privilege")?,
            is_grantable: session.column(what, &row, "is_grantable")?,
        });
    }
    Ok(grants)
}

/// A name with a dot is one of an extension; each part is a name.
fn setting_name(name: &str) -> String {
    let parts: Vec<String> = name.split('.').map(identifier).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use switchyard_postgres::CollationProvider;

    use super::*;

    fn shell() -> Shell {
        let setting = |role: Option<&str>, name: &str, value: &str| Setting {
            role: role.map(str::to_owned),
            name: name.to_owned(),
            value: value.to_owned(),
        };
        Shell {
            owner: "shop owner".to_owned(),
            made: ServerSettings {
                encoding: "UTF8".to_owned(),
                collate: "C.UTF-8".to_owned(),
                ctype: "C.UTF-8".to_owned(),
                provider: CollationProvider::Icu,
                locale: Some("de".to_owned()),
                icu_rules: None,
                bytes: 1,
            },
            server: ServerVersion::from_number(150_018),
            connection_limit: 40,
            tablespace: Some("fast".to_owned()),
            settings: vec![
                setting(None, "search_path", "\"$user\", shop"),
                setting(Some("web"), "statement_timeout", "30s"),
                setting(None, "shop.region", "it's north"),
            ],
            grants: Some(vec![Grant {
                grantee: Some("web".to_owned()),
                privilege: "CONNECT".to_owned(),
                is_grantable: false,
            }]),
        }
    }

    #[test]
    fn a_database_is_made_and_dressed_like_the_one_it_replaces() {
        assert_eq!(
            shell().create("shop"),
            "CREATE DATABASE \"shop\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE 'de' OWNER \"shop owner\" CONNECTION LIMIT 40 TABLESPACE \"fast\""
        );
        assert_eq!(
            shell().dress("shop"),
            [
                "ALTER DATABASE \"shop\" SET \"search_path\" TO \"$user\", shop",
                "ALTER ROLE \"web\" IN DATABASE \"shop\" SET \"statement_timeout\" TO '30s'",
                "ALTER DATABASE \"shop\" SET \"shop\".\"region\" TO 'it''s north'",
                "REVOKE ALL ON DATABASE \"shop\" FROM PUBLIC",
                "REVOKE ALL ON DATABASE \"shop\" FROM \"shop owner\"",
                "GRANT CONNECT ON DATABASE \"shop\" TO \"web\"",
            ]
        );
    }

    #[test]
    fn grants_that_were_never_touched_stay_untouched() {
        let untouched = Shell {
            settings: Vec::new(),
            grants: None,
            ..shell()
        };
        assert_eq!(untouched.dress("shop"), Vec::<String>::new());
    }
}
