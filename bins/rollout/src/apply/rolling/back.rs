//! The way back of a rolling update: the record turns round, what still rolls is paused, the reason is told,
//! and the template before comes back in the same write that ends the pause, so that no new pod comes in
//! between. Killed half-way, `rollout restore` goes on from the record.

use serde_json::{Value, json};
use switchyard_cluster::managers;
use switchyard_cluster::workloads::WorkloadKind;
use switchyard_cluster::{Deadline, FIELD_MANAGER};
use switchyard_health::diagnosis::{Diagnosis, Patience, diagnose};
use switchyard_manifest::ObjectName;
use switchyard_record::{Phase, Projection, SideState};
use switchyard_runner::{Failure, Kind as FailureKind, values};

use super::watch::Bad;
use super::{Applying, Rolled, TITLE};
use crate::inputs::RollingArgs;
use crate::ledger::Ledger;
use crate::opening::Opened;
use crate::restore::{self, PAUSE, Routes};
use crate::subject::{Change, Subject, Write};
use crate::waiting;

/// Lines of a bad pod's log that are shown.
const LOG_LINES: u16 = 30;

impl Applying<'_> {
    /// Takes the update back. Gives the failure that ends the command: the bad pod, and what became of it.
    pub(super) async fn take_back(
        &self,
        rolling: &RollingArgs,
        ledger: &mut Ledger,
        rolled: &[Rolled],
        bad: Box<Bad>,
    ) -> Failure {
        let reason = match &bad.workload {
            Some(workload) => format!("{workload}: {}", bad.reason),
            None => bad.reason.clone(),
        };
        if let Err(failure) = self.context.outputs.set("reason", one_line(&reason)) {
            return failure;
        }
        match self.go_back(rolling, ledger, rolled, (&bad, &reason)).await {
            Ok(standing) => Failure::message(FailureKind::Gate, format!("{reason}; {standing}")),
            Err(failure) => {
                let hints = failure.hints().join("; ");
                let like = Failure::message(
                    failure.kind(),
                    format!("{reason}; and the version before is not back: {failure}"),
                );
                like.maybe_hint((!hints.is_empty()).then_some(hints)).hint(
                    "run `rollout restore` with `only-under-way: true`: it goes on from the record",
                )
            }
        }
    }

    async fn go_back(
        &self,
        rolling: &RollingArgs,
        ledger: &mut Ledger,
        rolled: &[Rolled],
        (bad, reason): (&Bad, &str),
    ) -> Result<String, Failure> {
        let opened = self.opened();
        for one in rolled {
            let subject = Subject::workload(&opened.objects, &one.name).await?;
            one.refuse_foreign(&subject.read().await?)?;
        }
        // From here on every later step and job knows where it goes, whatever becomes of this process.
        ledger.advance_because(Phase::Reverting, reason).await?;
        self.pause(&opened, ledger, rolled, bad).await?;
        self.context.console.error(TITLE, reason);
        for diagnosis in self.look_into(bad).await {
            diagnosis.print(&self.context.console);
        }
        let before = ledger
            .record()
            .and_then(|record| record.sides.from.clone())
            .filter(|before| !before.workloads.is_empty());
        let Some(before) = before else {
            return self.leave_paused(ledger).await;
        };
        let restored = self.bring_back(rolling, ledger, &opened, &before).await?;
        let target = (opened.cluster(), opened.deadline);
        waiting::rollout(self.context, ledger, target, &restored).await?;
        restore::end(ledger, Some(reason)).await?;
        self.context.outputs.set("result", "undone")?;
        crate::outputs::deployment_id(self.context, ledger)?;
        let left: Vec<String> = rolled
            .iter()
            .filter(|one| one.is_new)
            .map(|one| one.name.to_string())
            .collect();
        let left = match left.as_slice() {
            [] => String::new(),
            left => format!(
                ", and {}, which this update made, stays for a person to look at",
                left.join(", ")
            ),
        };
        let standing = format!("the version before is back, with all of its pods ready{left}");
        self.context.summarize(
            TITLE,
            &format!(
                "### Rolled back\n\n{}; {}\n",
                switchyard_runner::summary::cell(reason),
                switchyard_runner::summary::cell(&standing)
            ),
        );
        Ok(standing)
    }

    /// The same namespace, with time of its own for the way back.
    fn opened(&self) -> Opened {
        let deadline = Deadline::after(self.args.timeout);
        Opened {
            objects: crate::objects::AnyObjects::new(&self.connection.cluster, deadline),
            connection: self.connection.clone(),
            deadline,
        }
    }

    /// Pauses every Deployment that may still make new pods, the bad one first.
    async fn pause(
        &self,
        opened: &Opened,
        ledger: &mut Ledger,
        rolled: &[Rolled],
        bad: &Bad,
    ) -> Result<(), Failure> {
        let is_blamed = |one: &&Rolled| Some(&one.reference) == bad.workload.as_ref();
        let others = rolled.iter().filter(|one| !is_blamed(one));
        for one in rolled.iter().filter(is_blamed).chain(others) {
            match one.reference.kind {
                WorkloadKind::Deployment => {}
                // They know no pause; what follows takes them back at once.
                WorkloadKind::StatefulSet | WorkloadKind::DaemonSet | WorkloadKind::Job => continue,
            }
            let subject = Subject::workload(&opened.objects, &one.name).await?;
            let written = subject
                .change(ledger, PAUSE, |live| {
                    one.refuse_foreign(live)?;
                    Ok(pause(live))
                })
                .await?;
            if written.is_some() {
                let name = &one.name;
                self.context
                    .console
                    .info(format!("{name}: paused, no further new pod comes"));
            }
        }
        Ok(())
    }

    async fn look_into(&self, bad: &Bad) -> Vec<Diagnosis> {
        let blamed = bad.workload.as_ref().map(ToString::to_string);
        let cluster = &self.connection.cluster;
        diagnose(
            cluster,
            &bad.wait,
            blamed.as_deref(),
            LOG_LINES,
            Patience::Ample,
        )
        .await
    }

    /// A first deployment has nothing behind it.
    async fn leave_paused(&self, ledger: &mut Ledger) -> Result<String, Failure> {
        let reason = "nothing was live before it, so nothing can be brought back";
        ledger.advance_because(Phase::NeedsPerson, reason).await?;
        self.context.outputs.set("result", "paused")?;
        crate::outputs::deployment_id(self.context, ledger)?;
        Ok(format!("it is paused: {reason}"))
    }

    async fn bring_back(
        &self,
        rolling: &RollingArgs,
        ledger: &mut Ledger,
        opened: &Opened,
        before: &SideState,
    ) -> Result<Vec<ObjectName>, Failure> {
        let deployment = &self.args.written.deployment;
        let restored = match &rolling.backup_file {
            Some(file) => {
                let (source, routes) = ((file.as_path(), None), Routes::PutBack);
                restore::from_backup(source, routes, deployment, self.context, opened, ledger)
                    .await?
            }
            None => {
                let wanted = restore::revisions_of_side(before)?;
                restore::main_to_revisions(wanted, deployment, self.context, opened, ledger).await?
            }
        };
        self.context.console.info(format!(
            "waiting up to {} until the version before is ready",
            values::show_duration(opened.deadline.remaining())
        ));
        Ok(restored.workloads)
    }
}

