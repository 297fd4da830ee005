//! `rollout retire`: a canary that takes no traffic any more, deleted with what was made for it. What it
//! was beside stays as it is.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::Value;
use switchyard_cluster::access::Permission;
use switchyard_cluster::{Operation, Verb};
use switchyard_deployment::cluster_failure;
use switchyard_manifest::{Identity, names, object};
use switchyard_record::{Chain, DeploymentRecord, Phase, Side};
use switchyard_runner::{Context, Failure, Kind as FailureKind, summary::cell};

use crate::canary::{self, Takers, ToUndo};
use crate::inputs::RetireArgs;
use crate::ledger::Ledger;
use crate::opening::Opened;
use crate::plan::traffic::name_of;
use crate::subject::Subject;
use crate::survey::Survey;
use crate::timing::within;

/// The journal's word for what this command does.
const OPERATION: &str = "retire";
/// How often it is looked whether the pods are gone.
const STEP: std::time::Duration = std::time::Duration::from_millis(500);

/// Deletes the canary.
///
/// # Errors
/// Bad input, a canary that takes traffic or is still needed, or a cluster that fails.
pub(crate) async fn run(args: RetireArgs, context: &mut Context) -> Result<(), Failure> {
    within(args.timeout, async {
        let opened = Opened::begin(context, &args.deployment, args.timeout, to_retire).await?;
        let mut ledger = Ledger::go_on(context, &args.deployment, &opened.connection).await?;
        let result = retire(context, &opened, &mut ledger).await;
        ledger.close().await;
        result
    })
    .await
}

fn to_retire(namespace: &str) -> Vec<Permission> {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Service;
    vec![
        Permission::to(Operation::on::<Deployment>(Verb::Delete, namespace)),
        Permission::to(Operation::on::<Service>(Verb::Delete, namespace)),
        Permission::to(Operation::on::<Pod>(Verb::List, namespace)),
    ]
}

async fn retire(context: &Context, opened: &Opened, ledger: &mut Ledger) -> Result<(), Failure> {
    crate::outputs::deployment_id(context, ledger)?;
    let application = ledger
        .id()
        .map(|id| id.application().to_owned())
        .ok_or_else(|| {
            Failure::message(
                FailureKind::Input,
                "input `application` is required: it says whose canary is deleted",
            )
        })?;
    if let Some(record) = ledger.record() {
        refuse_needed(record)?;
    }
    let survey = Survey::read(&opened.objects).await?;
    warn_of_unreadable(context, &survey);
    if let Some(route) = Takers::of_any_canary(&survey).canary.first() {
        return Err(Failure::message(
            FailureKind::Gate,
            format!("the canary still takes traffic ({route})"),
        )
        .hint("move it first: `traffic-switch switch` with `to: stable`, or `traffic-switch rollback`"));
    }
    let parts = parts_of(&survey, opened.namespace(), &application);
    let is_forward = ledger
        .record()
        .is_some_and(|record| record.phase.has_passed(Phase::Soaking));
    if is_forward {
        ledger.advance(Phase::Quieting).await?;
    }
    let mut deleted = Vec::new();
    for identity in parts {
        let subject = Subject::of(&opened.objects, identity).await?;
        opened
            .check(subject.permissions(&[Verb::Get, Verb::Patch, Verb::Delete]))
            .await?;
        let title = subject.identity().to_string();
        ledger.safe_point(&format!("deleting {title}"))?;
        let may = |live: &Value| refuse_not_the_canarys(&title, live, &application);
        if subject.delete(ledger, OPERATION, may).await? {
            context.console.info(format!("{title}: deleted"));
            deleted.push(title);
        }
    }
    wait_for_pods(context, opened, ledger, &application).await?;
    if is_forward {
        ledger.advance(Phase::Retired).await?;
    }
    report(context, &deleted)
}

/// Which step has to come before the canary may go.
fn refuse_needed(record: &DeploymentRecord) -> Result<(), Failure> {
    let refused =
        |text: String, hint: &str| Err(Failure::message(FailureKind::Gate, text).hint(hint));
    if record.chain != Chain::Canary {
        return refused(
            format!("this deployment ({}) has no canary", record.chain),
            "scale an old slot down with `rollout scale` and `side: old`",
        );
    }
    if record.phase.is_backward() && canary::to_undo(record.promotion) == ToUndo::Main {
        return refused(
            "the main workload still runs the new version on a deployment that goes back"
                .to_owned(),
            "run `rollout undo`, then `traffic-switch rollback`: the canary is needed for both",
        );
    }
    if record.phase.has_passed(Phase::Soaking) || record.phase.is_backward() {
        return Ok(());
    }
    refused(
        format!(
            "the deployment is in phase `{}`: its canary is still being tried",
            record.phase
        ),
        "finish it, or take it back with `traffic-switch rescue` or `rollback`",
    )
}

