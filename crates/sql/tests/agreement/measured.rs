//! What a server does: locks before the commit, the messages of its log, changed files.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use switchyard_sql::LockMode;
use switchyard_test_postgres::{Database, Server};

use crate::Happenings;
use crate::case::Case;

/// Tables, partitioned ones, materialized views, views.
const COLUMNS: &str = "c.oid, CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname, \
    c.relfilenode, c.relkind IN ('r', 'p') \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'm', 'v') AND n.nspname !~ '^(pg_|information_schema)'";

/// Foreign keys, because the log names no table when it checks one.
const CONSTRAINTS: &str = "SELECT 'constraint', conname, c.relname FROM pg_constraint \
    JOIN pg_class c ON c.oid = conrelid WHERE contype = 'f' AND c.relkind = 'r'";

/// Counts of scans from the first row to the last in the transaction.
const SCANS: &str = "SELECT 'scanned', relid FROM pg_stat_xact_user_tables WHERE seq_scan > 0";

/// A server with a database that each case gets a copy of.
pub(crate) struct Bench<'a> {
    server: &'a Server,
    template: Database,
}

/// A relation that was there before.
#[derive(Clone)]
struct Relation {
    name: String,
    file: String,
    can_be_locked: bool,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(server: &'a Server, before: &str) -> Self {
        let template = server.database();
        template.run(before);
        Self { server, template }
    }

    /// Runs a case in a transaction that is taken back, and looks at everything before it is.
    pub(crate) fn in_transaction(&self, case: &Case) -> Happenings {
        let database = if case.before.trim().is_empty() {
            self.template.clone()
        } else {
            self.copy(case, "")
        };
        let log_before = self.server.log().len();
        let rows = database.read(&format!(
            "SELECT 'before', {COLUMNS};\nBEGIN;\n{}\n;SELECT 'lock', relation, mode FROM pg_locks \
             WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted;\n\
             SELECT 'after', {COLUMNS};\n{CONSTRAINTS};\n{SCANS};\nROLLBACK;",
            case.migration
        ));
        let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split('|').collect()).collect();
        let (before, after) = (relations(&rows, "before"), relations(&rows, "after"));
        let mut strongest: BTreeMap<String, LockMode> = BTreeMap::new();
        for row in &rows {
            if let ["lock", relation, mode] = row.as_slice()
                && let Some(relation) = before.get(*relation)
            {
                let mode = lock_mode(mode);
                let known = strongest.entry(relation.name.clone()).or_insert(mode);
                *known = mode.max(*known);
            }
        }
        let mut happenings = works(&Look {
            before: &before,
            after: &after,
            constraints: &constraints(&rows),
            log: &self.log_of(&database, log_before),
            script: &case.migration,
        });
        happenings.extend(locks(&strongest));
        if ["ALTER DOMAIN", "PARTITION OF"]
            .iter()
            .any(|words| case.migration.contains(words))
        {
            // The log has no word for it.
            happenings.extend(scanned(&rows, &before));
        }
        happenings
    }

    /// Runs a case on its own while another session keeps one table after the other locked, and looks
    /// at what it waits for.
    pub(crate) fn alone(&self, case: &Case) -> Happenings {
        let database = self.copy(case, "");
        let look =
            |kind: &str| database.read(&format!("SELECT '{kind}', {COLUMNS};\n{CONSTRAINTS}"));
        let before = look("before");
        let before: Vec<Vec<&str>> = before.lines().map(|row| row.split('|').collect()).collect();
        let before = relations(&before, "before");
        let log_before = self.server.log().len();
        let strongest = awaited(&database, &before, &case.migration);
        let after = look("after");
        let after: Vec<Vec<&str>> = after.lines().map(|row| row.split('|').collect()).collect();
        let mut happenings = works(&Look {
            before: &before,
            after: &relations(&after, "after"),
            constraints: &constraints(&after),
            log: &self.log_of(&database, log_before),
            script: &case.migration,
        });
        happenings.extend(locks(&strongest));
        happenings
    }

    fn copy(&self, case: &Case, suffix: &str) -> Database {
        let name = format!("case_{}{suffix}", case.name.replace('-', "_"));
        // PostgreSQL cuts longer names, and then two would be one.
        assert!(name.len() < 64, "case `{}` has too long a name", case.name);
        let postgres = self.server.existing_database("postgres");
        postgres.run(&format!(
            "CREATE DATABASE {name} TEMPLATE {}",
            self.template.name()
        ));
        let database = self.server.existing_database(&name);
        database.run(&case.before);
        database
    }

    /// The lines that the server has logged for a database since its log had a length.
    fn log_of(&self, database: &Database, since: usize) -> Vec<String> {
        let mark = format!("@{} ", database.name());
        let log = self.server.log();
        let lines = log[since..].lines().filter(|line| line.contains(&mark));
        lines.map(str::to_owned).collect()
    }
}

/// What was seen before and after a migration.
struct Look<'a> {
    before: &'a BTreeMap<String, Relation>,
    after: &'a BTreeMap<String, Relation>,
    constraints: &'a [(String, String)],
    log: &'a [String],
    script: &'a str,
}

