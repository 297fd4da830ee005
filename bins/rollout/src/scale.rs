//! `rollout scale`: the size of a side or of named workloads. Autoscalers are respected; a side that
//! takes traffic is never scaled to nothing.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::Value;
use switchyard_cluster::scale::{ScaleGoal, ScaleWrite, Scaled};
use switchyard_cluster::{Operation, Verb, access::Permission};
use switchyard_manifest::{Identity, ObjectName};
use switchyard_record::{Chain, DeploymentRecord, Phase, Resize, Side};
use switchyard_runner::{Context, Failure, Kind as FailureKind};

use crate::beside::Beside;
use crate::inputs::{Replicas, ScaleArgs, SideChoice, refuse_both};
use crate::ledger::Ledger;
use crate::opening::Opened;
use crate::plan::ownership;
use crate::plan::traffic::name_of;
use crate::sides::{self, Choosing, Chosen};
use crate::subject::Subject;
use crate::survey::Survey;
use crate::timing::within;
use crate::waiting;

/// Scales what the inputs name.
///
/// # Errors
/// Bad input, a side that takes traffic, or a cluster that fails.
pub(crate) async fn run(args: ScaleArgs, context: &mut Context) -> Result<(), Failure> {
    let (has_side, has_workloads) = (args.side.is_some(), !args.workloads.is_empty());
    refuse_both([("side", has_side), ("workloads", has_workloads)])?;
    if !has_side && !has_workloads {
        return Err(
            Failure::message(FailureKind::Input, "nothing is named that could be scaled")
                .hint("give `side` or `workloads`"),
        );
    }
    within(args.timeout, async {
        let opened = Opened::begin(context, &args.deployment, args.timeout, to_scale).await?;
        let mut ledger = Ledger::go_on(context, &args.deployment, &opened.connection).await?;
        let scaling = Scaling {
            args: &args,
            context,
            opened: &opened,
        };
        let result = scaling.with_ledger(&mut ledger).await;
        ledger.close().await;
        result
    })
    .await
}

/// What scaling nearly always needs; the rest is asked for once it is known what is scaled.
fn to_scale(namespace: &str) -> Vec<Permission> {
    use k8s_openapi::api::apps::v1::Deployment;
    vec![Permission::to(Operation::on::<Deployment>(
        Verb::Patch,
        namespace,
    ))]
}

struct Scaling<'a> {
    args: &'a ScaleArgs,
    context: &'a Context,
    opened: &'a Opened,
}

