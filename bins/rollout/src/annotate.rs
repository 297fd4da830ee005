//! `rollout annotate`: who deployed which version, written where `kubectl describe` and `kubectl rollout
//! history` show it. Never touches the pod template, so no pod restarts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use switchyard_cluster::access::Permission;
use switchyard_cluster::{Operation, Verb};
use switchyard_deployment::actor;
use switchyard_record::Projection;
use switchyard_runner::{Context, Environment, Failure, Kind};

use crate::inputs::{AnnotateArgs, SideChoice, refuse_both};
use crate::ledger::Ledger;
use crate::opening::Opened;
use crate::sides::{self, Choosing};
use crate::subject::{Change, Subject, Write};
use crate::survey::{Survey, revision_of};
use crate::timing::within;

const VERSION: &str = switchyard_cluster::names::VERSION;
const DEPLOYMENT: &str = switchyard_cluster::names::DEPLOYMENT;
const COMMIT: &str = "switchyard.dev/commit";
const RUN_URL: &str = "switchyard.dev/run-url";
const DEPLOYER: &str = "switchyard.dev/deployer";
/// Shown by `kubectl rollout history`; the Deployment controller copies it to the ReplicaSet.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// Writes the annotations onto the workloads that the inputs name.
///
/// # Errors
/// Bad input, workloads that are not there, or a cluster that fails.
pub(crate) async fn run(args: AnnotateArgs, context: &mut Context) -> Result<(), Failure> {
    refuse_both([
        ("side", args.side.is_some()),
        ("workloads", !args.workloads.is_empty()),
    ])?;
    within(args.timeout, async {
        let opened = Opened::begin(context, &args.deployment, args.timeout, to_patch).await?;
        let mut ledger = Ledger::go_on(context, &args.deployment, &opened.connection).await?;
        let result = annotate(&args, context, &opened, &mut ledger).await;
        ledger.close().await;
        result
    })
    .await
}

fn to_patch(namespace: &str) -> Vec<Permission> {
    use k8s_openapi::api::apps::v1::Deployment;
    vec![Permission::to(Operation::on::<Deployment>(
        Verb::Patch,
        namespace,
    ))]
}

async fn annotate(
    args: &AnnotateArgs,
    context: &Context,
    opened: &Opened,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    let survey = Survey::read(&opened.objects).await?;
    let choosing = Choosing {
        side: args
            .side
            .or(args.workloads.is_empty().then_some(SideChoice::New)),
        workloads: &args.workloads,
        application: args.deployment.application.as_deref(),
        record: ledger.record(),
    };
    let chosen = sides::choose(&choosing, &survey)?;
    let annotations = annotations(args, &context.environment, ledger);
    if annotations.is_empty() {
        return Err(
            Failure::message(Kind::Input, "there is nothing to annotate")
                .hint("give `version`, `commit`, `run-url`, `deployer` or `change-cause`"),
        );
    }
    let mut subjects = Vec::new();
    for name in &chosen.workloads {
        subjects.push((name, Subject::workload(&opened.objects, name).await?));
    }
    let wanted = subjects
        .iter()
        .flat_map(|(_, subject)| subject.permissions(&[Verb::Get, Verb::Patch]));
    opened.check(wanted.collect()).await?;
    let mut changed = 0;
    let mut revisions = Vec::new();
    for (name, subject) in subjects {
        let written = subject
            .change(ledger, "annotate", |live| Ok(decide(live, &annotations)))
            .await?;
        let what = if written.is_some() {
            "annotated"
        } else {
            "unchanged"
        };
        context.console.info(format!("{name}: {what}"));
        changed += usize::from(written.is_some());
        let live = match written {
            Some(live) => live,
            None => subject.read().await?,
        };
        revisions.extend(revision_of(&live).map(|revision| (name.to_string(), revision)));
    }
    context.outputs.set("applied", chosen.workloads.len())?;
    context.outputs.set("changed", changed)?;
    crate::outputs::revisions(context, &revisions)?;
    crate::outputs::deployment_id(context, ledger)
}

fn decide(live: &Value, annotations: &BTreeMap<&'static str, String>) -> Option<Change> {
    let present: BTreeMap<&str, Option<&str>> = annotations
        .keys()
        .map(|key| {
            let value = switchyard_manifest::object::metadata_entry(live, "annotations", key);
            (*key, value)
        })
        .collect();
    let is_there = annotations
        .iter()
        .all(|(key, value)| present[key] == Some(value.as_str()));
    (!is_there).then(|| Change {
        write: Write::Merge(json!({"metadata": {"annotations": annotations}})),
        before: Projection::shown(&json!(present)),
        after: Projection::shown(&json!(annotations)),
    })
}

/// The annotations, from the inputs and from the workflow run.
fn annotations(
    args: &AnnotateArgs,
    environment: &Environment,
    ledger: &Ledger,
) -> BTreeMap<&'static str, String> {
    let run = environment.workflow_run();
    let version = args
        .version
        .clone()
        .or_else(|| ledger.record().and_then(|record| record.version.clone()));
    let commit = args.commit.clone().or_else(|| run.sha.clone());
    let run_url = args.run_url.clone().or_else(|| run.url());
    let deployer = args
        .deployer
        .clone()
        .or_else(|| Some(actor(environment)).filter(|actor| actor != "unknown"));
    let change_cause = args
        .change_cause
        .clone()
        .or_else(|| change_cause(&[&version, &commit, &deployer, &run_url]));
    let deployment = ledger.id().map(ToString::to_string);
    [
        (VERSION, version),
        (COMMIT, commit),
        (RUN_URL, run_url),
        (DEPLOYER, deployer),
        (CHANGE_CAUSE, change_cause),
        (DEPLOYMENT, deployment),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect()
}

/// `v1.1.0, commit 0123456, by dana, https://…`
fn change_cause([version, commit, deployer, run_url]: &[&Option<String>; 4]) -> Option<String> {
    let short: Option<String> = commit
        .as_ref()
        .map(|commit| commit.chars().take(12).collect());
    let parts: Vec<String> = [
        version.as_ref().map(ToString::to_string),
        short.map(|commit| format!("commit {commit}")),
        deployer.as_ref().map(|deployer| format!("by {deployer}")),
        run_url.as_ref().map(ToString::to_string),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_cause_says_what_is_known() {
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(
            change_cause(&[
                &text("v1.1.0"),
                &text("0123456789abcdef"),
                &text("dana"),
                &None
            ]),
            text("v1.1.0, commit 0123456789ab, by dana")
        );
        assert_eq!(change_cause(&[&None, &None, &None, &None]), None);
    }

    #[test]
    fn annotations_that_are_there_are_not_written_again() {
        let wanted = BTreeMap::from([(VERSION, "v1".to_owned())]);
        let live = |version: &str| json!({"metadata": {"annotations": {VERSION: version}}});
        assert!(decide(&live("v1"), &wanted).is_none());
        assert!(decide(&live("v0"), &wanted).is_some());
        assert!(decide(&json!({}), &wanted).is_some());
    }
}
