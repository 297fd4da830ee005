//! `run` as a step: real servers, real Prisma, real commands.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;

use switchyard_harness::{Ended, Step, expect_code, expect_said, until};
use switchyard_test_postgres::{Database, PASSWORD, Prisma, Server, programs};

const FIRST: &str = "20260101000000_first";
const SECOND: &str = "20260102000000_second";
const PRISMA: &str = "node node_modules/prisma/build/index.js";
const ITEM: &str =
    "CREATE TABLE item (id int PRIMARY KEY, name text);\nINSERT INTO item VALUES (1, 'one');\n";

fn gate(command: &str) -> Step {
    Step::new(env!("CARGO_BIN_EXE_migrate-gate")).input("command", command)
}

/// A run with real Prisma.
fn run(project: &Prisma, database: &Database) -> Step {
    let folder = project.folder().display().to_string();
    let mut step = gate("run")
        .input("path", &folder)
        .input("directory", &folder)
        .input("prisma", PRISMA)
        .input("database-url", database.url())
        .input("lock-timeout", "300ms")
        .input("retry-pause", "100ms");
    let variables = Prisma::variables();
    let names: Vec<&str> = variables.iter().map(|(name, _)| *name).collect();
    for (name, value) in variables {
        step = step.variable(name, value);
    }
    step.input("variables", names.join("\n"))
}

/// A run with `psql`, as a tool whose ledger is its own.
fn psql(folder: &Path, database: &Database) -> Step {
    gate("run")
        .input("path", folder.display().to_string())
        .input("tool", "command")
        .input(
            "script",
            "for file in *.sql; do psql -X -v ON_ERROR_STOP=1 -1 -f \"$file\" \"$DATABASE_URL\"; done",
        )
        .input("directory", folder.display().to_string())
        .input("database-url", database.url())
        .input("lock-timeout", "300ms")
        .input("retry-pause", "100ms")
}

fn assert_code(ended: &Ended, code: i32) {
    ended.assert_never_shows(PASSWORD);
    expect_code(ended, code);
}

fn applied(database: &Database) -> String {
    database.read(
        "SELECT string_agg(migration_name, ' ' ORDER BY migration_name) FROM _prisma_migrations WHERE finished_at IS NOT NULL",
    )
}

#[test]
fn what_is_pending_is_applied_one_at_a_time_and_proved() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, ITEM);
    project.migration(SECOND, "ALTER TABLE item ADD COLUMN price int;\n");
    let ended = run(&project, &database)
        .input(
            "assertions",
            "[{name: an item is there, sql: SELECT count(*) = 1 FROM item}]",
        )
        .run();
    assert_code(&ended, 0);
    assert_eq!(applied(&database), format!("{FIRST} {SECOND}"));
    assert_eq!(
        [&ended.outputs["applied"], &ended.outputs["verified"]],
        ["2", "true"]
    );
    expect_said(
        &ended,
        &[
            &format!("{FIRST}, attempt 1"),
            &format!("{SECOND}, attempt 1"),
        ],
    );
    let again = run(&project, &database).run();
    assert_code(&again, 0);
    assert_eq!(again.outputs["applied"], "0");
}

/// `pgbench` at work on a database, until it is ended.
struct Traffic(std::process::Child);

impl Traffic {
    fn start(database: &Database) -> Self {
        let child = std::process::Command::new(programs().join("pgbench"))
            .args(["--no-vacuum", "--client=4", "--time=600", &database.url()])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// Lets it finish what it is at, as at the end of its time, and gives its report.
    fn end(mut self) -> String {
        assert!(self.0.try_wait().unwrap().is_none(), "it ended by itself");
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGALRM).unwrap();
        let ended = self.0.wait_with_output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(!said.contains("error"), "{said}");
        String::from_utf8(ended.stdout).unwrap()
    }
}

