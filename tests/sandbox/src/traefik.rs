//! Traefik processes: the sandbox's front door, and further replicas that a test starts beside it
//! to see what happens while they disagree.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    authority::token_of,
    components::Draft,
    error::{Context as _, Result, SandboxError},
    http_client::HttpClient,
    instance::{API_SERVER, FRONT_DOOR_PORT, Layout},
    process::{self, Launch, ProcessRecord},
    sandbox::Sandbox,
};

/// How long a replica may take to serve.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// The port of Traefik's API.
pub(crate) const API_PORT: u16 = 8080;
/// The port of Traefik's metrics.
pub(crate) const METRICS_PORT: u16 = 9100;

/// One Traefik process.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The name of its process record, log and configuration file.
    pub(crate) name: String,
    /// The address on which it listens: replicas share the ports, because a Gateway names one.
    pub(crate) address: String,
    /// The API server.
    pub(crate) cluster: String,
    /// A file with the token that it uses there.
    pub(crate) token: PathBuf,
    /// The authority of the API server, if it is not a public one.
    pub(crate) ca: Option<PathBuf>,
}

impl Settings {
    /// A Traefik of the sandbox's own cluster.
    pub(crate) fn own(layout: &Layout, name: &str, address: &str) -> Self {
        Self {
            name: name.to_owned(),
            address: address.to_owned(),
            cluster: API_SERVER.to_owned(),
            token: token_of(layout, "traefik"),
            ca: Some(layout.ca_certificate()),
        }
    }

    /// Writes the configuration and says how to start it.
    pub(crate) fn launch(&self, layout: &Layout, programs: &Path) -> Result<Launch> {
        let draft = Draft::new(layout, &self.name, programs.join("traefik"));
        // Traefik reads a file by its ending; YAML is a superset of JSON.
        let content = format!("{:#}\n", self.configuration());
        let (draft, path) = draft.file(&format!("{}.yaml", self.name), &content)?;
        Ok(draft.flag("configFile", path).done())
    }

    fn configuration(&self) -> Value {
        let mut cluster = json!({"endpoint": self.cluster, "token": self.token});
        if let Some(ca) = &self.ca {
            cluster["certAuthFilePath"] = json!(ca);
        }
        let at = |port: u16| json!({"address": format!("{}:{port}", self.address)});
        json!({
            "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
            "log": {"level": "INFO", "noColor": true},
            "entryPoints": {
                "web": at(FRONT_DOOR_PORT),
                "traefik": at(API_PORT),
                "metrics": at(METRICS_PORT),
            },
            "api": {"insecure": true, "dashboard": false},
            "ping": {},
            "providers": {
                "kubernetesCRD": cluster,
                "kubernetesGateway": cluster,
                "kubernetesIngressNGINX": cluster,
            },
            "metrics": {
                "prometheus": {
                    "entryPoint": "metrics",
                    "addEntryPointsLabels": true,
                    "addRoutersLabels": true,
                    "addServicesLabels": true,
                },
            },
        })
    }
}

/// A further Traefik on the same cluster, with an address of its own on the loopback. It ends
/// when it is dropped.
#[derive(Debug)]
pub struct TraefikReplica {
    address: String,
    record: ProcessRecord,
    layout: Layout,
    name: String,
}

impl TraefikReplica {
    /// Starts a replica and waits until it knows every service that the front door knows.
    ///
    /// # Errors
    /// It ended, or did not serve in time.
    pub async fn start(sandbox: &Sandbox) -> Result<Self> {
        sandbox.require_own_cluster("a Traefik replica")?;
        let layout = sandbox.layout().clone();
        // 127.0.0.1 is used by others; the rest of the loopback is free.
        let [a, b] = rand::random::<[u8; 2]>();
        let address = format!("127.{}.{}.1", 64 + a % 64, b);
        let name = format!("traefik-{a}-{b}");
        let settings = Settings::own(&layout, &name, &address);
        let record = process::start(&layout, &settings.launch(&layout, sandbox.programs())?)?;
        let replica = Self {
            address,
            record,
            layout,
            name,
        };
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            // Asked anew each time: the services of tests that end meanwhile never come.
            let known = services(sandbox.traefik_api()).await.unwrap_or_default();
            let own = services(&replica.api()).await;
            if own.is_some_and(|names| names.is_superset(&known)) {
                break;
            }
            if !replica.record.is_alive() || Instant::now() > deadline {
                let log = replica.layout.log(&replica.name);
                return Err(SandboxError::new("a Traefik replica does not serve")
                    .with_hint(format!("read {}", log.display())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(replica)
    }

    /// The address of its HTTP entry point.
    #[must_use]
    pub fn front_door(&self) -> String {
        format!("http://{}:{FRONT_DOOR_PORT}", self.address)
    }

    /// The base address of its API.
    #[must_use]
    pub fn api(&self) -> String {
        format!("http://{}:{API_PORT}", self.address)
    }

    /// Stops the process without ending it: it neither serves nor learns anything.
    ///
    /// # Errors
    /// The process is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// The process is gone.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if !self.record.is_alive() {
            return Err(SandboxError::new(format!("{} is gone", self.name)));
        }
        kill(Pid::from_raw(self.record.pid()), signal).context(|| format!("cannot send {signal}"))
    }
}

/// The names of the HTTP services that a Traefik knows; nothing while it does not answer.
async fn services(api: &str) -> Option<BTreeSet<String>> {
    let url = format!("{api}/api/http/services?per_page=10000");
    let answer = HttpClient::plain().get(&url).await.ok()?.json().ok()?;
    let names = answer
        .as_array()?
        .iter()
        .filter_map(|service| service["name"].as_str());
    Some(names.map(str::to_owned).collect())
}

impl Drop for TraefikReplica {
    fn drop(&mut self) {
        // Killed: a frozen process takes no other signal. Nothing can be done about a failure.
        let _ = process::stop(&self.record, Signal::SIGKILL, Duration::from_secs(5));
        let _ = std::fs::remove_file(self.layout.process_record(&self.name));
    }
}
