//! The objects of a backup, put back as they were. The file's digest is checked first; what a cluster
//! hands out (addresses, node ports), what an autoscaler decides and where traffic goes stays.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::anyhow;
use serde_json::{Value, json};
use switchyard_cluster::Verb;
use switchyard_manifest::diff::{self, Redaction};
use switchyard_manifest::{Kind, Object, clean, names, object, order, parse};
use switchyard_runner::{Context, Failure, Kind as FailureKind};

use super::{Carrying, OPERATION, Restored};
use crate::inputs::BackupDigest;
use crate::ledger::{Ledger, projection};
use crate::opening::Opened;
use crate::plan::ownership;
use crate::subject::{Change, Subject, Write};
use crate::survey::{Survey, name_in_inputs};

/// An object of a backup and what is there now.
struct Item<'a> {
    object: Object,
    subject: Subject<'a>,
    live: Option<Value>,
    is_autoscaled: bool,
}

/// What becomes of routes that a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routes {
    /// They are put back, unless they decide between slots.
    PutBack,
    /// They stay as they are: a canary's switch moves them.
    Left,
}

/// The backup that is put back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// Where it is.
    pub file: &'a Path,
    /// The digest that it must have; the record's when it is not given.
    pub digest: Option<&'a BackupDigest>,
    /// The application that its objects belong to.
    pub application: Option<&'a str>,
    /// What becomes of its routes.
    pub routes: Routes,
}

/// Puts every object of the backup back.
pub(super) async fn restore(
    source: &Source<'_>,
    carrying: Carrying,
    context: &Context,
    opened: &Opened,
    ledger: &mut Ledger,
) -> Result<Restored, Failure> {
    let objects = read(source, opened, ledger)?;
    let mut restored = Restored::default();
    let items = survey(context, source, opened, objects).await?;
    let wanted = items
        .iter()
        .flat_map(|item| item.subject.permissions(item.verbs()));
    opened.check(wanted.collect()).await?;
    for item in &items {
        if let (Some(live), Some(change)) = (&item.live, item.change_of(item.live.as_ref())) {
            item.subject
                .try_out(|live| Ok(item.change_of(Some(live))))
                .await?;
            show(context, item, live, &change);
        }
    }
    for item in items {
        let title = item.object.identity();
        restored.applied += 1;
        if item.object.kind().is_workload() {
            restored
                .workloads
                .push(name_in_inputs(item.object.kind(), item.object.value()));
        }
        if carrying == Carrying::Nothing {
            restored.changed += usize::from(item.change_of(item.live.as_ref()).is_some());
            continue;
        }
        let changed = item.put_back(ledger, opened.namespace()).await?;
        restored.changed += usize::from(changed);
        let what = if changed { "put back" } else { "unchanged" };
        context.console.info(format!("{title}: {what}"));
    }
    Ok(restored)
}

/// Reads the file and refuses one that is not the backup that was made.
fn read(source: &Source<'_>, opened: &Opened, ledger: &Ledger) -> Result<Vec<Object>, Failure> {
    let shown = source.file.display().to_string();
    let bytes = std::fs::read(source.file).map_err(|cause| {
        Failure::input(anyhow::Error::new(cause).context(format!("read backup `{shown}`")))
            .hint("download the artifact of the run that made it, or bring back a revision by `workloads`")
    })?;
    let recorded = ledger
        .record()
        .and_then(|record| record.backup_ref.as_ref())
        .map(|backup| backup.digest.clone());
    let expected = source
        .digest
        .map(|digest| digest.as_str().to_owned())
        .or(recorded)
        .ok_or_else(|| {
            Failure::input(anyhow!("no record tells the digest of backup `{shown}`"))
                .hint("give `digest`, as the step that made the backup printed it")
        })?;
    let found = BackupDigest::of(&bytes);
    if found.as_str() != expected {
        return Err(Failure::message(
            FailureKind::Gate,
            format!(
                "`{shown}` is not the backup that was made: its digest is {}, expected {expected}",
                found.as_str()
            ),
        )
        .hint("somebody changed the file, or it belongs to another deployment"));
    }
    let text = String::from_utf8(bytes).map_err(Failure::input)?;
    let mut objects = parse::parse(&shown, &text).map_err(Failure::input)?;
    for object in &objects {
        let namespace = object.identity().namespace;
        if namespace.is_some_and(|namespace| namespace != opened.namespace()) {
            return Err(Failure::input(anyhow!(
                "the backup is of another namespace than `{}`",
                opened.namespace()
            )));
        }
        if object.kind() == Kind::Secret {
            return Err(Failure::input(anyhow!(
                "the backup holds {}; backups never hold Secrets",
                object.identity()
            )));
        }
    }
    order::sort(&mut objects);
    Ok(objects)
}