#[test]
fn expanding_under_traffic_fails_no_transaction() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, ITEM);
    assert_code(&run(&project, &database).run(), 0);
    let made = std::process::Command::new(programs().join("pgbench"))
        .args(["--initialize", "--quiet", "--foreign-keys", &database.url()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    project.migration(
        SECOND,
        "ALTER TABLE pgbench_accounts ADD COLUMN note text DEFAULT 'none';
         ALTER TABLE pgbench_history ADD CONSTRAINT known CHECK (delta IS NOT NULL) NOT VALID;\n",
    );
    project.migration(
        "20260103000000_index",
        "CREATE INDEX CONCURRENTLY by_note ON pgbench_accounts (note);\n",
    );
    project.migration(
        "20260104000000_validate",
        "ALTER TABLE pgbench_history VALIDATE CONSTRAINT known;\n",
    );
    let traffic = Traffic::start(&database);
    until("there is traffic", || {
        database.read("SELECT count(*) > 0 FROM pgbench_history") == "t"
    });
    let ended = run(&project, &database).run();
    let report = traffic.end();
    assert_code(&ended, 0);
    assert_eq!(ended.outputs["applied"], "3");
    assert!(
        report.contains("number of failed transactions: 0 (0.000%)"),
        "{report}"
    );
    let still = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'by_note'::regclass";
    assert_eq!(database.read(still), "t");
}

#[test]
fn what_was_planned_runs_on_every_version_of_postgresql_in_use() {
    for major in [13, 14, 17, 18] {
        let server = Server::options().major(major).start();
        let database = server.database();
        let project = Prisma::new();
        project.migration(FIRST, ITEM);
        project.migration(
            SECOND,
            "CREATE INDEX CONCURRENTLY by_name ON item (name);\n",
        );
        let folder = project.folder().display().to_string();
        let planned = gate("plan")
            .input("path", &folder)
            .input("directory", &folder)
            .input("database-url", database.url())
            .run();
        assert_code(&planned, 0);
        let ended = run(&project, &database)
            .input("approved-digest", &planned.outputs["digest"])
            .input("limits", "role")
            .run();
        assert_code(&ended, 0);
        let counts = [&ended.outputs["applied"], &ended.outputs["verified"]];
        assert_eq!(counts, ["2", "true"], "PostgreSQL {major}");
        let left = "SELECT count(*) FROM pg_db_role_setting";
        assert_eq!(database.read(left), "0", "PostgreSQL {major}");
    }
}

#[test]
fn only_the_approved_plan_runs() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, ITEM);
    let plan = |project: &Prisma| {
        let folder = project.folder().display().to_string();
        let step = gate("plan")
            .input("path", &folder)
            .input("directory", folder);
        step.input("database-url", database.url()).run()
    };
    let approved = plan(&project).outputs["digest"].clone();
    project.migration(SECOND, "DROP TABLE item;\n");
    let refused = run(&project, &database)
        .input("approved-digest", &approved)
        .run();
    assert_code(&refused, 1);
    expect_said(
        &refused,
        &["the plan is not the approved one", "plan again"],
    );
    assert_eq!(database.read("SELECT to_regclass('item') IS NULL"), "t");
    let approved = plan(&project).outputs["digest"].clone();
    let ended = run(&project, &database)
        .input("approved-digest", approved)
        .run();
    assert_code(&ended, 0);
}

#[test]
fn a_lock_that_is_held_is_tried_again_and_had_when_its_holder_lets_go() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, ITEM);
    assert_code(&run(&project, &database).run(), 0);
    project.migration(SECOND, "ALTER TABLE item ADD COLUMN price int;\n");
    let mut holder = database.session();
    let _ = holder.run("BEGIN; LOCK TABLE item IN ACCESS SHARE MODE;");
    let step = run(&project, &database).input("attempts", "20").start();
    until("a failed attempt is taken back", || {
        database
            .read("SELECT count(*) > 0 FROM _prisma_migrations WHERE rolled_back_at IS NOT NULL")
            == "t"
    });
    let _ = holder.run("COMMIT;");
    let ended = step.finish();
    assert_code(&ended, 0);
    assert_eq!(applied(&database), format!("{FIRST} {SECOND}"));
    expect_said(&ended, &["a lock did not come and nothing was changed"]);
}

#[test]
fn a_lock_that_never_comes_is_given_up_naming_its_holder_and_leaves_no_failed_row() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, ITEM);
    assert_code(&run(&project, &database).run(), 0);
    project.migration(SECOND, "ALTER TABLE item ADD COLUMN price int;\n");
    let mut holder = database.session();
    let _ = holder.run("SET application_name = 'the long report'; BEGIN; SELECT * FROM item;");
    let ended = run(&project, &database)
        .input("attempts", "2")
        .input("lock-timeout", "1500ms")
        .run();
    assert_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "a lock was not had in 2 attempts",
            "the long report",
            "nothing was changed",
        ],
    );
    assert!(
        !ended.log().contains("SELECT * FROM item"),
        "statements are not shown"
    );
    let _ = holder.run("COMMIT;");
    let ended = run(&project, &database).run();
    assert_code(&ended, 0);
}

