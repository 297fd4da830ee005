//! What is told of an update: the plan, the fleet's state at its end, outputs and the step's summary.

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::{Value, json};
use switchyard_runner::{Context, Failure, summary};
use switchyard_servers::fleet::Whole;
use switchyard_servers::journal::{Journal, Stage};
use switchyard_servers::plan::Plan;

use super::observe::Quiet;
use crate::run::TITLE;

/// What has become of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing was done to it.
    NotReached,
    /// Somebody else took it out of the traffic.
    LeftOut,
    /// It was not asked for.
    NotAsked,
    /// An earlier run of this update has done it.
    DoneBefore,
    /// It is back with its new version.
    Updated,
    /// It is back with its old version.
    PutBack,
    /// It is out of the traffic, since this stage.
    Out(Stage),
}

impl Fate {
    fn words(self) -> &'static str {
        match self {
            Self::NotReached => "not updated yet",
            Self::LeftOut => "left out: somebody else took it out of the traffic",
            Self::NotAsked => "not asked for",
            Self::DoneBefore => "updated by an earlier run",
            Self::Updated => "updated",
            Self::PutBack => "not updated, back with its old version",
            Self::Out(Stage::Draining) => "out, with its old version",
            Self::Out(Stage::Updating) => "OUT: its update is not verified",
            Self::Out(Stage::Verified | Stage::Done) => "out: updated and healthy, not yet back",
        }
    }
}

#[derive(Debug)]
struct Row {
    name: String,
    address: String,
    fate: Fate,
    quiet: Option<Quiet>,
    /// Its state in HAProxy's words at the last look; absent where not every process answered.
    status: Option<String>,
}

/// What is told of an update.
#[derive(Debug)]
pub(super) struct Report {
    rows: Vec<Row>,
    places: Vec<String>,
    up_at_start: usize,
    floor: usize,
    started: Instant,
    pub(super) has_changed: bool,
}

impl Report {
    /// What is told before anything was done.
    pub(super) fn new(whole: &Whole, plan: &Plan, journal: &Journal, started: Instant) -> Self {
        let is_task = |name: &str| plan.batches.iter().flatten().any(|task| task.name == name);
        let rows = whole.servers.iter().map(|server| Row {
            name: server.name.clone(),
            address: server
                .address
                .as_ref()
                .map_or_else(|| "unix socket".to_owned(), ToString::to_string),
            fate: if plan.left_out.contains(&server.name) {
                Fate::LeftOut
            } else if plan.done.contains(&server.name) {
                Fate::DoneBefore
            } else if !is_task(&server.name) {
                Fate::NotAsked
            } else {
                match journal.stage(&server.name) {
                    Some(stage) => Fate::Out(stage),
                    None => Fate::NotReached,
                }
            },
            quiet: None,
            status: Some(server.status()),
        });
        Self {
            rows: rows.collect(),
            places: whole.processes.iter().map(ToString::to_string).collect(),
            up_at_start: plan.up_at_start,
            floor: plan.floor,
            started,
            has_changed: false,
        }
    }

    /// The plan in lines for the log.
    pub(super) fn plan(&self, plan: &Plan) -> String {
        let mut text = format!("{} HAProxies:", self.places.len());
        for place in &self.places {
            let _ = write!(text, "\n  {place}");
        }
        let _ = write!(
            text,
            "\n{} servers are up; at least {} stay up",
            self.up_at_start, self.floor
        );
        for (number, batch) in plan.batches.iter().enumerate() {
            let servers: Vec<String> = batch
                .iter()
                .map(|task| {
                    let from = match task.left_at {
                        None => "",
                        Some(Stage::Draining) => ", drained by an earlier run",
                        Some(Stage::Updating) => ", out: an earlier run was stopped in its update",
                        Some(Stage::Verified | Stage::Done) => {
                            ", updated by an earlier run, not yet back"
                        }
                    };
                    format!("{} ({}{from})", task.name, task.address)
                })
                .collect();
            let _ = write!(text, "\n{}. {}", number + 1, servers.join(", "));
        }
        for name in &plan.left_out {
            let _ = write!(
                text,
                "\nleft as it is, somebody else took it out of the traffic: {name}"
            );
        }
        for name in &plan.done {
            let _ = write!(text, "\nupdated by an earlier run: {name}");
        }
        text
    }

