//! The plan as data, as markdown and as annotations.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use switchyard_postgres::ServerVersion;
use switchyard_runner::summary::cell;
use switchyard_runner::{Console, Failure, Kind, Location};

use super::cost::{Blocks, LockCost, StatementCost};
use super::digest::{Digest, DigestedSchema, digest};
use crate::ledger::{Standing, Verdict};
use crate::project::Tool;

/// From how many milliseconds on clients notice that they wait.
const NOTICED: u64 = 500;

/// Version of the report's form.
const FORM: u32 = 1;

/// What would run.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    form: u32,
    /// What an approval is bound to.
    pub(crate) digest: Digest,
    /// Whether nothing speaks against running it.
    pub(crate) safe: bool,
    /// How many migrations would run.
    pub(crate) pending: usize,
    /// Each schema, in the order of the inputs within its database.
    pub(crate) schemas: Vec<SchemaPlan>,
}

/// What would run in one schema.
#[derive(Debug, Serialize)]
pub(crate) struct SchemaPlan {
    /// Name in the inputs.
    pub(crate) name: String,
    /// Name of the database.
    pub(crate) database: String,
    /// Host and port.
    pub(crate) server: String,
    /// Version of the server.
    pub(crate) server_version: ServerVersion,
    /// Schema of its tables.
    pub(crate) namespace: String,
    /// What runs its migrations.
    pub(crate) tool: Tool,
    /// Its script, where it is any command.
    pub(crate) command: Option<String>,
    /// Its version, where it is known.
    pub(crate) tool_version: Option<String>,
    /// Fingerprint of the whole database's schema.
    pub(crate) fingerprint: String,
    /// Every migration with its state, by name.
    pub(crate) standings: Vec<Standing>,
    /// What the pending statements lock.
    pub(crate) statements: Vec<StatementCost>,
    /// SHA-256 of each file with LF, by the migration's name.
    pub(crate) checksums: BTreeMap<String, String>,
}

impl SchemaPlan {
    /// The migrations that would run.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Standing> {
        self.standings.iter().filter(|one| one.state.will_run())
    }

    fn digested(&self) -> DigestedSchema {
        DigestedSchema {
            name: self.name.clone(),
            database: self.database.clone(),
            namespace: self.namespace.clone(),
            tool: self.tool.name(),
            command: self.command.clone(),
            tool_version: self.tool_version.clone(),
            fingerprint: self.fingerprint.clone(),
            migrations: self
                .standings
                .iter()
                .map(|one| {
                    let checksum = self.checksums.get(&one.name).cloned();
                    (one.name.clone(), checksum, one.state.to_string())
                })
                .collect(),
        }
    }
}

impl Plan {
    /// The plan of these schemas.
    pub(crate) fn of(schemas: Vec<SchemaPlan>) -> Self {
        let digested: Vec<DigestedSchema> = schemas.iter().map(SchemaPlan::digested).collect();
        let mut plan = Self {
            form: FORM,
            digest: digest(&digested),
            safe: false,
            pending: schemas.iter().map(|one| one.pending().count()).sum(),
            schemas,
        };
        plan.safe = plan.verdict() == Verdict::Sound && plan.unknown().next().is_none();
        plan
    }

    /// The worst of what is to be thought of its migrations.
    pub(crate) fn verdict(&self) -> Verdict {
        let all = self.schemas.iter().flat_map(|schema| &schema.standings);
        let worst = all.map(|one| one.state.verdict()).max();
        worst.unwrap_or(Verdict::Sound)
    }

    /// Pending statements of which something could not be told.
    fn unknown(&self) -> impl Iterator<Item = &StatementCost> {
        let all = self.schemas.iter().flat_map(|schema| &schema.statements);
        all.filter(|one| !one.unknown.is_empty())
    }

    /// Refuses to run anything over a broken ledger.
    ///
    /// # Errors
    /// Kind gate, naming every migration that is broken, with what to do about each.
    pub(crate) fn require_sound(&self) -> Result<(), Failure> {
        let broken = self.broken();
        if broken.is_empty() {
            return Ok(());
        }
        let text = format!("nothing may run: {}", broken.join("; "));
        let failure = Failure::message(Kind::Gate, text);
        Err(self.hints().into_iter().fold(failure, Failure::hint))
    }

    /// What keeps everything from running.
    fn broken(&self) -> Vec<String> {
        self.of_verdict(Verdict::Broken)
    }

    /// What a person should look at.
    fn doubtful(&self) -> Vec<String> {
        self.of_verdict(Verdict::Doubtful)
    }

    fn of_verdict(&self, verdict: Verdict) -> Vec<String> {
        let mut told = Vec::new();
        for schema in &self.schemas {
            for one in &schema.standings {
                if one.state.verdict() == verdict {
                    told.push(format!(
                        "schema `{}`: `{}` is {}",
                        schema.name, one.name, one.state
                    ));
                }
            }
        }
        told
    }

