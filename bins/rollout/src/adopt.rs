//! `rollout adopt`: an application that is live without slots becomes the old side, and no request
//! notices. Its Services (and disruption budgets) are pinned to the ReplicaSet that runs, so that the
//! pods of the first slot, which carry the same labels, get no live traffic. No pod is touched.

mod pins;
mod verify;

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde_json::json;
use switchyard_cluster::access::Permission;
use switchyard_cluster::{Operation, Verb};
use switchyard_deployment::record_failure;
use switchyard_manifest::{Identity, Kind, ObjectName, names};
use switchyard_record::{
    Chain, Claimed, DeploymentResult, Intent, Kind as DeploymentKind, Opening, Phase, Projection,
    Side, SideState, Verdict,
};
use switchyard_runner::{Context, Failure};

use crate::inputs::AdoptArgs;
use crate::ledger::{Ledger, claim_request};
use crate::opening::Opened;
use crate::plan::ownership;
use crate::subject::{Change, Subject, Write};
use crate::survey::Survey;
use crate::timing::within;

use pins::Pin;

/// The journal's word for what this command does.
const OPERATION: &str = "adopt";

/// Adopts the workloads that the inputs name.
///
/// # Errors
/// Bad input, workloads that are in the middle of a rollout, or a cluster that fails.
pub(crate) async fn run(args: AdoptArgs, context: &mut Context) -> Result<(), Failure> {
    if let Some(other) = args.workloads.iter().find(|name| name.kind != "deployment") {
        return Err(Failure::input(anyhow!(
            "input `workloads` names {other}; only Deployments can be adopted"
        ))
        .hint("their pods are told apart by the label that the Deployment controller puts on them; deploy other kinds into slots beside, and move their front by hand"));
    }
    within(args.timeout, async {
        let opened = Opened::begin(context, &args.deployment, args.timeout, to_adopt).await?;
        let (mut ledger, claimed) = open_ledger(&args, context, &opened).await?;
        let adopting = Adopting {
            args: &args,
            context,
            opened: &opened,
        };
        let result = adopting.with_ledger(&mut ledger, claimed).await;
        ledger.close().await;
        result
    })
    .await
}

fn to_adopt(namespace: &str) -> Vec<Permission> {
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
    use k8s_openapi::api::core::v1::{Pod, Service};
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    vec![
        Permission::to(Operation::on::<Service>(Verb::Patch, namespace)),
        Permission::to(Operation::on::<Deployment>(Verb::Patch, namespace)),
        Permission::to(Operation::on::<ReplicaSet>(Verb::List, namespace)),
        Permission::to(Operation::on::<Pod>(Verb::List, namespace)),
        Permission::to(Operation::on::<EndpointSlice>(Verb::List, namespace)),
    ]
}

async fn open_ledger(
    args: &AdoptArgs,
    context: &Context,
    opened: &Opened,
) -> Result<(Ledger, Option<Claimed>), Failure> {
    if args.plan {
        return Ok((Ledger::without_record(context), None));
    }
    let ledger = Ledger::go_on(context, &args.deployment, &opened.connection).await?;
    // Within a chain (`rollout backup` came before) this is a step of that deployment.
    if ledger.record().is_some() || ledger.session().is_none() {
        return Ok((ledger, None));
    }
    ledger.close().await;
    let opening = Opening {
        version: args.version.clone(),
        ..Opening::new(DeploymentKind::Adopt, Chain::InPlace)
    };
    let request = claim_request(context, &args.deployment, Intent::Deploy(opening), None);
    Ledger::open(context, &args.deployment, &opened.connection, request).await
}

struct Adopting<'a> {
    args: &'a AdoptArgs,
    context: &'a Context,
    opened: &'a Opened,
}