async fn survey<'a>(
    context: &Context,
    source: &Source<'_>,
    opened: &'a Opened,
    objects: Vec<Object>,
) -> Result<Vec<Item<'a>>, Failure> {
    let survey = Survey::read(&opened.objects).await?;
    let is_slotted = objects
        .iter()
        .any(|object| object.kind().is_workload() && object.label(names::SLOT).is_some());
    let mut items = Vec::new();
    let mut not_ours = Vec::new();
    for object in objects {
        let kind = object.kind();
        let identity = object.identity();
        let is_front =
            kind.is_route() || (kind == Kind::Service && object.label(names::SLOT).is_none());
        let is_left = kind.is_route() && source.routes == Routes::Left;
        if (is_slotted && is_front) || is_left {
            context.console.info(format!(
                "{identity}: left as it is, as it decides between the sides"
            ));
            continue;
        }
        let subject = Subject::of(&opened.objects, identity.clone()).await?;
        let live = subject.find().await?;
        not_ours.extend(
            live.as_ref()
                .and_then(|live| ownership::check(&identity, live, source.application)),
        );
        items.push(Item {
            is_autoscaled: survey.autoscaler_of(kind, object.name()).is_some(),
            object,
            subject,
            live,
        });
    }
    ownership::refuse(&not_ours, "the version before")?;
    Ok(items)
}

fn show(context: &Context, item: &Item<'_>, live: &Value, change: &Change) {
    let Write::Replace(after) = &change.write else {
        return;
    };
    let title = item.object.identity().to_string();
    let redaction = Redaction::with_salt(rand::random());
    let text = diff::render(
        &title,
        item.object.kind(),
        Some(live),
        Some(after),
        &redaction,
    );
    context.console.untrusted(&title, &text);
}

impl Item<'_> {
    /// What putting it back needs.
    fn verbs(&self) -> &'static [Verb] {
        match self.live {
            // The fence is a patch.
            Some(_) => &[Verb::Get, Verb::Update, Verb::Patch],
            None => &[Verb::Get, Verb::Create],
        }
    }

    /// What has to be written; nothing when it is as it was.
    fn change_of(&self, live: Option<&Value>) -> Option<Change> {
        let kind = self.object.kind();
        let live = live?;
        let after = replacement(kind, live, self.object.value(), self.is_autoscaled);
        diff::differs(live, &after).then(|| Change {
            before: projection(kind, Some(live)),
            after: projection(kind, Some(&after)),
            write: Write::Replace(after),
        })
    }

    async fn put_back(&self, ledger: &mut Ledger, namespace: &str) -> Result<bool, Failure> {
        let kind = self.object.kind();
        if self.live.is_some() {
            let written = self
                .subject
                .change(ledger, OPERATION, |live| Ok(self.change_of(Some(live))))
                .await?;
            if let Some(after) = &written {
                self.verify(after)?;
            }
            return Ok(written.is_some());
        }
        let mut object = self.object.clone();
        object.set_namespace(namespace);
        let after = projection(kind, Some(object.value()));
        self.subject
            .create(ledger, OPERATION, (object.value(), after))
            .await
            .map(|_| true)
    }

    /// What was stored must be what the backup holds.
    fn verify(&self, after: &Value) -> Result<(), Failure> {
        if self.change_of(Some(after)).is_none() {
            return Ok(());
        }
        Err(Failure::message(
            FailureKind::Gate,
            format!(
                "{} was accepted, but reads back differently from the backup",
                self.object.identity()
            ),
        )
        .hint("an admission webhook or another writer changes it: see its managedFields"))
    }
}

