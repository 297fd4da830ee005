//! The previous revision of a workload, as `kubectl rollout undo` finds it: the ReplicaSets of a
//! Deployment, the ControllerRevisions of a StatefulSet or DaemonSet.

use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Map, Value, json};
use switchyard_cluster::access::Permission;
use switchyard_cluster::{Operation, Verb};
use switchyard_deployment::cluster_failure;
use switchyard_manifest::diff::{self, Redaction};
use switchyard_manifest::{Kind, ObjectName, names, object};
use switchyard_record::Projection;
use switchyard_runner::{Context, Failure, Kind as FailureKind};

use super::{Carrying, OPERATION, PAUSE, Restored};
use crate::ledger::Ledger;
use crate::opening::Opened;
use crate::plan::ownership;
use crate::sides;
use crate::subject::{Change, Subject, Write};

/// Annotations that say which revision an object is; they are never taken along from another one.
/// The same list as kubectl's `annotationsToSkip`.
const OF_ONE_REVISION: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];

/// A revision that a workload can go back to.
#[derive(Clone, Debug, PartialEq)]
struct Revision {
    number: u64,
    /// Numbers that it had before it was brought back: the Deployment controller numbers it anew then.
    earlier: Vec<u64>,
    template: Value,
    /// Annotations of the workload at that time; none are known for ControllerRevisions.
    annotations: Map<String, Value>,
}

/// Brings back a revision of every workload: the one that is asked for, else the one before the current.
pub(super) async fn restore(
    (workloads, application): (&[(ObjectName, Option<u64>)], Option<&str>),
    carrying: Carrying,
    context: &Context,
    opened: &Opened,
    ledger: &mut Ledger,
) -> Result<Restored, Failure> {
    let mut subjects = Vec::new();
    for (name, _) in workloads {
        subjects.push((name, Subject::workload(&opened.objects, name).await?));
    }
    check_permissions(opened, &subjects).await?;
    let mut found = Vec::new();
    for (name, subject) in subjects {
        let live = subject.read().await?;
        found.push((name, subject, live));
    }
    refuse_not_ours(application, &found)?;
    let mut planned = Vec::new();
    for ((name, subject, live), (_, asked)) in found.into_iter().zip(workloads) {
        let revisions = revisions_of(opened, name, &live).await?;
        let pause = pause_of(ledger, &subject, &live);
        refuse_paused(name, pause)?;
        let wanted = choose(name, &live, &revisions, *asked)?.clone();
        let kind = sides::kind_of(name);
        subject
            .try_out(|live| Ok(change(kind, live, &wanted)))
            .await?;
        planned.push((name, subject, live, wanted));
    }
    let redaction = Redaction::with_salt(rand::random());
    let mut restored = Restored::default();
    for (name, subject, live, wanted) in planned {
        let kind = sides::kind_of(name);
        restored.applied += 1;
        restored.workloads.push(name.clone());
        restored
            .revisions
            .push((name.to_string(), wanted.number.to_string()));
        let after = replaced(kind, &live, &wanted);
        let text = diff::render(
            &name.to_string(),
            kind,
            Some(&live),
            Some(&after),
            &redaction,
        );
        context.console.untrusted(name, &text);
        if carrying == Carrying::Nothing {
            restored.changed += usize::from(diff::differs(&live, &after));
            continue;
        }
        let written = subject
            .change(ledger, OPERATION, |live| Ok(change(kind, live, &wanted)))
            .await?;
        restored.changed += usize::from(written.is_some());
        context.console.info(format!(
            "{name}: {} revision {}",
            if written.is_some() {
                "back to"
            } else {
                "is at"
            },
            wanted.number
        ));
    }
    Ok(restored)
}

