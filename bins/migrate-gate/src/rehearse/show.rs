//! The rehearsal as markdown and as annotations.

use std::fmt::Write as _;

use switchyard_runner::Console;
use switchyard_runner::summary::cell;

use super::inputs::UnverifiableChoice;
use super::proof::{QueryProof, Source};
use super::report::{DatabaseRehearsal, MigrationRehearsal, Rehearsal, TableBlocking};

/// Annotations: an error for what speaks against the migrations; what could not be checked as the input says.
pub(super) fn annotate(rehearsal: &Rehearsal, unverifiable: UnverifiableChoice, console: &Console) {
    for text in rehearsal.objections() {
        console.error("migrate-gate", text);
    }
    for text in rehearsal.unverifiable() {
        let text = format!("not checked: {text}");
        match unverifiable {
            UnverifiableChoice::Fail => console.error("migrate-gate", text),
            UnverifiableChoice::Warn => console.warning("migrate-gate", text),
        }
    }
}

/// The rehearsal for people.
pub(super) fn markdown(rehearsal: &Rehearsal) -> String {
    let verdict = if rehearsal.safe {
        "nothing speaks against it"
    } else if rehearsal.objections().is_empty() {
        "not everything could be checked"
    } else {
        "it must not run like this"
    };
    let mut text = format!("### Rehearsal: {verdict}\n");
    for objection in rehearsal.objections() {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "\n- ❌ {}", cell(&objection));
    }
    for reason in rehearsal.unverifiable() {
        let _ = write!(text, "\n- ⚠️ not checked: {}", cell(&reason));
    }
    for database in &rehearsal.databases {
        let _ = write!(text, "\n\n{}", database_markdown(database, rehearsal));
    }
    text
}

fn database_markdown(database: &DatabaseRehearsal, rehearsal: &Rehearsal) -> String {
    let of = match &database.production {
        Some(place) => format!(
            ", copy of {} on {}",
            cell(&place.database),
            cell(&place.server)
        ),
        None => String::new(),
    };
    let mut text = format!(
        "**{}** on {} (PostgreSQL {}){of}\n",
        cell(&database.copy.database),
        cell(&database.copy.server),
        database.server_version
    );
    if database.migrations.is_empty() {
        text.push_str("\nNo migration is pending.\n");
        return text;
    }
    text.push_str("\n| migration | took | blocked the longest |\n| --- | --- | --- |\n");
    for migration in &database.migrations {
        let _ = writeln!(text, "{}", migration_row(migration));
    }
    let _ = write!(
        text,
        "\n{}",
        tables_markdown(&database.migrations, rehearsal)
    );
    let _ = write!(text, "\n{}", proof_markdown(&database.proof));
    text
}

fn migration_row(migration: &MigrationRehearsal) -> String {
    let longest = migration
        .tables
        .iter()
        .max_by_key(|table| table.readers_milliseconds.max(table.writers_milliseconds));
    let blocked = match (&migration.error, longest) {
        (Some(error), _) => format!("**failed**: {}", cell(&error.message)),
        (None, Some(table)) => format!(
            "{}: {} ms",
            cell(&table.table),
            table.readers_milliseconds.max(table.writers_milliseconds)
        ),
        (None, None) => "no table was there to probe".to_owned(),
    };
    format!(
        "| {} | {} ms | {blocked} |",
        cell(&migration.name),
        migration.milliseconds
    )
}

fn tables_markdown(migrations: &[MigrationRehearsal], rehearsal: &Rehearsal) -> String {
    let mut text = format!(
        "Budget {} ms. Whoever comes while a migration waits for its lock waits as well, up to {} ms more. The last column is an **estimate**: what was measured, scaled by the rows.\n\n| migration | table | lock | readers waited | writers waited | at rest | rows of the copy | rows of production | in production |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        rehearsal.budget_milliseconds, rehearsal.lock_timeout_milliseconds
    );
    for migration in migrations {
        for table in &migration.tables {
            let _ = writeln!(
                text,
                "| {} | {} |",
                cell(&migration.name),
                table_cells(table)
            );
        }
        if !migration.not_probed.is_empty() {
            let _ = writeln!(
                text,
                "| {} | {} tables more were not probed | | | | | | | |",
                cell(&migration.name),
                migration.not_probed.len()
            );
        }
    }
    text
}

fn table_cells(table: &TableBlocking) -> String {
    let count =
        |rows: Option<u64>| rows.map_or_else(|| "unknown".to_owned(), |rows| rows.to_string());
    let estimate = table.production_estimate_milliseconds;
    let cells = [
        cell(&table.table),
        table.lock.clone().unwrap_or_else(|| "none seen".to_owned()),
        format!("{} ms", table.readers_milliseconds),
        format!("{} ms", table.writers_milliseconds),
        format!("{} ms", table.at_rest_milliseconds),
        count(table.copy_rows),
        count(table.production_rows),
        estimate.map_or_else(|| "unknown".to_owned(), |ms| format!("≈ {ms} ms")),
    ];
    cells.join(" | ")
}

fn proof_markdown(proof: &QueryProof) -> String {
    let source = match &proof.source {
        Source::Statistics => "`pg_stat_statements` of production".to_owned(),
        Source::File => "a captured file".to_owned(),
        Source::Nowhere { reason } => {
            return format!(
                "Statements of the running version: not checked, {}.\n",
                cell(reason)
            );
        }
    };
    let mut text = format!(
        "Statements of the running version, from {source}: {} of {} checked, {} of {} calls; {} about the catalog, {} without a plan left out.\n",
        proof.checked_statements,
        proof.statements,
        proof.checked_calls,
        proof.calls,
        proof.catalog_statements,
        proof.utility_statements
    );
    for (what, lines) in lists(proof) {
        if !lines.is_empty() {
            let _ = write!(text, "\n{what}:\n\n{}\n", lines.join("\n"));
        }
    }
    text
}

/// What is told of single statements, each list with its title.
fn lists(proof: &QueryProof) -> [(&'static str, Vec<String>); 4] {
    let line = |calls: u64, text: &str, reason: &str| {
        format!("- {calls} calls: {} — {}", cell(text), cell(reason))
    };
    let broken = proof.broken.iter();
    let broken = broken.map(|one| line(one.calls, &one.text, &one.change));
    let required = proof.required.iter().map(|one| {
        let by: Vec<String> = one.omitted_by.iter().map(|text| cell(text)).collect();
        let by = match by.len() {
            0 => "no INSERT was seen".to_owned(),
            _ => format!("left out by {}", by.join("; ")),
        };
        format!("- {}.{}: {by}", cell(&one.table), cell(&one.column))
    });
    let wider = proof.wider.iter().map(|text| format!("- {}", cell(text)));
    let skipped = proof.skipped.iter();
    let skipped = skipped.map(|one| line(one.calls, &one.text, &one.reason));
    [
        ("They break", broken.collect()),
        ("New columns that need a value", required.collect()),
        ("They give more columns (`*`)", wider.collect()),
        (
            "Not checked, because they fail before the migrations too",
            skipped.collect(),
        ),
    ]
}