#[test]
fn a_failure_half_way_outside_of_a_transaction_is_told_with_what_it_left() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, ITEM);
    // The adapter runs each statement on its own.
    project.migration(
        SECOND,
        "ALTER TABLE item ADD COLUMN price int;\nALTER TABLE nowhere ADD COLUMN x int;\n",
    );
    let ended = run(&project, &database).run();
    assert_code(&ended, 1);
    expect_said(
        &ended,
        &[
            &format!("migration `{SECOND}` failed half-way"),
            "restore the backup",
        ],
    );
    assert!(ended.summary.contains("price"), "{}", ended.summary);
    assert_eq!(applied(&database), FIRST);
    let again = run(&project, &database).run();
    assert_code(&again, 1);
    expect_said(&again, &["nothing may run", "resolve"]);
}

#[test]
fn a_failure_inside_of_a_transaction_leaves_nothing_and_says_so() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, "ALTER TABLE nowhere ADD COLUMN x int;\n");
    let ended = run(&project, &database).run();
    assert_code(&ended, 1);
    expect_said(
        &ended,
        &["the catalog is as it was before it", "migrate resolve"],
    );
    let command = tempfile::tempdir().unwrap();
    std::fs::write(
        command.path().join("1.sql"),
        "CREATE TABLE half (id int); ALTER TABLE nowhere ADD COLUMN x int;",
    )
    .unwrap();
    let ended = psql(command.path(), &database).run();
    assert_code(&ended, 1);
    expect_said(&ended, &["the tool failed; the catalog is as it was"]);
}

#[test]
fn an_index_that_was_left_invalid_stops_even_a_tool_that_succeeds() {
    let database = Server::shared().database();
    database.run("CREATE TABLE item (id int); INSERT INTO item VALUES (1), (1);");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1.sql"), "SELECT 1;").unwrap();
    let step = psql(folder.path(), &database).input(
        "script",
        "psql -X -c 'CREATE UNIQUE INDEX CONCURRENTLY item_id ON item (id)' \"$DATABASE_URL\" || true",
    );
    let ended = step.run();
    assert_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "left an index that no query uses",
            "public.item_id",
            "DROP INDEX CONCURRENTLY",
        ],
    );
}

#[test]
fn a_proof_that_fails_is_no_success() {
    let database = Server::shared().database();
    database.run(ITEM);
    database.run("INSERT INTO item SELECT n FROM generate_series(2, 1000) n; CREATE TABLE job AS SELECT 1 AS id;");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("1.sql"),
        "DELETE FROM item; DELETE FROM job;",
    )
    .unwrap();
    let assertions = "[
        {name: it does not hold, sql: SELECT false},
        {name: it is null, sql: 'SELECT NULL::boolean'},
        {name: it is no boolean, sql: SELECT 1},
        {name: it has no row, sql: SELECT true WHERE false},
        {name: it is no SQL, sql: SELEKT},
        {name: it writes, sql: \"WITH x AS (INSERT INTO item VALUES (9, 'x') RETURNING true) SELECT true FROM x\"},
        {name: it holds, sql: SELECT true}
    ]";
    let ended = psql(folder.path(), &database)
        .input("assertions", assertions)
        .run();
    assert_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "table public.item had a thousand rows or more and has none now",
            "table public.job had a few rows",
            "`it does not hold` does not hold",
            "`it is null` has no answer",
            "`it is no boolean` answers with something else",
            "`it has no row` has 0 rows",
            "`it is no SQL` could not be asked",
            "`it writes` could not be asked",
        ],
    );
    assert!(!ended.log().contains("`it holds`"));
    assert_eq!(ended.outputs["verified"], "false");
}

