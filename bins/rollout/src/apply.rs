//! `rollout apply`: one manifest into the cluster, in place or into the idle slot. `rollout canary` and
//! `rollout promote` do the same beside, and to, the main workload of a canary deployment, and `rollout roll`
//! watches what it has applied pod by pod.
//!
//! Owns the order: read, decide, check permissions, dry-run everything, write down, write. The
//! decisions are in [`crate::plan`] and in the manifest crate.

mod dry_run;
mod fronts;
mod preflight;
mod prepare;
mod promotion;
mod report;
mod rolling;
mod sizes;
mod survey;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use switchyard_cluster::Deadline;
use switchyard_deployment::{Connection, connect};
use switchyard_manifest::{
    Kind as ObjectKind, Object, ObjectName, Place, Slot, diff, images, pods,
};
use switchyard_record::{
    Chain, Claimed, Intent, Kind, Opening, Phase, Side, SideState, StepInputs, inputs_hash,
};
use switchyard_runner::{Context, DeploymentArgs, Failure, Kind as FailureKind, List};

use crate::inputs::{
    ApplyArgs, CanaryArgs, PromoteArgs, RollArgs, SlotChoice, StageChoice, WrittenArgs,
};
use crate::ledger::{Ledger, claim_request};
use crate::objects::AnyObjects;
use crate::opening;
use crate::plan::slot_choice;
use crate::source::{self, Target};
use crate::survey::Survey;
use crate::timing::within;

/// Applies the manifests that the inputs name.
///
/// # Errors
/// Bad input, a refusal by what is live, or a cluster that fails; nothing is written before the dry run
/// of all objects has passed.
pub(crate) async fn run(args: ApplyArgs, context: &mut Context) -> Result<(), Failure> {
    if args.slot == SlotChoice::Canary {
        return Err(Failure::input(anyhow!(
            "input `slot` is `canary`, which `apply` cannot make"
        ))
        .hint("use the command `canary`, and `promote` once it takes all of the traffic"));
    }
    apply(args, context).await
}

/// `rollout canary`: the new version as a small copy beside the main workload.
///
/// # Errors
/// As [`run`], and where nothing is live beside which it could be tried.
pub(crate) async fn canary(args: CanaryArgs, context: &mut Context) -> Result<(), Failure> {
    require_record(&args.written.deployment, BESIDE)?;
    let args = ApplyArgs {
        plan: args.plan,
        canary_pods: args.canary_pods,
        slot: SlotChoice::Canary,
        ..ApplyArgs::in_place(args.written, args.timeout)
    };
    apply(args, context).await
}

/// `rollout promote`: the new version onto the main workload, while its canary takes all of the traffic.
///
/// # Errors
/// As [`run`], and where the main workload still takes traffic.
pub(crate) async fn promote(args: PromoteArgs, context: &mut Context) -> Result<(), Failure> {
    require_record(&args.written.deployment, BESIDE)?;
    let args = ApplyArgs {
        slot: SlotChoice::Canary,
        stage: StageChoice::Promotion,
        ..ApplyArgs::in_place(args.written, args.timeout)
    };
    apply(args, context).await
}

/// `rollout roll`: in place, pod by pod, watched, and back to the version before at the first bad pod.
///
/// # Errors
/// As [`run`], and a new pod that is bad.
pub(crate) async fn roll(args: RollArgs, context: &mut Context) -> Result<(), Failure> {
    require_record(
        &args.written.deployment,
        "a rolling update needs a record of what it brings back at a bad pod",
    )?;
    let args = ApplyArgs {
        plan: args.plan,
        rolling: Some(args.rolling),
        ..ApplyArgs::in_place(args.written, args.timeout)
    };
    // The way back has its own time: it may begin when that of the update is over.
    within(2 * args.timeout, Applying::begin(&args, context)).await
}

impl ApplyArgs {
    /// What is written goes where it says, all of it, as a plain `apply` would.
    fn in_place(written: WrittenArgs, timeout: Duration) -> Self {
        Self {
            written,
            timeout,
            plan: false,
            canary_pods: 0,
            rolling: None,
            slot: SlotChoice::None,
            stage: StageChoice::BeforeSwitch,
            front: List::default(),
            after_switch: List::default(),
            per_slot: List::default(),
        }
    }
}

/// Why a canary cannot do without a record: which share it has, only that tells.
const BESIDE: &str = "a canary needs a record of what it stands beside";

fn require_record(deployment: &DeploymentArgs, why: &str) -> Result<(), Failure> {
    if deployment.application.is_some() || deployment.deployment_id.is_some() {
        return Ok(());
    }
    Err(Failure::input(anyhow!(
        "input `application` is required: {why}"
    )))
}

async fn apply(args: ApplyArgs, context: &mut Context) -> Result<(), Failure> {
    within(args.timeout, Applying::begin(&args, context)).await
}

