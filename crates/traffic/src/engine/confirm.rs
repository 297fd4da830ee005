//! Seeing that what was written is in effect: endpoints, every proxy replica, the front door, and
//! the quiet of the side that lost its traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use switchyard_cluster::Deadline;
use switchyard_record::{Side, WeightsEntry};
use tokio::time::Instant;

use super::write::front_servers;
use super::{Engine, Front, Stop};
use crate::evidence::{
    Expectation, KubeProxySample, Level, Replicas, Servers, TargetEvidence, Verification,
    judge_kube_proxy, judge_parents, judge_plain, judge_traefik, plain_services,
};
use crate::machine::{Aim, Direction};
use crate::probe::Counts;
use crate::proxies::KubeProxies;
use crate::quiet::{self, Quiet, Sample};
use crate::routing::Routing;
use crate::scene::Snapshot;
use crate::share::Percent;
use crate::statistic::{ShareVerdict, answers_needed};
use crate::traefik_api::ApiService;

/// Windows of probes in a row that may hold a loss before the front door counts as broken.
const BAD_WINDOWS: u32 = 3;
/// How long requests of the old side may still end beyond the longest one before the wait is
/// given up and reported.
const QUIET_EXTRA: Duration = Duration::from_secs(30);

/// How long the way back waits for proxies to know the old side before it is written anyway.
const UNPREPARED: Duration = Duration::from_secs(15);

