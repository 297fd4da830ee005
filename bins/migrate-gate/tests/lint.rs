//! `lint` as a step: files in, annotations, summary, outputs and an exit code out.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on panics"
)]

use std::path::Path;
use std::process::Command;

use switchyard_harness::{Ended, Step};
use tempfile::TempDir;

const TABLE: &str = "CREATE TABLE account (id int PRIMARY KEY, name text);\n";
const INDEX: &str = "SET lock_timeout = '2s';\nCREATE INDEX account_name ON account (name);\n";
const HARMLESS: &str = "SET lock_timeout = '2s';\nALTER TABLE account ADD COLUMN age int;\n";

/// A project with Prisma migrations, each a name and its text.
fn project(migrations: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in migrations {
        write(
            folder.path(),
            &format!("prisma/migrations/{name}/migration.sql"),
            text,
        );
    }
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn lint(folder: &Path) -> Step {
    Step::new(env!("CARGO_BIN_EXE_migrate-gate"))
        .input("command", "lint")
        .input("path", folder.join("prisma").display().to_string())
}

fn findings(ended: &Ended) -> (&str, &str) {
    (&ended.outputs["findings"], &ended.outputs["safe"])
}

fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .args([
            "-c",
            "user.name=dana",
            "-c",
            "user.email=dana@example.com",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(status.status.success(), "{arguments:?}: {status:?}");
}

#[test]
fn harmless_migrations_pass() {
    let folder = project(&[("1_table", TABLE), ("2_age", HARMLESS)]);
    let ended = lint(folder.path()).run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(findings(&ended), ("0", "true"));
    assert!(
        ended.summary.contains("no findings in 2 migrations"),
        "{}",
        ended.summary
    );
}

#[test]
fn an_error_stops_the_gate_and_stands_on_its_line() {
    let folder = project(&[("1_table", TABLE), ("2_index", INDEX)]);
    let ended = lint(folder.path()).run();
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    assert_eq!(findings(&ended), ("1", "false"));
    let file = folder
        .path()
        .join("prisma/migrations/2_index/migration.sql");
    let annotation = format!(
        "::error file={},line=2,endLine=2,title=index-without-concurrently::",
        file.display()
    );
    assert!(ended.stdout.contains(&annotation), "{}", ended.log());
    assert!(
        ended
            .summary
            .contains("| error | 2\\_index/migration.sql:2 | `index-without-concurrently` |"),
        "{}",
        ended.summary
    );
}

#[test]
fn an_unknown_statement_stops_the_gate_even_when_it_is_only_a_warning() {
    let folder = project(&[
        ("1_table", TABLE),
        (
            "2_drop",
            "SET lock_timeout = '2s';\nALTER TABLE account DROP CONSTRAINT made_by_hand;\n",
        ),
    ]);
    let ended = lint(folder.path()).run();
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    assert_eq!(findings(&ended), ("1", "false"));
}

#[test]
fn warnings_pass_unless_they_are_asked_to_stop_the_gate() {
    let folder = project(&[
        ("1_table", TABLE),
        ("2_age", "ALTER TABLE account ADD COLUMN age int;\n"),
    ]);
    let ended = lint(folder.path()).run();
    assert_eq!(
        (ended.code, findings(&ended)),
        (Some(0), ("1", "true")),
        "{}",
        ended.log()
    );
    let ended = lint(folder.path()).input("fail-on", "warning").run();
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    let ended = lint(folder.path())
        .input("fail-on", "warning")
        .input("lock-timeout", "2s")
        .run();
    assert_eq!(
        (ended.code, findings(&ended)),
        (Some(0), ("0", "true")),
        "{}",
        ended.log()
    );
}

#[test]
fn only_what_is_new_since_the_base_is_judged_but_all_is_read() {
    let narrower =
        "SET lock_timeout = '2s';\nALTER TABLE account ALTER COLUMN name TYPE varchar(10);\n";
    let folder = project(&[("1_table", TABLE), ("2_index", INDEX)]);
    let root = folder.path();
    git(root, &["init", "--quiet"]);
    git(root, &["add", "."]);
    git(root, &["commit", "--quiet", "-m", "first"]);
    git(root, &["checkout", "--quiet", "-b", "change"]);
    write(root, "prisma/migrations/3_narrower/migration.sql", narrower);
    // Neither in the working tree alone nor in a commit is a new migration overlooked.
    for _ in 0..2 {
        let ended = lint(root).input("base", "main").run();
        assert_eq!(
            (ended.code, findings(&ended)),
            (Some(1), ("1", "false")),
            "{}",
            ended.log()
        );
        assert!(
            ended
                .stdout
                .contains("title=column-type-rewrite::changing `name` from text"),
            "{}",
            ended.log()
        );
        git(root, &["add", "."]);
        git(
            root,
            &["commit", "--quiet", "--allow-empty", "-m", "second"],
        );
    }
    let ended = lint(root).input("base", "gone").run();
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(ended.log().contains("fetch-depth: 0"), "{}", ended.log());
}

#[test]
fn migrations_up_to_a_name_are_left_alone() {
    let folder = project(&[("1_table", TABLE), ("2_index", INDEX), ("3_age", HARMLESS)]);
    let ended = lint(folder.path()).input("after", "2_index").run();
    assert_eq!(
        (ended.code, findings(&ended)),
        (Some(0), ("0", "true")),
        "{}",
        ended.log()
    );
    let ended = lint(folder.path()).input("after", "2_indx").run();
    assert_eq!(ended.code, Some(2), "{}", ended.log());
}

#[test]
fn what_comes_after_a_name_goes_by_the_order_in_which_the_tool_runs_files() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("V1__table", TABLE),
        ("V2__index", INDEX),
        ("V10__index", INDEX),
    ] {
        write(folder.path(), &format!("{name}.sql"), text);
    }
    let step = Step::new(env!("CARGO_BIN_EXE_migrate-gate"))
        .input("command", "lint")
        .input("tool", "command")
        .input("path", folder.path().display().to_string())
        .input("after", "V2__index");
    let ended = step.run();
    assert_eq!(
        (ended.code, findings(&ended)),
        (Some(1), ("1", "false")),
        "{}",
        ended.log()
    );
    assert!(
        ended.stdout.contains("V10__index.sql,line=2"),
        "{}",
        ended.log()
    );
}

