//! Canaries in the hands of Argo Rollouts and in ours, on the same cluster, behind the same proxies, under the
//! same load, with the same pods: what is lost when nothing is wrong, and what when something is.
//!
//! Argo's controller has an analysis in the background that asks a Prometheus as often as our watch looks, and
//! aborts at its first bad answer. Where a person acts, both are ordered at the same point.

mod argo;
mod ours;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
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
            let what = format!("{}, {}", plane.route(), scenario.what());
            progress(&format!("Argo Rollouts: {what}"));
            let argo = Argo::start(bench, folder, plane).await?;
            let peer = argo.play(bench, scenario).await?;
            tell(&peer);
            progress(&format!("ours: {what}"));
            let ours = ours::play(bench, plane, scenario).await?;
            tell(&ours);
            figures.push(Figure {
                what: format!("{what}: requests lost"),
                ours: lost(&ours),
                peer: format!("{} (Argo Rollouts)", lost(&peer)),
                measured: count(ours.report.lost),
                goal: count(peer.report.lost) * scenario.allowance(),
                unit: "lost",
            });
            figures.extend(until_safe(scenario, &what, &ours, &peer));
        }
    }
    Ok(figures)
}

fn tell(seen: &Seen) {
    let (unharmed, left) = (shown(seen.unharmed), shown(seen.left));
    let summary = seen.report.summary();
    progress(&format!("  unharmed: {unharmed}; left: {left}; {summary}"));
}

/// How much was lost, and when the other side had everything.
fn lost(seen: &Seen) -> String {
    let Seen { report, left, .. } = seen;
    let left = shown(*left);
    format!("{} of {}, left: {left}", report.lost, report.scheduled)
}

/// How long something was wrong for users. Not for a canary that is promoted or given up: nothing is.
fn until_safe(scenario: Scenario, what: &str, ours: &Seen, peer: &Seen) -> Option<Figure> {
    let safe = match scenario {
        Scenario::Promotion | Scenario::Abort => return None,
        // Whoever answers is healthy, and what answers nothing loses requests.
        Scenario::Shrunk | Scenario::SecondWriter => |seen: &Seen| seen.unharmed,
        Scenario::Broken(_) => Seen::safe,
    };
    let seconds = |seen: &Seen| safe(seen).map_or(f64::INFINITY, |safe| safe.as_secs_f64());
    Some(Figure {
        what: format!("{what}: until all traffic is on a healthy side"),
        ours: shown(safe(ours)),
        peer: format!("{} (Argo Rollouts)", shown(safe(peer))),
        measured: seconds(ours),
        goal: seconds(peer),
        unit: "s",
    })
}

fn shown(safe: Option<Duration>) -> String {
    safe.map_or_else(
        || "not while observed".to_owned(),
        |safe| format!("{:.1} s", safe.as_secs_f64()),
    )
}

/// Somebody who is neither of the tools writes other weights.
fn second_writer(plane: Plane, namespace: &TestNamespace, main: &str) -> anyhow::Result<()> {
    let weights = [(main, 20), ("api-canary", 80)];
    let (object, spec) = match plane {
        Plane::Traefik => {
            let services =
                weights.map(|(name, weight)| json!({"name": name, "port": 80, "weight": weight}));
            let spec = json!({"weighted": {"services": services}});
            ("traefikservice/api", spec)
        }
        Plane::Istio => {
            let route = weights.map(|(name, weight)| {
                let destination = json!({"host": name, "port": {"number": 80}});
                json!({"destination": destination, "weight": weight})
            });
            let spec = json!({"http": [{"name": "primary", "route": route}]});
            ("virtualservice/api", spec)
        }
    };
    let patch = json!({"spec": spec}).to_string();
    let words = ["patch", object, "--type=merge", "-p", &patch];
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
