//! Goes over migrations in the order in which they run, keeps what is there before each statement, and
//! asks every rule about those that are to be judged. Pure: files in, findings out.

use std::collections::BTreeSet;
use std::ops::Range;

use switchyard_sql::statement::{AlterTypeAction, DoBlock};
use switchyard_sql::{
    Catalog, Delivery, Effects, Lines, Located, Parser, Place, ServerVersion, Statement,
    action_effects, effects, places,
};

use super::allow::{self, Allows};
use super::finding::{Finding, Found, Severity};
use super::moment::{Local, LockTimeout, Moment, Session};
use super::rules;
use super::select::Selection;
use crate::project::{Migration, SchemaMigrations, Wrapping};

/// What findings depend on besides the files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// The server that the migrations are for.
    pub(crate) version: ServerVersion,
    /// Whether the connection has a lock_timeout.
    pub(crate) lock_timeout: LockTimeout,
}

/// Findings of one schema, those that comments allow taken out.
pub(crate) fn judge(
    schema: &SchemaMigrations,
    selection: &Selection,
    settings: Settings,
) -> Vec<Finding> {
    let parsed = parse_all(&schema.migrations);
    let mut catalog = Catalog::default();
    let mut findings = Vec::new();
    for (migration, statements) in schema.migrations.iter().zip(&parsed) {
        catalog.begin_migration();
        if selection.has(migration) {
            let mut script = Script::new(schema, migration, statements, settings);
            script.walk(&mut catalog);
            findings.extend(script.finish());
        } else {
            for located in statements {
                catalog.apply(&located.statement);
            }
        }
    }
    findings
}

/// Parses all migrations, on as many threads as the machine has cores. A thread's stack is larger than
/// usual, because the parser goes down by recursion.
fn parse_all(migrations: &[Migration]) -> Vec<Vec<Located>> {
    const STACK: usize = 64 * 1024 * 1024;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = migrations.len().div_ceil(cores).max(1);
    let parse_share = |migrations: &[Migration]| -> Vec<Vec<Located>> {
        let mut parser = Parser::default();
        migrations
            .iter()
            .map(|migration| parser.parse(migration.script()))
            .collect()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = migrations
            .chunks(share)
            .map(|share| {
                let thread = std::thread::Builder::new().stack_size(STACK);
                (
                    share,
                    thread.spawn_scoped(scope, move || parse_share(share)),
                )
            })
            .collect();
        let parsed = threads
            .into_iter()
            .flat_map(|(share, thread)| match thread {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // No thread to be had: this one does it.
                Err(_) => parse_share(share),
            });
        parsed.collect()
    })
}

/// One migration that is judged.
struct Script<'a> {
    schema: &'a SchemaMigrations,
    migration: &'a Migration,
    statements: &'a [Located],
    settings: Settings,
    lines: Lines,
    allows: Allows,
    session: Session,
    findings: Vec<Finding>,
    /// Rules that speak once for a whole script, and have.
    said: BTreeSet<&'static str>,
}

/// Rules that say the same of every statement of a script.
const ONCE: [&str; 1] = ["lock-timeout"];

impl<'a> Script<'a> {
    fn new(
        schema: &'a SchemaMigrations,
        migration: &'a Migration,
        statements: &'a [Located],
        settings: Settings,
    ) -> Self {
        let lines = Lines::of(migration.script());
        Self {
            schema,
            migration,
            statements,
            settings,
            allows: Allows::read(migration.script(), statements, &lines),
            lines,
            session: Session::new(settings.lock_timeout),
            findings: Vec::new(),
            said: BTreeSet::new(),
        }
    }

    fn walk(&mut self, catalog: &mut Catalog) {
        let delivery = match self.migration.wrapping {
            Wrapping::OneString => Delivery::OneString,
            Wrapping::Transaction => Delivery::InTransaction,
            Wrapping::None => Delivery::OneByOne,
        };
        for (located, place) in self
            .statements
            .iter()
            .zip(places(self.statements, delivery))
        {
            self.session.enter(place);
            let effects = self.look(
                &located.statement,
                &located.span,
                place,
                catalog,
                Within::Script,
            );
            if let Statement::Do(block) = &located.statement {
                self.body(block, &located.span, place, catalog);
            } else {
                let local = if place.is_in_block {
                    Local::InForce
                } else {
                    Local::Ignored
                };
                let offset = located.span.start;
                self.leave(&located.statement, &effects, offset, local, catalog);
                catalog.apply(&located.statement);
            }
        }
    }