/// The live object with everything that its writers wanted replaced by what the backup holds.
fn replacement(kind: Kind, live: &Value, backup: &Value, is_autoscaled: bool) -> Value {
    let mut after = live.clone();
    let (Some(target), Some(source)) = (after.as_object_mut(), backup.as_object()) else {
        return after;
    };
    let own: BTreeSet<String> = target.keys().chain(source.keys()).cloned().collect();
    for key in own {
        if matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            continue;
        }
        match source.get(&key) {
            Some(value) => target.insert(key, value.clone()),
            None => target.remove(&key),
        };
    }
    restore_metadata(&mut after, live, backup);
    if kind == Kind::Service {
        keep_addresses(&mut after, live);
    }
    let replicas = live.pointer("/spec/replicas");
    if is_autoscaled
        && kind.has_replicas()
        && let Some(replicas) = replicas
    {
        after["spec"]["replicas"] = replicas.clone();
    }
    after
}

fn restore_metadata(after: &mut Value, live: &Value, backup: &Value) {
    after["metadata"]["labels"] = backup
        .pointer("/metadata/labels")
        .cloned()
        .unwrap_or(Value::Null);
    let mut annotations = backup
        .pointer("/metadata/annotations")
        .cloned()
        .unwrap_or_else(|| json!({}));
    // What controllers and our lease keep is no part of a backup.
    let wanted = clean::intent(live);
    let kept = live
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    for (key, value) in kept.into_iter().flatten() {
        if object::metadata_entry(&wanted, "annotations", key).is_none() {
            annotations[key] = value.clone();
        }
    }
    after["metadata"]["annotations"] = annotations;
}

/// Addresses and node ports were handed out by the cluster and cannot be taken back.
fn keep_addresses(after: &mut Value, live: &Value) {
    for key in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
        if after["spec"].get(key).is_none()
            && let Some(value) = live["spec"].get(key)
        {
            after["spec"][key] = value.clone();
        }
    }
    let live_ports = live
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .cloned();
    let ports = after
        .pointer_mut("/spec/ports")
        .and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        let same = live_ports.iter().flatten().find(|live| {
            live.get("port") == port.get("port") && live.get("protocol") == port.get("protocol")
        });
        if let Some(number) = same.and_then(|live| live.get("nodePort")) {
            port["nodePort"] = number.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_writers_wanted_comes_back_and_what_the_cluster_handed_out_stays() {
        let live = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "uid": "1", "resourceVersion": "7", "labels": {"new": "label"},
                         "annotations": {"switchyard.dev/fence": "4", "added": "later"}},
            "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "selector": {"app": "wrong"},
                     "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]},
            "status": {"loadBalancer": {}}
        });
        let backup = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP"}]}
        });
        assert_eq!(
            replacement(Kind::Service, &live, &backup, false),
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "web", "uid": "1", "resourceVersion": "7", "labels": {"app": "web"},
                             "annotations": {"switchyard.dev/fence": "4"}},
                "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
                         "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]},
                "status": {"loadBalancer": {}}
            })
        );
    }

    #[test]
    fn a_key_that_was_added_to_a_config_map_goes_away() {
        let live = json!({"metadata": {}, "data": {"a": "1"}, "binaryData": {"b": "MQ=="}});
        let backup = json!({"metadata": {}, "data": {"a": "0"}});
        let after = replacement(Kind::ConfigMap, &live, &backup, false);
        assert_eq!(after["data"], json!({"a": "0"}));
        assert!(after.get("binaryData").is_none());
    }

    #[test]
    fn an_autoscaled_workload_keeps_its_present_size() {
        let live = json!({"metadata": {}, "spec": {"replicas": 7}});
        let backup = json!({"metadata": {}, "spec": {"replicas": 3}});
        let size = |is_autoscaled| {
            replacement(Kind::Deployment, &live, &backup, is_autoscaled)["spec"]["replicas"].clone()
        };
        assert_eq!(size(true), 7);
        assert_eq!(size(false), 3);
    }
}
