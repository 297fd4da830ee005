//! `rollout adopt`: an application that is live without slots becomes the old side, and no request
//! notices. Its Services (and disruption budgets) are pinned to the ReplicaSet that runs, so that the
//! pods of the first slot, which carry the same labels, get no live traffic. No pod is touched.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;
use serde_json::{Value, json};
use switchyard_cluster::access::Permission;
use switchyard_cluster::{Operation, Verb};
use switchyard_deployment::{cluster_failure, record_failure};
use switchyard_manifest::{Identity, Kind, LabelSelector, ObjectName, names, pods};
use switchyard_record::{
    Chain, Claimed, DeploymentResult, Intent, Kind as DeploymentKind, Opening, Phase, Projection,
    Side, SideState, Verdict,
};
use switchyard_runner::{Context, Failure, Kind as FailureKind};

use crate::inputs::AdoptArgs;
use crate::ledger::{Ledger, claim_request};
use crate::opening::Opened;
use crate::plan::ownership;
use crate::plan::traffic::name_of;
use crate::sides;
use crate::subject::{Change, Subject, Write};
use crate::survey::Survey;
use crate::timing::within;

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
    use k8s_openapi::api::policy::v1::PodDisruptionBudget;
    vec![
        Permission::to(Operation::on::<Service>(Verb::Patch, namespace)),
        Permission::to(Operation::on::<PodDisruptionBudget>(Verb::Patch, namespace)),
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

/// A Service or budget that will be pinned.
struct Pin {
    identity: Identity,
    kind: Selecting,
    hash: String,
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

    /// The hash of the one ReplicaSet whose pods run. In the middle of a rollout there are two.
    async fn hash_of(&self, name: &ObjectName, survey: &Survey) -> Result<String, Failure> {
        let gate = |text: String| Failure::message(FailureKind::Gate, text);
        let live = survey
            .workload(sides::kind_of(name), &name.name)
            .ok_or_else(|| {
                gate(format!(
                    "{name} does not exist in namespace `{}`",
                    self.opened.namespace()
                ))
            })?;
        if switchyard_manifest::object::metadata_entry(live, "labels", names::SLOT).is_some() {
            return Err(gate(format!("{name} stands in a slot already")));
        }
        let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
        let sets = self
            .opened
            .objects
            .list_if_served("apps", "v1", "ReplicaSet")
            .await
            .map_err(cluster_failure)?;
        let with_pods: BTreeSet<String> = sets
            .iter()
            .filter(|set| is_owned_by(set, uid))
            .filter(|set| {
                let count = |pointer: &str| set.pointer(pointer).and_then(Value::as_u64);
                count("/status/replicas").unwrap_or(0) > 0
                    || count("/spec/replicas").unwrap_or(0) > 0
            })
            .filter_map(|set| {
                switchyard_manifest::object::metadata_entry(set, "labels", names::POD_TEMPLATE_HASH)
                    .map(str::to_owned)
            })
            .collect();
        match with_pods.iter().collect::<Vec<_>>().as_slice() {
            [hash] => Ok((*hash).clone()),
            [] => Err(
                gate(format!("{name} has no pods, so there is nothing to adopt"))
                    .hint("deploy into a slot right away: the first slot needs no old side"),
            ),
            _ => Err(gate(format!("{name} is in the middle of a rollout"))
                .hint("wait until it is done: `health-wait rollout`")),
        }
    }

    /// Everything that selects pods of the adopted workloads and is not pinned yet.
    fn pins(
        &self,
        survey: &Survey,
        hashes: &BTreeMap<ObjectName, String>,
    ) -> Result<Vec<Pin>, Failure> {
        let services = survey.selectors.services.iter();
        let services = services.map(|service| (Selecting::Service, service));
        let budgets = survey.selectors.budgets.iter();
        let budgets = budgets.map(|budget| (Selecting::Budget, budget));
        let mut pins = Vec::new();
        for (kind, object) in services.chain(budgets) {
            let Some(selector) = kind.selector(object) else {
                continue;
            };
            if selector.names_label(names::SLOT) {
                continue;
            }
            let selected = selected_hashes(survey, &selector, hashes);
            let identity = kind.identity(name_of(object));
            match selected.as_slice() {
                [] => {}
                [Selected::Adopted(hash)] => pins.push(Pin {
                    identity,
                    kind,
                    hash: hash.clone(),
                }),
                several => {
                    let list: Vec<String> = several.iter().map(Selected::describe).collect();
                    return Err(Failure::message(
                        FailureKind::Gate,
                        format!("{identity} selects pods of several workloads ({}), so it cannot be pinned to one", list.join(", ")),
                    )
                    .hint("give it a selector that tells them apart, or leave that workload out of the adoption"));
                }
            }
        }
        if pins.iter().any(|pin| pin.kind == Selecting::Service) {
            return Ok(pins);
        }
        Err(Failure::message(
            FailureKind::Gate,
            "no Service selects pods of these workloads, so they take no traffic that could be kept",
        )
        .hint("workloads without a Service are declared `after-switch` or `per-slot` at `rollout apply`"))
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
        match ownership::refusal(&found, "the change to slots") {
            Some((text, hint)) => Err(Failure::message(FailureKind::Gate, text).hint(hint)),
            None => Ok(()),
        }
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

    /// UIDs of the pods behind every pinned Service.
    async fn endpoints(&self, pins: &[Pin]) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
        let mut found = BTreeMap::new();
        for pin in pins.iter().filter(|pin| pin.kind == Selecting::Service) {
            let name = &pin.identity.name;
            let slices = self
                .opened
                .cluster()
                .endpoint_slices(name, self.opened.deadline)
                .await
                .map_err(cluster_failure)?;
            let uids = switchyard_cluster::endpoints::addresses(&slices)
                .into_iter()
                .filter_map(|address| address.pod_uid)
                .collect();
            found.insert(name.clone(), uids);
        }
        Ok(found)
    }

    /// Nothing may have been lost: every pinned Service selects exactly the pods that it selected, and
    /// its endpoints have not become fewer.
    async fn verify(
        &self,
        pins: &[Pin],
        before: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<(), Failure> {
        let pods = self
            .opened
            .objects
            .list_if_served("", "v1", "Pod")
            .await
            .map_err(cluster_failure)?;
        let survey = Survey::read(&self.opened.objects).await?;
        let after = self.endpoints(pins).await?;
        for pin in pins.iter().filter(|pin| pin.kind == Selecting::Service) {
            let name = &pin.identity.name;
            let service = survey
                .selectors
                .services
                .iter()
                .find(|service| name_of(service) == name);
            let selector = service.and_then(LabelSelector::of_service);
            let selected: BTreeSet<String> = pods
                .iter()
                .filter(|pod| {
                    let labels = pod.pointer("/metadata/labels").map(pods::text_map);
                    selector
                        .as_ref()
                        .is_some_and(|selector| selector.matches(&labels.unwrap_or_default()))
                })
                .filter_map(|pod| crate::survey::text(pod, "/metadata/uid"))
                .collect();
            let had = before.get(name).cloned().unwrap_or_default();
            let has = after.get(name).cloned().unwrap_or_default();
            let alive: BTreeSet<String> = pods
                .iter()
                .filter_map(|pod| crate::survey::text(pod, "/metadata/uid"))
                .collect();
            let lost: Vec<&String> = had
                .iter()
                .filter(|uid| alive.contains(*uid))
                .filter(|uid| !selected.contains(*uid) || !has.contains(*uid))
                .collect();
            if !lost.is_empty() {
                return Err(Failure::message(
                    FailureKind::Gate,
                    format!(
                        "service/{name} lost {} of its {} endpoints when it was pinned",
                        lost.len(),
                        had.len()
                    ),
                )
                .hint(format!(
                    "take the label `{}` out of its selector again",
                    names::POD_TEMPLATE_HASH
                )));
            }
            self.context.console.info(format!(
                "service/{name}: {} endpoints before, {} after",
                had.len(),
                has.len()
            ));
        }
        Ok(())
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

impl Pin {
    /// Adds the hash to the selector; nothing when it is there. A merge leaves the rest of it alone.
    fn change(&self, live: &Value) -> Option<Change> {
        let selector = live
            .pointer(self.kind.pointer())
            .cloned()
            .unwrap_or(json!({}));
        if selector
            .get(names::POD_TEMPLATE_HASH)
            .and_then(Value::as_str)
            == Some(&self.hash)
        {
            return None;
        }
        let mut pinned = selector.clone();
        pinned[names::POD_TEMPLATE_HASH] = json!(self.hash);
        let fields = match self.kind {
            Selecting::Service => json!({"spec": {"selector": pinned}}),
            Selecting::Budget => json!({"spec": {"selector": {"matchLabels": pinned}}}),
        };
        Some(Change {
            write: Write::Merge(fields),
            before: Projection::shown(&selector),
            after: Projection::shown(&pinned),
        })
    }
}

/// A workload whose pods something selects.
enum Selected {
    /// One that is adopted, by its hash.
    Adopted(String),
    /// Another one.
    Other(String),
}

impl Selected {
    fn describe(&self) -> String {
        match self {
            Self::Adopted(hash) => format!("ReplicaSet {hash}"),
            Self::Other(name) => name.clone(),
        }
    }
}

/// The workloads that a selector reaches: nothing when none of them is adopted.
fn selected_hashes(
    survey: &Survey,
    selector: &LabelSelector,
    hashes: &BTreeMap<ObjectName, String>,
) -> Vec<Selected> {
    let selector = selector.without(names::POD_TEMPLATE_HASH);
    let selected: Vec<Selected> = survey
        .selectors
        .workloads
        .iter()
        .filter(|(kind, value)| selector.matches(&pods::labels(*kind, value)))
        .map(|(kind, value)| crate::survey::name_in_inputs(*kind, value))
        .map(|name| match hashes.get(&name) {
            Some(hash) => Selected::Adopted(hash.clone()),
            None => Selected::Other(name.to_string()),
        })
        .collect();
    let has_adopted = selected
        .iter()
        .any(|selected| matches!(selected, Selected::Adopted(_)));
    if has_adopted { selected } else { Vec::new() }
}

/// What selects pods and can be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selecting {
    Service,
    Budget,
}

impl Selecting {
    fn selector(self, object: &Value) -> Option<LabelSelector> {
        match self {
            Self::Service => LabelSelector::of_service(object),
            Self::Budget => object
                .pointer("/spec/selector")
                .and_then(LabelSelector::parse),
        }
    }

    const fn pointer(self) -> &'static str {
        match self {
            Self::Service => "/spec/selector",
            Self::Budget => "/spec/selector/matchLabels",
        }
    }

    fn identity(self, name: &str) -> Identity {
        let (api_version, kind) = match self {
            Self::Service => ("v1", "Service"),
            Self::Budget => ("policy/v1", "PodDisruptionBudget"),
        };
        Identity {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: name.to_owned(),
        }
    }
}

fn is_owned_by(object: &Value, uid: Option<&str>) -> bool {
    let owners = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| {
        owner.get("controller") == Some(&Value::Bool(true))
            && owner.get("uid").and_then(Value::as_str) == uid
    })
}