#[test]
fn a_killed_run_is_gone_on_with_by_the_next() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, ITEM);
    assert_code(&run(&project, &database).run(), 0);
    project.migration(SECOND, "ALTER TABLE item ADD COLUMN price int;\n");
    let mut holder = database.session();
    let _ = holder.run("BEGIN; LOCK TABLE item IN ACCESS SHARE MODE;");
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal").display().to_string();
    let with_journal = || run(&project, &database).input("journal", &journal);
    let mut step = with_journal().input("lock-timeout", "20s").start();
    until("the migration waits", || {
        database.read("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'switchyard migrate-gate run'") == "1"
    });
    step.child().kill().unwrap();
    let _ = step.finish();
    // The tool goes on by itself: the next run waits for it, and it is ended here as a dying machine ends it.
    database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'switchyard migrate-gate run'");
    let _ = holder.run("COMMIT;");
    until("the failed row is there", || {
        database.read("SELECT count(*) FROM _prisma_migrations WHERE finished_at IS NULL") == "1"
    });
    let ended = with_journal().run();
    assert_code(&ended, 0);
    expect_said(
        &ended,
        &[
            "an earlier run was killed or stopped",
            "nothing of it is left",
        ],
    );
    assert_eq!(applied(&database), format!("{FIRST} {SECOND}"));
}

#[test]
fn two_gates_at_once_wait_for_each_other_and_the_second_says_for_whom() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, "SELECT pg_sleep(2);\n");
    let first = run(&project, &database).start();
    until("the first one works", || {
        database.read("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
            != "0"
    });
    let impatient = run(&project, &database).input("gate-timeout", "0s").run();
    assert_code(&impatient, 1);
    expect_said(&impatient, &["another gate works on"]);
    let second = run(&project, &database).run();
    assert_code(&second, 0);
    assert_eq!(second.outputs["applied"], "0");
    assert_code(&first.finish(), 0);
}

#[test]
fn limits_of_the_role_hold_for_a_tool_that_ignores_the_others_and_are_taken_back() {
    let database = Server::shared().database();
    let name = database.name();
    database.run(&format!("ALTER ROLE postgres IN DATABASE {name} SET lock_timeout = '7s'; CREATE TABLE seen (value text);"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1.sql"), "SELECT 1;").unwrap();
    let step = psql(folder.path(), &database).input("limits", "role").input(
        "script",
        "url=${DATABASE_URL%%\\?*}; env -u PGOPTIONS psql -X -c \"INSERT INTO seen SELECT current_setting('lock_timeout')\" \"$url\"",
    );
    assert_code(&step.run(), 0);
    assert_eq!(database.read("SELECT value FROM seen"), "300ms");
    let settings = "SELECT array_to_string(setconfig, ' ') FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()";
    assert_eq!(database.read(settings), "lock_timeout=7s");
}

#[test]
fn limits_of_the_role_need_no_superuser() {
    let database = Server::shared().database();
    let (name, role) = (database.name(), format!("migrator_{}", database.name()));
    database.run(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'migrator-2290'; ALTER DATABASE {name} OWNER TO {role};"
    ));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1.sql"), "CREATE TABLE item (id int);").unwrap();
    let ended = psql(folder.path(), &database)
        .input("database-url", database.url_as(&role, "migrator-2290"))
        .input("limits", "role")
        .run();
    assert_code(&ended, 0);
    let settings = "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()";
    assert_eq!(database.read(settings), "0");
}

#[test]
fn of_four_schemas_one_fails_and_the_others_states_are_told() {
    let server = Server::shared();
    let (shop, privacy) = (server.database(), server.database());
    shop.run("CREATE SCHEMA organization; CREATE SCHEMA dropshipping;");
    let projects: Vec<Prisma> = (0..4).map(|_| Prisma::new()).collect();
    for project in &projects {
        project.migration(FIRST, "CREATE TABLE thing (id int PRIMARY KEY);\n");
    }
    projects[1].migration(SECOND, "ALTER TABLE nowhere ADD COLUMN x int;\n");
    let names = [
        "schema",
        "schema-organization",
        "schema-dropshipping",
        "schema-privacy",
    ];
    let keys = ["MAIN", "ORGANIZATION", "DROPSHIPPING", "PRIVACY"];
    let urls = [
        shop.url(),
        format!("{}?schema=organization", shop.url()),
        format!("{}?schema=dropshipping", shop.url()),
        privacy.url(),
    ];
    let schemas: String = (0..4)
        .map(|at| {
            let folder = projects[at].folder().display().to_string();
            format!(
                "- {{name: {}, path: {folder}, directory: {folder}, url-env: {}}}\n",
                names[at], keys[at]
            )
        })
        .collect();
    let lines: String = (0..4)
        .map(|at| format!("{}={}\n", keys[at], urls[at]))
        .collect();
    let mut step = gate("run")
        .input("schemas", schemas)
        .input("database-urls", lines)
        .input("prisma", PRISMA)
        .input(
            "variables",
            Prisma::variables().map(|(name, _)| name).join("\n"),
        );
    for (name, value) in Prisma::variables() {
        step = step.variable(name, value);
    }
    let ended = step.run();
    assert_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "schema `schema-organization`: migration `20260102000000_second` failed",
            "schema `schema-dropshipping` was not begun",
        ],
    );
    assert_eq!(
        shop.read("SELECT to_regclass('public.thing') IS NOT NULL"),
        "t"
    );
    assert_eq!(
        shop.read("SELECT to_regclass('dropshipping.thing') IS NULL"),
        "t"
    );
    for name in names {
        assert!(ended.summary.contains(name), "{name}: {}", ended.summary);
    }
}

