//! Waiting for time to pass with open eyes: the hold of a stage, and the quiet of the side that
//! lost its traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Engine, Front, Stop};
use crate::proxies::{ProxySource, paired};
use crate::quiet::{self, Quiet, Sample};
use crate::share::Percent;

/// How long requests of the old side may still end beyond the longest one before the wait is
/// given up and reported.
const QUIET_EXTRA: Duration = Duration::from_secs(30);

impl Engine<'_> {
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
                    let reason =
                        blind.unwrap_or_else(|| "no proxy lists it, so nobody counts".to_owned());
                    self.warn(format!(
                        "held {}s for requests in flight, not verified: {reason}",
                        longest.as_secs()
                    ));
                    self.state.quiet = Some(Quiet::HeldUnverified);
                    return Ok(());
                }
                Quiet::NotYet { .. } if limit.has_passed() => {
                    self.warn(format!(
                        "requests to the side without traffic still went on after {}s; `longest-request` is {}s",
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

    /// As [`Engine::quiet`], where what comes next would cut requests off.
    pub(crate) async fn require_quiet(&mut self) -> Result<(), Stop> {
        self.quiet().await?;
        let quiet = self.state.quiet.as_ref();
        if quiet.is_some_and(Quiet::allows_scaling_down) {
            return Ok(());
        }
        Err(Stop::gate(
            format!(
                "requests to side `{}` still end although no traffic is sent to it: its update would cut them off",
                self.sides.giving
            ),
            Some("say with `longest-request` how long a request may take"),
        ))
    }

    /// URLs of API and metrics are given in the same order and may differ in their host; pods are
    /// known by name.
    fn put_together<A, B>(
        &self,
        loaded: Vec<(String, A)>,
        counted: Vec<(String, B)>,
    ) -> Result<Vec<(String, A, B)>, String> {
        let sources = [&self.proxies.traefik_api, &self.proxies.traefik_metrics];
        let mut sources = sources.into_iter().flatten();
        let is_by_place = sources.all(|source| matches!(source, ProxySource::Url(_)));
        let counted = if is_by_place && counted.len() == loaded.len() {
            let names = loaded.iter().map(|(name, _)| name.clone());
            let answers = counted.into_iter().map(|(_, answer)| answer);
            names.zip(answers).collect()
        } else {
            counted
        };
        paired(loaded, counted)
    }

    /// Requests of the side that lost its traffic, at every replica.
    async fn sample(&self, started: Instant) -> Result<Sample, String> {
        if let Some(front) = self.own_fronts().find(|front| front.is_service()) {
            return Err(format!(
                "{}: both sides are behind one Service, so proxies count them together",
                front.target
            ));
        }
        let mut sample = Sample {
            at: started.elapsed(),
            finished: BTreeMap::new(),
            in_flight: 0,
        };
        if self.own_fronts().any(|front| !front.is_istio()) {
            self.sample_traefik(&mut sample).await?;
        }
        if self.own_fronts().any(Front::is_istio) {
            self.sample_envoy(&mut sample).await?;
        }
        sample.at = started.elapsed();
        Ok(sample)
    }

    /// Endpoints of the side that lost its traffic, as proxies list them.
    fn giving_servers(&self, is_meant: impl Fn(&Front) -> bool) -> BTreeSet<String> {
        let snapshot = self.scene.now();
        self.own_fronts()
            .filter(|front| is_meant(front))
            .flat_map(|front| front.views.giving.servers(&snapshot))
            .collect()
    }

    /// Envoy counts a request when it is sent, and tells how many have no answer yet.
    async fn sample_envoy(&self, sample: &mut Sample) -> Result<(), String> {
        if self.proxies.envoy_admin.is_empty() {
            return Err("no `envoy-admin` was given, so nobody counts".to_owned());
        }
        let states = self.proxies.envoy_states().await;
        let giving = self.giving_servers(Front::is_istio);
        for (replica, state) in states {
            let state = state.map_err(|problem| format!("envoy {replica}: {problem}"))?;
            for cluster in &state.clusters {
                let hosts = cluster.hosts.iter();
                for host in hosts.filter(|host| giving.contains(&host.address)) {
                    let counter = format!("envoy {replica}/{}/{}", cluster.name, host.address);
                    sample.finished.insert(counter, host.requests as f64);
                    sample.in_flight += host.in_flight;
                }
            }
        }
        Ok(())
    }

    /// Traefik counts a request when it has ended.
    async fn sample_traefik(&self, sample: &mut Sample) -> Result<(), String> {
        if self.proxies.traefik_api.is_empty() {
            return Err("no `traefik-api` was given, so nobody counts".to_owned());
        }
        let (loaded, counted) = futures::join!(
            self.proxies.traefik_services(),
            self.proxies.traefik_counters()
        );
        let giving = self.giving_servers(|front| !front.is_istio());
        for (replica, services, counters) in self.put_together(loaded, counted)? {
            let services = services.map_err(|problem| format!("traefik {replica}: {problem}"))?;
            let counters = counters.map_err(|problem| format!("traefik {replica}: {problem}"))?;
            let of_giving = services
                .iter()
                .filter(|service| !service.open_servers().is_disjoint(&giving));
            for service in of_giving {
                let total = counters.get(&service.name).copied().unwrap_or(0.0);
                let counter = format!("{replica}/{}", service.name);
                sample.finished.insert(counter, total);
            }
        }
        Ok(())
    }
}