impl Adopting<'_> {
    async fn with_ledger(
        &self,
        ledger: &mut Ledger,
        claimed: Option<Claimed>,
    ) -> Result<(), Failure> {
        let survey = Survey::read(&self.opened.objects).await?;
        let mut hashes: BTreeMap<ObjectName, String> = BTreeMap::new();
        for name in self.args.workloads.iter() {
            hashes.insert(name.clone(), self.hash_of(name, &survey).await?);
        }
        let pins = self.pins(&survey, &hashes)?;
        self.refuse_not_ours(&survey)?;
        let mut wanted = Vec::new();
        for pin in &pins {
            let subject = Subject::of(&self.opened.objects, pin.identity.clone()).await?;
            wanted.extend(subject.permissions(&[Verb::Get, Verb::Patch]));
        }
        self.opened.check(wanted).await?;
        if self.args.plan {
            for pin in &pins {
                let text = format!("{}: would be pinned to {}", pin.identity, pin.hash);
                self.context.console.info(text);
            }
            self.context.console.info("plan only: nothing was changed");
            self.context.outputs.set("changed", pins.len())?;
            return self.context.outputs.set("applied", 0);
        }
        let before = self.endpoints(&pins).await?;
        let mut changed = 0;
        for pin in &pins {
            changed += usize::from(self.pin(ledger, pin).await?);
        }
        for name in self.args.workloads.iter() {
            changed += usize::from(self.mark(ledger, name).await?);
        }
        self.verify(&pins, &before).await?;
        self.record(ledger, &survey, claimed).await?;
        self.context
            .outputs
            .set("applied", pins.len() + hashes.len())?;
        self.context.outputs.set("changed", changed)?;
        self.context.outputs.set("slot", "none")?;
        self.context.outputs.set("previous-slot", Side::Unslotted)?;
        crate::outputs::deployment_id(self.context, ledger)
    }

    fn refuse_not_ours(&self, survey: &Survey) -> Result<(), Failure> {
        let application = self.args.deployment.application.as_deref();
        let mut found = Vec::new();
        for name in self.args.workloads.iter() {
            let identity = Identity {
                api_version: "apps/v1".to_owned(),
                kind: "Deployment".to_owned(),
                namespace: None,
                name: name.name.clone(),
            };
            let live = survey.workload(Kind::Deployment, &name.name);
            found.extend(live.and_then(|live| ownership::check(&identity, live, application)));
        }
        ownership::refuse(&found, "the change to slots")
    }

    async fn pin(&self, ledger: &mut Ledger, pin: &Pin) -> Result<bool, Failure> {
        let subject = Subject::of(&self.opened.objects, pin.identity.clone()).await?;
        let written = subject
            .change(ledger, OPERATION, |live| Ok(pin.change(live)))
            .await?;
        let what = if written.is_some() {
            "pinned"
        } else {
            "is pinned already"
        };
        self.context.console.info(format!(
            "{}: {what} to {}={}",
            pin.identity,
            names::POD_TEMPLATE_HASH,
            pin.hash
        ));
        Ok(written.is_some())
    }

    /// Labels the Deployment as the application's. Its template stays, so no pod restarts.
    async fn mark(&self, ledger: &mut Ledger, name: &ObjectName) -> Result<bool, Failure> {
        let Some(application) = &self.args.deployment.application else {
            return Ok(false);
        };
        let subject = Subject::workload(&self.opened.objects, name).await?;
        let written = subject
            .change(ledger, OPERATION, |live| {
                let label = |value: Option<&str>| Projection::shown(&json!(value));
                let present =
                    switchyard_manifest::object::metadata_entry(live, "labels", names::APPLICATION);
                Ok((present != Some(application)).then(|| Change {
                    write: Write::Merge(
                        json!({"metadata": {"labels": {names::APPLICATION: application}}}),
                    ),
                    before: label(present),
                    after: label(Some(application)),
                }))
            })
            .await?;
        Ok(written.is_some())
    }

    /// The record's live side is then the unslotted one, with its workloads.
    async fn record(
        &self,
        ledger: &mut Ledger,
        survey: &Survey,
        claimed: Option<Claimed>,
    ) -> Result<(), Failure> {
        let Some(record) = ledger.record() else {
            return Ok(());
        };
        let side = SideState {
            version: self.args.version.clone(),
            ..survey.side(
                self.opened.namespace(),
                Side::Unslotted,
                &self.args.workloads,
            )
        };
        let is_own = claimed.is_some() || record.kind == DeploymentKind::Adopt;
        ledger
            .amend(|record| {
                if is_own {
                    record.sides.to = Some(side);
                } else if record.sides.from.is_none() {
                    record.sides.from = Some(side);
                }
            })
            .await?;
        if !is_own {
            return Ok(());
        }
        for phase in [Phase::Applied, Phase::Ready, Phase::Soaking] {
            ledger.advance(phase).await?;
        }
        let Some(session) = ledger.session_mut() else {
            return Ok(());
        };
        let result = DeploymentResult {
            verdict: Verdict::Succeeded,
            cause: None,
            by: switchyard_deployment::actor(&self.context.environment),
        };
        session
            .finish(result)
            .await
            .map(drop)
            .map_err(|error| record_failure(error, None))
    }
}
