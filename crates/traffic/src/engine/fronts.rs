//! The targets of a switch as they stand in the cluster, with the sides as each sees them.
//! Refuses to write anything.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Service;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;
use switchyard_cluster::endpoints::PortRef;
use switchyard_cluster::names::SLOT;
use switchyard_cluster::{Cluster, Deadline, DynamicKind};
use switchyard_record::{ObjectRef, Side, Slot};
use thiserror::Error;

use super::doubt::Doubt;
use crate::evidence::KubeProxySample;
use crate::machine::Aim;
use crate::provider::istio;
use crate::provider::nginx::check_beside;
use crate::provider::service::overlap_selector;
use crate::provider::{Owned, ProviderKind, Refusal};
use crate::roles::{Backing, Roles, Target};
use crate::routing::Routing;
use crate::scene::{Interest, Scene, SideView};

/// Something that each of the two sides has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidePair<T> {
    /// Of the side that is to get traffic.
    pub taking: T,
    /// Of the side that has it.
    pub giving: T,
}

impl<T> SidePair<T> {
    /// Swaps the two.
    pub fn turn_round(&mut self) {
        std::mem::swap(&mut self.taking, &mut self.giving);
    }
}

/// One target in the cluster.
#[derive(Debug)]
pub struct Front {
    /// As the input names it.
    pub target: Target,
    /// The object.
    pub reference: ObjectRef,
    /// Its uid.
    pub uid: String,
    /// The object as last read.
    pub object: Value,
    /// What we own of it, as it was last read or written.
    pub routing: Routing,
    /// What we own of it, as it was before the deployment.
    pub prior: Routing,
    /// Who takes and who gives.
    pub roles: Roles,
    /// The sides' pods and endpoints.
    pub views: SidePair<SideView>,
    /// Why shares cannot be checked by counting, when that is so.
    pub shares_unverifiable: Option<String>,
    /// Pods that the giving side has had at most; what the taking side is measured by.
    pub baseline: u32,
    /// What kube-proxies said before the last write.
    pub kube_before: BTreeMap<String, KubeProxySample>,
    /// The front Service's servers before the last write.
    pub servers_before: BTreeSet<String>,
    /// Whether Traefik sends to the front Service; found out at the first look.
    pub is_behind_traefik: Option<bool>,
    /// Whether somebody else has written it, so that it is left alone.
    pub is_foreign: bool,
    /// Whether the last preparation was left out because nothing could be lost.
    pub is_unprepared: bool,
    /// Whether the front Service was turned to pods that have not shown in its slices yet: until
    /// then there is nothing that it could have lost.
    pub awaits_endpoints: bool,
    /// Writes of ours whose outcome is not known.
    pub doubts: Vec<Doubt>,
}

impl Front {
    /// Swaps the sides.
    pub fn turn_round(&mut self) {
        self.roles = self.roles.reversed();
        self.views.turn_round();
        self.baseline = 0;
    }

    /// Whether endpoints and proxies have to show this target as it was written for `aim`.
    pub(crate) fn is_to_show(&self, aim: Aim) -> bool {
        let was_left_out = aim == Aim::Prepare && self.is_unprepared;
        !self.is_foreign && !was_left_out
    }

    /// The object's API.
    pub fn kind(&self) -> DynamicKind {
        kind_of(self.target.provider)
    }

    /// The Service whose slices are the side's, is it the front object itself?
    pub fn is_service(&self) -> bool {
        match self.target.provider {
            ProviderKind::Service => true,
            ProviderKind::Traefik
            | ProviderKind::Gateway
            | ProviderKind::Istio
            | ProviderKind::Nginx => false,
        }
    }

    /// Is it a canary Ingress?
    pub(crate) fn is_nginx(&self) -> bool {
        match self.target.provider {
            ProviderKind::Nginx => true,
            ProviderKind::Service
            | ProviderKind::Traefik
            | ProviderKind::Gateway
            | ProviderKind::Istio => false,
        }
    }

    /// Is it the Envoys of a mesh that send its traffic?
    pub(crate) fn is_istio(&self) -> bool {
        match self.target.provider {
            ProviderKind::Istio => true,
            ProviderKind::Service
            | ProviderKind::Traefik
            | ProviderKind::Gateway
            | ProviderKind::Nginx => false,
        }
    }
}

/// Why a target cannot be taken up.
#[derive(Debug, Error)]
pub enum FrontError {
    /// The cluster failed or refused.
    #[error(transparent)]
    Cluster(#[from] switchyard_cluster::Error),
    /// The object cannot be switched.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl FrontError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint(),
            Self::Refused(refusal) => Some(refusal.hint()),
        }
    }
}