    /// Takes in how every process sees the servers now.
    pub(super) fn look(&mut self, whole: Option<&Whole>) {
        for row in &mut self.rows {
            let server = whole.and_then(|whole| whole.server(&row.name));
            row.status = server.map(switchyard_servers::fleet::Combined::status);
        }
    }

    pub(super) fn fate(&mut self, server: &str, fate: Fate) {
        if let Some(row) = self.row(server) {
            row.fate = fate;
        }
    }

    pub(super) fn quiet(&mut self, server: &str, quiet: Quiet) {
        if let Some(row) = self.row(server) {
            row.quiet = Some(quiet);
        }
    }

    /// The fleet's state in lines for the log.
    pub(super) fn table(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|row| row.name.len())
            .max()
            .unwrap_or(0);
        let lines = self.rows.iter().map(|row| {
            let (status, words) = (row.status.as_deref().unwrap_or("unknown"), row.fate.words());
            let quiet = row
                .quiet
                .map(|quiet| format!("; {quiet}"))
                .unwrap_or_default();
            format!(
                "{:width$}  {}  {status}  {words}{quiet}",
                row.name, row.address
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What stands how, in a sentence for a failure's hint.
    pub(super) fn standing(&self) -> String {
        let list = |names: Vec<&str>| match names.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        format!(
            "updated: {}; out or failed: {}; not updated: {}. Run it again to go on: it knows which server was being updated",
            list(self.updated()),
            list(self.failed()),
            list(self.remaining())
        )
    }

    /// Writes the outputs and the summary.
    pub(super) fn tell(&self, context: &Context, result: &str) -> Result<(), Failure> {
        let outputs = &context.outputs;
        let is_done = result == "updated";
        outputs.set("changed", self.has_changed)?;
        outputs.set("updated", json!(self.updated()))?;
        outputs.set("failed", json!(self.failed()))?;
        outputs.set("remaining", json!(self.remaining()))?;
        outputs.set("verified", if is_done { "data-plane" } else { "none" })?;
        outputs.set("evidence", self.evidence())?;
        outputs.set("duration-ms", self.started.elapsed().as_millis())?;
        outputs.set("result", result)?;
        context.summarize(TITLE, &self.section(result));
        Ok(())
    }

    fn evidence(&self) -> Value {
        let servers = self.rows.iter().map(|row| {
            json!({
                "server": row.name,
                "address": row.address,
                "state": row.status,
                "fate": row.fate.words(),
                "quiet": row.quiet.map(|quiet| quiet.to_string()),
            })
        });
        json!({
            "processes": self.places,
            "servers": servers.collect::<Vec<_>>(),
        })
    }

    fn section(&self, result: &str) -> String {
        let mut text = format!(
            "### Servers: {result}\n\n{} of {} updated, {} out or failed. {} were up at the start, at least {} had to stay up.\n\n| server | address | state | outcome |\n| --- | --- | --- | --- |\n",
            self.updated().len(),
            self.rows.len(),
            self.failed().len(),
            self.up_at_start,
            self.floor
        );
        for row in &self.rows {
            let quiet = row
                .quiet
                .map(|quiet| format!("; {quiet}"))
                .unwrap_or_default();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                summary::cell(&row.name),
                summary::cell(&row.address),
                summary::cell(row.status.as_deref().unwrap_or("unknown")),
                summary::cell(&format!("{}{quiet}", row.fate.words()))
            );
        }
        let _ = write!(
            text,
            "\nConfirmed by each of {} HAProxies:\n",
            self.places.len()
        );
        for place in &self.places {
            let _ = write!(text, "\n- {}", summary::cell(place));
        }
        text
    }

    fn updated(&self) -> Vec<&str> {
        self.names(|fate| matches!(fate, Fate::Updated | Fate::DoneBefore))
    }

    fn failed(&self) -> Vec<&str> {
        self.names(|fate| matches!(fate, Fate::Out(_) | Fate::PutBack))
    }

    fn remaining(&self) -> Vec<&str> {
        self.names(|fate| matches!(fate, Fate::NotReached | Fate::LeftOut | Fate::NotAsked))
    }

    fn names(&self, wanted: fn(Fate) -> bool) -> Vec<&str> {
        let rows = self.rows.iter().filter(|row| wanted(row.fate));
        rows.map(|row| row.name.as_str()).collect()
    }

    fn row(&mut self, server: &str) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.name == server)
    }
}
