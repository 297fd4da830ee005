//! A way out that is kept ready while a step watches: the first write of the way back in the moment in which the step
//! says no, by the process that has seen it. A whole way back has to follow, which confirms what was written here, or
//! does what this could not. It refuses to decide whether traffic has to go, and to wait for anything.

use std::time::Duration;

use switchyard_cluster::{Cluster, Deadline};
use switchyard_http::Client;
use switchyard_record::{Phase, Session, Side, WayBack};
use tokio_util::sync::CancellationToken;

use super::resume::{Foreign, trouble_of};
use super::waiting::{has_weights, largest_share};
use super::write::cluster_stop;
use super::{
    Engine, Front, FrontError, Notes, Parts, Settings, SidePair, Stop, first_look, load_fronts,
    priors, scene_of, take_up,
};
use crate::evidence::Level;
use crate::machine::{Aim, Direction, Trouble, TroubleKind};
use crate::proxies::{KubeProxies, Proxies};
use crate::roles::Target;
use crate::scene::Scene;

/// How long the targets may take to be read.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// The targets of a deployment whose sides share the traffic, taken up under the fence and followed.
pub struct WayOut {
    cluster: Cluster,
    sides: SidePair<Side>,
    fronts: Vec<Front>,
    scene: Scene,
}

impl std::fmt::Debug for WayOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WayOut")
            .field("fronts", &self.fronts.len())
            .finish_non_exhaustive()
    }
}

/// Whether there is a way out that is one write of each target.
#[derive(Debug)]
pub enum Prepared {
    /// It is kept ready.
    Ready(WayOut),
    /// One write would not do: a side has all of the traffic, or its main workload may run the new version.
    NotShared,
    /// Somebody else has written these targets.
    Foreign(Vec<Foreign>),
}

/// What asks for it.
pub struct Leaving {
    /// For the record: why.
    pub reason: String,
    /// For the record: who.
    pub by: String,
    /// The client for what asks proxies; nothing here does.
    pub client: Client,
    /// Takes notes.
    pub notes: Notes,
    /// Cancelled when the process is told to end.
    pub cancel: CancellationToken,
}

impl std::fmt::Debug for Leaving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaving")
            .field("reason", &self.reason)
            .field("by", &self.by)
            .finish_non_exhaustive()
    }
}

/// Where the traffic goes now. Written, not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// To the side that had it before the deployment.
    Returned(Side),
    /// To the new side, which can carry it: the one that it goes back to has no endpoint.
    Sheltered(Side),
    /// Where it went: the side that it goes back to has no endpoint, and the new one cannot be written to.
    Kept,
}

impl WayOut {
    /// Takes up the targets of the claimed deployment.
    ///
    /// # Errors
    /// A target cannot be read or brought under the fence, or a newer process has taken over.
    pub async fn prepare(session: &mut Session, cluster: &Cluster) -> Result<Prepared, Trouble> {
        Self::taken_up(session, cluster).await.map_err(trouble_of)
    }

    async fn taken_up(session: &mut Session, cluster: &Cluster) -> Result<Prepared, Stop> {
        let record = session.record()?;
        let (Some(to), Some(from)) = (&record.sides.to, &record.sides.from) else {
            return Ok(Prepared::NotShared);
        };
        let targets: Option<Vec<Target>> = record.targets.iter().map(Target::recorded).collect();
        let Some(targets) = targets.filter(|targets| !targets.is_empty()) else {
            return Ok(Prepared::NotShared);
        };
        if record.way_back() != WayBack::Revert || record.has_promoted() {
            return Ok(Prepared::NotShared);
        }
        let sides = SidePair {
            taking: to.side,
            giving: from.side,
        };
        let known = priors(&record.targets);
        let limit = Deadline::after(READ_LIMIT);
        let fronts = load_fronts(cluster, &targets, &sides, &known, limit).await;
        let mut fronts = fronts.map_err(unread)?;
        if !fronts.iter().all(is_shared) {
            return Ok(Prepared::NotShared);
        }
        let foreign = take_up(session, &mut fronts).await;
        let foreign = foreign.map_err(Stop::Trouble)?;
        if !foreign.is_empty() {
            return Ok(Prepared::Foreign(foreign));
        }
        let scene = scene_of(cluster, &fronts);
        let listed = first_look(&scene).await;
        listed.map_err(|reason| Stop::remote(reason, None))?;
        Ok(Prepared::Ready(Self {
            cluster: cluster.clone(),
            sides,
            fronts,
            scene,
        }))
    }

