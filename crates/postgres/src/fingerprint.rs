//! What a database's schema is, as text: equal schemas have equal texts, on whatever server, also after a dump
//! and its restoration.
//!
//! Left out is what a restoration without owners and privileges does not bring back (owners, grants), and what
//! is no part of the schema (sizes, statistics, comments, ids).

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::PostgresError;
use crate::session::Session;

mod expression;

pub(crate) use expression::normalize;

/// Digest of a schema: 64 hexadecimal digits of SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchemaFingerprint(String);

impl fmt::Display for SchemaFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SchemaFingerprint {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Every object of a schema as one line, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaDescription {
    lines: BTreeSet<String>,
}

impl SchemaDescription {
    /// From lines; for tests of what compares schemas.
    #[must_use]
    pub fn from_lines(lines: impl IntoIterator<Item = String>) -> Self {
        Self {
            lines: lines.into_iter().collect(),
        }
    }

    /// Its digest.
    #[must_use]
    pub fn fingerprint(&self) -> SchemaFingerprint {
        let mut digest = Sha256::new();
        for line in &self.lines {
            digest.update(line.as_bytes());
            digest.update(b"\n");
        }
        let digits = digest
            .finalize()
            .iter()
            .fold(String::new(), |mut text, byte| {
                // Writing to a `String` cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            });
        SchemaFingerprint(digits)
    }

    /// Lines that only one of the two has: `-` for those of this one, `+` for those of the other.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let gone = self
            .lines
            .difference(&other.lines)
            .map(|line| format!("- {line}"));
        let new = other
            .lines
            .difference(&self.lines)
            .map(|line| format!("+ {line}"));
        gone.chain(new).collect()
    }

    /// The description without the lines that name one of these relations (`schema.table`), such as the
    /// ledger of a migration tool.
    #[must_use]
    pub fn without_relations(&self, names: &[String]) -> Self {
        let is_of = |line: &str| {
            let mut words = line.split(' ');
            let _kind = words.next();
            words
                .next()
                .is_some_and(|owner| names.iter().any(|name| name == owner))
        };
        let lines = self.lines.iter().filter(|line| !is_of(line));
        Self {
            lines: lines.cloned().collect(),
        }
    }

    /// How many objects it describes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Schemas that are not PostgreSQL's own.
const OURS: &str = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";

/// Objects of an extension are its version's, not the schema's.
const NO_EXTENSION: &str = "NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
    WHERE e.classid = $CLASS AND e.objid = $OID AND e.deptype = 'e')";

fn outside_of_extensions(catalog: &str, oid: &str) -> String {
    NO_EXTENSION
        .replace("$CLASS", &format!("'pg_catalog.{catalog}'::regclass"))
        .replace("$OID", oid)
}

/// Each query gives `owner` (the second word of a line, `schema.name`) and `line`, the rest.
fn queries(version: u16) -> Vec<(&'static str, String)> {
    vec![
        ("schema", format!("SELECT n.nspname::text AS owner, '' AS line FROM pg_catalog.pg_namespace n
            WHERE {OURS} AND {}", outside_of_extensions("pg_namespace", "n.oid"))),
        ("extension", "SELECT extname::text AS owner, '' AS line FROM pg_catalog.pg_extension".to_owned()),
        ("relation", relations()),
        ("column", columns(version)),
        ("constraint", constraints()),
        ("index", indexes()),
        ("trigger", triggers()),
        ("rule", rules()),
        ("policy", policies()),
        ("type", types()),
        ("enum-value", enum_values()),
        ("function", functions()),
        ("sequence", sequences()),
        ("event-trigger", "SELECT evtname::text AS owner, concat_ws(' ', evtevent, evtfoid::regprocedure, evtenabled,
            array_to_string(evttags, ',')) AS line FROM pg_catalog.pg_event_trigger".to_owned()),
    ]
}

const NAMED: &str = "n.nspname || '.' || c.relname";

fn relations() -> String {
    format!(
        "SELECT {NAMED} AS owner, concat_ws(' ', c.relkind, c.relpersistence,
            CASE WHEN c.relrowsecurity THEN 'row-security' END,
            CASE WHEN c.relforcerowsecurity THEN 'forced' END,
            CASE WHEN c.relkind IN ('r','p','m') AND c.relreplident <> 'd' THEN 'identity=' || c.relreplident::text END,
            pg_catalog.array_to_string(ARRAY(SELECT unnest(c.reloptions) ORDER BY 1), ','),
            'partition by ' || pg_catalog.pg_get_partkeydef(c.oid),
            pg_catalog.pg_get_expr(c.relpartbound, c.oid),
            'of ' || (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
                      FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND c.relkind NOT IN ('i','I')),
            CASE WHEN c.relkind IN ('v','m') THEN pg_catalog.pg_get_viewdef(c.oid) END) AS line
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE {OURS} AND c.relkind IN ('r','p','v','m','f') AND c.relpersistence <> 't' AND {}",
        outside_of_extensions("pg_class", "c.oid")
    )
}

/// Columns by their place among those that are there: a restoration forgets dropped ones.
fn columns(version: u16) -> String {
    let generated = if version >= 12 {
        "CASE WHEN a.attgenerated <> '' THEN 'generated=' || a.attgenerated::text END,"
    } else {
        ""
    };
    format!(
        "SELECT {NAMED} AS owner, concat_ws(' ',
            pg_catalog.row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum),
            pg_catalog.quote_ident(a.attname), pg_catalog.format_type(a.atttypid, a.atttypmod),
            CASE WHEN a.attnotnull THEN 'not null' END,
            CASE WHEN a.attidentity <> '' THEN 'identity=' || a.attidentity::text END, {generated}
            CASE WHEN a.attcollation <> t.typcollation THEN 'collate ' || a.attcollation::regcollation::text END,
            'default ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid)) AS line
         FROM pg_catalog.pg_attribute a
         JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE {OURS} AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r','p','f','c','v','m')
           AND c.relpersistence <> 't' AND {}",
        outside_of_extensions("pg_class", "c.oid")
    )
    .replace("regcollation::text", if version >= 13 { "regcollation::text" } else { "text" })
}

fn constraints() -> String {
    format!(
        "SELECT coalesce({NAMED}, n2.nspname || '.' || y.typname) AS owner, concat_ws(' ',
            pg_catalog.quote_ident(k.conname), pg_catalog.pg_get_constraintdef(k.oid),
            CASE WHEN NOT k.convalidated THEN 'not-validated' END) AS line
         FROM pg_catalog.pg_constraint k
         LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_catalog.pg_type y ON y.oid = k.contypid
         LEFT JOIN pg_catalog.pg_namespace n2 ON n2.oid = y.typnamespace
         WHERE coalesce(n.nspname, n2.nspname) NOT LIKE 'pg\\_%'
           AND coalesce(n.nspname, n2.nspname) <> 'information_schema'
           AND k.contype <> 't' AND {} AND {}",
        outside_of_extensions("pg_class", "k.conrelid"),
        outside_of_extensions("pg_type", "k.contypid")
    )
}

fn indexes() -> String {
    format!(
        "SELECT {NAMED} AS owner, concat_ws(' ', pg_catalog.pg_get_indexdef(i.indexrelid),
            CASE WHEN i.indisprimary THEN 'primary' END, CASE WHEN i.indisclustered THEN 'clustered' END,
            CASE WHEN i.indisreplident THEN 'replica identity' END,
            CASE WHEN NOT i.indisvalid THEN 'INVALID' END) AS line
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE {OURS} AND c.relpersistence <> 't' AND {}",
        outside_of_extensions("pg_class", "c.oid")
    )
}