/// What every part of the command needs.
struct Applying<'a> {
    args: &'a ApplyArgs,
    context: &'a Context,
    connection: Connection,
    objects: AnyObjects,
    manifest: Vec<Object>,
}

impl<'a> Applying<'a> {
    async fn begin(args: &'a ApplyArgs, context: &'a Context) -> Result<(), Failure> {
        refuse_contradictions(args)?;
        let connection = connect(&args.written.deployment, &context.environment).await?;
        let target = Target {
            namespace: connection.cluster.namespace(),
            application: args.written.deployment.application.as_deref(),
            time_limit: args.timeout,
        };
        let manifest = source::load(context, &args.written.manifests, &target).await?;
        let deadline = Deadline::after(args.timeout);
        let applying = Self {
            objects: AnyObjects::new(&connection.cluster, deadline),
            args,
            context,
            connection,
            manifest,
        };
        let candidate = applying.first_candidate();
        // What the inputs alone can tell comes before the cluster is asked anything.
        applying.slotted_for(candidate)?;
        opening::require_namespace(&applying.connection.cluster, deadline).await?;
        applying.check_permissions(candidate).await?;
        let (mut ledger, claimed) = applying.open_ledger().await?;
        let result = applying.with_ledger(&mut ledger, claimed.as_ref()).await;
        ledger.close().await;
        result
    }

    /// The place whose objects' permissions are asked for before anything is read.
    fn first_candidate(&self) -> Option<Place> {
        match self.args.slot {
            SlotChoice::None => None,
            SlotChoice::Auto | SlotChoice::Blue => Some(Place::Slot(Slot::Blue)),
            SlotChoice::Green => Some(Place::Slot(Slot::Green)),
            SlotChoice::Canary => Some(Place::Canary),
        }
    }

    async fn open_ledger(&self) -> Result<(Ledger, Option<Claimed>), Failure> {
        // A plan changes nothing, not even the record.
        if self.args.plan {
            return Ok((Ledger::without_record(self.context), None));
        }
        let intent = match self.args.stage {
            StageChoice::BeforeSwitch => Intent::Deploy(self.opening()),
            StageChoice::AfterSwitch | StageChoice::Promotion => Intent::Continue,
        };
        let inputs = StepInputs {
            step: match self.args.rolling {
                Some(_) => "rollout roll".to_owned(),
                None => format!("rollout apply {}", self.args.stage.as_str()),
            },
            hash: self.inputs_hash(),
        };
        let request = claim_request(
            self.context,
            &self.args.written.deployment,
            intent,
            Some(inputs),
        );
        Ledger::open(
            self.context,
            &self.args.written.deployment,
            &self.connection,
            request,
        )
        .await
    }

    fn opening(&self) -> Opening {
        Opening {
            version: self.args.written.version.clone(),
            commit: self.context.environment.workflow_run().sha,
            digests: image_digests(&self.manifest),
            ..Opening::new(Kind::Deploy, chain(self.args.slot))
        }
    }

    /// A hash of what is deployed. Values of secrets take no part: the hash is kept in the record.
    fn inputs_hash(&self) -> String {
        let rolling = self.args.rolling.as_ref().map(rolling::inputs);
        let manifest: Vec<String> = self
            .manifest
            .iter()
            .map(|object| diff::without_secrets(object.kind(), object.value()).to_string())
            .collect();
        let manifest = manifest.join("\n");
        let names = |list: &[ObjectName]| {
            let names: Vec<String> = list.iter().map(ToString::to_string).collect();
            names.join(",")
        };
        let front = names(&self.args.front);
        let after_switch = names(&self.args.after_switch);
        let per_slot = names(&self.args.per_slot);
        let mut inputs = vec![
            ("manifests", manifest.as_str()),
            ("slot", self.args.slot.as_str()),
            ("front", front.as_str()),
            ("after-switch", after_switch.as_str()),
            ("per-slot", per_slot.as_str()),
        ];
        inputs.extend(rolling.as_deref().map(|rolling| ("rolling", rolling)));
        inputs_hash(inputs)
    }

    async fn with_ledger(
        &self,
        ledger: &mut Ledger,
        claimed: Option<&Claimed>,
    ) -> Result<(), Failure> {
        self.refuse_other_chain(ledger)?;
        if let Some(Claimed::Resumed { phase }) = claimed
            && self.is_done_already(*phase)?
        {
            return report::already_done(self.context, ledger, *phase);
        }
        let survey = Survey::read(&self.objects).await?;
        let known = self.known_sides(ledger, &survey).await?;
        let place = slot_choice::choose(self.args.slot, &known).map_err(|refusal| {
            let hint = refusal.hint();
            Failure::gate(refusal).hint(hint)
        })?;
        if place.is_some() && place != self.first_candidate() {
            self.check_permissions(place).await?;
        }
        if self.args.stage == StageChoice::Promotion {
            promotion::refuse_in_traffic(ledger, &survey)?;
        }
        let plan = self.prepare(ledger, place, (&survey, &known)).await?;
        if self.args.stage == StageChoice::Promotion {
            promotion::refuse_gap(&plan, &survey)?;
        }
        report::show(self.context, self.args, &plan)?;
        if let Some(rolling) = &self.args.rolling {
            self.state(rolling, &plan, &survey)?;
        }
        if self.args.plan {
            return report::planned(self.context, ledger, &plan);
        }
        self.fix_sides(ledger, &plan, &survey).await?;
        if self.args.stage == StageChoice::Promotion {
            promotion::begin(ledger).await?;
        }
        let written = self.write(ledger, &plan).await?;
        self.complete(ledger, &plan).await?;
        report::applied(self.context, ledger, &plan, &written)
    }

