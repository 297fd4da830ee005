//! Canaries in the hands of Argo Rollouts and in ours, on the same cluster, behind the same proxies, under the
//! same load, with the same pods: what is lost when nothing is wrong, and what when something is.
//!
//! Argo's controller has an analysis in the background that asks a Prometheus as often as our watch looks, and
//! aborts at its first bad answer. Where a person acts, both are ordered at the same point.
//!
//! What is lost when pods go is lost until a proxy has taken up a write, whoever writes it. That much is measured
//! in the same run, with a writer that does nothing else, and no tool is asked to stay below it.

mod argo;
mod bare;
mod ours;

use std::path::Path;
use std::time::{Duration, Instant};

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use switchyard_sandbox::TestNamespace;
use switchyard_sandbox::load::RunningLoad;

use crate::canary::breakage::Breakage;
use crate::canary::ours::{OBSERVED, SILENT, Seen, Watch};
use crate::canary::shop::Route;
use crate::loss::count;
use crate::table::Figure;
use crate::{Bench, progress};
use argo::Argo;

/// How often both look.
const WATCH: Watch = Watch {
    interval: Duration::from_secs(5),
    consecutive: 2,
};
/// How long a pod takes from its start until it answers: a small service with something to load.
const START: Duration = Duration::from_secs(5);
/// The share of a canary that breaks.
const HALF: f64 = 0.5;
/// How long istiod gathers changes before it tells its Envoys: by so much a write is in force earlier or later.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often the kubelet asks these pods whether they are ready.
const PROBE_PERIOD: Duration = Duration::from_secs(1);
/// How often a fault is played of which a handful of requests tells who was faster.
const ROUNDS: usize = 3;
/// The Service of a canary, in the hands of either.
const CANARY_SERVICE: &str = "api-canary";
/// Who else writes the route, as a field manager.
const SOMEBODY: &str = "somebody-else";
/// The share of its loss that ours may be in a fault.
const OF_PEER: f64 = 0.1;

/// What stands between the users and the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plane {
    Traefik,
    /// istiod with two Envoys; the users come in by the first.
    Istio,
}

impl Plane {
    const ALL: [Self; 2] = [Self::Traefik, Self::Istio];

    fn route(self) -> Route {
        match self {
            Self::Traefik => Route::Traefik,
            Self::Istio => Route::Istio,
        }
    }

    /// The kind of the object that gives the shares.
    fn kind(self) -> ApiResource {
        let kind = match self {
            Self::Traefik => GroupVersionKind::gvk("traefik.io", "v1alpha1", "TraefikService"),
            Self::Istio => GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService"),
        };
        ApiResource::from_gvk(&kind)
    }

    /// A merge patch of that object: the services that have shares, and how large these are.
    fn weights(self, services: &[(&str, u32)]) -> Value {
        let spec = match self {
            Self::Traefik => {
                let service = |(name, weight): &(&str, u32)| json!({"name": name, "port": 80, "weight": weight});
                json!({"weighted": {"services": services.iter().map(service).collect::<Vec<_>>()}})
            }
            Self::Istio => {
                let destination = |(name, weight): &(&str, u32)| {
                    let destination = json!({"host": name, "port": {"number": 80}});
                    json!({"destination": destination, "weight": weight})
                };
                let route: Vec<Value> = services.iter().map(destination).collect();
                json!({"http": [{"name": "primary", "route": route}]})
            }
        };
        json!({"spec": spec})
    }
}

/// What happens to a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// Nothing: it is promoted.
    Promotion,
    /// It is given up with half of the traffic.
    Abort,
    /// Its pods break with half of the traffic.
    Broken(Breakage),
    /// Somebody shrinks the old side to 0 while the canary has all of the traffic; then it is given up.
    Shrunk,
    /// Somebody else writes other weights while the canary has half of the traffic; then it is given up.
    SecondWriter,
}

impl Scenario {
    const ALL: [Self; 7] = [
        Self::Promotion,
        Self::Abort,
        Self::Broken(Breakage::Unready),
        Self::Broken(Breakage::Killed),
        Self::Broken(Breakage::Failing),
        Self::Shrunk,
        Self::SecondWriter,
    ];

