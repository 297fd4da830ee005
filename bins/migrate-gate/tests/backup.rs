//! `backup` and `verify` as steps on real servers: what is kept, what is proved, and everything that can go wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use switchyard_harness::{Ended, Step, until};
use switchyard_test_postgres::{Authority, Database, Encryption, PASSWORD, Server, programs};

/// Names that need quotes, a column called `t`, values of every awkward kind, a sequence, large objects.
const SHOP: &str = r#"
    CREATE SCHEMA "Organization";
    CREATE TYPE colour AS ENUM ('red', 'green');
    CREATE TABLE "Organization"."Member ""x""" (id serial PRIMARY KEY, t text, colour colour DEFAULT 'red');
    INSERT INTO "Organization"."Member ""x""" (t) SELECT 'member ' || n FROM generate_series(1, 3000) n;
    CREATE TABLE item (id bigint GENERATED ALWAYS AS IDENTITY, t timestamptz DEFAULT now(), ratio float8,
      raw bytea, details jsonb, status varchar(10) CHECK (status IN ('new', 'sold')));
    INSERT INTO item (ratio, raw, details, status) SELECT n / 7.0, decode(md5(n::text), 'hex'), '{"a": [1, null]}', 'new'
      FROM generate_series(1, 3000) n;
    CREATE TABLE sale (day date) PARTITION BY RANGE (day);
    CREATE TABLE sale_2026 PARTITION OF sale FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    INSERT INTO sale SELECT '2026-01-01'::date + n FROM generate_series(1, 300) n;
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM item;
    SELECT lo_from_bytea(0, 'a large object');
"#;

fn step(command: &str) -> Step {
    Step::new(env!("CARGO_BIN_EXE_migrate-gate")).input("command", command)
}

fn backup(url: &str, folder: &Path) -> Step {
    step("backup")
        .input("database-url", url)
        .input("backup-to", folder.display().to_string())
        .input("pg-programs", programs().display().to_string())
}

fn verify(reference: &str) -> Step {
    step("verify")
        .input("backup", reference)
        .input("pg-programs", programs().display().to_string())
}

fn shop(server: &Server) -> Database {
    let database = server.database();
    database.run(SHOP);
    database
}

fn run(step: Step) -> Ended {
    let ended = step.run();
    ended.assert_never_shows(PASSWORD);
    ended
}

fn assert_ended(ended: &Ended, code: i32, verified: &str) {
    assert_eq!(ended.code, Some(code), "{}", ended.log());
    assert_eq!(ended.outputs["verified"], verified, "{}", ended.log());
}

/// A backup of the shop in a folder, with its reference.
fn kept() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let database = shop(Server::shared());
    let ended = run(backup(&database.url(), folder.path()).input("compression", "0"));
    assert_ended(&ended, 0, "true");
    let reference = ended.outputs["backup"].clone();
    (folder, reference)
}

fn path(reference: &str) -> PathBuf {
    PathBuf::from(reference.split('#').next().unwrap())
}

