//! `rollout status`: sides, sizes, versions, and who takes traffic. Reads only; takes no lease.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Value, json};
use switchyard_deployment::record_failure;
use switchyard_manifest::{Kind, names, object, pods};
use switchyard_record::{ApplicationRecord, Chain, DeploymentRecord, Side, Store};
use switchyard_runner::{Context, Failure, summary::cell};

use crate::inputs::StatusArgs;
use crate::opening::Opened;
use crate::revert;
use crate::sides;
use crate::survey::{Survey, name_in_inputs, revision_of};
use crate::timing::within;

/// One workload as it is shown.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    workload: String,
    side: String,
    replicas: u64,
    ready: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    autoscaler: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    images: Vec<String>,
    /// The objects through which live traffic reaches it.
    traffic_from: Vec<String>,
}

/// Shows the application, or everything in the namespace.
///
/// # Errors
/// Bad input, or a cluster that fails.
pub(crate) async fn run(args: StatusArgs, context: &mut Context) -> Result<(), Failure> {
    within(args.timeout, async {
        let opened = Opened::to_read(context, &args.deployment, args.timeout).await?;
        let survey = Survey::read(&opened.objects).await?;
        let application = args.deployment.application.as_deref();
        let records = match application {
            Some(application) => read_records(context, &opened, application).await?,
            None => Records::default(),
        };
        let rows = rows(&survey, application, records.deployment.as_ref());
        // On a laptop the outputs would follow on the same stream and make it no JSON.
        let is_json_alone = args.json && !context.environment.is_actions();
        if args.json {
            print_json(context, &rows, &records)?;
        } else {
            for line in table(&rows).lines() {
                context.console.info(line);
            }
            for line in records.lines() {
                context.console.info(line);
            }
        }
        let markdown = markdown(&rows, &records);
        context.summarize("rollout", &markdown);
        if is_json_alone {
            return Ok(());
        }
        outputs(context, &rows, &records)
    })
    .await
}

/// The records of an application, as far as there are any.
#[derive(Debug, Default)]
struct Records {
    application: Option<ApplicationRecord>,
    deployment: Option<DeploymentRecord>,
    /// How the active deployment, else the one that made live what is live, reaches its users.
    chain: Option<Chain>,
}

impl Records {
    fn live(&self) -> Option<Side> {
        let live = self.application.as_ref()?.live.as_ref()?;
        Some(live.side)
    }

    fn lines(&self) -> Vec<String> {
        let Some(application) = &self.application else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        if let Some(live) = &application.live {
            let version = live.version.as_deref().unwrap_or("unknown");
            lines.push(format!("live: side {}, version {version}", live.side));
        }
        if let Some(deployment) = &self.deployment {
            lines.push(format!(
                "active: {} in phase {}, by {}",
                deployment.id, deployment.phase, deployment.actor
            ));
        }
        lines
    }
}

async fn read_records(
    context: &Context,
    opened: &Opened,
    application: &str,
) -> Result<Records, Failure> {
    let failed = |error| record_failure(error, context.cancel.requested());
    let store = Store::new(opened.cluster().client(), opened.namespace());
    let record = store.application(application).await.map_err(failed)?;
    let Some(record) = record.map(|stored| stored.record) else {
        return Ok(Records::default());
    };
    let latest = match revert::latest(&record) {
        Some(id) => store.deployment(&id).await.map_err(failed)?,
        None => None,
    };
    let latest = latest.map(|stored| stored.record);
    Ok(Records {
        chain: latest.as_ref().map(|latest| latest.chain),
        deployment: latest.filter(|_| record.active.is_some()),
        application: Some(record),
    })
}

fn rows(survey: &Survey, application: Option<&str>, record: Option<&DeploymentRecord>) -> Vec<Row> {
    survey
        .selectors
        .workloads
        .iter()
        .filter(|(_, value)| {
            application.is_none()
                || object::metadata_entry(value, "labels", names::APPLICATION) == application
        })
        .map(|(kind, value)| row(survey, (*kind, value), record))
        .collect()
}

