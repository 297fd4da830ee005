//! Backups in real object stores: kept, read back, restored, found damaged, taken away.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stores;

use std::path::Path;
use std::process::Command;

use stores::{SECRET, Store, files};
use switchyard_harness::{Ended, Step};
use switchyard_test_postgres::{Authority, Database, PASSWORD, Server, programs};

fn shop() -> Database {
    let database = Server::shared().database();
    database.run(
        "CREATE TABLE item AS SELECT n AS id, md5(n::text) || md5(random()::text) AS text FROM generate_series(1, 20000) n;
         CREATE TABLE noise AS SELECT md5(random()::text) || md5(random()::text) AS text FROM generate_series(1, 300000) n",
    );
    database
}

fn step(command: &str, store: &Store) -> Step {
    let step = Step::new(env!("CARGO_BIN_EXE_migrate-gate")).input("command", command);
    let step = step.input("pg-programs", programs().display().to_string());
    store
        .variables()
        .iter()
        .fold(step, |step, (name, value)| step.variable(name, value))
}

fn run(step: Step) -> Ended {
    let ended = step.run();
    ended.assert_never_shows(PASSWORD);
    ended.assert_never_shows(SECRET);
    ended
}

fn backup(store: &Store, to: &str, database: &Database) -> Step {
    let step = step("backup", store).input("backup-to", to);
    step.input("database-url", database.url())
}

fn verify(store: &Store, reference: &str) -> Ended {
    run(step("verify", store).input("backup", reference))
}

fn assert_ended(ended: &Ended, code: i32, verified: &str) {
    assert_eq!(ended.code, Some(code), "{}", ended.log());
    assert_eq!(ended.outputs["verified"], verified, "{}", ended.log());
}

/// Kept (in parts, where a file is large), verified, restored from the store, and superseded by the next one.
fn round_trip(store: &Store, to: &str) {
    let database = shop();
    let ended = run(backup(store, to, &database).input("compression", "0"));
    assert_ended(&ended, 0, "true");
    let first = ended.outputs["backup"].clone();
    assert!(first.starts_with(to), "{first}");
    assert_ended(&verify(store, &first), 0, "unverifiable");
    let restore = step("verify", store).input("backup", &first);
    let ended = run(restore.input("verify-url", Server::shared().url("postgres")));
    assert_ended(&ended, 0, "true");
    let ended = run(backup(store, to, &database).input("keep", "1"));
    assert_ended(&ended, 0, "true");
    let ended_first = verify(store, &first);
    assert_eq!(ended_first.code, Some(1), "{}", ended_first.log());
    assert!(
        ended_first.stdout.contains("there is no backup"),
        "{}",
        ended_first.log()
    );
    assert_ended(&verify(store, &ended.outputs["backup"]), 0, "unverifiable");
}

#[test]
fn a_store_behind_an_authority_of_ones_own_is_trusted_where_it_is_named() {
    let (root, folder) = (bucket(), tempfile::tempdir().unwrap());
    let authority = Authority::new();
    let store = Store::s3_over_tls(root.path(), &authority);
    let database = Server::shared().database();
    let to = "s3://backups/prod";
    let refused = run(backup(&store, to, &database));
    assert_eq!(refused.code, Some(3), "{}", refused.log());
    assert!(refused.log().contains("certificate"), "{}", refused.log());
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, authority.certificate()).unwrap();
    let named =
        |step: Step, file: &Path| step.variable("AWS_CA_BUNDLE", file.display().to_string());
    let ended = run(named(backup(&store, to, &database), &file));
    assert_ended(&ended, 0, "true");
    let nothing = folder.path().join("nothing.pem");
    std::fs::write(&nothing, "").unwrap();
    let refused = run(named(backup(&store, to, &database), &nothing));
    assert_eq!(refused.code, Some(2), "{}", refused.log());
    assert!(refused.log().contains("AWS_CA_BUNDLE"), "{}", refused.log());
}

fn bucket() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("backups")).unwrap();
    root
}

#[test]
fn a_backup_goes_to_s3_and_back() {
    let root = bucket();
    round_trip(&Store::s3(root.path()), "s3://backups/releases");
}

#[test]
fn a_backup_goes_to_azure_and_back() {
    let folder = tempfile::tempdir().unwrap();
    round_trip(&Store::azure(folder.path()), "azure://backups/releases");
}

#[test]
fn a_flipped_byte_and_a_truncated_object_in_s3_are_found() {
    let root = bucket();
    let store = Store::s3(root.path());
    let ended = run(backup(&store, "s3://backups", &shop()).input("compression", "0"));
    assert_ended(&ended, 0, "true");
    let reference = &ended.outputs["backup"];
    let objects = files(&root.path().join("backups"));
    let object = objects
        .iter()
        .max_by_key(|file| file.metadata().unwrap().len())
        .unwrap();
    let bytes = std::fs::read(object).unwrap();
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(object, &flipped).unwrap();
    let ended = verify(&store, reference);
    assert_ended(&ended, 1, "false");
    assert!(
        ended.stdout.contains("has other contents"),
        "{}",
        ended.log()
    );
    std::fs::write(object, &bytes[..middle]).unwrap();
    let ended = verify(&store, reference);
    assert_ended(&ended, 1, "false");
    assert!(ended.stdout.contains("instead of"), "{}", ended.log());
}

/// A file system of a few megabytes, taken away again.
struct Small(tempfile::TempDir);

impl Small {
    fn new(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path());
        assert!(mount.status().unwrap().success(), "mount a tmpfs");
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

fn manifests(root: &Path) -> usize {
    files(root)
        .iter()
        .filter(|file| file.ends_with("manifest.json"))
        .count()
}

#[test]
fn an_upload_that_breaks_off_is_no_backup() {
    let small = Small::new("4m");
    std::fs::create_dir(small.0.path().join("backups")).unwrap();
    let store = Store::s3(small.0.path());
    let database = shop();
    let ended = run(backup(&store, "s3://backups", &database));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert_eq!(manifests(small.0.path()), 0);
    let parts = files(&small.0.path().join("backups/.sgwtmp"));
    assert!(parts.is_empty(), "parts of what broke off: {parts:?}");
    let names = std::fs::read_dir(small.0.path().join("backups").join(database.name()));
    let names: Vec<_> = names.into_iter().flatten().flatten().collect();
    if let [half] = names.as_slice() {
        let reference = format!(
            "s3://backups/{}/{}",
            database.name(),
            half.file_name().to_string_lossy()
        );
        let ended = verify(&store, &reference);
        assert_eq!(ended.code, Some(1), "{}", ended.log());
    }
}

#[test]
fn a_store_without_credentials_a_wrong_key_and_no_bucket_are_told() {
    let root = bucket();
    let store = Store::s3(root.path());
    let database = Server::shared().database();
    let ended = run(backup(&store, "s3://backups", &database).without("AWS_SECRET_ACCESS_KEY"));
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(
        ended.stdout.contains("AWS_SECRET_ACCESS_KEY is not set"),
        "{}",
        ended.log()
    );
    let wrong = backup(&store, "s3://backups", &database)
        .variable("AWS_SECRET_ACCESS_KEY", "wrong-hunter2");
    let ended = run(wrong);
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    ended.assert_never_shows("wrong-hunter2");
    assert!(
        ended.stdout.contains("the credentials may not write"),
        "{}",
        ended.log()
    );
    let ended = run(backup(&store, "s3://nowhere", &database));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(ended.stdout.contains("make the bucket"), "{}", ended.log());
}