    /// The statements of a `DO` block, one after the other, as if all of them ran. A block in it belongs
    /// to the outermost one, which is where comments stand.
    fn body(
        &mut self,
        block: &DoBlock,
        outermost: &Range<usize>,
        place: Place,
        catalog: &mut Catalog,
    ) {
        for inner in &block.statements {
            let effects = self.look(
                &inner.statement,
                &inner.span,
                place,
                catalog,
                Within::Body(outermost.clone()),
            );
            if let Statement::Do(nested) = &inner.statement {
                self.body(nested, outermost, place, catalog);
            } else {
                let local = if block.commits {
                    Local::InDoubt
                } else {
                    Local::InForce
                };
                let offset = inner.span.start;
                self.leave(&inner.statement, &effects, offset, local, catalog);
                catalog.apply(&inner.statement);
            }
        }
    }

    /// Asks every rule about a statement; gives what it does to tables.
    fn look(
        &mut self,
        statement: &Statement,
        span: &Range<usize>,
        place: Place,
        catalog: &Catalog,
        within: Within,
    ) -> Effects {
        let version = self.settings.version;
        let (effects, action_effects) = if let Statement::AlterTable(alter) = statement {
            let of_actions = action_effects(alter, catalog, version);
            (Effects::of_all(&of_actions), of_actions)
        } else {
            (effects(statement, catalog, version), Vec::new())
        };
        let moment = Moment {
            statement,
            text: self
                .migration
                .script()
                .get(span.clone())
                .unwrap_or_default(),
            effects: &effects,
            action_effects: &action_effects,
            catalog,
            version: self.settings.version,
            session: &self.session,
            place,
            is_in_body: matches!(within, Within::Body(_)),
        };
        let mut found = Vec::new();
        for rule in rules::ALL {
            found.extend(
                (rule.check)(&moment)
                    .into_iter()
                    .map(|found| (*rule, found)),
            );
        }
        let (allowed_at, shown) = match within {
            Within::Script => (span.clone(), span.clone()),
            // A comment stands at the block; the finding is shown at its statement.
            Within::Body(block) => (block, span.start..span.start + 1),
        };
        for (rule, found) in found {
            if self.allows.takes_back(rule.id, &allowed_at) {
                continue;
            }
            if ONCE.contains(&rule.id) && found.severity.is_none() && !self.said.insert(rule.id) {
                continue;
            }
            let severity = found.severity.unwrap_or(rule.severity);
            self.add(rule.id, severity, found, &shown, span);
        }
        effects
    }

    /// Takes in what a statement leaves for those behind it.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others leave locks alone"
    )]
    fn leave(
        &mut self,
        statement: &Statement,
        effects: &Effects,
        offset: usize,
        local: Local,
        catalog: &Catalog,
    ) {
        match statement {
            Statement::Set(set) => self.session.set(set, local),
            Statement::Reset(name) => self.session.reset(name.as_deref()),
            Statement::DiscardAll => self.session.reset(None),
            Statement::Transaction(command) => self.session.end(*command),
            Statement::AlterType(alter) => {
                if let AlterTypeAction::AddValue { value, .. } = &alter.action {
                    self.session.enum_values.push(value.clone());
                }
            }
            _ => {
                let line = self.line(offset);
                self.session.leave(effects, catalog, line);
            }
        }
    }

    fn finish(mut self) -> Vec<Finding> {
        let wrong = std::mem::take(&mut self.allows.wrong);
        let unused: Vec<_> = self.allows.unused().collect();
        if let Some(rule) = rules::find(allow::RULE) {
            for (span, found) in wrong.into_iter().chain(unused) {
                self.add(
                    rule.id,
                    found.severity.unwrap_or(rule.severity),
                    found,
                    &span,
                    &span,
                );
            }
        }
        self.findings.sort_by_key(|finding| finding.line);
        self.findings
    }

    /// Adds a finding that is shown at `shown`, about the statement with the bytes `about`.
    fn add(
        &mut self,
        rule: &'static str,
        severity: Severity,
        found: Found,
        shown: &Range<usize>,
        about: &Range<usize>,
    ) {
        let script = self.migration.script();
        let text = script.get(about.clone()).unwrap_or_default();
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        self.findings.push(Finding {
            rule,
            severity,
            message: found.message,
            hint: found.hint,
            is_unknown: found.is_unknown,
            schema: self.schema.schema.name.to_string(),
            migration: self.migration.name.clone(),
            file: self.migration.file.clone(),
            line: self.line(shown.start),
            end_line: self.line(shown.end.saturating_sub(1).max(shown.start)),
            statement: words.join(" "),
        });
    }

    /// The line in the file, in which the part that runs forward may begin later.
    fn line(&self, offset: usize) -> usize {
        let before = &self.migration.text[..self.migration.forward.start];
        before.matches('\n').count() + self.lines.line(offset)
    }
}

