//! A rolling update: what it will do is stated, then it is applied, watched pod by pod, and taken back at
//! the first bad pod. Owns the order; what a bad pod is decide [`watch`] and the cluster crate.

mod back;
mod shape;
mod start_up;
mod statement;
mod verify;
mod watch;

use serde_json::Value;
use switchyard_cluster::workloads::WorkloadRef;
use switchyard_deployment::cluster_failure;
use switchyard_manifest::{Kind, ObjectName};
use switchyard_record::Phase;
use switchyard_runner::{Failure, Kind as FailureKind};

use super::prepare::{Draft, Plan, Planned};
use super::{Applying, is_sized};
use crate::inputs::RollingArgs;
use crate::ledger::Ledger;
use crate::sides;
use crate::survey::{Survey, revision_of};
use watch::{Course, watch};

/// The first Kubernetes that sleeps before it ends a container, without a feature gate that is off.
const SLEEPS_SINCE: (u32, u32) = (1, 30);

/// The title of annotations.
const TITLE: &str = "rollout";

/// The inputs that decide what is rolled out, for the record: a re-run is made of the same.
pub(super) fn inputs(rolling: &RollingArgs) -> String {
    let shown = |count: Option<crate::inputs::PodCount>| {
        count.map_or_else(String::new, |count| count.to_string())
    };
    let sleep = rolling.pre_stop_sleep.map_or(0, |sleep| sleep.seconds());
    format!(
        "surge={} unavailable={} sleep={sleep}",
        shown(rolling.max_surge),
        shown(rolling.max_unavailable)
    )
}

/// A workload whose pods this update replaces.
struct Rolled {
    name: ObjectName,
    reference: WorkloadRef,
    /// Whether it was there before.
    is_new: bool,
    /// Its identity, and its template as this update left it.
    uid: String,
    template: Value,
}

impl Applying<'_> {
    /// Puts what the inputs ask for into the manifests: the strategy, and the sleep before the end.
    pub(super) async fn shape(
        &self,
        rolling: &RollingArgs,
        drafts: &mut [Draft],
        notes: &mut Vec<String>,
    ) -> Result<(), Failure> {
        if let Some(sleep) = rolling.pre_stop_sleep {
            let version = self
                .connection
                .cluster
                .server_version(self.objects.deadline())
                .await
                .map_err(cluster_failure)?;
            let (major, minor) = SLEEPS_SINCE;
            if !version.is_at_least(major, minor) {
                return Err(Failure::message(
                    FailureKind::Gate,
                    format!(
                        "input `pre-stop-sleep` needs Kubernetes {major}.{minor}, this cluster runs {version}"
                    ),
                )
                .hint("give the containers a preStop hook that runs `sleep` (`lifecycle.preStop.exec`), where their images have it"));
            }
            for draft in drafts.iter_mut() {
                notes.extend(shape::add_sleep(&mut draft.object, sleep.seconds()));
            }
        }
        shape::set_strategies(
            drafts.iter_mut().map(|draft| &mut draft.object),
            (rolling.max_surge, rolling.max_unavailable),
        )?;
        for draft in drafts.iter() {
            refuse_paused(draft)?;
        }
        Ok(())
    }

    /// Says what the update will do, before anything is written.
    pub(super) fn state(
        &self,
        rolling: &RollingArgs,
        plan: &Plan,
        survey: &Survey,
    ) -> Result<(), Failure> {
        refuse_dropped_sleep(rolling, plan)?;
        let budgets = budgets(plan, survey);
        let mut lines = Vec::new();
        for planned in &plan.objects {
            let kind = planned.object.kind();
            if !is_sized(kind) {
                continue;
            }
            let update = statement::Update {
                title: planned.title(),
                kind,
                live: planned.live.as_ref(),
                after: &planned.after,
                budgets: &budgets,
            };
            let statement = statement::of(&update);
            for line in &statement.lines {
                self.context.console.info(line);
            }
            for warning in &statement.warnings {
                self.context.console.warning(TITLE, warning);
            }
            lines.extend(statement.lines);
            lines.extend(
                statement
                    .warnings
                    .into_iter()
                    .map(|text| format!("⚠️ {text}")),
            );
        }
        let items: Vec<String> = lines
            .iter()
            .map(|line| format!("- {}", switchyard_runner::summary::cell(line.trim())))
            .collect();
        let markdown = format!("### Rolling update\n\n{}\n", items.join("\n"));
        self.context.summarize(TITLE, &markdown);
        if self.args.plan {
            self.context.outputs.set("result", "planned")?;
        }
        Ok(())
    }

    /// Watches what was applied until every pod runs the new template, or takes it back.
    pub(super) async fn roll(
        &self,
        rolling: &RollingArgs,
        ledger: &mut Ledger,
        plan: &Plan,
        survey: &Survey,
    ) -> Result<(), Failure> {
        let rolled = self.rolled(ledger, plan, survey)?;
        if rolled.is_empty() {
            self.context.console.info("no pod is replaced");
        } else {
            let names: Vec<WorkloadRef> = rolled.iter().map(|one| one.reference.clone()).collect();
            let target = (&self.connection.cluster, self.objects.deadline());
            match watch(self.context, ledger, target, (names, rolling.ready_within)).await? {
                Course::Done => self.verify(&rolled).await?,
                Course::Bad(bad) => {
                    return Err(self.take_back(rolling, ledger, &rolled, bad).await);
                }
            }
        }
        ledger.advance(Phase::Ready).await?;
        self.context.outputs.set("result", "updated")
    }

    /// The workloads whose pods are replaced by this deployment, also where an earlier attempt wrote them.
    fn rolled(
        &self,
        ledger: &Ledger,
        plan: &Plan,
        survey: &Survey,
    ) -> Result<Vec<Rolled>, Failure> {
        let before = ledger
            .record()
            .and_then(|record| record.sides.from.as_ref());
        let mut rolled = Vec::new();
        for planned in &plan.objects {
            let kind = planned.object.kind();
            let name = planned.object.identity().short();
            let Some(now) = survey.workload(kind, &name.name).filter(|_| is_sized(kind)) else {
                continue;
            };
            let known = before.and_then(|side| {
                let mut workloads = side.workloads.iter();
                workloads.find(|state| {
                    state.workload.name == name.name
                        && state.workload.kind.eq_ignore_ascii_case(&name.kind)
                })
            });
            let is_replaced = replaces_pods(planned)
                || known.is_none_or(|known| known.revision != revision_of(now));
            if !is_replaced {
                continue;
            }
            rolled.push(Rolled {
                reference: sides::reference(&name)?,
                is_new: known.is_none(),
                uid: crate::survey::text(now, "/metadata/uid").unwrap_or_default(),
                template: now.pointer("/spec/template").cloned().unwrap_or_default(),
                name,
            });
        }
        Ok(rolled)
    }
}