/// The largest file of a dump.
fn largest(reference: &str) -> PathBuf {
    let files = std::fs::read_dir(path(reference).join("dump")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    files
        .max_by_key(|file| file.metadata().unwrap().len())
        .unwrap()
}

fn scratch_databases(server: &Server) -> String {
    server
        .existing_database("postgres")
        .read("SELECT datname FROM pg_database WHERE datname LIKE 'switchyard%'")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn scratch_databases_that_killed_processes_left_are_taken_away_and_no_others() {
    let server = Server::start();
    let database = shop(&server);
    let made = |hours_ago: i64| {
        let made = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours_ago);
        format!("switchyard scratch database, made {made}")
    };
    let admin = server.existing_database("postgres");
    for (name, comment) in [
        ("switchyard_old", made(30)),
        ("switchyard_in_use", made(30)),
        ("switchyard_young", made(20)),
        ("switchyard_notes", "notes of ours".to_owned()),
    ] {
        admin.run(&format!("CREATE DATABASE {name};"));
        admin.run(&format!("COMMENT ON DATABASE {name} IS '{comment}';"));
    }
    let mut user = server.existing_database("switchyard_in_use").session();
    assert_eq!(user.run("SELECT 1"), "1");
    let folder = tempfile::tempdir().unwrap();
    let ended = run(backup(&database.url(), folder.path()));
    assert_ended(&ended, 0, "true");
    assert!(
        ended
            .log()
            .contains("`switchyard_old`, which an earlier process left"),
        "{}",
        ended.log()
    );
    let left = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'switchyard%'";
    assert_eq!(
        admin.read(left),
        "switchyard_in_use switchyard_notes switchyard_young"
    );
}

#[test]
fn a_backup_is_kept_restored_compared_and_leaves_nothing_else() {
    let server = Server::start();
    let database = shop(&server);
    let folder = tempfile::tempdir().unwrap();
    let ended = run(backup(&database.url(), folder.path()));
    assert_ended(&ended, 0, "true");
    assert!(ended.summary.contains("rows"), "{}", ended.summary);
    let reference = &ended.outputs["backup"];
    let manifest = std::fs::read_to_string(path(reference).join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let tables = &manifest["contents"]["tables"];
    assert_eq!(
        tables["Organization.Member \"x\""]["rows"], 3000,
        "{tables}"
    );
    assert_eq!(tables["public.sale_2026"]["rows"], 300);
    assert_eq!(manifest["contents"]["large_objects"]["count"], 1);
    assert_eq!(scratch_databases(&server), "");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'switchyard%'";
    until("the snapshot has ended", || database.read(open) == "0");
    for file in files(folder.path()) {
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{}",
            file.display()
        );
        assert!(
            !file.display().to_string().contains("/.switchyard-"),
            "{}",
            file.display()
        );
    }
    assert_ended(&run(verify(reference)), 0, "unverifiable");
    let restored = run(verify(reference).input("verify-url", server.url("postgres")));
    assert_ended(&restored, 0, "true");
}

#[test]
fn what_is_written_meanwhile_is_in_neither_dump_nor_counts() {
    let database = shop(Server::shared());
    let folder = tempfile::tempdir().unwrap();
    let mut writer = database.session();
    writer.begin(
        "DO $$ BEGIN FOR n IN 1..400 LOOP
           INSERT INTO item (status) VALUES ('sold'); DELETE FROM item WHERE id = n; COMMIT; PERFORM pg_sleep(0.01);
         END LOOP; END $$",
    );
    let ended = run(backup(&database.url(), folder.path()));
    assert_ended(&ended, 0, "true");
    drop(writer);
}

#[test]
fn two_databases_are_two_backups_and_one_url_twice_is_one() {
    let (one, other) = (shop(Server::shared()), Server::shared().database());
    let folder = tempfile::tempdir().unwrap();
    let urls = format!(
        "A={}\nB={}?schema=x\nC={}",
        one.url(),
        one.url(),
        other.url()
    );
    let step = backup(&one.url(), folder.path()).input("database-urls", urls);
    let ended = run(step);
    assert_ended(&ended, 0, "true");
    assert_eq!(ended.outputs["backup"].lines().count(), 2);
}

/// `verified` was `true`, because all backups that were made were so.
#[test]
fn what_was_kept_before_a_failure_is_told_and_not_called_verified() {
    let database = shop(Server::shared());
    let folder = tempfile::tempdir().unwrap();
    let wrong = database.url_as("postgres", "wrong-hunter2");
    let (other, _) = wrong.rsplit_once('/').unwrap();
    let step = backup(&database.url(), folder.path());
    let ended = run(step.input("database-urls", format!("B={other}/postgres")));
    assert_ended(&ended, 3, "unverifiable");
    assert_eq!(ended.outputs["backup"].lines().count(), 1);
    assert!(
        ended
            .summary
            .contains("| postgres | none | nothing | failed"),
        "{}",
        ended.summary
    );
    ended.assert_never_shows("wrong-hunter2");
}

/// The step failed for the file, and nobody read what was wrong with the backup.
#[test]
fn a_report_that_cannot_be_written_hides_no_failure() {
    let database = shop(Server::shared());
    let folder = tempfile::tempdir().unwrap();
    let step = backup(&database.url_as("postgres", "wrong"), folder.path());
    std::fs::create_dir(step.folder().join("migrate-gate-backup.json")).unwrap();
    let ended = run(step);
    assert_ended(&ended, 3, "unverifiable");
    assert!(
        ended.stdout.contains("::warning") && ended.stdout.contains("password authentication"),
        "{}",
        ended.log()
    );
    let step = backup(&database.url(), folder.path());
    std::fs::create_dir(step.folder().join("migrate-gate-backup.json")).unwrap();
    let ended = run(step);
    assert_ended(&ended, 2, "true");
    assert_eq!(ended.outputs["backup"].lines().count(), 1);
}

#[test]
fn a_server_that_requires_tls_is_dumped_over_tls() {
    let encryption = Encryption::Required(Authority::new(), Vec::new());
    let server = Server::options().encryption(encryption).start();
    let database = shop(&server);
    let folder = tempfile::tempdir().unwrap();
    let roots = server.authority().unwrap().display();
    let url = format!("{}?sslmode=verify-full&sslrootcert={roots}", database.url());
    assert_ended(&run(backup(&url, folder.path())), 0, "true");
}

#[test]
fn a_flipped_byte_is_found_and_a_truncated_file_and_a_missing_one() {
    let (_folder, reference) = kept();
    let file = largest(&reference);
    let bytes = std::fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    let ended = run(verify(&reference));
    assert_ended(&ended, 1, "false");
    assert!(
        ended.stdout.contains("has other contents"),
        "{}",
        ended.log()
    );
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let ended = run(verify(&reference));
    assert_ended(&ended, 1, "false");
    assert!(ended.stdout.contains("instead of"), "{}", ended.log());
    std::fs::remove_file(&file).unwrap();
    let ended = run(verify(&reference));
    assert_ended(&ended, 1, "false");
    assert!(ended.stdout.contains("is missing"), "{}", ended.log());
    std::fs::write(&file, &bytes).unwrap();
    assert_ended(&run(verify(&reference)), 0, "unverifiable");
}

#[test]
fn a_backup_that_was_kept_by_half_is_none() {
    let (_folder, reference) = kept();
    std::fs::remove_file(path(&reference).join("manifest.json")).unwrap();
    let ended = run(verify(&reference));
    assert_ended(&ended, 1, "false");
    assert!(ended.stdout.contains("no manifest"), "{}", ended.log());
    std::fs::remove_dir_all(path(&reference)).unwrap();
    let ended = run(verify(&reference));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stdout.contains("there is no backup"),
        "{}",
        ended.log()
    );
}