/// The object that a target names.
pub fn front_reference(target: &Target, namespace: &str) -> ObjectRef {
    let resource = target.provider.provider().resource();
    ObjectRef::namespaced(
        &resource.api_version,
        &resource.kind,
        namespace,
        &target.name,
    )
}

/// How the cluster serves the objects of a provider; known without asking it.
pub fn kind_of(provider: ProviderKind) -> DynamicKind {
    DynamicKind {
        resource: provider.provider().resource(),
        is_namespaced: true,
        is_scalable: false,
    }
}

/// The roles of two sides on a target. `unslotted` is the selector that pins an adopted side.
pub fn roles_of(
    target: &Target,
    namespace: &str,
    sides: &SidePair<Side>,
    unslotted: &BTreeMap<String, String>,
) -> Roles {
    let backing = |side: Side| Backing {
        side,
        service: target.backend(side),
        selector: match side.slot() {
            Some(slot) => BTreeMap::from([(SLOT.to_owned(), slot.to_string())]),
            None => unslotted.clone(),
        },
    };
    let mut own_services: BTreeSet<String> = Slot::ALL
        .iter()
        .map(|slot| target.backend(Side::Slot(*slot)))
        .chain([Side::Unslotted, Side::Canary].map(|side| target.backend(side)))
        .collect();
    own_services.extend([target.backend(sides.taking), target.backend(sides.giving)]);
    Roles {
        namespace: namespace.to_owned(),
        taking: backing(sides.taking),
        giving: backing(sides.giving),
        own_services: own_services.into_iter().collect(),
        port: target.port,
    }
}

/// Reads all targets. `priors` holds what the record knows of them from before the deployment.
///
/// # Errors
/// An object is missing or cannot be switched.
pub async fn load_fronts(
    cluster: &Cluster,
    targets: &[Target],
    sides: &SidePair<Side>,
    priors: &BTreeMap<ObjectRef, Routing>,
    deadline: Deadline,
) -> Result<Vec<Front>, FrontError> {
    let mut fronts = Vec::new();
    for target in targets {
        let reference = front_reference(target, cluster.namespace());
        let prior = priors.get(&reference);
        fronts.push(load_front(cluster, target, sides, prior, deadline).await?);
    }
    Ok(fronts)
}

async fn load_front(
    cluster: &Cluster,
    target: &Target,
    sides: &SidePair<Side>,
    prior: Option<&Routing>,
    deadline: Deadline,
) -> Result<Front, FrontError> {
    let objects = cluster.dynamic_objects(&kind_of(target.provider));
    let live = objects.get(&target.name, deadline).await?;
    let object = to_value(&live);
    let provider = target.provider.provider();
    let namespace = cluster.namespace();
    let bare = roles_of(target, namespace, sides, &BTreeMap::new());
    let unslotted = prior.map_or_else(
        || {
            provider
                .read(&object, &bare)
                .map(|owned| keys_of(&owned.routing))
        },
        |prior| Ok(keys_of(prior)),
    )?;
    let roles = roles_of(target, namespace, sides, &unslotted);
    let mut owned = provider.read(&object, &roles)?;
    if target.provider == ProviderKind::Nginx {
        let all = objects.list(&ListParams::default(), deadline).await?;
        let beside: Vec<Value> = all.iter().map(to_value).collect();
        owned.shares_unverifiable = check_beside(&object, &beside, &roles)?;
    }
    let subsets = match target.provider {
        ProviderKind::Istio => subsets(cluster, &object, &roles, deadline).await?,
        ProviderKind::Service
        | ProviderKind::Traefik
        | ProviderKind::Gateway
        | ProviderKind::Nginx => None,
    };
    let seeing = Seeing {
        cluster,
        target,
        object: &object,
        owned: &owned,
        subsets: subsets.as_ref(),
        deadline,
    };
    let views = SidePair {
        taking: seeing.view(&roles.taking).await?,
        giving: seeing.view(&roles.giving).await?,
    };
    Ok(Front {
        reference: front_reference(target, namespace),
        uid: live.metadata.uid.clone().unwrap_or_default(),
        prior: prior.cloned().unwrap_or_else(|| owned.routing.clone()),
        routing: owned.routing,
        shares_unverifiable: owned.shares_unverifiable,
        target: target.clone(),
        object,
        roles,
        views,
        baseline: 0,
        kube_before: BTreeMap::new(),
        servers_before: BTreeSet::new(),
        is_behind_traefik: None,
        is_foreign: false,
        is_unprepared: false,
        awaits_endpoints: false,
        doubts: Vec::new(),
    })
}

