//! `rollout apply`: one manifest into the cluster, in place or into the idle slot.
//!
//! Owns the order: read, decide, check permissions, dry-run everything, write down, write. The
//! decisions are in [`crate::plan`] and in the manifest crate.

mod dry_run;
mod fronts;
mod preflight;
mod prepare;
mod report;
mod sizes;
mod survey;
mod write;

use std::collections::BTreeMap;

use anyhow::anyhow;
use switchyard_cluster::Deadline;
use switchyard_deployment::{Connection, connect};
use switchyard_manifest::{Kind as ObjectKind, Object, ObjectName, Slot, diff, images, pods};
use switchyard_record::{
    Chain, Claimed, Intent, Kind, Opening, Phase, Side, SideState, StepInputs, inputs_hash,
};
use switchyard_runner::{Context, Failure, Kind as FailureKind};

use crate::inputs::{ApplyArgs, SlotChoice, StageChoice};
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
        let connection = connect(&args.deployment, &context.environment).await?;
        let target = Target {
            namespace: connection.cluster.namespace(),
            application: args.deployment.application.as_deref(),
            time_limit: args.timeout,
        };
        let manifest = source::load(context, &args.manifests, &target).await?;
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

    /// The slot whose objects' permissions are asked for before anything is read.
    fn first_candidate(&self) -> Option<Slot> {
        match self.args.slot {
            SlotChoice::None => None,
            SlotChoice::Auto | SlotChoice::Blue => Some(Slot::Blue),
            SlotChoice::Green => Some(Slot::Green),
        }
    }

    async fn open_ledger(&self) -> Result<(Ledger, Option<Claimed>), Failure> {
        // A plan changes nothing, not even the record.
        if self.args.plan {
            return Ok((Ledger::without_record(self.context), None));
        }
        let intent = match self.args.stage {
            StageChoice::BeforeSwitch => Intent::Deploy(self.opening()),
            StageChoice::AfterSwitch => Intent::Continue,
        };
        let inputs = StepInputs {
            step: format!("rollout apply {}", self.args.stage.as_str()),
            hash: self.inputs_hash(),
        };
        let request = claim_request(self.context, &self.args.deployment, intent, Some(inputs));
        Ledger::open(
            self.context,
            &self.args.deployment,
            &self.connection,
            request,
        )
        .await
    }

    fn opening(&self) -> Opening {
        Opening {
            version: self.args.version.clone(),
            commit: self.context.environment.workflow_run().sha,
            digests: image_digests(&self.manifest),
            ..Opening::new(Kind::Deploy, chain(self.args.slot))
        }
    }

    /// A hash of what is deployed. Values of secrets take no part: the hash is kept in the record.
    fn inputs_hash(&self) -> String {
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
        inputs_hash([
            ("manifests", manifest.as_str()),
            ("slot", self.args.slot.as_str()),
            ("front", front.as_str()),
            ("after-switch", after_switch.as_str()),
            ("per-slot", per_slot.as_str()),
        ])
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
        let slot = slot_choice::choose(self.args.slot, &known).map_err(|refusal| {
            let hint = refusal.hint();
            Failure::gate(refusal).hint(hint)
        })?;
        if slot.is_some() && slot != self.first_candidate() {
            self.check_permissions(slot).await?;
        }
        let plan = self.prepare(ledger, slot, (&survey, &known)).await?;
        report::show(self.context, self.args, &plan)?;
        if self.args.plan {
            return report::planned(self.context, ledger, &plan);
        }
        self.fix_sides(ledger, &plan, &survey).await?;
        let written = self.write(ledger, &plan).await?;
        self.complete(ledger, &plan).await?;
        report::applied(self.context, ledger, &plan, &written)
    }

    /// Whether this run's deployment is past this step. A completed step is a no-op.
    fn is_done_already(&self, phase: Phase) -> Result<bool, Failure> {
        match self.args.stage {
            StageChoice::BeforeSwitch => Ok(phase.has_passed(Phase::Applied)),
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
            .hint("give `rollout backup` the same `slot` as `rollout apply`")),
            Some(_) | None => Ok(()),
        }
    }

    async fn complete(&self, ledger: &mut Ledger, plan: &prepare::Plan) -> Result<(), Failure> {
        if self.args.stage == StageChoice::AfterSwitch {
            return Ok(());
        }
        let survey = Survey::read(&self.objects).await?;
        let namespace = self.connection.cluster.namespace();
        let to = SideState {
            version: self.args.version.clone(),
            ..survey.side(namespace, plan.side(), &plan.workloads())
        };
        ledger
            .amend(|record| {
                record.sides.to = Some(to);
                record.digests = image_digests(&self.manifest);
            })
            .await?;
        ledger.advance(Phase::Applied).await
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

/// The side that a slot is.
fn side_of(slot: Option<Slot>) -> Side {
    slot.map_or(Side::Unslotted, Side::Slot)
}

/// Whether objects of this kind carry what the record calls a workload of a side.
fn is_sized(kind: ObjectKind) -> bool {
    matches!(
        kind,
        ObjectKind::Deployment | ObjectKind::StatefulSet | ObjectKind::DaemonSet
    )
}