#[test]
fn an_exchanged_manifest_is_noticed_by_the_digest_in_the_reference() {
    let (_folder, reference) = kept();
    let file = path(&reference).join("manifest.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"rows\": 300,", "\"rows\": 299,")).unwrap();
    let ended = run(verify(&reference));
    assert_ended(&ended, 1, "false");
    assert!(
        ended.stdout.contains("the manifest is another one"),
        "{}",
        ended.log()
    );
    // Without the digest only the restoration shows it.
    let bare = reference.split('#').next().unwrap();
    let ended = run(verify(bare).input("verify-url", Server::shared().url("postgres")));
    assert_ended(&ended, 1, "false");
    assert!(
        ended.stdout.contains("has 300 rows instead of 299"),
        "{}",
        ended.log()
    );
}

/// A folder with the real programs, of which one does something else too.
fn wrapped(name: &str, script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for program in ["pg_dump", "pg_restore"] {
        let real = programs().join(program);
        if program == name {
            let path = folder.path().join(name);
            let text = format!("#!/bin/sh\nREAL={}\n{script}\n", real.display());
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        } else {
            std::os::unix::fs::symlink(real, folder.path().join(program)).unwrap();
        }
    }
    folder
}

#[test]
fn a_restoration_that_differs_is_damage() {
    let server = Server::start();
    let database = shop(&server);
    let folder = tempfile::tempdir().unwrap();
    let psql = programs().join("psql");
    let script = format!(
        "\"$REAL\" \"$@\" || exit\ncase $1 in --version) ;; *) {} -qc 'DELETE FROM sale WHERE day = $$2026-02-02$$; ALTER TABLE item ADD extra int' ;; esac",
        psql.display()
    );
    let programs = wrapped("pg_restore", &script);
    let step = backup(&database.url(), folder.path());
    let ended = run(step.input("pg-programs", programs.path().display().to_string()));
    assert_ended(&ended, 1, "false");
    assert!(
        ended
            .stdout
            .contains("public.sale_2026 has 299 rows instead of 300"),
        "{}",
        ended.log()
    );
    assert!(
        ended.stdout.contains("column public.item"),
        "{}",
        ended.log()
    );
    assert_eq!(scratch_databases(&server), "");
}