    fn what(self) -> &'static str {
        match self {
            Self::Promotion => "promotion",
            Self::Abort => "abort at 50 %",
            Self::Broken(Breakage::Unready) => "canary pods unready at 50 %",
            Self::Broken(Breakage::Killed) => "canary pods killed at 50 %",
            Self::Broken(Breakage::Failing) => "canary pods answer 500 at 50 %",
            Self::Shrunk => "old side shrunk to 0 before the abort at 100 %",
            Self::SecondWriter => "second writer on the route before the abort at 50 %",
        }
    }

    /// What happens to the endpoints of a side, where something does.
    fn takes_endpoints(self) -> Option<Breakage> {
        match self {
            Self::Broken(breakage @ (Breakage::Unready | Breakage::Killed)) => Some(breakage),
            Self::Promotion
            | Self::Abort
            | Self::Broken(Breakage::Failing)
            | Self::Shrunk
            | Self::SecondWriter => None,
        }
    }

    /// How often it is played.
    fn rounds(self) -> usize {
        match self.takes_endpoints() {
            Some(_) => ROUNDS,
            None => 1,
        }
    }

    /// By how much two who write at the same moment may be apart in a fault that takes endpoints.
    fn chance(self) -> Duration {
        match self {
            Self::Broken(Breakage::Unready) => DEBOUNCE + PROBE_PERIOD,
            Self::Broken(Breakage::Killed) => DEBOUNCE,
            Self::Promotion
            | Self::Abort
            | Self::Broken(Breakage::Failing)
            | Self::Shrunk
            | Self::SecondWriter => Duration::ZERO,
        }
    }

    /// How much of the peer's loss ours may be.
    fn allowance(self) -> f64 {
        match self {
            // Nobody's endpoints are lost when pods answer 500: that takes requests to find out.
            Self::Promotion | Self::Abort | Self::Broken(Breakage::Failing) => 1.0,
            Self::Broken(Breakage::Unready | Breakage::Killed)
            | Self::Shrunk
            | Self::SecondWriter => OF_PEER,
        }
    }
}

/// Measures all of it; `folder` holds the controller and its kinds.
pub(crate) async fn measure(bench: &Bench, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for plane in Plane::ALL {
        for scenario in Scenario::ALL {
            let played = play(bench, folder, plane, scenario).await?;
            let what = format!("{}, {}", plane.route(), scenario.what());
            figures.push(played.loss(bench, scenario, &what));
            figures.extend(played.until_safe(scenario, &what));
        }
    }
    Ok(figures)
}

/// What came of a scenario, round by round.
#[derive(Debug, Default)]
struct Played {
    peer: Vec<Seen>,
    ours: Vec<Seen>,
    /// What no tool can stay below; empty where that is nothing.
    bare: Vec<Seen>,
}

async fn play(
    bench: &Bench,
    folder: &Path,
    plane: Plane,
    scenario: Scenario,
) -> anyhow::Result<Played> {
    let what = format!("{}, {}", plane.route(), scenario.what());
    let mut played = Played::default();
    for _ in 0..scenario.rounds() {
        progress(&format!("Argo Rollouts: {what}"));
        let argo = Argo::start(bench, folder, plane).await?;
        played.peer.push(told(argo.play(bench, scenario).await?));
        progress(&format!("ours: {what}"));
        played
            .ours
            .push(told(ours::play(bench, plane, scenario).await?));
        if let Some(breakage) = scenario.takes_endpoints() {
            progress(&format!("a writer that does nothing else: {what}"));
            played
                .bare
                .push(told(bare::play(bench, plane, breakage).await?));
        }
    }
    Ok(played)
}

fn told(seen: Seen) -> Seen {
    let (unharmed, left) = (shown(seen.unharmed), shown(seen.left));
    let summary = seen.report.summary();
    progress(&format!("  unharmed: {unharmed}; left: {left}; {summary}"));
    seen
}