/// What the server's log and the files say was done to tables that were there before.
fn works(look: &Look<'_>) -> Happenings {
    let mut works = Happenings::new();
    let mut add = |kind: &str, table: &str| {
        if look.before.values().any(|relation| relation.name == table) {
            works.insert(format!("{kind} {table}"));
        }
    };
    for line in look.log {
        if let Some(table) = quoted(line, "rewriting table ") {
            add("rewrite", table);
        } else if let Some(table) = quoted(line, "verifying table ") {
            add("scan", table);
        } else if let Some(constraint) = quoted(line, "validating foreign key constraint ") {
            for (_, table) in look
                .constraints
                .iter()
                .filter(|(name, _)| name == constraint)
            {
                add("scan", table);
            }
        } else if line.contains("building index ")
            && let Some(table) = quoted(line, " on table ")
        {
            add("index", table);
        }
    }
    let is_truncate = look.script.contains("TRUNCATE");
    for (id, relation) in look.before {
        let is_other = look
            .after
            .get(id)
            .is_some_and(|now| now.file != relation.file);
        let is_said = works.contains(&format!("rewrite {}", relation.name));
        if is_other && !is_said {
            // The log has no word for emptying a table.
            let kind = if is_truncate { "empty" } else { "rewrite" };
            works.insert(format!("{kind} {}", relation.name));
        }
    }
    let rewritten = works.clone();
    // A rewrite reads every row and builds every index anyway.
    works.retain(|work| {
        let (kind, table) = work.split_once(' ').unwrap();
        kind == "rewrite"
            || !rewritten.contains(&format!("rewrite {table}"))
                && !rewritten.contains(&format!("empty {table}"))
            || kind == "empty"
    });
    works
}

fn relations(rows: &[Vec<&str>], kind: &str) -> BTreeMap<String, Relation> {
    let relations = rows.iter().filter_map(|row| {
        let [is_kind, id, name, file, can_be_locked] = row.as_slice() else {
            return None;
        };
        let relation = Relation {
            name: (*name).to_owned(),
            file: (*file).to_owned(),
            can_be_locked: *can_be_locked == "t",
        };
        (*is_kind == kind).then(|| ((*id).to_owned(), relation))
    });
    relations.collect()
}

/// Tables that were read from the first row to the last in the transaction.
fn scanned(rows: &[Vec<&str>], before: &BTreeMap<String, Relation>) -> Happenings {
    let scanned = rows.iter().filter_map(|row| match row.as_slice() {
        ["scanned", relation] => Some(format!("scan {}", before.get(*relation)?.name)),
        _ => None,
    });
    scanned.collect()
}

/// The table of each foreign key.
fn constraints(rows: &[Vec<&str>]) -> Vec<(String, String)> {
    let constraints = rows.iter().filter_map(|row| match row.as_slice() {
        ["constraint", name, table] => Some(((*name).to_owned(), (*table).to_owned())),
        _ => None,
    });
    constraints.collect()
}

/// The locks that a script waits for while another session holds each table in a mode that lets readers
/// and writers in, but no maintenance. Each holder ends when it was waited for.
fn awaited(
    database: &Database,
    before: &BTreeMap<String, Relation>,
    script: &str,
) -> BTreeMap<String, LockMode> {
    let mut holders = BTreeMap::new();
    for (id, relation) in before.iter().filter(|(_, relation)| relation.can_be_locked) {
        let mut holder = database.session();
        let name = &relation.name;
        holder.run(&format!(
            "BEGIN; LOCK TABLE ONLY {name} IN SHARE UPDATE EXCLUSIVE MODE"
        ));
        holders.insert(id.clone(), holder);
    }
    let mut runner = database.session();
    let runner_id = runner.backend();
    let mut watcher = database.session();
    let mut strongest = BTreeMap::new();
    runner.begin(script);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let waits = watcher.run(&format!(
            "SELECT relation, mode FROM pg_locks WHERE pid = {runner_id} AND NOT granted AND locktype = 'relation'"
        ));
        let holder = waits.split_once('|').and_then(|(relation, mode)| {
            let holder = holders.remove(relation)?;
            strongest.insert(before[relation].name.clone(), lock_mode(mode));
            Some(holder)
        });
        if let Some(mut holder) = holder {
            holder.run("ROLLBACK");
        }
        let state = watcher.run(&format!(
            "SELECT state FROM pg_stat_activity WHERE pid = {runner_id} AND query <> 'SELECT pg_backend_pid()'"
        ));
        if state == "idle" {
            break;
        }
        assert!(Instant::now() < deadline, "`{script}` does not end");
    }
    runner.finish();
    strongest
}

fn locks(strongest: &BTreeMap<String, LockMode>) -> Vec<String> {
    let strong = strongest
        .iter()
        .filter(|(_, mode)| **mode >= LockMode::RowExclusive);
    strong
        .map(|(table, mode)| format!("lock {table} {mode}"))
        .collect()
}

fn lock_mode(name: &str) -> LockMode {
    let mut modes = LockMode::ALL.into_iter();
    modes.find(|mode| mode.catalog_name() == name).unwrap()
}

/// The text in quotes behind a phrase of a message.
fn quoted<'a>(line: &'a str, phrase: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(phrase)?;
    rest.strip_prefix('"')?.split('"').next()
}
