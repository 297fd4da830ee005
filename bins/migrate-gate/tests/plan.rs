//! `plan` as a step: real servers, ledgers that real Prisma wrote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use switchyard_harness::{Ended, Step};
use switchyard_test_postgres::{Database, PASSWORD, Prisma, Server};

const FIRST: &str = "20260101000000_first";
const SECOND: &str = "20260102000000_second";

fn step() -> Step {
    Step::new(env!("CARGO_BIN_EXE_migrate-gate")).input("command", "plan")
}

fn plan(project: &Prisma, url: &str) -> Ended {
    let step = step().input("path", project.folder().display().to_string());
    let ended = step.input("database-url", url).run();
    ended.assert_never_shows(PASSWORD);
    ended
}

/// A project of one migration that real Prisma has applied.
fn applied(database: &Database) -> Prisma {
    let project = Prisma::new();
    project.migration(FIRST, "CREATE TABLE item (id int PRIMARY KEY);\n");
    let ran = project.deploy(&database.url());
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    project
}

fn assert_refused(ended: &Ended, expected: &str) {
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    assert!(
        ended.stdout.contains(expected),
        "{expected}: {}",
        ended.log()
    );
    assert_eq!(ended.outputs["safe"], "false");
}

#[test]
fn what_was_applied_is_not_pending_and_what_is_new_is() {
    let database = Server::shared().database();
    let project = applied(&database);
    let ended = plan(&project, &database.url());
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(
        (
            ended.outputs["pending"].as_str(),
            ended.outputs["safe"].as_str()
        ),
        ("0", "true")
    );
    project.migration(SECOND, "ALTER TABLE item ADD COLUMN name text;\n");
    let ended = plan(&project, &database.url());
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["pending"], "1");
    assert!(
        ended.summary.contains("second") && ended.summary.contains("pending"),
        "{}",
        ended.summary
    );
    assert_eq!(
        database.read("SELECT count(*) FROM _prisma_migrations"),
        "1",
        "nothing ran"
    );
}

#[test]
fn the_report_is_json_that_holds_what_the_summary_says() {
    let database = Server::shared().database();
    let project = applied(&database);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    let step = step().input("path", project.folder().display().to_string());
    let step = step.input("database-url", database.url());
    let ended = step.input("report-file", path.display().to_string()).run();
    assert_eq!(ended.outputs["report"], path.display().to_string());
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(report["digest"], ended.outputs["digest"]);
    assert_eq!(report["schemas"][0]["standings"][0]["state"], "applied");
    assert_eq!(report["schemas"][0]["tool_version"], "6.19.3");
}

#[test]
fn an_edit_after_the_fact_keeps_everything_from_running_although_prisma_says_0() {
    let database = Server::shared().database();
    let project = applied(&database);
    project.migration(FIRST, "CREATE TABLE item (id bigint PRIMARY KEY);\n");
    assert_eq!(
        project.deploy(&database.url()).code,
        Some(0),
        "Prisma does not mind"
    );
    let ended = plan(&project, &database.url());
    assert_refused(&ended, "edited after it was applied");
    assert!(
        ended.stdout.contains("take the edit back"),
        "{}",
        ended.log()
    );
}

#[test]
fn other_line_ends_are_no_edit() {
    let database = Server::shared().database();
    let project = applied(&database);
    project.migration(FIRST, "CREATE TABLE item (id int PRIMARY KEY);\r\n");
    assert_eq!(plan(&project, &database.url()).code, Some(0));
}

#[test]
fn a_folder_that_is_gone_is_missing() {
    let database = Server::shared().database();
    let project = applied(&database);
    project.remove(FIRST);
    project.migration(SECOND, "SELECT 1;\n");
    assert_refused(&plan(&project, &database.url()), "its folder is missing");
}

#[test]
fn what_was_merged_late_is_out_of_order_and_not_safe() {
    let database = Server::shared().database();
    let project = applied(&database);
    project.migration("20250101000000_late", "SELECT 1;\n");
    let ended = plan(&project, &database.url());
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(
        (
            ended.outputs["pending"].as_str(),
            ended.outputs["safe"].as_str()
        ),
        ("1", "false")
    );
    assert!(
        ended.stdout.contains("::warning") && ended.stdout.contains("although"),
        "{}",
        ended.log()
    );
}