    /// Whether this run's deployment is past this step. A completed step is a no-op.
    fn is_done_already(&self, phase: Phase) -> Result<bool, Failure> {
        match self.args.stage {
            StageChoice::BeforeSwitch if self.args.rolling.is_some() => {
                Ok(phase.has_passed(Phase::Ready))
            }
            StageChoice::BeforeSwitch => Ok(phase.has_passed(Phase::Applied)),
            StageChoice::Promotion => Ok(phase.has_passed(Phase::Soaking)),
            StageChoice::AfterSwitch if phase.has_passed(Phase::Soaking) => {
                Ok(phase.has_passed(Phase::Succeeded))
            }
            StageChoice::AfterSwitch => Err(Failure::message(
                FailureKind::Gate,
                format!("the deployment is in phase `{phase}`: its new side does not take the traffic yet"),
            )
            .hint("run `rollout apply` with `stage: after-switch` after `traffic-switch switch`")),
        }
    }

    fn refuse_other_chain(&self, ledger: &Ledger) -> Result<(), Failure> {
        let wanted = chain(self.args.slot);
        match ledger.record() {
            Some(record) if record.chain != wanted => Err(Failure::input(anyhow!(
                "this deployment began as `{}`, but input `slot` is `{}`",
                record.chain,
                self.args.slot.as_str()
            ))
            .hint("give `rollout backup` the same `slot` as the step that applies: `canary` for `rollout canary`")),
            Some(_) | None => Ok(()),
        }
    }

    async fn complete(&self, ledger: &mut Ledger, plan: &prepare::Plan) -> Result<(), Failure> {
        match self.args.stage {
            StageChoice::BeforeSwitch => {}
            StageChoice::AfterSwitch => return Ok(()),
            StageChoice::Promotion => return self.promoted(ledger, plan).await,
        }
        let survey = Survey::read(&self.objects).await?;
        let namespace = self.connection.cluster.namespace();
        let to = SideState {
            version: self.args.written.version.clone(),
            ..survey.side(namespace, plan.side(), &plan.workloads())
        };
        ledger
            .amend(|record| {
                record.sides.to = Some(to);
                record.digests = image_digests(&self.manifest);
            })
            .await?;
        ledger.advance(Phase::Applied).await?;
        match &self.args.rolling {
            Some(rolling) => self.roll(rolling, ledger, plan, &survey).await,
            None => Ok(()),
        }
    }
}

fn refuse_contradictions(args: &ApplyArgs) -> Result<(), Failure> {
    if args.slot == SlotChoice::None {
        for (input, list) in [
            ("after-switch", &args.after_switch),
            ("per-slot", &args.per_slot),
        ] {
            if !list.is_empty() {
                return Err(Failure::input(anyhow!(
                    "input `{input}` needs slots, but `slot` is `none`"
                )));
            }
        }
        if args.stage == StageChoice::AfterSwitch {
            return Err(Failure::input(anyhow!(
                "input `stage` is `after-switch`, but `slot` is `none`"
            )));
        }
    }
    Ok(())
}

/// How a deployment with this input goes.
pub(crate) fn chain(slot: SlotChoice) -> Chain {
    match slot {
        SlotChoice::None => Chain::InPlace,
        SlotChoice::Auto | SlotChoice::Blue | SlotChoice::Green => Chain::Slots,
        SlotChoice::Canary => Chain::Canary,
    }
}

/// The digests by which images are named, by the image's name.
fn image_digests(manifest: &[Object]) -> BTreeMap<String, String> {
    manifest
        .iter()
        .flat_map(|object| pods::images(object.kind(), object.value()))
        .filter_map(|image| {
            let (name, _, digest) = images::split_reference(&image);
            Some((name.to_owned(), digest?.to_owned()))
        })
        .collect()
}

/// The side that a place is; nothing is in place.
fn side_of(place: Option<Place>) -> Side {
    match place {
        None => Side::Unslotted,
        Some(Place::Slot(slot)) => Side::Slot(slot),
        Some(Place::Canary) => Side::Canary,
    }
}

/// Whether objects of this kind carry what the record calls a workload of a side.
fn is_sized(kind: ObjectKind) -> bool {
    matches!(
        kind,
        ObjectKind::Deployment | ObjectKind::StatefulSet | ObjectKind::DaemonSet
    )
}