async fn check_permissions(
    opened: &Opened,
    subjects: &[(&ObjectName, Subject<'_>)],
) -> Result<(), Failure> {
    // The fence is a patch.
    let verbs = [Verb::Get, Verb::Update, Verb::Patch];
    let mut wanted: Vec<Permission> = subjects
        .iter()
        .flat_map(|(_, subject)| subject.permissions(&verbs))
        .collect();
    if subjects.iter().any(|(name, _)| name.kind != "deployment") {
        let namespace = opened.namespace();
        let listing = Operation::on::<ControllerRevision>(Verb::List, namespace);
        wanted.push(Permission::to(listing));
    }
    opened.check(wanted).await
}

/// What a GitOps controller keeps would be back at the new revision in a moment.
fn refuse_not_ours(
    application: Option<&str>,
    found: &[(&ObjectName, Subject<'_>, Value)],
) -> Result<(), Failure> {
    let not_ours: Vec<_> = found
        .iter()
        .filter_map(|(_, subject, live)| ownership::check(subject.identity(), live, application))
        .collect();
    ownership::refuse(&not_ours, "the revision before")
}

async fn revisions_of(
    opened: &Opened,
    name: &ObjectName,
    live: &Value,
) -> Result<Vec<Revision>, Failure> {
    let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
    let kind = if name.kind == "deployment" {
        "ReplicaSet"
    } else {
        "ControllerRevision"
    };
    let all = opened
        .objects
        .list_if_served("apps", "v1", kind)
        .await
        .map_err(cluster_failure)?;
    let owned = all.iter().filter(|candidate| {
        let owners = candidate
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array);
        owners.into_iter().flatten().any(|owner| {
            owner.get("uid").and_then(Value::as_str) == uid
                && owner.get("controller") == Some(&Value::Bool(true))
        })
    });
    let read = if kind == "ReplicaSet" {
        of_replica_set
    } else {
        of_controller_revision
    };
    let mut revisions: Vec<Revision> = owned.filter_map(read).collect();
    revisions.sort_by_key(|revision| revision.number);
    Ok(revisions)
}

fn of_replica_set(replica_set: &Value) -> Option<Revision> {
    let number = object::metadata_entry(
        replica_set,
        "annotations",
        "deployment.kubernetes.io/revision",
    )?
    .parse()
    .ok()?;
    let mut template = replica_set.pointer("/spec/template")?.clone();
    if let Some(labels) = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(names::POD_TEMPLATE_HASH);
    }
    let history = object::metadata_entry(
        replica_set,
        "annotations",
        "deployment.kubernetes.io/revision-history",
    );
    Some(Revision {
        number,
        earlier: history
            .unwrap_or_default()
            .split(',')
            .filter_map(|number| number.trim().parse().ok())
            .collect(),
        template,
        annotations: replica_set
            .pointer("/metadata/annotations")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default(),
    })
}

fn of_controller_revision(revision: &Value) -> Option<Revision> {
    let mut template = revision.pointer("/data/spec/template")?.clone();
    if let Some(template) = template.as_object_mut() {
        // The revision is kept as a strategic merge patch that replaces the template.
        template.remove("$patch");
    }
    Some(Revision {
        number: revision.get("revision")?.as_u64()?,
        earlier: Vec::new(),
        template,
        annotations: Map::new(),
    })
}

/// Who has paused a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// Nobody has.
    None,
    /// This deployment, when its update went wrong: it ends with the revision before.
    Ours,
    /// Somebody else.
    Foreign,
}

fn pause_of(ledger: &Ledger, subject: &Subject<'_>, live: &Value) -> Pause {
    if live.pointer("/spec/paused") != Some(&Value::Bool(true)) {
        return Pause::None;
    }
    let target = subject.record_ref();
    let is_ours = ledger.record().is_some_and(|record| {
        record.journal.iter().any(|entry| {
            entry.operation == PAUSE && entry.target == target && entry.may_have_been_applied()
        })
    });
    if is_ours { Pause::Ours } else { Pause::Foreign }
}

fn refuse_paused(name: &ObjectName, pause: Pause) -> Result<(), Failure> {
    match pause {
        Pause::None | Pause::Ours => Ok(()),
        Pause::Foreign => Err(Failure::message(
            FailureKind::Gate,
            format!("{name} is paused, so a restored revision would not be rolled out"),
        )
        .hint(format!("resume it first: `kubectl rollout resume {name}`"))),
    }
}

/// The revision that is asked for, else the one before the current.
fn choose<'a>(
    name: &ObjectName,
    live: &Value,
    revisions: &'a [Revision],
    asked: Option<u64>,
) -> Result<&'a Revision, Failure> {
    let known: Vec<String> = revisions
        .iter()
        .map(|revision| revision.number.to_string())
        .collect();
    let refused = |text: String| {
        Failure::message(FailureKind::Gate, text)
            .hint(format!("the cluster keeps revisions {}", known.join(", ")))
    };
    if let Some(asked) = asked {
        return revisions
            .iter()
            .find(|revision| revision.number == asked || revision.earlier.contains(&asked))
            .ok_or_else(|| refused(format!("{name} has no revision {asked}")));
    }
    let template = live.pointer("/spec/template");
    let current = object::metadata_entry(live, "annotations", "deployment.kubernetes.io/revision")
        .and_then(|number| number.parse().ok())
        .or_else(|| {
            let same = revisions
                .iter()
                .rev()
                .find(|revision| Some(&revision.template) == template);
            same.or(revisions.last()).map(|revision| revision.number)
        })
        .unwrap_or(u64::MAX);
    revisions
        .iter()
        .rev()
        .find(|revision| revision.number < current)
        .ok_or_else(|| refused(format!("{name} has no revision before the current one")))
}