#[test]
fn a_pg_dump_older_than_the_server_is_refused_before_anything() {
    let database = shop(Server::shared());
    let folder = tempfile::tempdir().unwrap();
    let programs = wrapped("pg_dump", "echo 'pg_dump (PostgreSQL) 14.3'");
    let step = backup(&database.url(), folder.path());
    let ended = run(step.input("pg-programs", programs.path().display().to_string()));
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(
        ended
            .stdout
            .contains("pg_dump is of version 14.3, the server of 15."),
        "{}",
        ended.log()
    );
    assert!(files(folder.path()).is_empty());
}

/// The whole backup was read before anybody looked at the programs that restore it.
#[test]
fn a_pg_restore_older_than_a_backup_is_refused_before_the_backup_is_read() {
    let (_folder, reference) = kept();
    std::fs::write(largest(&reference), "something else").unwrap();
    let programs = wrapped("pg_restore", "echo 'pg_restore (PostgreSQL) 14.3'");
    let step = verify(&reference).input("verify-url", Server::shared().url("postgres"));
    let ended = run(step.input("pg-programs", programs.path().display().to_string()));
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(
        ended.stdout.contains("pg_restore is of version 14.3"),
        "{}",
        ended.log()
    );
    let restored = run(verify(&reference).input("verify-url", Server::shared().url("postgres")));
    assert_ended(&restored, 1, "false");
    assert!(restored.stdout.contains("instead of"), "{}", restored.log());
}

#[test]
fn programs_that_are_not_there_are_named() {
    let database = Server::shared().database();
    let folder = tempfile::tempdir().unwrap();
    let step = backup(&database.url(), folder.path()).input("pg-programs", "/nowhere");
    let ended = run(step);
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(
        ended.stdout.contains("/nowhere/pg_dump") && ended.stdout.contains("postgresql-client"),
        "{}",
        ended.log()
    );
}

#[test]
fn a_scratch_database_that_exists_is_somebodys() {
    let server = Server::start();
    let (database, precious) = (shop(&server), server.database());
    precious.run("CREATE TABLE precious (id int)");
    let folder = tempfile::tempdir().unwrap();
    let ended =
        run(backup(&database.url(), folder.path()).input("scratch-database", precious.name()));
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(ended.stdout.contains("exists already"), "{}", ended.log());
    assert_eq!(precious.read("SELECT count(*) FROM precious"), "0");
}

#[test]
fn without_the_right_to_create_databases_it_is_said_what_is_not_verified() {
    let database = shop(Server::shared());
    database.run(
        "CREATE ROLE reader LOGIN PASSWORD 'reader-secret'; GRANT pg_read_all_data TO reader;
        DO $$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP
          EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO reader', o); END LOOP; END $$",
    );
    let folder = tempfile::tempdir().unwrap();
    let url = database.url_as("reader", "reader-secret");
    let ended = run(backup(&url, folder.path()));
    assert_ended(&ended, 1, "unverifiable");
    assert!(
        ended.stdout.contains("may not create databases") && ended.stdout.contains("verify-url"),
        "{}",
        ended.log()
    );
    ended.assert_never_shows("reader-secret");
    let reference = ended.outputs["backup"].clone();
    let ended = run(backup(&url, folder.path()).input("require-verified", "false"));
    assert_ended(&ended, 0, "unverifiable");
    let other = Server::start();
    let ended = run(backup(&url, folder.path()).input("verify-url", other.url("postgres")));
    assert_ended(&ended, 0, "true");
    let ended = run(verify(&reference).input("verify-url", other.url("postgres")));
    assert_ended(&ended, 0, "true");
}