#[test]
fn strangers_get_no_credentials() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, ITEM);
    let ended = run(&project, &database)
        .variable("GITHUB_EVENT_NAME", "pull_request_target")
        .run();
    assert_ne!(ended.code, Some(0));
    expect_said(&ended, &["pull_request_target"]);
    assert_eq!(database.read("SELECT to_regclass('item') IS NULL"), "t");
}

/// Lines of the journal that are whole.
fn lines(journal: &Path) -> usize {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    text.matches('\n').count()
}

#[test]
fn killed_at_any_point_of_its_journal_the_next_run_ends_with_everything_applied_once() {
    for point in 1..=6 {
        let database = Server::shared().database();
        let project = Prisma::new();
        project.migration(FIRST, "CREATE TABLE item (id int PRIMARY KEY);\n");
        project.migration(SECOND, "ALTER TABLE item ADD COLUMN price int;\n");
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal");
        let step = || run(&project, &database).input("journal", journal.display().to_string());
        let mut first = step().start();
        until("the journal has come so far", || lines(&journal) >= point);
        first.child().kill().unwrap();
        let _ = first.finish();
        let ended = step().run();
        assert_code(&ended, 0);
        assert_eq!(ended.outputs["verified"], "true", "killed at {point}");
        assert_eq!(
            applied(&database),
            format!("{FIRST} {SECOND}"),
            "killed at {point}"
        );
        let finished = "SELECT count(*) FROM _prisma_migrations WHERE finished_at IS NOT NULL";
        assert_eq!(database.read(finished), "2", "killed at {point}");
    }
}

#[test]
fn a_cancelled_run_ends_its_tool_and_says_what_is_left() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, "SELECT pg_sleep(60);\n");
    let step = run(&project, &database).start();
    until("the migration runs", || {
        database.read("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'switchyard migrate-gate run' AND query LIKE '%pg_sleep%'") == "1"
    });
    let id = nix::unistd::Pid::from_raw(step.id().try_into().unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = step.finish();
    assert_code(&ended, 143);
    assert!(ended.summary.contains("first"), "{}", ended.summary);
    expect_said(&ended, &["run this step again"]);
    until("the tool's session is gone", || {
        database.read("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'switchyard migrate-gate run'") == "0"
    });
}

#[test]
fn generators_run_without_any_database() {
    let project = Prisma::new();
    project.migration(FIRST, ITEM);
    let folder = project.folder().display().to_string();
    let generator = "generator seen {\n  provider = \"node seen.js\"\n}\n";
    let schema = project.folder().join("schema.prisma");
    let text = std::fs::read_to_string(&schema).unwrap();
    std::fs::write(&schema, text + generator).unwrap();
    // A generator speaks JSON lines on its standard error.
    std::fs::write(
        project.folder().join("seen.js"),
        "const rl = require('readline').createInterface({input: process.stdin});
         rl.on('line', (line) => {
           const request = JSON.parse(line);
           if (request.method === 'generate') require('fs').writeFileSync('seen', 'seen');
           const result = request.method === 'getManifest' ? {manifest: {prettyName: 'seen', defaultOutput: '.'}} : null;
           process.stderr.write(JSON.stringify({jsonrpc: '2.0', result, id: request.id}) + '\\n');
         });",
    )
    .unwrap();
    let generate = || {
        let mut step = gate("generate")
            .input("path", &folder)
            .input("directory", &folder)
            .input("prisma", PRISMA)
            .input(
                "variables",
                "DATABASE_URL\nPRISMA_SCHEMA_ENGINE_BINARY\nPRISMA_QUERY_ENGINE_LIBRARY",
            )
            .variable("DATABASE_URL", "postgresql://nobody@localhost/nothing");
        for (name, value) in Prisma::variables() {
            step = step.variable(name, value);
        }
        step.run()
    };
    let ended = generate();
    assert_code(&ended, 0);
    assert!(project.folder().join("seen").is_file(), "{}", ended.log());
    std::fs::write(&schema, "nonsense").unwrap();
    let ended = generate();
    assert_code(&ended, 1);
    expect_said(&ended, &["schema `schema`: its generators failed"]);
}