impl Scaling<'_> {
    async fn with_ledger(&self, ledger: &mut Ledger) -> Result<(), Failure> {
        let survey = Survey::read(&self.opened.objects).await?;
        let chosen = sides::choose(
            &Choosing {
                side: self.args.side,
                workloads: &self.args.workloads,
                application: self.args.deployment.application.as_deref(),
                record: ledger.record(),
            },
            &survey,
        )?;
        self.check_permissions(&survey, &chosen).await?;
        self.refuse_not_ours(&survey, &chosen).await?;
        if self.args.replicas == Replicas::Count(0) {
            refuse_live(&chosen, &survey, ledger)?;
        }
        let is_retiring = self.is_retiring(ledger)?;
        if self.args.replicas == Replicas::Count(0) && !is_retiring {
            refuse_beside(&chosen, &survey)?;
        }
        if is_retiring {
            ledger.advance(Phase::Quieting).await?;
        }
        let changed = self.scale_all(ledger, &chosen, &survey).await?;
        if self.args.wait {
            let cluster = self.opened.cluster();
            waiting::rollout(
                self.context,
                ledger,
                (cluster, self.opened.deadline),
                &chosen.workloads,
            )
            .await?;
        }
        if is_retiring {
            ledger.advance(Phase::Retired).await?;
        }
        self.report(ledger, &chosen, changed)
    }

    async fn check_permissions(&self, survey: &Survey, chosen: &Chosen) -> Result<(), Failure> {
        let objects = &self.opened.objects;
        let mut wanted = Vec::new();
        for name in &chosen.workloads {
            let subject = Subject::workload(objects, name).await?;
            wanted.extend(subject.permissions(&[Verb::Get, Verb::Patch]));
            if let Some(autoscaler) = survey.autoscaler_of(sides::kind_of(name), &name.name) {
                let namespace = self.opened.namespace();
                let operation = Operation::on::<HorizontalPodAutoscaler>(Verb::Patch, namespace);
                wanted.push(Permission::to(operation.named(name_of(autoscaler))));
            }
        }
        self.opened.check(wanted).await
    }

    /// A size that a GitOps controller keeps would be back in a moment. The way back is refused nothing:
    /// an old side that is up for a while is better than none.
    async fn refuse_not_ours(&self, survey: &Survey, chosen: &Chosen) -> Result<(), Failure> {
        let is_way_back = self.args.side == Some(SideChoice::Old)
            && matches!(self.args.replicas, Replicas::Count(count) if count > 0);
        if is_way_back || self.args.replicas == Replicas::Keep {
            return Ok(());
        }
        let application = self.args.deployment.application.as_deref();
        let mut found = Vec::new();
        for name in &chosen.workloads {
            let kind = sides::kind_of(name);
            let subject = Subject::workload(&self.opened.objects, name).await?;
            let live = survey.workload(kind, &name.name);
            found.extend(
                live.and_then(|live| ownership::check(subject.identity(), live, application)),
            );
            let autoscaler = survey.autoscaler_of(kind, &name.name);
            found.extend(autoscaler.and_then(|autoscaler| {
                ownership::check(&autoscaler_identity(autoscaler), autoscaler, application)
            }));
        }
        ownership::refuse(&found, "the size")
    }

    /// Whether this retires the old side of a deployment whose new side is live.
    fn is_retiring(&self, ledger: &Ledger) -> Result<bool, Failure> {
        let Some(record) = ledger
            .record()
            .filter(|_| self.args.side == Some(SideChoice::Old))
        else {
            return Ok(false);
        };
        if record.chain == Chain::Canary {
            return match self.args.replicas {
                Replicas::Count(count) if count > 0 => Ok(false),
                Replicas::AsOld => Ok(false),
                Replicas::Count(_) | Replicas::Keep => Err(Failure::message(
                    FailureKind::Gate,
                    "the old side of a canary deployment is the main workload, which is never retired",
                )
                .hint("`rollout retire` deletes the canary once it takes no traffic")),
            };
        }
        if record.phase.has_passed(Phase::Soaking) {
            return Ok(true);
        }
        match self.args.replicas {
            // Bringing the old side up is what a rollback does, at any time.
            Replicas::Count(count) if count > 0 => Ok(false),
            Replicas::AsOld => Ok(false),
            Replicas::Count(_) | Replicas::Keep => Err(Failure::message(
                FailureKind::Gate,
                format!(
                    "the deployment is in phase `{}`: its new side does not take the traffic yet",
                    record.phase
                ),
            )
            .hint("scale the old side down after `traffic-switch switch`")),
        }
    }

    /// What a retired side keeps of a workload: nothing, or the pod that a canary Ingress needs beside it.
    fn least(&self, survey: &Survey, name: &ObjectName) -> i32 {
        let Some(beside) = Beside::of(survey, name) else {
            return 0;
        };
        let text = format!("{name} keeps one pod: {}", beside.describe());
        self.context.console.warning("a pod is kept", text);
        1
    }

    async fn scale_all(
        &self,
        ledger: &mut Ledger,
        chosen: &Chosen,
        survey: &Survey,
    ) -> Result<usize, Failure> {
        if self.args.replicas == Replicas::Keep {
            self.context.console.info("sizes are kept as they are");
            return Ok(0);
        }
        let mut changed = 0;
        for name in &chosen.workloads {
            if name.kind == "daemonset" {
                self.context
                    .console
                    .info(format!("{name}: has one pod per node, so it is left alone"));
                continue;
            }
            let count = match self.args.replicas {
                Replicas::Count(0) => self.least(survey, name),
                Replicas::Count(count) => i32::from(count),
                Replicas::AsOld => old_size(ledger.record(), name)?,
                Replicas::Keep => continue,
            };
            let workload = sides::reference(name)?;
            let order = Resize {
                workload: &workload,
                goal: ScaleGoal::Size(count),
                own_size: None,
                deadline: self.opened.deadline,
            };
            let scaled = ledger.resize(self.opened.cluster(), order).await?;
            changed += usize::from(!scaled.writes.is_empty());
            self.context.console.info(described(name, &scaled));
        }
        Ok(changed)
    }

    fn report(&self, ledger: &Ledger, chosen: &Chosen, changed: usize) -> Result<(), Failure> {
        let outputs = &self.context.outputs;
        let slot = chosen
            .side
            .and_then(Side::slot)
            .map_or("none", |slot| slot.as_str());
        outputs.set("slot", slot)?;
        outputs.set("applied", chosen.workloads.len())?;
        outputs.set("changed", changed)?;
        crate::outputs::deployment_id(self.context, ledger)
    }
}