/// Says which routes were not looked at. Those that a switch moves are always readable.
fn warn_of_unreadable(context: &Context, survey: &Survey) {
    if !survey.unreadable.is_empty() {
        context.console.warning(
            "rollout",
            format!(
                "routes of these kinds may not be read, so one of them that somebody pointed at the canary by hand is not seen: {}",
                survey.unreadable.join(", ")
            ),
        );
    }
}

/// What was made for the application's canary: workloads first, then what led to them and what they read.
fn parts_of(survey: &Survey, namespace: &str, application: &str) -> Vec<Identity> {
    let identity = |api_version: &str, kind: &str, name: &str| Identity {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    };
    let is_own = |live: &Value| {
        canary::is_of_canary(live)
            && object::metadata_entry(live, "labels", names::APPLICATION) == Some(application)
    };
    let mut parts = Vec::new();
    let mut configs = BTreeSet::new();
    for (kind, live) in &survey.selectors.workloads {
        if is_own(live) {
            parts.push(identity("apps/v1", &format!("{kind:?}"), name_of(live)));
            configs.extend(canary::own_configs(*kind, live));
        }
    }
    let services = survey.selectors.services.iter().filter(|live| is_own(live));
    parts.extend(services.map(|live| identity("v1", "Service", name_of(live))));
    let suffix = format!("-{}", Side::Canary);
    let configs = configs
        .into_iter()
        .filter(|(_, name)| name.ends_with(&suffix));
    parts.extend(configs.map(|(kind, name)| identity("v1", kind, &name)));
    parts
}

/// A name alone proves nothing: what is deleted says itself that it was made for this canary.
fn refuse_not_the_canarys(title: &str, live: &Value, application: &str) -> Result<(), Failure> {
    let of = object::metadata_entry(live, "labels", names::APPLICATION);
    if canary::is_of_canary(live) && of == Some(application) {
        return Ok(());
    }
    Err(Failure::message(
        FailureKind::Gate,
        format!(
            "{title} carries no `{}: canary` of application `{application}`, so it is left alone",
            names::SLOT
        ),
    )
    .hint("somebody else made it or changed its labels; delete it by hand if it is not needed"))
}

async fn wait_for_pods(
    context: &Context,
    opened: &Opened,
    ledger: &Ledger,
    application: &str,
) -> Result<(), Failure> {
    let labels = format!(
        "{}={},{}={application}",
        names::SLOT,
        Side::Canary,
        names::APPLICATION
    );
    let params = ListParams::default().labels(&labels);
    let mut told = None;
    loop {
        let pods = opened.cluster().objects::<Pod>();
        let left = pods
            .list(&params, opened.deadline)
            .await
            .map_err(cluster_failure)?;
        if left.is_empty() {
            return Ok(());
        }
        if told != Some(left.len()) {
            let text = format!("{} pods of the canary are ending", left.len());
            context.console.progress(text);
            told = Some(left.len());
        }
        ledger.safe_point("the canary's pods being gone")?;
        if opened.deadline.has_passed() {
            return Err(Failure::message(
                FailureKind::Gate,
                format!("{} pods of the canary are still there", left.len()),
            )
            .hint("raise `timeout`, or look at their finalizers and grace periods"));
        }
        tokio::time::sleep(STEP).await;
    }
}

fn report(context: &Context, deleted: &[String]) -> Result<(), Failure> {
    let console = &context.console;
    if deleted.is_empty() {
        console.info("nothing to do: there is no canary");
    } else {
        console.info(format!("the canary is gone ({} objects)", deleted.len()));
        let list: Vec<String> = deleted
            .iter()
            .map(|title| format!("- {}\n", cell(title)))
            .collect();
        context.summarize(
            "rollout",
            &format!("### The canary is gone\n\n{}", list.concat()),
        );
    }
    context.outputs.set("changed", deleted.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_says_itself_that_it_is_the_canarys_is_deleted() {
        let live = |slot: &str, application: &str| {
            json!({"metadata": {"name": "web-canary", "labels": {
                "switchyard.dev/slot": slot, "switchyard.dev/application": application}}})
        };
        let may = |live: &Value| refuse_not_the_canarys("service/web-canary", live, "shop").is_ok();
        assert!(may(&live("canary", "shop")));
        assert!(!may(&live("green", "shop")));
        assert!(!may(&live("canary", "other")));
        assert!(!may(&json!({"metadata": {"name": "web-canary"}})));
    }
}