/// What all proxies said at one moment.
struct Seen {
    traefik: Vec<(String, Result<Vec<ApiService>, String>)>,
    kube: Vec<(String, Result<KubeProxySample, String>)>,
}

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
                "give `traefik-api` or `kube-proxy-metrics` so that the proxies can be asked, or ask for less with `require-verified`",
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
        for front in self.fronts.iter_mut().filter(|front| !front.is_foreign) {
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
        let (traefik, kube) = futures::join!(self.proxies.traefik_services(), kube);
        Seen { traefik, kube }
    }

    /// Waits until enough probes were answered by the right version, and none lost.
    pub(crate) async fn front_door(&mut self, share: Percent) -> Result<(), Stop> {
        let Some(prober) = self.prober else {
            return self
                .require_front_door(Verification::unverifiable("no `verify-url` was given"));
        };
        let version = self.settings.versions.taking.clone();
        let has_header = prober.plan().version_header.is_some();
        let sticky = self
            .own_fronts()
            .find_map(|front| front.shares_unverifiable.clone());
        let limit = self.limit(self.settings.wait);
        let mut since = Instant::now();
        let mut bad_windows = 0;
        loop {
            self.guard(share)?;
            self.tick().await?;
            let counts = prober.since(since);
            let verdict =
                judge_front_door(&counts, share, version.as_deref().filter(|_| has_header));
            match verdict {
                FrontDoorVerdict::Wait => {}
                FrontDoorVerdict::Fits(verification) => {
                    self.progress(format!("front door: {}", counts.describe()));
                    let verification = sticky.map_or(verification, Verification::unverifiable);
                    return self.require_front_door(verification);
                }
                FrontDoorVerdict::Bad(problem) => {
                    bad_windows += u32::from(counts.lost_total() > 0);
                    since = Instant::now();
                    if let (Some(why), true) = (&sticky, counts.lost_total() == 0) {
                        return self.require_front_door(Verification::unverifiable(why.clone()));
                    }
                    if bad_windows >= BAD_WINDOWS || limit.has_passed() {
                        return self.front_door_failed(&problem);
                    }
                    self.progress(format!("front door: {problem}"));
                }
            }
            if limit.has_passed() {
                return self.front_door_failed(&format!("too few answers: {}", counts.describe()));
            }
        }
    }

    /// On the way back this is said and does not stop anything: staying would be worse.
    fn front_door_failed(&mut self, problem: &str) -> Result<(), Stop> {
        let url = self
            .prober
            .map(|prober| prober.plan().url.to_string())
            .unwrap_or_default();
        let reason = format!("{url} does not answer as it should: {problem}");
        self.state.front_door = Verification::pending(reason.clone());
        if self.direction == Direction::Back {
            self.warn(reason);
            return Ok(());
        }
        Err(Stop::gate(
            reason,
            Some("look at the new version's pods, and at `version-header` and `expect-version`"),
        ))
    }

    fn require_front_door(&mut self, verification: Verification) -> Result<(), Stop> {
        self.state.front_door = verification;
        let is_met =
            self.state.front_door.is_verified() || self.settings.require != Level::FrontDoor;
        // The way back is not stopped for want of proof: staying would be worse.
        if is_met || self.direction == Direction::Back {
            return Ok(());
        }
        Err(Stop::gate(
            format!(
                "`require-verified` is `front-door`, and the front door is {}",
                self.state.front_door
            ),
            Some("give `verify-url`, `version-header` and `expect-version`"),
        ))
    }

    /// Stays for the hold, and notices when the side that has the traffic loses its pods.
    pub(crate) async fn hold(&mut self) -> Result<(), Stop> {
        let share = self.share_now();
        let until = Instant::now() + self.settings.hold;
        self.set_hold_until().await?;
        while Instant::now() < until {
            self.guard(share)?;
            let left = until.saturating_duration_since(Instant::now());
            self.progress(format!(
                "holding {share}, {}s to go",
                left.as_secs().div_ceil(10) * 10
            ));
            self.tick().await?;
        }
        for index in self.own() {
            self.read_front(index).await?;
        }
        Ok(())
    }

    async fn set_hold_until(&mut self) -> Result<(), Stop> {
        let hold = jiff::SignedDuration::try_from(self.settings.hold).unwrap_or_default();
        let until = Timestamp::now().checked_add(hold).ok();
        let phase = self.session.phase()?;
        let amended = self.session.amend(|record| {
            let stages = record.stages.iter_mut();
            for stage in
                stages.filter(|stage| switchyard_record::Phase::Holding(stage.index) == phase)
            {
                stage.hold_until = until;
            }
        });
        amended.await?;
        Ok(())
    }

    /// The share that the taking side has now, on its smallest place.
    fn share_now(&self) -> Percent {
        let shares = self.own_fronts().flat_map(|front| {
            let provider = front.target.provider.provider();
            let of_places = provider.shares(&front.routing, &front.roles);
            of_places
                .into_values()
                .map(|place| {
                    place
                        .get(&front.roles.taking.service)
                        .copied()
                        .unwrap_or(0.0)
                })
                .collect::<Vec<_>>()
        });
        let smallest = shares.fold(1.0_f64, f64::min);
        Percent::new((smallest * 100.0).round() as u32).unwrap_or(Percent::ALL)
    }

    /// Waits until nothing can be in flight to the side that lost its traffic.
    pub(crate) async fn quiet(&mut self) -> Result<(), Stop> {
        let longest = self.settings.longest_request;
        let limit = self.limit(longest + QUIET_EXTRA);
        let started = Instant::now();
        let mut samples: Vec<Sample> = Vec::new();
        let mut blind: Option<String> = None;
        loop {
            match self.sample(started).await {
                Ok(sample) => samples.push(sample),
                Err(reason) => {
                    // A gap would look like calm: without every counter there is no proof.
                    samples.clear();
                    blind = Some(reason);
                }
            }
            let verdict = if blind.is_some() {
                quiet::judge(&[], longest, started.elapsed())
            } else {
                quiet::judge(&samples, longest, started.elapsed())
            };
            match verdict {
                Quiet::Verified => {
                    self.progress(format!(
                        "old side quiet for {}s, as its proxies count",
                        longest.as_secs()
                    ));
                    self.state.quiet = Some(Quiet::Verified);
                    return Ok(());
                }
                Quiet::HeldUnverified => {
                    let reason = blind.unwrap_or_default();
                    self.warn(format!(
                        "held {}s for requests in flight, not verified: {reason}",
                        longest.as_secs()
                    ));
                    self.state.quiet = Some(Quiet::HeldUnverified);
                    return Ok(());
                }
                Quiet::NotYet { .. } if limit.has_passed() => {
                    self.warn(format!(
                        "requests to the side without traffic still ended after {}s; `longest-request` is {}s",
                        started.elapsed().as_secs(),
                        longest.as_secs()
                    ));
                    self.state.quiet = Some(verdict);
                    return Ok(());
                }
                Quiet::NotYet { .. } => {}
            }
            self.guard(Percent::ALL)?;
            self.progress("waiting for requests in flight to end".to_owned());
            self.tick().await?;
        }
    }

    /// Requests finished by the side that lost its traffic, at every replica.
    async fn sample(&self, started: Instant) -> Result<Sample, String> {
        if self.proxies.traefik_api.is_empty() {
            return Err("no `traefik-api` was given, so nobody counts".to_owned());
        }
        if let Some(front) = self.own_fronts().find(|front| front.is_service()) {
            return Err(format!(
                "{}: both sides are behind one Service, so proxies count them together",
                front.target
            ));
        }
        let (loaded, counted) = futures::join!(
            self.proxies.traefik_services(),
            self.proxies.traefik_counters()
        );
        let at = started.elapsed();
        let mut finished = BTreeMap::new();
        let snapshot = self.scene.now();
        let giving: BTreeSet<String> = self
            .own_fronts()
            .flat_map(|front| front.views.giving.servers(&snapshot))
            .collect();
        for ((replica, services), (_, counters)) in loaded.into_iter().zip(counted) {
            let services = services.map_err(|problem| format!("traefik {replica}: {problem}"))?;
            let counters = counters.map_err(|problem| format!("traefik {replica}: {problem}"))?;
            let of_giving = services
                .iter()
                .filter(|service| !service.open_servers().is_disjoint(&giving));
            for service in of_giving {
                let total = counters.get(&service.name).copied().unwrap_or(0.0);
                finished.insert(format!("{replica}/{}", service.name), total);
            }
        }
        Ok(Sample { at, finished })
    }
}