/// Rehearses on a copy that an unprivileged role owns, and gives the report.
fn rehearse(project: &Prisma, database: &Database, copy: &Database) -> String {
    let folder = project.folder().display().to_string();
    let owner = format!("owner_of_{}", copy.name());
    copy.run(&format!(
        "CREATE ROLE {owner} LOGIN PASSWORD 'rehearsal-4411'; ALTER DATABASE {} OWNER TO {owner}; GRANT ALL ON SCHEMA public TO {owner};",
        copy.name()
    ));
    let step = gate("rehearse")
        .input("path", folder)
        .input("database-url", database.url())
        .input("scratch-url", copy.url_as(&owner, "rehearsal-4411"))
        .input("unverifiable", "warn");
    let ended = step.run();
    assert_code(&ended, 0);
    std::fs::read_to_string(&ended.outputs["rehearsal"]).unwrap()
}

#[test]
fn what_runs_is_what_was_rehearsed_and_makes_the_schema_that_it_made_there() {
    let (database, copy) = (Server::shared().database(), Server::shared().database());
    let project = Prisma::new();
    project.migration(FIRST, "CREATE TABLE item (id int PRIMARY KEY);\n");
    let rehearsal = rehearse(&project, &database, &copy);
    let kept = tempfile::tempdir().unwrap();
    let path = kept.path().join("rehearsal.json").display().to_string();
    std::fs::write(&path, rehearsal).unwrap();
    // Somebody was faster.
    database.run("CREATE SEQUENCE other;");
    let refused = run(&project, &database).input("rehearsal", &path).run();
    assert_code(&refused, 1);
    expect_said(
        &refused,
        &["its schema has changed since", "rehearse again"],
    );
    database.run("DROP SEQUENCE other;");
    project.migration(SECOND, "DROP TABLE item;\n");
    let refused = run(&project, &database).input("rehearsal", &path).run();
    assert_code(&refused, 1);
    expect_said(&refused, &["not rehearsed: `20260102000000_second`"]);
    project.remove(SECOND);
    let ended = run(&project, &database).input("rehearsal", &path).run();
    assert_code(&ended, 0);
    project.migration(FIRST, "CREATE TABLE item (id bigint PRIMARY KEY);\n");
    let refused = run(&project, &database).input("rehearsal", &path).run();
    assert_code(&refused, 1);
    expect_said(&refused, &["was changed after its rehearsal"]);
}

#[test]
fn a_migration_that_makes_another_schema_than_in_its_rehearsal_is_told() {
    let (database, copy) = (Server::shared().database(), Server::shared().database());
    let project = Prisma::new();
    let depends = "DO $$ BEGIN IF current_database() = 'NAME' THEN CREATE TABLE extra (id int); END IF; END $$;\n";
    project.migration(FIRST, &depends.replace("NAME", database.name()));
    let rehearsal = rehearse(&project, &database, &copy);
    let kept = tempfile::tempdir().unwrap();
    let path = kept.path().join("rehearsal.json").display().to_string();
    std::fs::write(&path, rehearsal).unwrap();
    // The adapter cuts at semicolons, so a command runs the file.
    let folder = project.folder().join("migrations").display().to_string();
    let script = format!(
        "psql -X -v ON_ERROR_STOP=1 -f {FIRST}/migration.sql \"$DATABASE_URL\" && psql -X -c \"INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at, applied_steps_count) VALUES ('1', '$(sha256sum {FIRST}/migration.sql | cut -d' ' -f1)', '{FIRST}', now(), 1)\" \"$DATABASE_URL\""
    );
    let wrapper = project.folder().join("deploy.sh");
    std::fs::write(&wrapper, format!("cd {folder}\n{script}\n")).unwrap();
    database.run(LEDGER);
    let ended = run(&project, &database)
        .input("prisma", format!("bash {}", wrapper.display()))
        .input("rehearsal", &path)
        .run();
    assert_code(&ended, 1);
    expect_said(&ended, &["made another schema than in its rehearsal"]);
}

