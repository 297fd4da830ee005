//! One mutation of one object that is there: fence, decide on what is there then, write down, write on
//! exactly that version, settle. Refuses to know what is written.

use serde_json::Value;
use switchyard_cluster::access::Permission;
use switchyard_cluster::{DynamicKind, Verb};
use switchyard_deployment::cluster_failure;
use switchyard_manifest::{Identity, ObjectName};
use switchyard_record::{ObjectRef, Outcome, PlannedMutation, Projection, Settlement};
use switchyard_runner::{Failure, Kind as FailureKind};

use crate::ledger::Ledger;
use crate::objects::{AnyObjects, NotApplied, Sending};
use crate::permissions;
use crate::survey::text;

/// How often a write that met a newer object (its status moved) is decided anew.
const ATTEMPTS: usize = 10;

/// How a change is written.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// These fields, merged into the object.
    Merge(Value),
    /// The whole object.
    Replace(Value),
}

/// A change, and what it looks like in the record.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// What is written.
    pub write: Write,
    /// The changed fields as they are now, for the journal.
    pub before: Projection,
    /// The same fields as they will be.
    pub after: Projection,
}

/// An object that is worked on.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    objects: &'a AnyObjects,
    identity: Identity,
    kind: DynamicKind,
}

/// Identity of a workload named in an input.
///
/// # Errors
/// A failure of kind input for kinds that are no workloads.
fn workload_identity(name: &ObjectName) -> Result<Identity, Failure> {
    let (api_version, kind) = match name.kind.as_str() {
        "deployment" => ("apps/v1", "Deployment"),
        "statefulset" => ("apps/v1", "StatefulSet"),
        "daemonset" => ("apps/v1", "DaemonSet"),
        "cronjob" => ("batch/v1", "CronJob"),
        _ => {
            return Err(
                Failure::message(FailureKind::Input, format!("`{name}` is no workload"))
                    .hint("allowed are deployment, statefulset, daemonset and cronjob"),
            );
        }
    };
    Ok(Identity {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: None,
        name: name.name.clone(),
    })
}

impl<'a> Subject<'a> {
    /// A workload that an input names.
    pub(crate) async fn workload(
        objects: &'a AnyObjects,
        name: &ObjectName,
    ) -> Result<Self, Failure> {
        Self::of(objects, workload_identity(name)?).await
    }

    /// Any object.
    pub(crate) async fn of(objects: &'a AnyObjects, identity: Identity) -> Result<Self, Failure> {
        let kind = objects.kind_of(&identity).await.map_err(cluster_failure)?;
        Ok(Self {
            objects,
            identity,
            kind,
        })
    }

    /// Which object it is.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The object as it is now, if it is there.
    pub(crate) async fn find(&self) -> Result<Option<Value>, Failure> {
        self.objects
            .find(&self.kind, &self.identity.name)
            .await
            .map_err(cluster_failure)
    }

    /// The object as it is now.
    pub(crate) async fn read(&self) -> Result<Value, Failure> {
        self.find().await?.ok_or_else(|| {
            Failure::message(
                FailureKind::Gate,
                format!(
                    "{} does not exist in namespace `{}`",
                    self.identity,
                    self.objects.cluster().namespace()
                ),
            )
        })
    }

    /// What doing something with it needs.
    pub(crate) fn permissions(&self, verbs: &[Verb]) -> Vec<Permission> {
        let namespace = self.objects.cluster().namespace();
        permissions::on(&self.kind, (namespace, &self.identity.name), verbs)
    }

    /// Its name in the record.
    pub(crate) fn record_ref(&self) -> ObjectRef {
        ObjectRef {
            api_version: self.identity.api_version.clone(),
            kind: self.identity.kind.clone(),
            namespace: self
                .kind
                .is_namespaced
                .then(|| self.objects.cluster().namespace().to_owned()),
            name: self.identity.name.clone(),
        }
    }