fn replaces_pods(planned: &Planned) -> bool {
    let template = |value: &Value| {
        let template = value.pointer("/spec/template").unwrap_or(&Value::Null);
        switchyard_record::Projection::hidden(template)
    };
    planned
        .live
        .as_ref()
        .is_none_or(|live| !template(live).agrees_with(&template(&planned.after)))
}

/// A paused Deployment takes the new template and rolls nothing out.
fn refuse_paused(draft: &Draft) -> Result<(), Failure> {
    let is_paused = |value: &Value| value.pointer("/spec/paused") == Some(&Value::Bool(true));
    let live = draft.live.as_ref();
    if draft.object.kind() != Kind::Deployment
        || !(is_paused(draft.object.value()) || live.is_some_and(is_paused))
    {
        return Ok(());
    }
    let name = draft.object.identity().short();
    Err(Failure::message(
        FailureKind::Gate,
        format!("{name} is paused, so nothing would be rolled out"),
    )
    .hint(format!(
        "see why, then resume it: `kubectl rollout resume {name}`"
    )))
}

/// An API server that does not know the sleep, or has it turned off, drops it without a word.
fn refuse_dropped_sleep(rolling: &RollingArgs, plan: &Plan) -> Result<(), Failure> {
    if rolling.pre_stop_sleep.is_none() {
        return Ok(());
    }
    let dropped = plan.objects.iter().find(|planned| {
        is_sized(planned.object.kind())
            && shape::sleeps(planned.object.value()) != shape::sleeps(&planned.after)
    });
    match dropped {
        None => Ok(()),
        Some(planned) => Err(Failure::message(
            FailureKind::Gate,
            format!(
                "the API server leaves `lifecycle.preStop.sleep` of {} out",
                planned.title()
            ),
        )
        .hint("its feature gate `PodLifecycleSleepAction` is off, or an admission webhook takes it away; leave input `pre-stop-sleep` out")),
    }
}

/// The budgets of the namespace as they will be: those of the manifests before the live ones.
fn budgets(plan: &Plan, survey: &Survey) -> Vec<Value> {
    let planned: Vec<Value> = plan
        .objects
        .iter()
        .filter(|planned| planned.object.kind() == Kind::PodDisruptionBudget)
        .map(|planned| planned.after.clone())
        .collect();
    let name = |value: &Value| crate::plan::traffic::name_of(value).to_owned();
    let live = survey
        .selectors
        .budgets
        .iter()
        .filter(|live| planned.iter().all(|planned| name(planned) != name(live)))
        .cloned()
        .collect::<Vec<_>>();
    planned.into_iter().chain(live).collect()
}