/// The size that the old side's workload of the same base name was found with.
fn old_size(record: Option<&DeploymentRecord>, name: &ObjectName) -> Result<i32, Failure> {
    let unknown = |text: String| {
        Failure::message(FailureKind::Gate, text).hint("give the number of pods as `replicas`")
    };
    let from = record.and_then(|record| record.sides.from.as_ref());
    let Some(from) = from else {
        return Err(unknown(
            "input `replicas` is `as-old`, and no record tells of an old side".to_owned(),
        ));
    };
    let to = record.and_then(|record| record.sides.to.as_ref());
    let state = from.workloads.iter().find(|state| {
        let of_old = |side: Side, base: &str| side.object_name(base) == state.workload.name;
        let is_old = state.workload.name == name.name;
        let suffix = to.map(|to| format!("-{}", to.side));
        let base = suffix.and_then(|suffix| name.name.strip_suffix(suffix.as_str()));
        is_old || base.is_some_and(|base| of_old(from.side, base))
    });
    state
        .and_then(|state| i32::try_from(state.replicas?).ok())
        .ok_or_else(|| unknown(format!("the record tells no old size for {name}")))
}

/// Refuses to take away the pods that live traffic goes to.
fn refuse_live(chosen: &Chosen, survey: &Survey, ledger: &Ledger) -> Result<(), Failure> {
    let recorded = ledger
        .session()
        .and_then(|session| session.application().live.as_ref())
        .map(|live| live.side);
    for workload in &chosen.workloads {
        let side = sides::side_of_workload(survey, workload);
        let evidence = match sides::traffic_to(survey, workload, ledger.record()) {
            Some(entry) => format!("through {}", entry.decided_by),
            None if recorded.is_some() && recorded == side => "as the record says".to_owned(),
            None => continue,
        };
        return Err(Failure::message(
            FailureKind::Gate,
            format!(
                "{workload} takes live traffic ({evidence}); without pods every request would fail"
            ),
        )
        .hint("move the traffic away first: `traffic-switch switch`"));
    }
    Ok(())
}

/// Refuses to take away the pods that a canary Ingress needs beside it. A side that is retired keeps one.
fn refuse_beside(chosen: &Chosen, survey: &Survey) -> Result<(), Failure> {
    let mut found = chosen.workloads.iter().filter_map(|workload| {
        let beside = Beside::of(survey, workload)?;
        Some(format!(
            "{workload} may not be without pods: {}",
            beside.describe()
        ))
    });
    match found.next() {
        None => Ok(()),
        Some(text) => Err(Failure::message(FailureKind::Gate, text)
            .hint("keep one pod of it (`replicas: 1`), or delete the canary Ingress first")),
    }
}

fn autoscaler_identity(autoscaler: &Value) -> Identity {
    Identity {
        api_version: "autoscaling/v2".to_owned(),
        kind: "HorizontalPodAutoscaler".to_owned(),
        namespace: None,
        name: name_of(autoscaler).to_owned(),
    }
}

fn described(name: &ObjectName, scaled: &Scaled) -> String {
    let writes: Vec<String> = scaled
        .writes
        .iter()
        .map(|write| match write {
            ScaleWrite::Replicas { from, to } => format!("replicas {from} → {to}"),
            ScaleWrite::MinReplicas {
                autoscaler,
                from,
                to,
            } => format!("minReplicas of autoscaler {autoscaler} {from} → {to}"),
        })
        .collect();
    if writes.is_empty() {
        format!("{name}: has {} replicas already", scaled.after.replicas)
    } else {
        format!("{name}: {}", writes.join(", "))
    }
}