#[test]
fn a_baseline_leaves_known_findings_alone_until_their_statement_changes() {
    let folder = project(&[("1_table", TABLE), ("2_index", INDEX)]);
    let baseline = folder.path().join("baseline.txt").display().to_string();
    let written = lint(folder.path())
        .input("baseline", &baseline)
        .input("write-baseline", "true")
        .run();
    assert_eq!(
        (written.code, findings(&written)),
        (Some(0), ("0", "true")),
        "{}",
        written.log()
    );
    let ended = lint(folder.path()).input("baseline", &baseline).run();
    assert_eq!(
        (ended.code, findings(&ended)),
        (Some(0), ("0", "true")),
        "{}",
        ended.log()
    );
    let changed = INDEX.replace("(name)", "(name, id)");
    write(
        folder.path(),
        "prisma/migrations/2_index/migration.sql",
        &changed,
    );
    let ended = lint(folder.path()).input("baseline", &baseline).run();
    assert_eq!(
        (ended.code, findings(&ended)),
        (Some(1), ("1", "false")),
        "{}",
        ended.log()
    );
    assert!(
        ended.stdout.contains("which is found no more"),
        "{}",
        ended.log()
    );
}

#[test]
fn schemas_are_judged_apart_from_each_other() {
    let folder = project(&[("1_table", TABLE)]);
    write(
        folder.path(),
        "other/migrations/1_index/migration.sql",
        INDEX,
    );
    write(
        folder.path(),
        "sql/V1__all.sql",
        "-- no-transaction\nCREATE TABLE a (id int);\nCREATE INDEX CONCURRENTLY i ON a (id);\n",
    );
    let root = folder.path().display();
    let schemas = format!(
        "[{{name: main, path: {root}/prisma}}, {{name: other, path: {root}/other}}, {{name: raw, path: {root}/sql, tool: command}}]"
    );
    let ended = Step::new(env!("CARGO_BIN_EXE_migrate-gate"))
        .input("command", "lint")
        .input("schemas", schemas)
        .run();
    assert_eq!(
        (ended.code, findings(&ended)),
        (Some(1), ("1", "false")),
        "{}",
        ended.log()
    );
    assert!(
        ended
            .stdout
            .contains("other/migrations/1_index/migration.sql,line=2"),
        "{}",
        ended.log()
    );
}

#[test]
fn text_of_a_migration_cannot_become_a_command_of_the_runner() {
    let script = "SET lock_timeout = '2s';\nALTER TABLE account DROP COLUMN \"x\n::set-output name=safe::true\";\n";
    let folder = project(&[("1_table", TABLE), ("2_drop", script)]);
    let ended = lint(folder.path()).run();
    assert_eq!(ended.code, Some(1));
    assert!(
        !ended
            .stdout
            .lines()
            .any(|line| line.trim_start().starts_with("::set-output")),
        "{}",
        ended.stdout
    );
}

#[test]
fn nonsense_is_refused_by_its_name() {
    let folder = project(&[("1_table", TABLE)]);
    for (input, value) in [
        ("postgres-version", "10"),
        ("lock-timeout", "2"),
        ("fail-on", "panic"),
        ("baseline", "/nowhere/at/all"),
        ("write-baseline", "true"),
        ("base", "--output=x"),
    ] {
        let ended = lint(folder.path()).input(input, value).run();
        assert_eq!(ended.code, Some(2), "{input}: {}", ended.log());
        assert!(ended.log().contains(input), "{input}: {}", ended.log());
    }
}