    /// Sends all of the traffic to the side that had it before.
    ///
    /// # Errors
    /// That side has fewer pods than it was found with, somebody else has written a route meanwhile, or the cluster
    /// or the record cannot be written.
    pub async fn take(self, session: &mut Session, leaving: Leaving) -> Result<Left, Trouble> {
        let proxies = Proxies {
            cluster: self.cluster.clone(),
            client: leaving.client,
            traefik_api: Vec::new(),
            traefik_metrics: Vec::new(),
            envoy_admin: Vec::new(),
            nginx_status: Vec::new(),
            kube_proxy: KubeProxies::Bypassed,
        };
        let settings = Settings {
            min_ready: None,
            hold: Duration::ZERO,
            longest_request: Duration::ZERO,
            require: Level::None,
            wait: Duration::ZERO,
            retires_new_side: false,
            versions: SidePair {
                taking: None,
                giving: None,
            },
            by: leaving.by,
            reason: Some(leaving.reason),
            step: "leave".to_owned(),
        };
        let mut engine = Engine::new(Parts {
            cluster: self.cluster,
            session,
            sides: self.sides,
            fronts: self.fronts,
            scene: self.scene,
            proxies,
            prober: None,
            settings,
            notes: leaving.notes,
            cancel: leaving.cancel,
            overall: None,
        });
        engine.leave().await.map_err(trouble_of)
    }
}

impl Engine<'_> {
    async fn leave(&mut self) -> Result<Left, Stop> {
        self.face(Direction::Back);
        self.interrupted()?;
        if let Err(stop) = self.guard_return() {
            let Stop::Trouble(trouble) = &stop else {
                return Err(stop);
            };
            if trouble.kind != TroubleKind::Deserted {
                return Err(stop);
            }
            self.enter(Phase::Reverting).await?;
            let side = self.sides.giving;
            return Ok(match self.shelter().await? {
                true => Left::Sheltered(side),
                false => Left::Kept,
            });
        }
        let snapshot = self.scene.now();
        for front in self.own_fronts() {
            let view = &front.views.taking;
            let needed = self.found_before(front)?;
            if let Some(problem) = view.routable(&snapshot, needed).problem() {
                let service = view.service_name();
                return Err(Stop::gate(format!("service `{service}`: {problem}"), None));
            }
        }
        // Requests are lost meanwhile: nothing is read again, and the phase is written down with the first write.
        self.state.entering = Some(Phase::Reverting);
        for index in self.own() {
            self.write_as_taken_up(index, Aim::Return).await?;
        }
        // Where nothing had to be written, the phase says all the same where this stands.
        if let Some(phase) = self.state.entering.take() {
            self.enter(phase).await?;
        }
        Ok(Left::Returned(self.sides.taking))
    }
}

/// Whether proxies send requests to both sides, so that either is there for all of them.
fn is_shared(front: &Front) -> bool {
    let has_share = |service: &str| largest_share(front, service) > 0.0;
    has_weights(front)
        && has_share(&front.roles.taking.service)
        && has_share(&front.roles.giving.service)
}

fn unread(error: FrontError) -> Stop {
    let hint = error.hint();
    match error {
        FrontError::Cluster(error) => cluster_stop(&error),
        FrontError::Refused(refusal) => Stop::gate(refusal.to_string(), hint.as_deref()),
    }
}
