//! Takes a backup: a snapshot, a dump and the counts of what is in it, all of one moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use switchyard_postgres::{
    ConnectionSettings, ConnectionUrl, ExportedSnapshot, SchemaDescription, ServerSettings,
    ServerVersion, Session,
};
use switchyard_runner::{Console, Failure};
use tempfile::TempDir;

use super::count::{Counted, count};
use super::manifest::{DUMP, FileEntry};
use super::programs::Programs;
use super::{files, staging};
use crate::database;

/// How long `pg_dump` waits for the lock of a table.
const LOCK_WAIT: &str = "--lock-wait-timeout=10s";

/// How a dump is taken.
#[derive(Debug, Clone)]
pub(crate) struct DumpOptions {
    /// Sessions and processes at once.
    pub(crate) jobs: u8,
    /// 0 to 9.
    pub(crate) compression: u8,
    /// Folder below which the dump is written before it is kept.
    pub(crate) staging: PathBuf,
}

/// A dump that is complete, on this machine.
#[derive(Debug)]
pub(crate) struct Dump {
    /// Its folder, which holds `dump/`; gone when this value is dropped.
    pub(crate) folder: TempDir,
    /// When the snapshot was taken.
    pub(crate) taken_at: Timestamp,
    /// Version of the server.
    pub(crate) server_version: ServerVersion,
    /// Version of `pg_dump`.
    pub(crate) dump_version: ServerVersion,
    /// How the database was made.
    pub(crate) settings: ServerSettings,
    /// The schema in the snapshot.
    pub(crate) schema: SchemaDescription,
    /// What is in the snapshot.
    pub(crate) counted: Counted,
    /// Its files with their digests.
    pub(crate) files: BTreeMap<String, FileEntry>,
}

/// How long one table may take to be counted: as long as GitHub lets a job run.
const COUNTING_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);

/// Settings of sessions that count: a large table takes its time.
pub(crate) fn counting() -> ConnectionSettings {
    ConnectionSettings {
        statement_timeout: COUNTING_LIMIT,
        ..ConnectionSettings::reading("switchyard migrate-gate")
    }
}

/// Takes a dump. The snapshot has ended when this returns.
///
/// # Errors
/// Kind input for programs that are too old; kind remote when the server or `pg_dump` fails.
pub(crate) async fn dump(
    url: &ConnectionUrl,
    options: &DumpOptions,
    programs: &Programs,
    console: &Console,
) -> Result<Dump, Failure> {
    let first = Session::open(url, &counting())
        .await
        .map_err(database::failure)?;
    let server_version = first.version();
    let dump_version = programs.require(server_version).await?;
    let folder = staging::folder(&options.staging, console)?;
    let settings = first.database_settings().await.map_err(database::failure)?;
    let snapshot = ExportedSnapshot::export(first)
        .await
        .map_err(database::failure)?;
    let taken_at = Timestamp::now();
    // Sequences move outside of snapshots. Read before `pg_dump` reads them, they tell the least that has to come back.
    let sequences = snapshot
        .session()
        .sequence_positions()
        .await
        .map_err(database::failure)?;
    let target = folder.path().join(DUMP);
    let arguments = arguments(&target, options, snapshot.id().as_str());
    let dumping = programs.run("pg_dump", &arguments, url);
    let looking = look(url, &snapshot, options.jobs);
    let watching = told(console, &target);
    let both = async { tokio::try_join!(dumping, looking) };
    let ((), (schema, mut counted)) = tokio::select! {
        done = both => done?,
        () = watching => unreachable_progress()?,
    };
    counted.contents.sequences = sequences;
    snapshot.end().await.map_err(database::failure)?;
    let files = files::digests(folder.path(), DUMP)
        .await
        .map_err(Failure::remote)?;
    Ok(Dump {
        folder,
        taken_at,
        server_version,
        dump_version,
        settings,
        schema,
        counted,
        files,
    })
}

fn arguments(target: &Path, options: &DumpOptions, snapshot: &str) -> Vec<String> {
    vec![
        "--format=directory".to_owned(),
        format!("--file={}", target.display()),
        format!("--jobs={}", options.jobs),
        format!("--compress={}", options.compression),
        format!("--snapshot={snapshot}"),
        "--no-password".to_owned(),
        LOCK_WAIT.to_owned(),
    ]
}

async fn look(
    url: &ConnectionUrl,
    snapshot: &ExportedSnapshot,
    jobs: u8,
) -> Result<(SchemaDescription, Counted), Failure> {
    let looked = async {
        let schema = snapshot.session().describe_schema().await?;
        let mut sessions = Vec::new();
        for _ in 0..=jobs {
            let session = Session::open(url, &counting()).await?;
            snapshot.share_with(&session).await?;
            sessions.push(session);
        }
        let (large_objects, sessions) = (sessions.pop(), sessions);
        let large_objects = large_objects.as_ref().unwrap_or(snapshot.session());
        Ok((schema, count(&sessions, large_objects).await?))
    };
    looked.await.map_err(database::failure)
}

/// Says every ten seconds how much of the dump is written. Never ends by itself.
async fn told(console: &Console, target: &Path) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mebibytes = files::bytes(target) / (1024 * 1024);
        console.info(format!("dumping: {mebibytes} MiB so far"));
    }
}

/// The progress never ends before the work does.
fn unreachable_progress<T>() -> Result<T, Failure> {
    Err(Failure::bug(anyhow::anyhow!(
        "the progress of a dump ended"
    )))
}