/// The selector keys that pin a side, for a provider that has a selector.
fn keys_of(routing: &Routing) -> BTreeMap<String, String> {
    match routing {
        Routing::Selector { keys } => keys.clone(),
        Routing::Backends { .. } => BTreeMap::new(),
    }
}

/// The subsets that are the sides of a host.
struct Subsets {
    host: String,
    /// Labels by what the side is called.
    labels: BTreeMap<String, BTreeMap<String, String>>,
}

/// The subsets that are the sides, where a VirtualService sends to some. DestinationRules may be read
/// by those who have any: nobody else is asked for the right.
async fn subsets(
    cluster: &Cluster,
    object: &Value,
    roles: &Roles,
    deadline: Deadline,
) -> Result<Option<Subsets>, FrontError> {
    let Some(host) = istio::subset_host(object, roles)? else {
        return Ok(None);
    };
    let rules = cluster.dynamic_objects(&DynamicKind {
        resource: istio::destination_rules(),
        is_namespaced: true,
        is_scalable: false,
    });
    let rules = rules.list(&ListParams::default(), deadline).await?;
    let rules: Vec<Value> = rules.iter().map(to_value).collect();
    let labels = istio::subset_labels(&host, &rules, roles)?;
    Ok(Some(Subsets { host, labels }))
}

/// What a side's pods and endpoints are found by.
struct Seeing<'load> {
    cluster: &'load Cluster,
    target: &'load Target,
    object: &'load Value,
    owned: &'load Owned,
    subsets: Option<&'load Subsets>,
    deadline: Deadline,
}

impl Seeing<'_> {
    async fn view(&self, side: &Backing) -> Result<SideView, FrontError> {
        match self.target.provider {
            ProviderKind::Service => {
                let mut labels = overlap_selector(self.object)?;
                labels.extend(side.selector.clone());
                Ok(SideView {
                    service: service_of(self.object),
                    labels,
                    ports: Vec::new(),
                })
            }
            ProviderKind::Traefik
            | ProviderKind::Gateway
            | ProviderKind::Istio
            | ProviderKind::Nginx => self.behind_service(side).await,
        }
    }

    /// A side behind a Service of its own, or a part of the pods behind one.
    async fn behind_service(&self, side: &Backing) -> Result<SideView, FrontError> {
        let name = self.subsets.map_or(&side.service, |subsets| &subsets.host);
        let found: Option<Service> = self.cluster.objects().find(name, self.deadline).await?;
        let service = found.unwrap_or_else(|| absent(name));
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone());
        // Without a selector nothing must match, rather than everything.
        let nothing = || BTreeMap::from([(SLOT.to_owned(), String::new())]);
        let mut labels = selector
            .filter(|map| !map.is_empty())
            .unwrap_or_else(nothing);
        let of_subset = self
            .subsets
            .and_then(|subsets| subsets.labels.get(&side.service));
        labels.extend(of_subset.cloned().unwrap_or_default());
        Ok(SideView {
            service,
            labels,
            ports: ports_of(self.owned, self.target, &side.service),
        })
    }
}

/// The ports through which the route sends to a side: its own, else those of the other side.
fn ports_of(owned: &Owned, target: &Target, service: &str) -> Vec<PortRef> {
    if let Some(port) = target.port {
        return vec![PortRef::Number(port)];
    }
    let Routing::Backends { places } = &owned.routing else {
        return Vec::new();
    };
    let mut ports: Vec<PortRef> = Vec::new();
    for place in places.values() {
        let entry = place.get(service).or_else(|| place.values().next());
        let port = entry.and_then(|entry| match &entry.port {
            Value::Number(number) => number
                .as_u64()
                .and_then(|number| u16::try_from(number).ok())
                .map(PortRef::Number),
            Value::String(name) => Some(PortRef::Name(name.clone())),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        });
        ports.extend(port.filter(|port| !ports.contains(port)));
    }
    ports
}

fn service_of(object: &Value) -> Service {
    serde_json::from_value(object.clone()).unwrap_or_default()
}

fn absent(name: &str) -> Service {
    let mut service = Service::default();
    service.metadata.name = Some(name.to_owned());
    service
}

/// An object as plain JSON.
pub(crate) fn to_value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}

/// Begins to follow everything that matters to these targets.
pub fn scene_of(cluster: &Cluster, fronts: &[Front]) -> Scene {
    let mut interest = Interest::default();
    for front in fronts {
        for side in [&front.views.taking, &front.views.giving] {
            interest.services.insert(side.service_name().to_owned());
            interest.pods.push(side.labels.clone());
        }
        if let (true, Ok(overlap)) = (front.is_service(), overlap_selector(&front.object)) {
            interest.pods.push(overlap);
        }
    }
    Scene::follow(cluster, interest)
}