fn replaced(kind: Kind, live: &Value, wanted: &Revision) -> Value {
    let mut after = live.clone();
    after["spec"]["template"] = wanted.template.clone();
    // Only our own pause comes this far. Both in one write: no pod of the newer template comes in between.
    if let Some(spec) = after.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("paused");
    }
    if kind == Kind::Deployment
        && let Some(metadata) = after.get_mut("metadata").and_then(Value::as_object_mut)
    {
        // What a Deployment said of itself then (its change cause, its version) comes back with it.
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            for (key, value) in &wanted.annotations {
                if !OF_ONE_REVISION.contains(&key.as_str()) && key != names::FENCE {
                    annotations.insert(key.clone(), value.clone());
                }
            }
        }
    }
    after
}

fn change(kind: Kind, live: &Value, wanted: &Revision) -> Option<Change> {
    let is_paused = live.pointer("/spec/paused") == Some(&Value::Bool(true));
    if live.pointer("/spec/template") == Some(&wanted.template) && !is_paused {
        return None;
    }
    let template =
        |value: &Value| Projection::hidden(value.pointer("/spec/template").unwrap_or(&Value::Null));
    let after = replaced(kind, live, wanted);
    Some(Change {
        before: template(live),
        after: template(&after),
        write: Write::Replace(after),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: u64) -> Revision {
        Revision {
            number,
            earlier: Vec::new(),
            template: json!({"image": number}),
            annotations: Map::new(),
        }
    }

    fn chosen(current: &str, known: &[u64], asked: Option<u64>) -> Result<u64, String> {
        let live =
            json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": current}}});
        let revisions: Vec<Revision> = known.iter().map(|number| revision(*number)).collect();
        let name = "deployment/web".parse().expect("a name");
        choose(&name, &live, &revisions, asked)
            .map(|revision| revision.number)
            .map_err(|failure| format!("{failure} | {}", failure.hints().join(" ")))
    }

    #[test]
    fn the_revision_before_the_current_one_is_the_highest_below_it() {
        assert_eq!(chosen("5", &[1, 3, 5], None), Ok(3));
        // After an undo the old ReplicaSet gets the newest number.
        assert_eq!(chosen("6", &[3, 5, 6], None), Ok(5));
        assert_eq!(chosen("6", &[3, 5, 6], Some(3)), Ok(3));
    }

    #[test]
    fn a_revision_that_was_brought_back_still_answers_to_its_number_of_then() {
        let back = Revision {
            earlier: vec![1, 3],
            ..revision(5)
        };
        let name = "deployment/web".parse().expect("a name");
        let known = [revision(4), back];
        let chosen = choose(&name, &json!({}), &known, Some(3)).map(|revision| revision.number);
        assert_eq!(chosen.ok(), Some(5));
    }

    #[test]
    fn a_revision_that_is_not_kept_is_refused_with_those_that_are() {
        assert_eq!(
            chosen("5", &[5], None),
            Err("deployment/web has no revision before the current one | the cluster keeps revisions 5".to_owned())
        );
        assert_eq!(
            chosen("5", &[4, 5], Some(2)),
            Err("deployment/web has no revision 2 | the cluster keeps revisions 4, 5".to_owned())
        );
    }

    #[test]
    fn a_deployment_that_somebody_paused_is_refused_and_our_own_pause_ends_with_the_old_template() {
        let name = "deployment/web".parse().expect("a name");
        assert!(refuse_paused(&name, Pause::Foreign).is_err());
        assert!(refuse_paused(&name, Pause::Ours).is_ok());
        let live = json!({"metadata": {}, "spec": {"paused": true, "template": {"image": 2}}});
        let change = change(Kind::Deployment, &live, &revision(1)).expect("something changes");
        let Write::Replace(after) = change.write else {
            panic!("the whole object is written");
        };
        assert_eq!(after["spec"], json!({"template": {"image": 1}}));
    }

    #[test]
    fn labels_and_marks_of_one_replica_set_do_not_come_along() {
        let replica_set = json!({
            "metadata": {"annotations": {"deployment.kubernetes.io/revision": "4", "kubernetes.io/change-cause": "v1"}},
            "spec": {"template": {"metadata": {"labels": {"app": "web", "pod-template-hash": "abc"}}}}
        });
        let read = of_replica_set(&replica_set).expect("a revision");
        let live = json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "5", "kubernetes.io/change-cause": "v2"}}, "spec": {}});
        let after = replaced(Kind::Deployment, &live, &read);
        assert_eq!(
            after["spec"]["template"],
            json!({"metadata": {"labels": {"app": "web"}}})
        );
        assert_eq!(
            after["metadata"]["annotations"],
            json!({"deployment.kubernetes.io/revision": "5", "kubernetes.io/change-cause": "v1"})
        );
    }
}