/// What a window of probes says.
enum FrontDoorVerdict {
    /// Too few probes so far.
    Wait,
    /// As it should be, as far as that can be told.
    Fits(Verification),
    /// Not as it should be.
    Bad(String),
}

fn judge_front_door(counts: &Counts, share: Percent, version: Option<&str>) -> FrontDoorVerdict {
    let lost = counts.lost_total();
    if counts.probes() < answers_needed(share) {
        return FrontDoorVerdict::Wait;
    }
    if lost > 0 {
        return FrontDoorVerdict::Bad(counts.describe());
    }
    let Some(version) = version else {
        return FrontDoorVerdict::Fits(Verification::unverifiable(
            "answers cannot be told apart by version: `version-header` and `expect-version` say how",
        ));
    };
    match counts.share_of(version, share) {
        ShareVerdict::Fits { .. } => FrontDoorVerdict::Fits(Verification::Verified),
        ShareVerdict::TooFew { .. } => FrontDoorVerdict::Wait,
        ShareVerdict::Differs { observed, interval } => FrontDoorVerdict::Bad(format!(
            "{:.0} % of the answers are of `{version}` instead of {share} ({:.0} to {:.0} % at 95 %): {}",
            observed * 100.0,
            interval.0 * 100.0,
            interval.1 * 100.0,
            counts.describe()
        )),
    }
}

/// Judges one target. The flag: all that is pending are proxies that gave no answer.
fn judge(
    front: &mut Front,
    aim: Aim,
    snapshot: &Snapshot,
    seen: &Seen,
    kube: &KubeProxies,
) -> (TargetEvidence, bool) {
    let provider = front.target.provider.provider();
    let expected = provider.expectation(&front.object, &front.routing, &front.roles);
    let endpoints = judge_endpoints(front, aim, snapshot);
    let mut proxies = Vec::new();
    let mut is_silence = !endpoints.is_pending();
    if let Some((replicas, is_only_silence)) =
        judge_traefik_replicas(front, &expected, snapshot, seen)
    {
        is_silence &= is_only_silence;
        proxies.push(replicas);
    }
    if expected.kube_proxy && *kube != KubeProxies::Bypassed {
        let (replicas, is_only_silence) = judge_kube_proxies(front, snapshot, seen);
        is_silence &= is_only_silence;
        proxies.push(replicas);
    }
    let accepted = expected
        .parents_generation
        .map(|generation| judge_parents(&front.object, generation));
    is_silence &= !accepted.as_ref().is_some_and(Verification::is_pending);
    let evidence = TargetEvidence {
        target: front.target.to_string(),
        endpoints,
        proxies,
        accepted,
    };
    (evidence, is_silence)
}

/// Whether EndpointSlices hold what they are to hold.
fn judge_endpoints(front: &Front, aim: Aim, snapshot: &Snapshot) -> Verification {
    if let Some(reason) = &snapshot.interrupted {
        return Verification::pending(format!("the watch of endpoints is interrupted: {reason}"));
    }
    if front.is_service() {
        return judge_front_slices(front, aim, snapshot);
    }
    let answer = front.views.taking.routable(snapshot, 1);
    match answer.problem() {
        Some(problem) => Verification::pending(format!(
            "service `{}`: {problem}",
            front.views.taking.service_name()
        )),
        None => Verification::Verified,
    }
}

