//! Backup with its proof against PostgreSQL's own dump and restoration, of one gigabyte, on one server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use switchyard_test_postgres::{Database, PASSWORD, Server, program, programs};

use crate::measure::{self, Cost};
use crate::table::Figure;
use crate::{Bench, progress};

/// How often each is measured; the middle one counts.
const ROUNDS: usize = 3;

/// Most bytes of memory that ours may have.
const MEMORY_GOAL: f64 = 100.0;

/// Two tables of half a gigabyte, of values as they are found in shops: ids, times, words, numbers, some noise.
const DATA: &str = "
    CREATE TABLE item (id bigint PRIMARY KEY, made_at timestamptz, name text, price numeric(10, 2), note text);
    CREATE TABLE sale (id bigint PRIMARY KEY, made_at timestamptz, name text, price numeric(10, 2), note text);
    INSERT INTO item SELECT n, '2026-01-01'::timestamptz + n * interval '1 second', 'item number ' || n, n % 9999 / 7.0,
      repeat('words that come again and again ', 5) || md5(n::text) || md5((n + 1)::text) FROM generate_series(1, 1790000) n;
    INSERT INTO sale SELECT id, made_at, name, price, note FROM item;
    CREATE INDEX ON item (made_at);
    CREATE INDEX ON sale (made_at);
    VACUUM ANALYZE";

pub(crate) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let server = Server::options()
        .setting("shared_buffers", "256MB")
        .setting("max_wal_size", "4GB")
        .setting("autovacuum", "off")
        .start();
    progress("backup: filling a database with one gigabyte");
    let database = server.database();
    database.run(DATA);
    let bytes = database.read("SELECT pg_size_pretty(sum(pg_table_size(oid))) FROM pg_class WHERE relname IN ('item', 'sale')");
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        progress(&format!("backup: round {round} of {ROUNDS}, {bytes}"));
        peers.push(peer(&server, &database)?);
        ours.push(backup(&bench.binaries, &database)?);
    }
    let memory = ours.iter().map(|cost| cost.peak_memory).max().unwrap_or(0);
    let (ours, peer) = (measure::median(ours)?, measure::median(peers)?);
    Ok(vec![
        Figure {
            what: format!("backup of {bytes} and its proof, 2 jobs"),
            ours: format!("{:.1} s", ours.wall.as_secs_f64()),
            peer: format!(
                "{:.1} s (pg_dump -Fd -j2, pg_restore -j2)",
                peer.wall.as_secs_f64()
            ),
            measured: ours.wall.as_secs_f64() / peer.wall.as_secs_f64(),
            goal: 1.5,
            unit: "",
        },
        Figure {
            what: "memory of `migrate-gate backup`".into(),
            ours: format!("{memory} bytes"),
            peer: "–".into(),
            measured: mebibytes(memory),
            goal: MEMORY_GOAL,
            unit: "MiB",
        },
    ])
}

fn backup(binaries: &Path, database: &Database) -> anyhow::Result<Cost> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(binaries.join("migrate-gate"));
    command
        .arg("backup")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("RUNNER_TEMP", folder.path())
        .env("INPUT_DATABASE_URL", database.url())
        .env("INPUT_BACKUP_TO", folder.path().join("backups"))
        .env("INPUT_PG_PROGRAMS", programs());
    let (cost, output) = measure::run(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("verified=true"), "not verified: {text}");
    Ok(cost)
}

/// What a careful person does by hand: dump, make a database, restore. The database is no part of the time.
fn peer(server: &Server, database: &Database) -> anyhow::Result<Cost> {
    let folder = tempfile::tempdir()?;
    let dump = folder.path().join("dump");
    let target = server.database();
    let command = |name: &str, database: &str| {
        let mut command = Command::new(program(name));
        command
            .env_clear()
            .env("PGPASSWORD", PASSWORD)
            .args(["--jobs=2", "--host=127.0.0.1", "--username=postgres"])
            .arg(format!("--port={}", server.port()))
            .arg(format!("--dbname={database}"));
        command
    };
    let mut dumping = command("pg_dump", database.name());
    let dumped = measure::run(dumping.arg("--format=directory").arg("--file").arg(&dump));
    let (dumped, _) = dumped.context("dump")?;
    let restored = measure::run(command("pg_restore", target.name()).arg(&dump));
    let (restored, _) = restored.context("restore")?;
    let admin = server.existing_database("postgres");
    admin.run(&format!("DROP DATABASE {}", target.name()));
    Ok(Cost {
        wall: dumped.wall + restored.wall,
        processor: Duration::ZERO,
        peak_memory: dumped.peak_memory.max(restored.peak_memory),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a process's memory fits a float's mantissa"
)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