/// Where a statement stands.
enum Within {
    Script,
    /// In the body of a `DO` block with these bytes.
    Body(Range<usize>),
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::project::{Schema, Tool};

    /// Findings in the last of several scripts, which Prisma would run one after the other, on a connection
    /// with a lock_timeout.
    pub(crate) fn findings(scripts: &[&str]) -> Vec<Finding> {
        judged(scripts, Wrapping::OneString, LockTimeout::Set)
    }

    fn judged(scripts: &[&str], wrapping: Wrapping, lock_timeout: LockTimeout) -> Vec<Finding> {
        let migrations = scripts
            .iter()
            .enumerate()
            .map(|(number, script)| Migration {
                name: format!("{number:04}"),
                file: format!("{number:04}/migration.sql").into(),
                text: (*script).to_owned(),
                forward: 0..script.len(),
                wrapping,
            });
        let schema = SchemaMigrations {
            schema: Schema::alone(Path::new("prisma"), Tool::Prisma),
            migrations: migrations.collect(),
        };
        let settings = Settings {
            version: ServerVersion::DEFAULT,
            lock_timeout,
        };
        let last = schema
            .migrations
            .last()
            .map(|migration| migration.file.clone());
        let selection = Selection::Files(last.into_iter().collect());
        judge(&schema, &selection, settings)
    }