fn row(survey: &Survey, (kind, value): (Kind, &Value), record: Option<&DeploymentRecord>) -> Row {
    let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
    let name = name_in_inputs(kind, value);
    let desired = number("/spec/replicas").or_else(|| number("/status/desiredNumberScheduled"));
    let ready = number("/status/readyReplicas").or_else(|| number("/status/numberReady"));
    Row {
        side: sides::side_of_workload(survey, &name)
            .map_or("", Side::as_str)
            .to_owned(),
        replicas: desired.unwrap_or(1),
        ready: ready.unwrap_or(0),
        autoscaler: survey
            .autoscaler_of(kind, &name.name)
            .map(size_of_autoscaler),
        version: object::metadata_entry(value, "annotations", switchyard_cluster::names::VERSION)
            .map(str::to_owned),
        revision: revision_of(value),
        images: pods::images(kind, value),
        traffic_from: sides::traffic_to(survey, &name, record)
            .map(|entry| entry.decided_by.clone())
            .into_iter()
            .collect(),
        workload: name.to_string(),
    }
}

fn size_of_autoscaler(autoscaler: &Value) -> String {
    let number = |pointer: &str| autoscaler.pointer(pointer).and_then(Value::as_u64);
    format!(
        "{}–{}",
        number("/spec/minReplicas").unwrap_or(1),
        number("/spec/maxReplicas").unwrap_or(0)
    )
}

const HEADINGS: [&str; 7] = [
    "workload",
    "side",
    "ready",
    "autoscaler",
    "version",
    "images",
    "traffic from",
];

impl Row {
    fn cells(&self) -> [String; 7] {
        let or_dash = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".to_owned());
        let list = |items: &[String]| {
            if items.is_empty() {
                "-".to_owned()
            } else {
                items.join(" ")
            }
        };
        [
            self.workload.clone(),
            self.side.clone(),
            format!("{}/{}", self.ready, self.replicas),
            or_dash(self.autoscaler.as_ref()),
            or_dash(self.version.as_ref()),
            list(&self.images),
            list(&self.traffic_from),
        ]
    }
}

/// A table in plain text; columns as wide as their widest cell.
fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no workloads".to_owned();
    }
    let lines: Vec<[String; 7]> = std::iter::once(HEADINGS.map(str::to_owned))
        .chain(rows.iter().map(Row::cells))
        .collect();
    let mut text = String::new();
    for line in &lines {
        let mut shown = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0);
            let _ = write!(shown, "{cell:<width$}  ");
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

fn markdown(rows: &[Row], records: &Records) -> String {
    let mut text = format!(
        "### Status\n\n| {} |\n|{}\n",
        HEADINGS.join(" | "),
        "---|".repeat(7)
    );
    for row in rows {
        let cells = row.cells().map(|text| cell(&text));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    for line in records.lines() {
        let _ = writeln!(text, "\n{}", cell(&line));
    }
    text
}

fn print_json(context: &Context, rows: &[Row], records: &Records) -> Result<(), Failure> {
    let value = json!({
        "workloads": rows,
        "live": records.application.as_ref().and_then(|record| record.live.as_ref()),
        "active": records.deployment.as_ref().map(|record| json!({
            "deployment": record.id,
            "phase": record.phase,
            "actor": record.actor,
        })),
    });
    let text = serde_json::to_string_pretty(&value).map_err(Failure::bug)?;
    // In a runner's log the text comes from the cluster and is not to be read as commands.
    if context.environment.is_actions() {
        context.console.untrusted("status", &text);
        return Ok(());
    }
    writeln!(std::io::stdout().lock(), "{text}").map_err(Failure::bug)
}

fn outputs(context: &Context, rows: &[Row], records: &Records) -> Result<(), Failure> {
    let live = records
        .live()
        .map(|side| side.as_str().to_owned())
        .or_else(|| {
            rows.iter()
                .find(|row| !row.traffic_from.is_empty())
                .map(|row| row.side.clone())
        });
    let slot = live
        .filter(|side| side == "blue" || side == "green")
        .unwrap_or_else(|| "none".to_owned());
    context.outputs.set("slot", slot)?;
    let chain = records
        .chain
        .map_or_else(String::new, |chain| chain.to_string());
    context.outputs.set("chain", chain)?;
    match &records.deployment {
        Some(record) => context.outputs.set("deployment-id", &record.id),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_aligns_its_columns() {
        let row = |workload: &str, side: &str, traffic: &[&str]| Row {
            workload: workload.to_owned(),
            side: side.to_owned(),
            replicas: 3,
            ready: 2,
            autoscaler: None,
            version: Some("v1.1.0".to_owned()),
            revision: None,
            images: vec!["registry.example/web:v1.1.0".to_owned()],
            traffic_from: traffic.iter().map(ToString::to_string).collect(),
        };
        insta::assert_snapshot!(table(&[
            row("deployment/web-blue", "blue", &["traefikservice/shop"]),
            row("deployment/w-green", "green", &[]),
        ]));
        assert_eq!(table(&[]), "no workloads");
    }
}