#[test]
fn a_failed_row_is_told_and_after_prisma_rolled_it_back_it_will_run_again() {
    let database = Server::shared().database();
    let project = applied(&database);
    project.migration(SECOND, "SELECT nonsense;\n");
    assert_eq!(project.deploy(&database.url()).code, Some(1));
    assert_refused(&plan(&project, &database.url()), "failed");
    let resolved = project.run(
        &database.url(),
        &["migrate", "resolve", "--rolled-back", SECOND],
    );
    assert_eq!(resolved.code, Some(0), "{}", resolved.log);
    let ended = plan(&project, &database.url());
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(ended.stdout.contains("will run again"), "{}", ended.log());
    assert_eq!(ended.outputs["pending"], "1");
}

#[test]
fn a_database_with_tables_and_no_ledger_is_not_guessed_about() {
    let database = Server::shared().database();
    database.run("CREATE TABLE item (id int)");
    let project = Prisma::new();
    project.migration(FIRST, "CREATE TABLE other (id int);\n");
    assert_refused(&plan(&project, &database.url()), "P3005");
    let refused = project.deploy(&database.url());
    assert!(refused.log.contains("P3005"), "{}", refused.log);
}

#[test]
fn a_ledger_of_another_form_is_an_error() {
    let database = Server::shared().database();
    database.run("CREATE TABLE _prisma_migrations (id int)");
    let project = Prisma::new();
    project.migration(FIRST, "SELECT 1;\n");
    let ended = plan(&project, &database.url());
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(
        ended.stdout.contains("_prisma_migrations") && ended.stdout.contains("42703"),
        "{}",
        ended.log()
    );
}

#[test]
fn the_digest_changes_with_migrations_and_schema_and_not_with_rows() {
    let database = Server::shared().database();
    let project = applied(&database);
    project.migration(SECOND, "ALTER TABLE item ADD COLUMN name text;\n");
    let digest = || plan(&project, &database.url()).outputs["digest"].clone();
    let before = digest();
    database.run("INSERT INTO item SELECT generate_series(1, 10000); ANALYZE");
    assert_eq!(digest(), before, "rows are measurements");
    project.migration(SECOND, "ALTER TABLE item ADD COLUMN title text;\n");
    let edited = digest();
    assert_ne!(edited, before);
    database.run("CREATE INDEX late ON item (id)");
    assert_ne!(digest(), edited, "somebody changed the schema");
}

#[test]
fn four_schemas_in_two_databases_are_told_each_and_a_broken_one_hides_none() {
    let (shop, privacy) = (Server::shared().database(), Server::shared().database());
    shop.run("CREATE SCHEMA organization; CREATE SCHEMA dropshipping");
    let in_schema = |database: &Database, name: &str| format!("{}?schema={name}", database.url());
    let places = [
        ("schema", in_schema(&shop, "public")),
        ("schema-organization", in_schema(&shop, "organization")),
        ("schema-dropshipping", in_schema(&shop, "dropshipping")),
        ("schema-privacy", privacy.url()),
    ];
    let projects: Vec<Prisma> = places.iter().map(|_| Prisma::new()).collect();
    let (mut schemas, mut urls) = (String::new(), String::new());
    for (number, ((name, url), project)) in places.iter().zip(&projects).enumerate() {
        project.migration(FIRST, &format!("CREATE TABLE item_{number} (id int);\n"));
        assert_eq!(project.deploy(url).code, Some(0));
        project.migration(
            SECOND,
            &format!("ALTER TABLE item_{number} ADD COLUMN name text;\n"),
        );
        schemas.push_str(&format!(
            "- name: {name}\n  path: {}\n  url-env: URL_{number}\n",
            project.folder().display()
        ));
        urls.push_str(&format!("URL_{number}={url}\n"));
    }
    let run = || {
        step()
            .input("schemas", &schemas)
            .input("database-urls", &urls)
            .run()
    };
    let ended = run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(
        (
            ended.outputs["pending"].as_str(),
            ended.outputs["safe"].as_str()
        ),
        ("4", "true")
    );
    ended.assert_never_shows(PASSWORD);
    projects[2].migration(FIRST, "CREATE TABLE edited (id int);\n");
    let ended = run();
    assert_refused(
        &ended,
        "schema `schema-dropshipping`: `20260101000000_first` is edited",
    );
    for (name, _) in &places {
        assert!(ended.summary.contains(name), "{name}: {}", ended.summary);
    }
    assert_eq!(ended.outputs["pending"], "4");
}