#[test]
fn a_role_that_may_not_read_everything_makes_no_backup() {
    let database = shop(Server::shared());
    database.run("CREATE ROLE stranger LOGIN PASSWORD 'stranger'");
    let folder = tempfile::tempdir().unwrap();
    let ended = run(backup(
        &database.url_as("stranger", "stranger"),
        folder.path(),
    ));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(
        ended.stdout.contains("permission denied"),
        "{}",
        ended.log()
    );
    assert!(
        files(folder.path()).is_empty(),
        "{:?}",
        files(folder.path())
    );
}

#[test]
fn a_wrong_password_and_a_server_that_is_down_are_remote_failures() {
    let database = Server::shared().database();
    let folder = tempfile::tempdir().unwrap();
    let ended = run(backup(
        &database.url_as("postgres", "wrong-hunter2"),
        folder.path(),
    ));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    ended.assert_never_shows("wrong-hunter2");
    let mut server = Server::start();
    server.stop();
    let ended = run(backup(&server.url("shop"), folder.path()));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
}

#[test]
fn a_table_that_somebody_holds_ends_the_backup_in_time() {
    let database = shop(Server::shared());
    let folder = tempfile::tempdir().unwrap();
    let mut holder = database.session();
    holder.run("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
    let ended = run(backup(&database.url(), folder.path()));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(ended.stdout.contains("lock"), "{}", ended.log());
    assert!(files(folder.path()).is_empty());
}

#[test]
fn a_server_killed_during_the_dump_leaves_no_backup() {
    let mut server = Server::start();
    let database = shop(&server);
    let folder = tempfile::tempdir().unwrap();
    let mut holder = database.session();
    holder.run("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
    let started = backup(&database.url(), folder.path()).start();
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'switchyard%'";
    until("the step waits", || database.read(waits) == "t");
    server.crash();
    let ended = started.finish();
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    ended.assert_never_shows(PASSWORD);
    assert!(files(folder.path()).is_empty());
}

#[test]
fn a_gate_that_is_killed_leaves_neither_a_snapshot_nor_a_backup() {
    let server = Server::start();
    let database = shop(&server);
    let folder = tempfile::tempdir().unwrap();
    let mut holder = database.session();
    holder.run("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
    let mut started = backup(&database.url(), folder.path()).start();
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'switchyard%'";
    until("the step waits", || database.read(waits) == "t");
    started.child().kill().unwrap();
    assert_eq!(started.finish().code, None);
    holder.run("COMMIT");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND application_name = 'switchyard migrate-gate'
                AND state = 'idle in transaction'";
    until("the snapshot has ended", || database.read(open) == "0");
    assert!(
        files(folder.path())
            .iter()
            .all(|file| !file.ends_with("manifest.json"))
    );
}

#[test]
fn a_signal_ends_a_backup_in_order() {
    let server = Server::start();
    let database = shop(&server);
    let folder = tempfile::tempdir().unwrap();
    let mut holder = database.session();
    holder.run("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
    let started = backup(&database.url(), folder.path()).start();
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'switchyard%'";
    until("the step waits", || database.read(waits) == "t");
    let killed = Command::new("kill")
        .args(["-INT", &started.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let ended = started.finish();
    assert_eq!(ended.code, Some(130), "{}", ended.log());
    assert!(
        files(folder.path()).is_empty(),
        "{:?}",
        files(folder.path())
    );
    assert_eq!(scratch_databases(&server), "");
}

/// A file system of a few megabytes, taken away again.
struct Small(tempfile::TempDir);

impl Small {
    fn new(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(status.success(), "mount a tmpfs");
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_no_backup() {
    let database = Server::shared().database();
    database.run("CREATE TABLE noise AS SELECT md5(random()::text) || md5(random()::text) AS text FROM generate_series(1, 100000)");
    let small = Small::new("2m");
    let ended = run(backup(&database.url(), small.0.path()));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(ended.stdout.contains("the disk is full"), "{}", ended.log());
    assert!(files(small.0.path()).is_empty());
}

/// As much of a manifest as says whose backup it is.
fn manifest_of(server: &str, database: &str) -> String {
    serde_json::json!({"server": server, "database": database}).to_string()
}

#[test]
fn old_backups_go_after_the_new_one_is_verified_and_nothing_else_does() {
    let database = shop(Server::shared());
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join(database.name());
    let old = ["20250101T000000Z-00000001", "20250102T000000Z-00000002"];
    let keep = |name: &str, manifest: &str| {
        std::fs::create_dir_all(place.join(name)).unwrap();
        std::fs::write(place.join(name).join("manifest.json"), manifest).unwrap();
    };
    let url = database.url();
    let (_, server) = url.rsplit_once('@').unwrap();
    let (server, _) = server.split_once('/').unwrap();
    let name = database.name();
    for one in old {
        keep(one, &manifest_of(server, name));
    }
    // They were taken away although they are not of this database.
    let others = [
        ("20240201T000000Z-00000004", manifest_of("other:5432", name)),
        (
            "20240202T000000Z-00000005",
            manifest_of(server, &name.replace('_', " ")),
        ),
        ("20240203T000000Z-00000006", "{}".to_owned()),
    ];
    for (one, manifest) in &others {
        keep(one, manifest);
    }
    std::fs::create_dir_all(place.join("20240101T000000Z-00000003")).unwrap();
    std::fs::create_dir_all(place.join("photos")).unwrap();
    std::fs::write(place.join("photos/manifest.json"), "{}").unwrap();
    let ended = run(backup(&database.url(), folder.path()).input("keep", "2"));
    assert_ended(&ended, 0, "true");
    assert!(!place.join(old[0]).exists() && place.join(old[1]).exists());
    assert!(place.join("photos").exists());
    for (one, _) in others {
        assert!(place.join(one).exists(), "{one}");
    }
    assert!(
        place.join("20240101T000000Z-00000003").exists(),
        "it may be under way elsewhere"
    );
}

#[test]
fn an_external_backup_says_what_is_proved_and_what_is_attested() {
    let database = Server::shared().database();
    let step = |name: &str, value: &str| {
        step("backup")
            .input("database-url", database.url())
            .input("backup-kind", "external")
            .input(name, value)
    };
    let ended = run(step(
        "external-command",
        "echo taking; echo snap-$SWITCHYARD_DATABASE; test -z \"$PGPASSWORD\"",
    ));
    assert_ended(&ended, 0, "unverifiable");
    assert_eq!(
        ended.outputs["backup"],
        format!("external:snap-{}", database.name())
    );
    assert!(ended.summary.contains("only attested"), "{}", ended.summary);
    let ended = run(step("external-id", "rds:shop-2026"));
    assert!(
        ended.summary.contains("nothing: the id was given"),
        "{}",
        ended.summary
    );
    assert_eq!(
        run(step("external-command", "echo x; exit 4")).code,
        Some(3)
    );
    assert_eq!(run(step("external-command", "true")).code, Some(3));
    assert_eq!(run(step("external-id", "a b")).code, Some(2));
}

#[test]
fn events_in_which_strangers_decide_get_no_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let url = Server::shared().url("postgres");
    for step in [backup(&url, folder.path()), verify("/nowhere")] {
        let ended = step
            .variable("GITHUB_EVENT_NAME", "pull_request_target")
            .run();
        assert_eq!(ended.code, Some(2), "{}", ended.log());
    }
}
