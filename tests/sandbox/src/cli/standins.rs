//! `sandbox standins`: Slack, GitHub and PagerDuty for a workflow that runs beside it, until a signal
//! ends it.

use std::{net::IpAddr, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};

use super::print;
use crate::{
    error::{Context as _, Result},
    instance::Layout,
    network,
    standins::StandIns,
};

#[derive(Debug, clap::Args)]
pub(super) struct StandInsArguments {
    /// The address to listen on; any but loopback is one of the sandbox's network namespace.
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
}

/// Starts the stand-ins, prints their settings as NAME=value lines, and waits for the end.
pub(super) fn standins(layout: &Layout, given: &StandInsArguments) -> Result<ExitCode> {
    if !given.address.is_loopback() {
        network::enter(layout)?;
    }
    let runtime = tokio::runtime::Runtime::new().context(|| "cannot start a runtime")?;
    runtime.block_on(async {
        let stand_ins = StandIns::start(given.address).context(|| "cannot start the stand-ins")?;
        for (name, value) in stand_ins.settings() {
            print(&format!("{name}={value}"))?;
        }
        let mut terminate =
            signal(SignalKind::terminate()).context(|| "cannot wait for signals")?;
        let mut interrupt =
            signal(SignalKind::interrupt()).context(|| "cannot wait for signals")?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}
