//! From start to exit: `traffic-switch status` against `kubectl get` of the same object.

use std::process::Command;

use switchyard_sandbox::User;

use crate::loss::application::{Application, Provider};
use crate::measure::{self, Cost};
use crate::table::Figure;
use crate::{Bench, progress};

const RUNS: usize = 25;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    progress("traffic-switch status and kubectl get, in turn");
    let application = Application::set_up(bench, Provider::Traefik).await?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(status(bench, &application)?);
        peer.push(kubectl(bench, &application)?);
    }
    let (ours, peer) = (measure::median(ours)?, measure::median(peer)?);
    let milliseconds = |cost: Cost| cost.wall.as_secs_f64() * 1e3;
    Ok(vec![Figure {
        what: format!("status of a route, start to exit, median of {RUNS}"),
        ours: format!("{:.1} ms", milliseconds(ours)),
        peer: format!("{:.1} ms (`kubectl get`)", milliseconds(peer)),
        measured: milliseconds(ours) / milliseconds(peer),
        goal: 0.3,
        unit: "",
    }])
}

fn status(bench: &Bench, application: &Application) -> anyhow::Result<Cost> {
    let mut command = application.command(bench, "traffic-switch", "status");
    command.args(["--targets", application.target()]);
    Ok(measure::run(&mut command)?.0)
}

fn kubectl(bench: &Bench, application: &Application) -> anyhow::Result<Cost> {
    let mut command = Command::new(bench.sandbox.kubectl());
    command.args([
        "get",
        "traefikservice",
        "api",
        "-o",
        "json",
        "-n",
        application.namespace(),
    ]);
    command.env("KUBECONFIG", bench.sandbox.kubeconfig(User::Deployer));
    // Its discovery cache lies in the home directory: warm, as on a laptop.
    command.env("HOME", std::env::temp_dir());
    Ok(measure::run(&mut command)?.0)
}