fn triggers() -> String {
    format!(
        "SELECT {NAMED} AS owner, concat_ws(' ', pg_catalog.pg_get_triggerdef(g.oid), g.tgenabled) AS line
         FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE {OURS} AND NOT g.tgisinternal AND {}",
        outside_of_extensions("pg_class", "c.oid")
    )
}

fn rules() -> String {
    format!(
        "SELECT {NAMED} AS owner, concat_ws(' ', pg_catalog.pg_get_ruledef(r.oid), r.ev_enabled) AS line
         FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE {OURS} AND r.rulename <> '_RETURN' AND {}",
        outside_of_extensions("pg_class", "c.oid")
    )
}

fn policies() -> String {
    format!(
        "SELECT {NAMED} AS owner, concat_ws(' ', pg_catalog.quote_ident(p.polname), p.polcmd, p.polpermissive,
            pg_catalog.pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) AS line
         FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} AND {}",
        outside_of_extensions("pg_class", "c.oid")
    )
}

fn types() -> String {
    format!(
        "SELECT n.nspname || '.' || y.typname AS owner, concat_ws(' ', y.typtype,
            CASE WHEN y.typtype = 'd' THEN pg_catalog.format_type(y.typbasetype, y.typtypmod) END,
            CASE WHEN y.typnotnull THEN 'not null' END, 'default ' || y.typdefault,
            (SELECT pg_catalog.format_type(r.rngsubtype, NULL) FROM pg_catalog.pg_range r WHERE r.rngtypid = y.oid)) AS line
         FROM pg_catalog.pg_type y JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace
         WHERE {OURS} AND y.typtype IN ('d','e','r')
            AND {}",
        outside_of_extensions("pg_type", "y.oid")
    )
}

