//! Waiting until endpoints and every proxy show what was written.
//! Refuses to judge what is seen, and to take a time-out for an answer.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use switchyard_cluster::Deadline;
use switchyard_record::{Side, WeightsEntry};

use super::judging::{Seen, judge};
use super::{Engine, Front, Stop};
use crate::evidence::{Level, TargetEvidence, Verification};
use crate::machine::{Aim, Direction};

/// How long the way back waits for proxies to know the old side before it is written anyway.
const UNPREPARED: Duration = Duration::from_secs(15);

impl Engine<'_> {
    /// Waits until endpoints and every proxy show all targets as written.
    pub(crate) async fn confirm(&mut self, aim: Aim) -> Result<(), Stop> {
        if aim == Aim::Prepare && self.own_fronts().all(|front| front.is_unprepared) {
            return Ok(());
        }
        let limit = self.confirm_limit(aim);
        loop {
            let (evidence, is_only_silence) = self.observe(aim).await?;
            let waiting = evidence.iter().find_map(TargetEvidence::pending);
            self.state.evidence = evidence;
            let Some(waiting) = waiting else { break };
            if limit.has_passed() && self.may_go_on_unprepared(aim) {
                self.warn(format!("going back without this confirmation: {waiting}"));
                return Ok(());
            }
            if limit.has_passed() {
                self.unconfirmed(&limit, &waiting, is_only_silence)?;
                break;
            }
            self.progress(format!("waiting: {waiting}"));
            if let Some(share) = aim.share() {
                self.guard(share)?;
            }
            self.tick().await?;
        }
        self.require_proxies()?;
        if aim.share().is_some() {
            self.confirmed().await?;
        }
        Ok(())
    }

    fn confirm_limit(&self, aim: Aim) -> Deadline {
        let is_brief = self.may_go_on_unprepared(aim);
        let wanted = self.settings.wait;
        self.limit(if is_brief {
            wanted.min(UNPREPARED)
        } else {
            wanted
        })
    }

    /// On the way back a proxy that does not confirm what it knows must not keep traffic where it
    /// should not be.
    fn may_go_on_unprepared(&self, aim: Aim) -> bool {
        self.direction == Direction::Back && aim == Aim::Prepare
    }

    /// The time is up. A proxy that says no is a no; one that says nothing proves nothing.
    fn unconfirmed(
        &mut self,
        limit: &Deadline,
        waiting: &str,
        is_only_silence: bool,
    ) -> Result<(), Stop> {
        if !is_only_silence {
            return Err(Stop::gate(
                format!(
                    "not in effect after {}s: {waiting}",
                    limit.allowed().as_secs()
                ),
                Some(
                    "look at the proxy's log; a longer `timeout` helps when its configuration is only slow",
                ),
            ));
        }
        for target in &mut self.state.evidence {
            for replicas in &mut target.proxies {
                if let Verification::Pending { waiting_for } = &replicas.verification {
                    replicas.verification = Verification::unverifiable(waiting_for.clone());
                }
            }
        }
        self.warn(format!("unverifiable: {waiting}"));
        Ok(())
    }

    /// Below the required evidence nothing goes on. The front door is asked for by itself.
    fn require_proxies(&self) -> Result<(), Stop> {
        let reached = self
            .state
            .evidence
            .iter()
            .map(TargetEvidence::level)
            .min()
            .unwrap_or(Level::None);
        let required = self.settings.require.min(Level::DataPlane);
        let is_asked = match self.settings.require {
            Level::None | Level::Endpoints | Level::DataPlane => reached >= required,
            // Probes prove more than the proxies' word, so that is not asked for on top.
            Level::FrontDoor => reached >= Level::Endpoints,
        };
        // The way back is not stopped for want of proof: staying would be worse.
        if is_asked || self.direction == Direction::Back {
            return Ok(());
        }
        let why = self
            .state
            .evidence
            .iter()
            .find(|target| target.level() == reached);
        let why = why
            .map(|target| format!("{}: {}", target.target, target.data_plane()))
            .unwrap_or_default();
        Err(Stop::gate(
            format!(
                "verified is `{reached}`, `require-verified` is `{}`: {why}",
                self.settings.require
            ),
            Some(
                "give `traefik-api`, `envoy-admin`, `nginx-status` or `kube-proxy-metrics` so that the proxies can be asked, or ask for less with `require-verified`",
            ),
        ))
    }

    /// Notes when the share is in effect, and writes it into the record.
    async fn confirmed(&mut self) -> Result<(), Stop> {
        if let (Some(started), None) = (self.state.share_written, self.state.decision_to_evidence) {
            self.state.decision_to_evidence = Some(started.elapsed());
        }
        let at = Timestamp::now();
        for index in self.own() {
            self.fronts[index].awaits_endpoints = false;
            let front = &self.fronts[index];
            let weights = side_shares(front);
            let known = self
                .session
                .record()?
                .weights
                .iter()
                .rev()
                .find(|entry| entry.target == front.reference);
            if known.is_some_and(|known| known.weights == weights) {
                continue;
            }
            let entry = WeightsEntry {
                at,
                target: front.reference.clone(),
                weights,
            };
            self.session.weights(entry).await?;
        }
        let level = self.level();
        self.progress(format!("confirmed: {level}"));
        Ok(())
    }

    /// Looks once at everything. The flag: what still waits is proxies that gave no answer.
    async fn observe(&mut self, aim: Aim) -> Result<(Vec<TargetEvidence>, bool), Stop> {
        for index in self.own() {
            // Also notices at once when somebody else writes the route while we wait.
            self.read_front(index).await?;
        }
        let seen = self.ask_proxies().await;
        let snapshot = self.scene.now();
        let mut evidence = Vec::new();
        let mut is_only_silence = true;
        for front in self.fronts.iter_mut().filter(|front| front.is_to_show(aim)) {
            let (of_target, is_silence) =
                judge(front, aim, &snapshot, &seen, &self.proxies.kube_proxy);
            let is_waiting = of_target.pending().is_some();
            is_only_silence &= !is_waiting || is_silence;
            evidence.push(of_target);
        }
        Ok((evidence, is_only_silence))
    }

    async fn ask_proxies(&self) -> Seen {
        let needs_kube = self.own_fronts().any(Front::is_service);
        let kube = async {
            if needs_kube {
                self.proxies.kube_proxy_samples().await
            } else {
                Vec::new()
            }
        };
        let envoy = async {
            if self.own_fronts().any(Front::is_istio) {
                self.proxies.envoy_states().await
            } else {
                Vec::new()
            }
        };
        let nginx = async {
            if self.own_fronts().any(Front::is_nginx) {
                self.proxies.nginx_backends().await
            } else {
                Vec::new()
            }
        };
        let traefik = self.proxies.traefik_services();
        let (traefik, envoy, nginx, kube) = futures::join!(traefik, envoy, nginx, kube);
        Seen {
            traefik,
            envoy,
            nginx,
            kube,
        }
    }
}

/// Percent by side, for the record.
pub fn side_shares(front: &Front) -> BTreeMap<Side, u8> {
    let provider = front.target.provider.provider();
    let places = provider.shares(&front.routing, &front.roles);
    let smallest = |service: &str| {
        let shares = places
            .values()
            .map(|place| place.get(service).copied().unwrap_or(0.0));
        shares.fold(1.0_f64, f64::min)
    };
    let mut weights = BTreeMap::new();
    for side in [&front.roles.taking, &front.roles.giving] {
        let percent = (smallest(&side.service) * 100.0).round().clamp(0.0, 100.0) as u8;
        if percent > 0 {
            weights.insert(side.side, percent);
        }
    }
    weights
}