/// The slices of a front Service must equal the pods that it is to select, no more and no less.
fn judge_front_slices(front: &Front, aim: Aim, snapshot: &Snapshot) -> Verification {
    let mut wanted = front.views.taking.ready_uids(snapshot);
    let is_overlap = aim == Aim::Prepare
        && matches!(&front.routing, Routing::Selector { keys } if keys.is_empty());
    if is_overlap {
        wanted.extend(front.views.giving.ready_uids(snapshot));
    }
    let answer = front.views.taking.routable(snapshot, 1);
    let routable = answer
        .addresses
        .iter()
        .chain(answer.others.iter().filter(|address| address.is_routable()));
    let seen: BTreeSet<String> = routable
        .filter_map(|address| address.pod_uid.clone())
        .collect();
    let name = front.views.taking.service_name();
    if wanted.is_empty() {
        Verification::pending(format!(
            "service `{name}`: no pod of side `{}` is ready",
            front.roles.taking.side
        ))
    } else if seen != wanted {
        let missing = wanted.difference(&seen).count();
        let strange = seen.difference(&wanted).count();
        Verification::pending(format!(
            "service `{name}`: its EndpointSlices lack {missing} pods and hold {strange} others"
        ))
    } else if answer.port.is_none() {
        Verification::pending(format!(
            "service `{name}`: its port leads to no single port of these pods"
        ))
    } else {
        Verification::Verified
    }
}

fn judge_traefik_replicas(
    front: &mut Front,
    expected: &Expectation,
    snapshot: &Snapshot,
    seen: &Seen,
) -> Option<(Replicas, bool)> {
    if seen.traefik.is_empty() {
        return None;
    }
    let plain = |services: &[ApiService], front: &Front, wanted: &BTreeSet<String>| {
        let ports = port_names(front);
        let found = plain_services(
            services,
            &front.roles.namespace,
            front.views.taking.service_name(),
            &ports,
        );
        (
            !found.is_empty(),
            judge_plain(&found, front.views.taking.service_name(), wanted),
        )
    };
    if expected.front_service.is_some() {
        let wanted = front_servers(front, snapshot);
        let is_found = seen.traefik.iter().any(|(_, services)| {
            services
                .as_ref()
                .is_ok_and(|services| plain(services, front, &wanted).0)
        });
        // Known from the first look on: a Service that Traefik does not use has no such proxy.
        let is_behind = *front.is_behind_traefik.get_or_insert(is_found);
        if !is_behind {
            return None;
        }
        return Some(collect("traefik", &seen.traefik, |services| {
            plain(services, front, &wanted).1
        }));
    }
    let traefik = expected.traefik.as_ref()?;
    let servers: Servers = BTreeMap::from([
        (
            front.roles.taking.service.clone(),
            front.views.taking.servers(snapshot),
        ),
        (
            front.roles.giving.service.clone(),
            front.views.giving.servers(snapshot),
        ),
    ]);
    Some(collect("traefik", &seen.traefik, |services| {
        judge_traefik(traefik, services, &servers)
    }))
}

fn judge_kube_proxies(front: &Front, snapshot: &Snapshot, seen: &Seen) -> (Replicas, bool) {
    // Without a change of endpoints kube-proxy is told nothing, so nothing can be waited for.
    let has_changed =
        front_servers(front, snapshot) != front.servers_before && !front.kube_before.is_empty();
    let judgements = seen.kube.iter().map(|(name, sample)| match sample {
        Ok(sample) => {
            let before = front.kube_before.get(name).filter(|_| has_changed);
            (name.clone(), judge_kube_proxy(before, sample))
        }
        Err(problem) => (name.clone(), Verification::unverifiable(problem.clone())),
    });
    (Replicas::collect("kube-proxy", judgements.collect()), false)
}

/// Judges each replica; one that gave no answer may still give one.
fn collect<T>(
    proxy: &str,
    answers: &[(String, Result<T, String>)],
    judge: impl Fn(&T) -> Verification,
) -> (Replicas, bool) {
    let mut is_only_silence = true;
    let judgements = answers.iter().map(|(name, answer)| match answer {
        Ok(answer) => {
            let judgement = judge(answer);
            is_only_silence &= !judgement.is_pending();
            (name.clone(), judgement)
        }
        Err(problem) => (
            name.clone(),
            Verification::pending(format!("it cannot be asked: {problem}")),
        ),
    });
    let judgements = judgements.collect();
    (Replicas::collect(proxy, judgements), is_only_silence)
}

/// Numbers and names of a front Service's ports, as Traefik puts them into names.
fn port_names(front: &Front) -> Vec<String> {
    let spec = front.views.taking.service.spec.as_ref();
    let ports = spec
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    ports
        .iter()
        .flat_map(|port| [Some(port.port.to_string()), port.name.clone()])
        .flatten()
        .collect()
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