/// Labels in their order, not with their numbers: a restoration numbers them anew.
fn enum_values() -> String {
    format!(
        "SELECT n.nspname || '.' || y.typname AS owner,
            pg_catalog.string_agg(pg_catalog.quote_literal(v.enumlabel), ',' ORDER BY v.enumsortorder) AS line
         FROM pg_catalog.pg_enum v JOIN pg_catalog.pg_type y ON y.oid = v.enumtypid
         JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace WHERE {OURS} AND {} GROUP BY 1",
        outside_of_extensions("pg_type", "y.oid")
    )
}

fn functions() -> String {
    format!(
        "SELECT n.nspname || '.' || p.proname AS owner, concat_ws(' ',
            pg_catalog.pg_get_function_identity_arguments(p.oid), p.prokind,
            CASE WHEN p.prokind <> 'a' THEN pg_catalog.pg_get_functiondef(p.oid)
                 ELSE (SELECT concat_ws(' ', g.aggtransfn::regprocedure, g.aggfinalfn::regproc, g.agginitval,
                       g.aggtranstype::regtype) FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid = p.oid) END) AS line
         FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
         WHERE {OURS} AND {}",
        outside_of_extensions("pg_proc", "p.oid")
    )
}

fn sequences() -> String {
    format!(
        "SELECT {NAMED} AS owner, concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
            s.seqcache, s.seqcycle, 'owned by ' || (SELECT d.refobjid::regclass::text || '.' || a.attname
              FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attribute a
                ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
              WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a','i'))) AS line
         FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE {OURS} AND c.relpersistence <> 't' AND {}",
        outside_of_extensions("pg_class", "c.oid")
    )
}

impl Session {
    /// Describes the schema of this database. The session's search path is the same before and after.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn describe_schema(&self) -> Result<SchemaDescription, PostgresError> {
        let what = "describe the schema";
        let sql = "SELECT pg_catalog.current_setting('search_path') AS before";
        let row = self.row(what, sql, &[]).await?;
        let before: String = self.column(what, &row, "before")?;
        let set = "SELECT pg_catalog.set_config('search_path', $1, false)";
        // Definitions name schemas only where the search path does not lead to them.
        self.row(what, set, &[&"pg_catalog"]).await?;
        let described = self.describe(what).await;
        let restored = self.row(what, set, &[&before]).await;
        let description = described?;
        restored?;
        Ok(description)
    }

    async fn describe(&self, what: &str) -> Result<SchemaDescription, PostgresError> {
        let mut lines = BTreeSet::new();
        for (kind, sql) in queries(self.version().major()) {
            for row in self.rows(what, &sql, &[]).await? {
                let owner: String = self.column(what, &row, "owner")?;
                let line: Option<String> = self.column(what, &row, "line")?;
                let line = normalize(&line.unwrap_or_default());
                let line = line.replace('\n', "\\n");
                lines.insert(format!("{kind} {owner} {line}").trim_end().to_owned());
            }
        }
        Ok(SchemaDescription { lines })
    }
}