/// A backup of the database in a folder, and what names it.
fn backup(database: &Database, folder: &Path) -> String {
    let ended = gate("backup")
        .input("database-url", database.url())
        .input("backup-to", folder.display().to_string())
        .input("pg-programs", programs().display().to_string())
        .run();
    assert_code(&ended, 0);
    ended.outputs["backup"].clone()
}

#[test]
fn what_stops_half_way_is_taken_back_to_the_backup_with_the_schemas_beside_it() {
    let database = Server::shared().database();
    database.run("CREATE SCHEMA privacy;");
    let projects = [Prisma::new(), Prisma::new()];
    projects[0].migration(FIRST, ITEM);
    let folders = projects
        .each_ref()
        .map(|project| project.folder().display().to_string());
    let both = || {
        let schemas = format!(
            "- {{name: shop, path: {0}, directory: {0}, url-env: SHOP}}\n- {{name: privacy, path: {1}, directory: {1}, url-env: PRIVACY}}\n",
            folders[0], folders[1]
        );
        let urls = format!("SHOP={0}\nPRIVACY={0}?schema=privacy\n", database.url());
        let mut step = gate("run")
            .input("schemas", schemas)
            .input("database-urls", urls)
            .input("prisma", PRISMA)
            .input("pg-programs", programs().display().to_string())
            .input(
                "variables",
                Prisma::variables().map(|(name, _)| name).join("\n"),
            );
        for (name, value) in Prisma::variables() {
            step = step.variable(name, value);
        }
        step
    };
    projects[1].migration(FIRST, "CREATE TABLE consent (id int PRIMARY KEY);\n");
    assert_code(&both().run(), 0);
    let kept = tempfile::tempdir().unwrap();
    let reference = backup(&database, kept.path());
    projects[0].migration(SECOND, "ALTER TABLE item ADD COLUMN price int;\n");
    projects[1].migration(
        SECOND,
        "ALTER TABLE consent ADD COLUMN at date;\nALTER TABLE nowhere ADD COLUMN x int;\n",
    );
    let without = both().input("policy", "restore").run();
    assert_code(&without, 2);
    expect_said(&without, &["there is no backup of"]);
    let ended = both()
        .input("policy", "restore")
        .input("backups", &reference)
        .input("accept-lost-writes", "true")
        .run();
    assert_code(&ended, 1);
    assert_eq!(ended.outputs["restored"], "true");
    expect_said(
        &ended,
        &[
            "schema `shop`: applied and verified; the backup is in place again",
            "failed half-way",
        ],
    );
    let columns =
        "SELECT count(*) FROM information_schema.columns WHERE column_name IN ('price', 'at')";
    assert_eq!(database.read(columns), "0");
    assert_eq!(database.read("SELECT name FROM item"), "one");
    assert_eq!(applied(&database), FIRST);
}

#[test]
fn a_clean_failure_restores_nothing_and_writes_since_the_backup_are_not_lost_without_consent() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, ITEM);
    assert_code(&run(&project, &database).run(), 0);
    let kept = tempfile::tempdir().unwrap();
    let reference = backup(&database, kept.path());
    let with_policy = || {
        run(&project, &database)
            .input("policy", "restore")
            .input("backups", &reference)
            .input("pg-programs", programs().display().to_string())
    };
    project.migration(SECOND, "ALTER TABLE nowhere ADD COLUMN x int;\n");
    let ended = with_policy().run();
    assert_code(&ended, 1);
    assert_eq!(ended.outputs["restored"], "false");
    let resolved = project.run(
        &database.url(),
        &["migrate", "resolve", "--rolled-back", SECOND],
    );
    assert_eq!(resolved.code, Some(0), "{}", resolved.log);
    database.run("INSERT INTO item VALUES (2, 'two');");
    project.migration(
        SECOND,
        "ALTER TABLE item ADD COLUMN price int;\nALTER TABLE nowhere ADD COLUMN x int;\n",
    );
    let ended = with_policy().run();
    assert_code(&ended, 1);
    assert_eq!(ended.outputs["restored"], "false");
    expect_said(
        &ended,
        &[
            "not restored",
            "table public.item has 2 rows instead of 1",
            "accept-lost-writes",
        ],
    );
    assert_eq!(database.read("SELECT count(*) FROM item"), "2");
}