    /// Has the API server try the change that `decide` makes of what is there, without storing it.
    pub(crate) async fn try_out(
        &self,
        decide: impl Fn(&Value) -> Result<Option<Change>, Failure>,
    ) -> Result<(), Failure> {
        let mut attempt = 1;
        loop {
            let Some(live) = self.find().await? else {
                return Ok(());
            };
            let Some(Write::Replace(object)) = decide(&live)?.map(|change| change.write) else {
                return Ok(());
            };
            let tried = self
                .objects
                .replace(&self.kind, &object, Sending::DryRun)
                .await;
            match tried {
                Ok(_) => return Ok(()),
                // Its status moved in between.
                Err(NotApplied::Stale(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(refused(error)),
            }
        }
    }

    /// Creates the object; the journal keeps a hash of it.
    pub(crate) async fn create(
        &self,
        ledger: &mut Ledger,
        operation: &str,
        (object, after): (&Value, Projection),
    ) -> Result<Value, Failure> {
        let ticket = ledger
            .plan(PlannedMutation {
                operation: operation.to_owned(),
                target: self.record_ref(),
                target_uid: None,
                precondition_resource_version: None,
                before: Projection::absent(),
                after,
            })
            .await?;
        match self
            .objects
            .create(&self.kind, object, Sending::Write)
            .await
        {
            Ok(created) => {
                ledger.settle(ticket, Outcome::Applied).await?;
                Ok(created)
            }
            Err(error) => {
                let settlement = Settlement::from(outcome_of(&error));
                ledger.settle(ticket, settlement).await?;
                Err(refused(error))
            }
        }
    }

    /// Decides on what is there and writes it, again where only something else moved in between.
    /// `decide` gives nothing when there is nothing to do. Gives the object after it, when it changed.
    pub(crate) async fn change(
        &self,
        ledger: &mut Ledger,
        operation: &str,
        decide: impl Fn(&Value) -> Result<Option<Change>, Failure>,
    ) -> Result<Option<Value>, Failure> {
        let mut live = match ledger.raise_fence(&self.record_ref()).await? {
            Some(live) => live,
            None => self.read().await?,
        };
        let Some(mut change) = decide(&live)? else {
            return Ok(None);
        };
        let planned = change.clone();
        let ticket = ledger
            .plan(PlannedMutation {
                operation: operation.to_owned(),
                target: self.record_ref(),
                target_uid: text(&live, "/metadata/uid"),
                precondition_resource_version: text(&live, "/metadata/resourceVersion"),
                before: planned.before,
                after: planned.after,
            })
            .await?;
        for _ in 0..ATTEMPTS {
            match self.write(&live, &change.write).await {
                Ok(after) => {
                    ledger.settle(ticket, Outcome::Applied).await?;
                    return Ok(Some(after));
                }
                Err(NotApplied::Stale(_) | NotApplied::Conflicts(_)) => {}
                Err(error @ NotApplied::Other(_)) => {
                    ledger
                        .settle(ticket, Settlement::from(outcome_of(&error)))
                        .await?;
                    return Err(refused(error));
                }
            }
            live = self.read().await?;
            match decide(&live)? {
                Some(next) => change = next,
                None => {
                    ledger.settle(ticket, Outcome::Applied).await?;
                    return Ok(Some(live));
                }
            }
        }
        ledger.settle(ticket, Outcome::NotApplied).await?;
        Err(Failure::message(
            FailureKind::Gate,
            format!("{} is written by somebody else all the time", self.identity),
        ))
    }

    /// Deletes the object, on exactly the object that `may` was asked about, again where only something
    /// else on it moved in between. `false` when it was not there.
    pub(crate) async fn delete(
        &self,
        ledger: &mut Ledger,
        operation: &str,
        may: impl Fn(&Value) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let fenced = ledger.raise_fence(&self.record_ref()).await?;
        let mut found = match fenced {
            Some(live) => Some(live),
            None => self.find().await?,
        };
        let Some(live) = &found else {
            return Ok(false);
        };
        may(live)?;
        let ticket = ledger
            .plan(PlannedMutation {
                operation: operation.to_owned(),
                target: self.record_ref(),
                target_uid: text(live, "/metadata/uid"),
                precondition_resource_version: text(live, "/metadata/resourceVersion"),
                before: Projection::hidden(&Value::String(
                    text(live, "/metadata/uid").unwrap_or_default(),
                )),
                after: Projection::absent(),
            })
            .await?;
        for _ in 0..ATTEMPTS {
            let Some(live) = &found else {
                ledger.settle(ticket, Outcome::Applied).await?;
                return Ok(true);
            };
            match self.objects.delete(&self.kind, live).await {
                Ok(()) => {
                    ledger.settle(ticket, Outcome::Applied).await?;
                    return Ok(true);
                }
                Err(NotApplied::Stale(_) | NotApplied::Conflicts(_)) => {}
                Err(error @ NotApplied::Other(_)) => {
                    ledger
                        .settle(ticket, Settlement::from(outcome_of(&error)))
                        .await?;
                    return Err(refused(error));
                }
            }
            found = self.find().await?;
            if let Some(live) = &found {
                may(live)?;
            }
        }
        ledger.settle(ticket, Outcome::NotApplied).await?;
        Err(Failure::message(
            FailureKind::Gate,
            format!("{} is written by somebody else all the time", self.identity),
        ))
    }

    async fn write(&self, live: &Value, write: &Write) -> Result<Value, NotApplied> {
        match write {
            Write::Merge(fields) => self.objects.merge(&self.kind, live, fields).await,
            Write::Replace(object) => {
                self.objects
                    .replace(&self.kind, object, Sending::Write)
                    .await
            }
        }
    }
}

fn outcome_of(error: &NotApplied) -> Outcome {
    match error {
        NotApplied::Other(error) => Outcome::of_failed(error),
        NotApplied::Stale(_) | NotApplied::Conflicts(_) => Outcome::NotApplied,
    }
}

/// The failure that a refused write leads to.
pub(crate) fn refused(error: NotApplied) -> Failure {
    match error {
        NotApplied::Stale(error) | NotApplied::Other(error) => cluster_failure(error),
        NotApplied::Conflicts(found) => {
            let (text, hint) = crate::plan::conflicts::refusal(&found);
            Failure::message(FailureKind::Gate, text).hint(hint)
        }
    }
}