    pub(crate) fn rules_of(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|finding| finding.rule).collect()
    }

    const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, a text, b varchar(10));";

    #[test]
    fn what_a_migration_makes_itself_is_its_own() {
        let script = "CREATE TABLE n (id int, a text); CREATE INDEX ON n (a); \
            ALTER TABLE n ADD CONSTRAINT c CHECK (id > 0); ALTER TABLE n ALTER a SET NOT NULL; \
            UPDATE n SET a = 'x'; ALTER TABLE n DROP COLUMN a; TRUNCATE n; DROP TABLE n;";
        assert_eq!(rules_of(&findings(&[TABLE, script])), [""; 0]);
    }

    #[test]
    fn harmless_changes_of_a_table_that_others_use_are_not_reported() {
        for script in [
            "ALTER TABLE t ADD COLUMN c int",
            "ALTER TABLE t ADD COLUMN c timestamptz NOT NULL DEFAULT now()",
            "ALTER TABLE t ALTER b TYPE varchar(20)",
            "ALTER TABLE t ALTER b TYPE text",
            "ALTER TABLE t ALTER a SET DEFAULT 'x'",
            "ALTER TABLE t ADD CONSTRAINT c CHECK (id > 0) NOT VALID",
            "CREATE INDEX CONCURRENTLY i ON t (a)",
            "CREATE TABLE n (id int PRIMARY KEY, t_id int REFERENCES t (id))",
            "INSERT INTO t VALUES (1, 'x', 'y')",
            "UPDATE t SET a = 'x' WHERE id = 3",
            "DELETE FROM t WHERE id IN (1, 2, 3)",
            "COMMENT ON TABLE t IS 'x'",
        ] {
            let found = findings(&[TABLE, script]);
            assert!(found.is_empty(), "{script}: {found:?}");
        }
    }

    #[test]
    fn a_finding_names_the_lines_of_its_statement() {
        let found = findings(&[
            TABLE,
            "-- first\nSELECT 1;\n\nALTER TABLE t\n  DROP COLUMN a;\n",
        ]);
        assert_eq!((found[0].line, found[0].end_line), (4, 5));
        assert_eq!(found[0].file, Path::new("0001/migration.sql"));
    }

    #[test]
    fn a_comment_takes_back_findings_of_its_statement_alone() {
        let script = "-- switchyard:allow drop-column nobody reads it since 2.1\n\
            ALTER TABLE t DROP COLUMN a;\nALTER TABLE t DROP COLUMN b; -- switchyard:allow drop-column nor this";
        assert_eq!(rules_of(&findings(&[TABLE, script])), [""; 0]);
        let script = "-- switchyard:allow drop-column nobody reads it\nALTER TABLE t DROP COLUMN a;\nDROP TABLE t;";
        assert_eq!(rules_of(&findings(&[TABLE, script])), ["drop-table"]);
        let script = "SELECT 1;\n-- switchyard:allow-file drop-column retired\nALTER TABLE t DROP COLUMN a;\nALTER TABLE t DROP b;";
        assert_eq!(rules_of(&findings(&[TABLE, script])), [""; 0]);
    }

    #[test]
    fn a_comment_that_allows_nothing_is_told() {
        for (script, severity) in [
            (
                "-- switchyard:allow drop-column\nALTER TABLE t DROP COLUMN a;",
                Severity::Error,
            ),
            (
                "-- switchyard:allow drop-colum typo\nALTER TABLE t DROP COLUMN a;",
                Severity::Error,
            ),
            (
                "-- switchyard:allow drop-table wrong one\nALTER TABLE t DROP COLUMN a;",
                Severity::Warning,
            ),
            (
                "ALTER TABLE t DROP COLUMN a;\n\n-- switchyard:allow drop-column too late",
                Severity::Error,
            ),
        ] {
            let found = findings(&[TABLE, script]);
            let told: Vec<_> = found
                .iter()
                .filter(|finding| finding.rule == "allow-comment")
                .collect();
            assert_eq!(told.len(), 1, "{script}");
            assert_eq!(told[0].severity, severity, "{script}");
            assert!(rules_of(&found).contains(&"drop-column"), "{script}");
        }
    }

    #[test]
    fn statements_of_a_do_block_are_judged_too() {
        let script =
            "DO $$ BEGIN\n  ALTER TABLE t DROP COLUMN a;\n  EXECUTE 'DROP TABLE t';\nEND $$;";
        let found = findings(&[TABLE, script]);
        assert_eq!(rules_of(&found), ["ddl-in-do", "drop-column", "drop-table"]);
        assert_eq!(
            found.iter().map(|finding| finding.line).collect::<Vec<_>>(),
            [1, 2, 3]
        );
    }

    /// The baseline knows a finding by its statement, so two of a block must not share one.
    #[test]
    fn a_finding_in_a_do_block_has_the_statement_that_it_is_about() {
        let script =
            "DO $$ BEGIN ALTER TABLE t\n  DROP COLUMN a; ALTER TABLE t DROP COLUMN b; END $$;";
        let found = findings(&[TABLE, script]);
        let dropped = found.iter().filter(|finding| finding.rule == "drop-column");
        let statements: Vec<&str> = dropped.map(|finding| finding.statement.as_str()).collect();
        assert_eq!(
            statements,
            ["ALTER TABLE t DROP COLUMN a", "ALTER TABLE t DROP COLUMN b"]
        );
    }

    #[test]
    fn statements_of_nested_blocks_are_judged_where_they_stand() {
        let script = "-- switchyard:allow ddl-in-do no other way\nDO $$ BEGIN\n  DO $x$ BEGIN\n    DROP TABLE t;\n    EXECUTE q;\n  END $x$;\n  \
            EXECUTE 'DO $y$ BEGIN ALTER TABLE u DROP COLUMN a; END $y$';\nEND $$;";
        let found = findings(&[TABLE, "CREATE TABLE u (a int);", script]);
        let found: Vec<_> = found
            .iter()
            .map(|finding| (finding.rule, finding.line))
            .collect();
        assert_eq!(
            found,
            [
                ("unknown-statement", 3),
                ("drop-table", 4),
                ("drop-column", 7)
            ]
        );
    }

    #[test]
    fn what_is_not_understood_is_unknown_and_never_safe() {
        for script in [
            "FROBNICATE t",
            "SELECT do_something()",
            "DO $$ BEGIN EXECUTE 'ALTER TABLE ' || x; END $$",
            "ALTER TABLE elsewhere ALTER COLUMN a TYPE text",
            "\\connect other",
            "CREATE TABLE n AS SELECT do_something()",
            "SELECT do_something() INTO n",
            "CREATE MATERIALIZED VIEW n AS SELECT do_something()",
            "DROP FUNCTION do_something() CASCADE",
        ] {
            let found = findings(&[TABLE, script]);
            assert!(
                found.iter().any(|finding| finding.is_unknown),
                "{script}: {found:?}"
            );
        }
    }

    #[test]
    fn views_are_renamed_as_tables_are() {
        for (script, rule) in [
            ("ALTER VIEW v RENAME TO w", "rename-table"),
            ("ALTER MATERIALIZED VIEW v SET SCHEMA other", "rename-table"),
            ("ALTER VIEW v RENAME COLUMN a TO b", "rename-column"),
            ("ALTER MATERIALIZED VIEW v RENAME a TO b", "rename-column"),
        ] {
            let found = findings(&["CREATE VIEW v AS SELECT 1 AS a", script]);
            assert_eq!(rules_of(&found), [rule], "{script}");
        }
    }

    #[test]
    fn a_trigger_is_switched_off_by_what_is_done_and_not_by_its_name() {
        let of = |action: &str| {
            let script = format!("ALTER TABLE t {action}");
            rules_of(&findings(&[TABLE, &script])).contains(&"disable-trigger")
        };
        for action in [
            "ENABLE TRIGGER disable_me",
            "ENABLE ALWAYS TRIGGER disabled",
            "/* DISABLE */ ENABLE TRIGGER a",
        ] {
            assert!(!of(action), "{action}");
        }
        for action in ["disable trigger all", "ENABLE REPLICA TRIGGER a"] {
            assert!(of(action), "{action}");
        }
    }

    #[test]
    fn a_change_in_the_query_of_a_new_table_is_judged_as_one() {
        let gone = "WITH gone AS (DELETE FROM t RETURNING id) SELECT id";
        for script in [
            format!("CREATE TABLE n AS {gone} FROM gone"),
            format!("{gone} INTO n FROM gone"),
        ] {
            let found = findings(&[TABLE, &script]);
            assert_eq!(rules_of(&found), ["change-without-where"], "{script}");
        }
    }

    #[test]
    fn a_change_is_limited_by_a_key_alone() {
        let before = "CREATE TABLE t (id int PRIMARY KEY, a int, b int, c text); CREATE UNIQUE INDEX ON t (a, b); \
            CREATE UNIQUE INDEX ON t (c) WHERE a IS NULL; CREATE UNIQUE INDEX ON t (b, lower(c));";
        let of = |condition: &str| {
            let script = format!("UPDATE t SET c = (SELECT c FROM t LIMIT 1) WHERE {condition}");
            rules_of(&findings(&[before, &script]))
        };
        for condition in [
            "id BETWEEN 1 AND 1000",
            "id > 1000 AND id <= 2000",
            "a = 1 AND b BETWEEN 1 AND 10",
            "id IN (SELECT id FROM t WHERE c IS NULL LIMIT 1000)",
            "ctid = ANY (ARRAY(SELECT ctid FROM t WHERE c IS NULL LIMIT 1000))",
        ] {
            assert_eq!(of(condition), [""; 0], "{condition}");
        }
        for condition in [
            "a BETWEEN 1 AND 1000",
            "a > 1000 AND a <= 2000",
            "a IN (SELECT a FROM t LIMIT 3)",
            "c = 'x'",
            "b = 3",
            "c IS NULL",
        ] {
            assert_eq!(of(condition), ["unbatched-change"], "{condition}");
        }
    }

    #[test]
    fn lock_timeout_may_come_from_the_script_or_the_connection() {
        let change = "ALTER TABLE t ADD COLUMN c int; ALTER TABLE t ADD COLUMN d int;";
        let of = |script: &str, lock_timeout| {
            rules_of(&judged(&[TABLE, script], Wrapping::OneString, lock_timeout))
        };
        assert_eq!(of(change, LockTimeout::Set), [""; 0]);
        assert_eq!(of(change, LockTimeout::Unset), ["lock-timeout"]);
        assert_eq!(
            of(
                &format!("SET LOCAL lock_timeout = '2s'; {change}"),
                LockTimeout::Unset
            ),
            [""; 0]
        );
        // Once for the setting, once for what it does.
        assert_eq!(
            of(
                &format!("SET lock_timeout TO 0; {change}"),
                LockTimeout::Set
            ),
            ["lock-timeout", "lock-timeout"]
        );
        assert_eq!(
            of(
                &format!("SET lock_timeout = '0s'; RESET ALL; {change}"),
                LockTimeout::Set
            ),
            ["lock-timeout"]
        );
    }

    /// The rules that say that `ALTER TABLE` waits without a limit, behind statements of each sort.
    #[test]
    fn lock_timeout_is_what_the_server_has_it_at() {
        let waits = |before: &str, wrapping, connection| {
            let script = format!("{before}; ALTER TABLE t ADD COLUMN c int");
            let found = judged(&[TABLE, &script], wrapping, connection);
            found.iter().any(|finding| {
                finding.rule == "lock-timeout" && finding.severity == Severity::Warning
            })
        };
        let (none, own) = (LockTimeout::Unset, LockTimeout::Set);
        for (before, connection, is_waiting) in [
            // It ends with its transaction, and what the session had is back.
            ("BEGIN; SET LOCAL lock_timeout = '2s'; COMMIT", none, true),
            (
                "SET lock_timeout = '2s'; BEGIN; SET LOCAL lock_timeout = 0; COMMIT",
                none,
                false,
            ),
            (
                "SET lock_timeout = 0; BEGIN; SET LOCAL lock_timeout = '2s'; COMMIT",
                own,
                true,
            ),
            (
                "BEGIN; SET LOCAL lock_timeout = 0; SET lock_timeout = '2s'; COMMIT",
                none,
                false,
            ),
            // Nothing without a transaction block.
            ("SET LOCAL lock_timeout = '2s'", none, true),
            ("SET LOCAL lock_timeout = 0", own, false),
            // `RESET` and `DISCARD ALL` are for the session.
            ("SET lock_timeout = '2s'; RESET lock_timeout", none, true),
            (
                "BEGIN; SET LOCAL lock_timeout = '2s'; RESET lock_timeout",
                none,
                true,
            ),
            (
                "BEGIN; SET LOCAL lock_timeout = 0; RESET ALL; COMMIT",
                own,
                false,
            ),
            ("SET lock_timeout = '2s'; DISCARD ALL", none, true),
            ("SET lock_timeout = 0; DISCARD ALL", own, false),
            // What is rolled back was not set.
            ("BEGIN; SET lock_timeout = '2s'; ROLLBACK", none, true),
            ("BEGIN; SET lock_timeout = 0; ROLLBACK", own, false),
            (
                "BEGIN; SAVEPOINT a; SET lock_timeout = '2s'; ROLLBACK TO a",
                none,
                true,
            ),
            // In a block that commits, the transaction may be over.
            (
                "DO $$ BEGIN SET LOCAL lock_timeout = '2s'; COMMIT; ALTER TABLE t ADD d int; END $$",
                none,
                true,
            ),
            ("SET lock_timeout = '400us'", own, true),
            ("SET lock_timeout = '0.5min'", none, false),
        ] {
            let is = waits(before, Wrapping::None, connection);
            assert_eq!(is, is_waiting, "{before}");
        }
        // Several statements of one string are a block.
        let local = "SET LOCAL lock_timeout = '2s'";
        assert!(!waits(local, Wrapping::OneString, none));
        assert!(!waits(local, Wrapping::Transaction, none));
    }

    #[test]
    fn a_backfill_is_reported_only_while_its_transaction_holds_a_lock() {
        let script = "ALTER TABLE t ADD COLUMN c int; UPDATE t SET c = 1 WHERE a IS NULL;";
        let of = |wrapping| {
            let found = judged(&[TABLE, script], wrapping, LockTimeout::Set);
            rules_of(&found).contains(&"ddl-with-backfill")
        };
        assert!(of(Wrapping::OneString));
        assert!(of(Wrapping::Transaction));
        assert!(!of(Wrapping::None));
    }

    #[test]
    fn a_statement_that_must_stand_alone_may_stand_alone_in_prisma_but_not_in_a_transaction() {
        let script = "CREATE INDEX CONCURRENTLY i ON t (a);";
        let of = |wrapping| rules_of(&judged(&[TABLE, script], wrapping, LockTimeout::Set));
        assert_eq!(of(Wrapping::OneString), [""; 0]);
        assert_eq!(of(Wrapping::None), [""; 0]);
        assert_eq!(of(Wrapping::Transaction), ["concurrently-in-transaction"]);
    }
}