#[test]
fn a_server_that_dies_under_a_migration_is_told_and_the_next_run_goes_on() {
    let mut server = Server::start();
    let database = server.database();
    let project = Prisma::new();
    project.migration(FIRST, "CREATE TABLE item (id int PRIMARY KEY);\n");
    project.migration(SECOND, "ALTER TABLE item ADD COLUMN price int;\n");
    assert_code(
        &run(&project, &database).input("approved-digest", "").run(),
        0,
    );
    let third = "20260103000000_third";
    project.migration(third, "ALTER TABLE item ADD COLUMN weight int;\n");
    let mut holder = database.session();
    let _ = holder.run("BEGIN; LOCK TABLE item IN ACCESS SHARE MODE;");
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal").display().to_string();
    let with_journal = || run(&project, &database).input("journal", &journal);
    let step = with_journal().input("lock-timeout", "60s").start();
    until("the migration waits", || {
        database.read("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'switchyard migrate-gate run'") == "1"
    });
    server.crash();
    let ended = step.finish();
    assert_code(&ended, 3);
    expect_said(&ended, &["127.0.0.1"]);
    assert_eq!(ended.outputs["applied"], "0", "nobody saw it applied");
    server.restart();
    let ended = with_journal().run();
    assert_code(&ended, 0);
    assert_eq!(applied(&database), format!("{FIRST} {SECOND} {third}"));
}

/// The table that Prisma keeps its ledger in.
const LEDGER: &str = "CREATE TABLE _prisma_migrations (id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL,
    finished_at timestamptz, migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
    started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count int NOT NULL DEFAULT 0);";

#[test]
fn what_marking_a_migration_writes_shows_no_secret() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, "CREATE TABLE item (id int PRIMARY KEY);\n");
    database.run(LEDGER);
    let script = format!(
        "if [ \"$2\" = resolve ]; then echo \"cannot reach $DATABASE_URL\"; exit 1; fi
         sum=$(sha256sum {} | cut -d' ' -f1)
         psql -X -c \"INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ('1', '$sum', '{FIRST}')\" \"$DATABASE_URL\"
         echo 'Database error code: 55P03'; exit 1",
        project.file(FIRST).display()
    );
    let wrapper = project.folder().join("prisma.sh");
    std::fs::write(&wrapper, script).unwrap();
    let ended = run(&project, &database)
        .input("prisma", format!("bash {}", wrapper.display()))
        .run();
    assert_code(&ended, 1);
    expect_said(
        &ended,
        &["could not be marked as rolled back: cannot reach ***"],
    );
}

#[test]
fn limits_that_a_killed_run_left_to_any_role_of_the_database_are_taken_back() {
    let database = Server::shared().database();
    let (name, role) = (database.name(), format!("second_{}", database.name()));
    database.run(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'second-8830';
         ALTER ROLE {role} IN DATABASE {name} SET lock_timeout = '300ms ';
         ALTER ROLE {role} IN DATABASE {name} SET statement_timeout = '9s';"
    ));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1.sql"), "SELECT 1;").unwrap();
    let path = folder.path().display();
    let schemas = format!(
        "- {{name: one, path: {path}, tool: command, command: 'true', url-env: ONE}}\n- {{name: two, path: {path}, tool: command, command: 'true', url-env: TWO}}\n"
    );
    let urls = format!(
        "ONE={}\nTWO={}\n",
        database.url(),
        database.url_as(&role, "second-8830")
    );
    let ended = gate("run")
        .input("schemas", schemas)
        .input("database-urls", urls)
        .run();
    assert_code(&ended, 0);
    expect_said(&ended, &["`second_"]);
    let settings = format!(
        "SELECT count(*) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole WHERE rolname = '{role}'"
    );
    assert_eq!(database.read(&settings), "0");
}

#[test]
fn the_backup_of_another_servers_database_of_that_name_is_none() {
    let (here, elsewhere) = (Server::shared(), Server::start());
    let database = here.database();
    elsewhere
        .existing_database("postgres")
        .run(&format!("CREATE DATABASE {};", database.name()));
    let kept = tempfile::tempdir().unwrap();
    let reference = backup(&elsewhere.existing_database(database.name()), kept.path());
    let project = Prisma::new();
    project.migration(FIRST, ITEM);
    let ended = run(&project, &database)
        .input("policy", "restore")
        .input("backups", reference)
        .run();
    assert_code(&ended, 2);
    expect_said(&ended, &["there is no backup of"]);
    assert_eq!(database.read("SELECT to_regclass('item') IS NULL"), "t");
}