    /// What to do about it, each hint once.
    fn hints(&self) -> Vec<&'static str> {
        let all = self.schemas.iter().flat_map(|schema| &schema.standings);
        let broken = all.filter(|one| one.state.verdict() == Verdict::Broken);
        let mut hints: Vec<&str> = broken.filter_map(|one| one.state.hint()).collect();
        hints.sort_unstable();
        hints.dedup();
        hints
    }
}

/// Annotations: an error for what keeps everything from running, a warning for what a person should look at.
pub(crate) fn annotate(plan: &Plan, console: &Console) {
    for text in plan.broken() {
        console.error("migrate-gate", text);
    }
    for text in plan.doubtful() {
        console.warning("migrate-gate", text);
    }
    for schema in &plan.schemas {
        for statement in &schema.statements {
            annotate_statement(statement, console);
        }
    }
}

/// A lock that is noticed is a warning on its line, and so is what could not be told.
fn annotate_statement(statement: &StatementCost, console: &Console) {
    let file = statement.file.display().to_string();
    let at = Location {
        file: &file,
        line: statement.line,
        end_line: statement.line,
    };
    for reason in &statement.unknown {
        console.warning_at(
            at,
            "migrate-gate",
            format!("not known what it locks: {reason}"),
        );
    }
    for lock in statement.locks.iter().filter(|lock| lock.is_noticed()) {
        console.warning_at(at, "migrate-gate", told(lock));
    }
}

impl LockCost {
    /// Whether clients have to wait for longer than a moment, or nobody can tell.
    fn is_noticed(&self) -> bool {
        let is_long = self
            .estimated_milliseconds
            .is_none_or(|time| time >= NOTICED);
        self.blocks != Blocks::Changes && is_long
    }
}

/// `item (1,000 rows, 50 MiB): ACCESS EXCLUSIVE, rewrite, blocks reads and writes for about 4 s (estimate)`.
fn told(lock: &LockCost) -> String {
    let mut parts = vec![lock.mode.clone()];
    parts.extend(lock.work.iter().map(|&work| work.to_owned()));
    let whom = match lock.blocks {
        Blocks::Everybody => "blocks reads and writes",
        Blocks::Writers => "blocks writes",
        Blocks::Changes => "blocks other changes of the schema",
    };
    let time = match lock.estimated_milliseconds {
        None => "for a time that cannot be told".to_owned(),
        Some(time) if time < NOTICED => "for a moment".to_owned(),
        Some(time) => format!("for about {} s (estimate)", time.div_ceil(1000)),
    };
    parts.push(format!("{whom} {time}"));
    format!("{}{}: {}", lock.table, size(lock), parts.join(", "))
}

fn size(lock: &LockCost) -> String {
    let Some(size) = lock.size else {
        return String::new();
    };
    let rows = size.rows.map_or_else(
        || "never analysed".to_owned(),
        |rows| format!("about {rows} rows"),
    );
    format!(" ({rows}, {} MiB)", size.bytes.div_ceil(1024 * 1024))
}

/// The plan for people.
pub(crate) fn markdown(plan: &Plan) -> String {
    let mut text = format!(
        "### Migration plan: {} pending\n\nDigest `{}`\n",
        plan.pending, plan.digest
    );
    for schema in &plan.schemas {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "\n{}", schema_markdown(schema));
    }
    text
}

fn schema_markdown(schema: &SchemaPlan) -> String {
    let applied = schema.standings.len() - schema.pending().count();
    let mut text = format!(
        "**{}** in {} on {} (PostgreSQL {}, schema {}): {} pending, {} others\n",
        cell(&schema.name),
        cell(&schema.database),
        cell(&schema.server),
        schema.server_version,
        cell(&schema.namespace),
        schema.pending().count(),
        applied
    );
    let notable = schema
        .standings
        .iter()
        .filter(|one| one.state.will_run() || one.state.verdict() != Verdict::Sound);
    let rows: Vec<String> = notable
        .map(|one| format!("| {} | {} |", cell(&one.name), cell(&one.state.to_string())))
        .collect();
    if !rows.is_empty() {
        let _ = write!(
            text,
            "\n| migration | state |\n| --- | --- |\n{}\n",
            rows.join("\n")
        );
    }
    text.push_str(&statements_markdown(&schema.statements));
    text
}

fn statements_markdown(statements: &[StatementCost]) -> String {
    let rows: Vec<String> = statements
        .iter()
        .filter(|one| !(one.locks.is_empty() && one.unknown.is_empty()))
        .map(|one| {
            let locks = one.locks.iter().map(told);
            let unknown = one
                .unknown
                .iter()
                .map(|reason| format!("not known: {reason}"));
            let told: Vec<String> = locks.chain(unknown).map(|text| cell(&text)).collect();
            format!(
                "| {}, line {} | {} | {} |",
                cell(&one.migration),
                one.line,
                cell(&one.text),
                told.join("<br>")
            )
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "\n| where | statement | locks |\n| --- | --- | --- |\n{}\n",
        rows.join("\n")
    )
}
