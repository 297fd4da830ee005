//! `sandbox standins`: the services that need an account, for a workflow that runs beside them, until a
//! signal ends it.

use std::{net::IpAddr, path::PathBuf, process::ExitCode, sync::Arc};

use tokio::signal::unix::{SignalKind, signal};

use super::print;
use crate::{
    description::Description,
    error::{Context as _, Result, create_dir, write},
    identity::{AccessEntry, AccessEntryGuard, TrustedIssuer},
    instance::{API_SERVER, Layout},
    network,
    standins::{KeyRing, Logins, StandIns, Surroundings},
    tls::TlsAuthority,
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
        let trust = Trust::of(layout)?;
        let logins = Logins::start(&Surroundings {
            address: given.address,
            authority: &trust.authority,
            cluster: (
                API_SERVER.to_owned(),
                trust.authority.certificate().to_owned(),
            ),
            github_keys: Arc::clone(&trust.github_keys),
            entra_keys: Arc::clone(&trust.entra_keys),
            github_token: stand_ins.github.service().token,
        })
        .await?;
        let authority = ("SWITCHYARD_STANDINS_CA", trust.file.display().to_string());
        for (name, value) in [stand_ins.settings(), logins.settings(), vec![authority]].concat() {
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

/// Who signs for the stand-ins. With a sandbox it is what its API server trusts, without one nobody
/// trusts it yet.
struct Trust {
    authority: TlsAuthority,
    /// The authority's certificate.
    file: PathBuf,
    github_keys: Arc<KeyRing>,
    entra_keys: Arc<KeyRing>,
    /// The role of AWS that the cluster lets in.
    _entry: Option<AccessEntryGuard>,
    /// Files that end with the stand-ins.
    temporary: Option<PathBuf>,
}

impl Drop for Trust {
    fn drop(&mut self) {
        if let Some(folder) = &self.temporary {
            // Nothing secret is in it.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

impl Trust {
    fn of(layout: &Layout) -> Result<Self> {
        let is_ours = Description::load(layout).is_ok_and(|it| it.network_namespace.is_some());
        if is_ours {
            let keys = |issuer| {
                KeyRing::published_in(layout.published_keys(issuer))
                    .context(|| "cannot publish keys")
            };
            return Ok(Self {
                authority: TlsAuthority::of(layout)?,
                file: layout.ca_certificate(),
                github_keys: keys(TrustedIssuer::GitHub)?,
                entra_keys: keys(TrustedIssuer::Entra)?,
                _entry: Some(AccessEntry::new(&Logins::role_arn(), &[]).admit(layout)?),
                temporary: None,
            });
        }
        let authority = TlsAuthority::throw_away()?;
        let folder =
            std::env::temp_dir().join(format!("switchyard-standins-{}", std::process::id()));
        create_dir(&folder)?;
        let file = folder.join("ca.crt");
        write(&file, authority.certificate())?;
        let keys = || KeyRing::generate().context(|| "cannot make keys");
        Ok(Self {
            authority,
            file,
            github_keys: keys()?,
            entra_keys: keys()?,
            _entry: None,
            temporary: Some(folder),
        })
    }
}