#[test]
fn a_server_that_is_not_there_and_a_wrong_password_are_remote_failures() {
    let database = Server::shared().database();
    let project = Prisma::new();
    project.migration(FIRST, "SELECT 1;\n");
    let mut stopped = Server::start();
    stopped.stop();
    let ended = plan(&project, &stopped.url("shop"));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    let ended = plan(&project, &database.url_as("postgres", "hunter2-wrong"));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    ended.assert_never_shows("hunter2-wrong");
    assert!(ended.stdout.contains("28P01"), "{}", ended.log());
}

#[test]
fn events_in_which_strangers_decide_get_no_credentials() {
    let database = Server::shared().database();
    let project = applied(&database);
    for event in [
        "pull_request_target",
        "issue_comment",
        "workflow_run",
        "pull_request",
    ] {
        let step = step().variable("GITHUB_EVENT_NAME", event);
        let step = step.input("path", project.folder().display().to_string());
        let ended = step.input("database-url", database.url()).run();
        assert_eq!(ended.code, Some(2), "{}", ended.log());
        assert!(ended.stdout.contains("run `lint`"), "{}", ended.log());
    }
}

#[test]
fn locks_come_with_the_size_of_the_table_as_it_is() {
    let database = Server::shared().database();
    let project = applied(&database);
    project.migration(
        SECOND,
        "ALTER TABLE item ADD COLUMN a text;\nALTER TABLE item ALTER COLUMN id TYPE bigint;\n",
    );
    let small = plan(&project, &database.url());
    assert_eq!(small.code, Some(0), "{}", small.log());
    assert!(
        small
            .summary
            .contains("ACCESS EXCLUSIVE, rewrite, blocks reads and writes for a moment"),
        "{}",
        small.summary
    );
    // Sizes are at least what the statistics say, so a huge table needs no huge disk.
    database.run("UPDATE pg_class SET reltuples = 2e9, relpages = 20000000 WHERE relname = 'item'");
    let huge = plan(&project, &database.url());
    assert!(
        huge.summary.contains("about 2000000000 rows, 156250 MiB"),
        "{}",
        huge.summary
    );
    assert!(
        huge.stdout.contains("second/migration.sql,line=2"),
        "{}",
        huge.log()
    );
    assert_eq!(
        huge.outputs["digest"], small.outputs["digest"],
        "sizes are measurements"
    );
    assert_eq!(
        huge.outputs["safe"], "true",
        "its ledger is sound and every statement is known"
    );
}

#[test]
fn a_statement_that_nobody_knows_is_not_safe() {
    let database = Server::shared().database();
    let project = applied(&database);
    project.migration(SECOND, "SELECT reindex_everything();\n");
    let ended = plan(&project, &database.url());
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["safe"], "false");
    assert!(
        ended.stdout.contains("reindex_everything"),
        "{}",
        ended.log()
    );
}

#[test]
fn a_role_that_can_only_read_makes_the_plan_as_the_guide_says() {
    let database = Server::shared().database();
    let project = applied(&database);
    project.migration(SECOND, "ALTER TABLE item ADD COLUMN name text;\n");
    let (name, role) = (database.name(), format!("planner_{}", database.name()));
    database.run(&format!(
        "REVOKE ALL ON DATABASE {name} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;
         CREATE ROLE {role} LOGIN PASSWORD 'planner-7714';
         GRANT CONNECT ON DATABASE {name} TO {role};
         GRANT USAGE ON SCHEMA public TO {role};
         GRANT SELECT ON _prisma_migrations TO {role};
         GRANT pg_read_all_stats TO {role};"
    ));
    let ended = plan(&project, &database.url_as(&role, "planner-7714"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["pending"], "1");
    let by_owner = plan(&project, &database.url());
    assert_eq!(ended.outputs["digest"], by_owner.outputs["digest"]);
}