impl Rolled {
    /// Refuses a workload that is not as this update left it: taking it back would undo somebody else's work.
    pub(super) fn refuse_foreign(&self, live: &Value) -> Result<(), Failure> {
        let part = |pointer: &str| live.pointer(pointer).unwrap_or(&Value::Null);
        let is_ours = part("/metadata/uid").as_str() == Some(&self.uid)
            && Projection::hidden(part("/spec/template"))
                .agrees_with(&Projection::hidden(&self.template));
        if is_ours {
            return Ok(());
        }
        let metadata = serde_json::from_value(part("/metadata").clone()).unwrap_or_default();
        let writer = managers::last_writer(&metadata, FIELD_MANAGER);
        Err(Failure::message(
            FailureKind::Gate,
            format!(
                "{} was changed{} during its update",
                self.name,
                writer.map_or_else(String::new, |writer| format!(" by `{writer}`"))
            ),
        )
        .hint("nothing was taken back: see what is live, then decide (`rollout status`)"))
    }
}

/// Words of a kubelet or a scheduler may have several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn pause(live: &Value) -> Option<Change> {
    let paused = |value: &Value| Projection::shown(&json!({"paused": value}));
    let now = live.pointer("/spec/paused").unwrap_or(&Value::Null);
    (now != &Value::Bool(true)).then(|| Change {
        before: paused(now),
        after: paused(&Value::Bool(true)),
        write: Write::Merge(json!({"spec": {"paused": true}})),
    })
}