impl Played {
    /// How much was lost.
    fn loss(&self, bench: &Bench, scenario: Scenario, what: &str) -> Figure {
        let peer = total(&self.peer);
        let goal = peer * scenario.allowance();
        let (told, goal) = if self.bare.is_empty() {
            (String::new(), goal)
        } else {
            let chance = match scenario.takes_endpoints() {
                Some(Breakage::Killed) => DEBOUNCE.as_secs_f64() * HALF * f64::from(bench.rate),
                // Pods that are not ready still answer.
                Some(Breakage::Unready | Breakage::Failing) | None => 0.0,
            };
            let reacting = total(&self.bare).min(peer);
            let told = format!(", {} (one write)", lost(&self.bare));
            (told, goal.max(reacting + chance * rounds_of(&self.ours)))
        };
        Figure {
            what: format!("{what}: requests lost"),
            ours: lost(&self.ours),
            peer: format!("{} (Argo Rollouts){told}", lost(&self.peer)),
            measured: total(&self.ours),
            goal,
            unit: "lost",
        }
    }

    /// How long something was wrong for users. Not for a canary that is promoted or given up: nothing is.
    fn until_safe(&self, scenario: Scenario, what: &str) -> Option<Figure> {
        let safe = match scenario {
            Scenario::Promotion | Scenario::Abort => return None,
            // Whoever answers is healthy, and what answers nothing loses requests.
            Scenario::Shrunk | Scenario::SecondWriter => |seen: &Seen| seen.unharmed,
            Scenario::Broken(_) => Seen::safe,
        };
        let each = |rounds: &[Seen]| -> Vec<Option<Duration>> { rounds.iter().map(safe).collect() };
        let (ours, peer, bare) = (each(&self.ours), each(&self.peer), each(&self.bare));
        let (told, goal) = if bare.is_empty() {
            (String::new(), mean(&peer))
        } else {
            let told = format!(", {} (one write)", listed(&bare));
            let chance = scenario.chance().as_secs_f64();
            (told, mean(&bare).min(mean(&peer)) + chance)
        };
        Some(Figure {
            what: format!("{what}: until all traffic is on a healthy side"),
            ours: listed(&ours),
            peer: format!("{} (Argo Rollouts){told}", listed(&peer)),
            measured: mean(&ours),
            goal,
            unit: "s",
        })
    }
}

/// Requests lost in all rounds.
fn total(rounds: &[Seen]) -> f64 {
    rounds.iter().map(|seen| count(seen.report.lost)).sum()
}

/// How much was lost of how much, and when the other side had everything, round by round.
fn lost(rounds: &[Seen]) -> String {
    let each = rounds.iter().map(|Seen { report, left, .. }| {
        let left = shown(*left);
        format!("{} of {}, left: {left}", report.lost, report.scheduled)
    });
    each.collect::<Vec<_>>().join("; ")
}

fn listed(each: &[Option<Duration>]) -> String {
    let each: Vec<String> = each.iter().copied().map(shown).collect();
    each.join("; ")
}

/// In seconds; without an end where one round has none.
fn mean(each: &[Option<Duration>]) -> f64 {
    let seconds = each
        .iter()
        .map(|one| one.map_or(f64::INFINITY, |one| one.as_secs_f64()));
    seconds.sum::<f64>() / rounds_of(each)
}

fn rounds_of<T>(rounds: &[T]) -> f64 {
    f64::from(u32::try_from(rounds.len()).unwrap_or(u32::MAX))
}

fn shown(safe: Option<Duration>) -> String {
    safe.map_or_else(
        || "not while observed".to_owned(),
        |safe| format!("{:.1} s", safe.as_secs_f64()),
    )
}

/// Somebody who is neither of the tools writes other weights.
fn second_writer(plane: Plane, namespace: &TestNamespace, main: &str) -> anyhow::Result<()> {
    let object = format!("{}/api", plane.kind().plural);
    let patch = plane
        .weights(&[(main, 20), (CANARY_SERVICE, 80)])
        .to_string();
    let words = ["patch", &object, "--type=merge", "-p", &patch];
    let writer = ["--field-manager", SOMEBODY];
    namespace.kubectl(&[&words[..], &writer].concat())?;
    Ok(())
}

/// Waits until nothing more is lost and nothing more comes from a version, or for as long as is observed.
async fn settle(load: &RunningLoad, left: Option<&str>) {
    let limit = Instant::now() + OBSERVED;
    let seen = || (load.counts().1, left.map(|left| load.answers_of(left)));
    let (mut last, mut since) = (seen(), Instant::now());
    while since.elapsed() < SILENT && Instant::now() < limit {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if seen() != last {
            (last, since) = (seen(), Instant::now());
        }
    }
}
