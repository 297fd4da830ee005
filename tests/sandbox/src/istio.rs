//! Istio: istiod and Envoy gateways as processes beside the sandbox's cluster, started by the test
//! that needs them and ended with it. Several may run at once: each has its own addresses on the
//! loopback, and its gateways are objects of a namespace of its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    components::Draft,
    error::{Context as _, Result, SandboxError},
    http_client::HttpClient,
    instance::{Layout, User},
    namespace::TestNamespace,
    process::{self, Launch, ProcessRecord},
    sandbox::Sandbox,
};

/// How long istiod or a gateway may take to serve.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// The port on which istiod tells proxies what to do.
const DISCOVERY_PORT: u16 = 15010;
/// The port on which istiod says that it is ready.
const STATUS_PORT: u16 = 8080;
/// The port of Envoy's admin API.
const ADMIN_PORT: u16 = 15000;
/// The port of the gateways' HTTP listener.
const LISTENER_PORT: u16 = 8800;

/// istiod with its Envoy gateways. They end when it is dropped.
#[derive(Debug)]
pub struct Istio {
    /// Of istiod.
    address: String,
    istiod: Running,
    gateways: Vec<Gateway>,
    namespace: TestNamespace,
}

#[derive(Debug)]
struct Gateway {
    address: String,
    process: Running,
}

/// One process, killed when it is dropped.
#[derive(Debug)]
struct Running {
    name: String,
    record: ProcessRecord,
    layout: Layout,
}

impl Istio {
    /// Starts istiod and so many gateways, and waits until each of them serves.
    ///
    /// # Errors
    /// `scripts/tools istio` has not been run, a process ended, or did not serve in time.
    pub async fn start(sandbox: &Sandbox, gateways: u8) -> Result<Self> {
        sandbox.require_own_cluster("Istio")?;
        let programs = programs()?;
        add_kinds(sandbox, &programs)?;
        let namespace = sandbox.namespace("istio").await;
        // Traefik's replicas have the part below of the loopback.
        let [a, b] = rand::random::<[u8; 2]>();
        let network = format!("127.{}.{b}", 128 + a % 64);
        let address = format!("{network}.1");
        let launch = istiod(sandbox, &programs, &address)?;
        let istiod = Running::start(sandbox, &launch)?;
        let status = format!("http://{address}:{STATUS_PORT}/ready");
        istiod.wait_for(&status, |_| true).await?;
        let mut istio = Self {
            address,
            istiod,
            gateways: Vec::new(),
            namespace,
        };
        for number in 0..gateways {
            let address = format!("{network}.{}", number + 2);
            istio.add_gateway(sandbox, &programs, address).await?;
        }
        Ok(istio)
    }

    async fn add_gateway(
        &mut self,
        sandbox: &Sandbox,
        programs: &Path,
        address: String,
    ) -> Result<()> {
        let name = format!("front-{}", self.gateways.len());
        let objects = objects(&name, self.namespace.name(), &address);
        self.namespace.apply(&objects.to_string())?;
        let process_name = format!("{}-{name}", self.istiod.name);
        let bootstrap = bootstrap(&name, self.namespace.name(), &address, &self.address);
        let draft = Draft::new(sandbox.layout(), &process_name, programs.join("envoy"));
        let (draft, path) =
            draft.file(&format!("{process_name}.json"), &format!("{bootstrap:#}\n"))?;
        // Envoy wants a flag and its value as two words.
        let path = path.display().to_string();
        let words = ["--config-path", &path, "--disable-hot-restart"];
        let launch = draft.words(&words).words(&["--concurrency", "2"]).done();
        let process = Running::start(sandbox, &launch)?;
        let listeners = format!("http://{address}:{ADMIN_PORT}/listeners");
        let has_one = |text: &str| text.contains(&format!(":{LISTENER_PORT}"));
        process.wait_for(&listeners, has_one).await?;
        self.gateways.push(Gateway { address, process });
        Ok(())
    }

    /// The gateways, as a VirtualService names them in `gateways`.
    #[must_use]
    pub fn gateways(&self) -> Vec<String> {
        let names = (0..self.gateways.len()).map(|number| format!("front-{number}"));
        names
            .map(|name| format!("{}/{name}", self.namespace.name()))
            .collect()
    }

    /// The address of a gateway's HTTP listener.
    #[must_use]
    pub fn front_door(&self, gateway: usize) -> String {
        format!("http://{}:{LISTENER_PORT}", self.gateways[gateway].address)
    }

    /// The base addresses of the admin APIs of all gateways.
    #[must_use]
    pub fn admin(&self) -> Vec<String> {
        let addresses = self.gateways.iter().map(|gateway| &gateway.address);
        addresses
            .map(|address| format!("http://{address}:{ADMIN_PORT}"))
            .collect()
    }

    /// Stops a gateway without ending it: it neither serves nor learns anything.
    ///
    /// # Errors
    /// The process is gone.
    pub fn freeze(&self, gateway: usize) -> Result<()> {
        self.gateways[gateway].process.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// The process is gone.
    pub fn thaw(&self, gateway: usize) -> Result<()> {
        self.gateways[gateway].process.signal(Signal::SIGCONT)
    }
}

impl Running {
    fn start(sandbox: &Sandbox, launch: &Launch) -> Result<Self> {
        let layout = sandbox.layout().clone();
        Ok(Self {
            name: launch.name.clone(),
            record: process::start(&layout, launch)?,
            layout,
        })
    }

    async fn wait_for(&self, url: &str, is_well: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let answer = HttpClient::plain().get(url).await;
            if answer.is_ok_and(|answer| answer.status == 200 && is_well(&answer.text())) {
                return Ok(());
            }
            if !self.record.is_alive() || Instant::now() > deadline {
                let log = self.layout.log(&self.name);
                return Err(SandboxError::new(format!("{} does not serve", self.name))
                    .with_hint(format!("read {}", log.display())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if !self.record.is_alive() {
            return Err(SandboxError::new(format!("{} is gone", self.name)));
        }
        kill(Pid::from_raw(self.record.pid()), signal).context(|| format!("cannot send {signal}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Killed: a frozen process takes no other signal. Nothing can be done about a failure.
        let _ = process::stop(&self.record, Signal::SIGKILL, Duration::from_secs(5));
        let _ = std::fs::remove_file(self.layout.process_record(&self.name));
    }
}

/// The folder of istiod, Envoy and Istio's kinds.
fn programs() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/tools");
    let output = Command::new(&script).arg("istio").output();
    let output = output.context(|| format!("cannot run {}", script.display()))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(
            SandboxError::new(format!("istiod cannot be had: {message}"))
                .with_hint("run `scripts/tools istio` where registries can be reached"),
        );
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// Creates Istio's kinds; those that another test has created are the same.
fn add_kinds(sandbox: &Sandbox, programs: &Path) -> Result<()> {
    let kubectl = sandbox.admin_kubectl();
    let file = programs.join("kinds.yaml").display().to_string();
    kubectl.apply(&["-f", &file], "")?;
    let kinds = [
        "crd/gateways.networking.istio.io",
        "crd/virtualservices.networking.istio.io",
        "crd/destinationrules.networking.istio.io",
    ];
    let established = ["wait", "--for=condition=Established", "--timeout=30s"];
    kubectl
        .run(&[&established[..], &kinds[..]].concat(), "")
        .map(drop)
}

fn istiod(sandbox: &Sandbox, programs: &Path, address: &str) -> Result<Launch> {
    let name = format!("istiod-{address}");
    let draft = Draft::new(sandbox.layout(), &name, programs.join("istio"));
    // Without certificates a cluster that waits for them never comes.
    let mesh = json!({"enableAutoMtls": false, "ingressControllerMode": "OFF"});
    let (draft, mesh) = draft.file(&format!("{name}.yaml"), &format!("{mesh:#}\n"))?;
    let at = |port: u16| format!("{address}:{port}");
    let mut launch = draft
        .words(&["discovery"])
        .flag("kubeconfig", sandbox.kubeconfig(User::Admin))
        .flag("meshConfig", mesh)
        .flag("grpcAddr", at(DISCOVERY_PORT))
        .flag("httpAddr", at(STATUS_PORT))
        .flag("monitoringAddr", at(15014))
        .words(&["--secureGRPCAddr=", "--httpsAddr=", "--ctrlz_port=0"])
        .done();
    let settings = [
        // Upstream's Envoy lacks Istio's own filters.
        ("PILOT_ENABLE_ALPN_FILTER", "false"),
        ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
        ("PILOT_ENABLE_TELEMETRY_LABEL", "false"),
        ("ENABLE_CA_SERVER", "false"),
        ("PILOT_CERT_PROVIDER", "none"),
        ("VALIDATION_WEBHOOK_CONFIG_NAME", ""),
        ("INJECTION_WEBHOOK_CONFIG_NAME", ""),
        // The Gateway API of this cluster is Traefik's.
        ("PILOT_ENABLE_GATEWAY_API", "false"),
        ("ENABLE_LEADER_ELECTION", "false"),
        ("POD_NAME", name.as_str()),
        ("POD_NAMESPACE", "istio-system"),
    ];
    launch.environment = settings
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec();
    Ok(launch)
}

/// The labels of one Envoy. A Gateway selects in every namespace, so no two in the cluster are alike: the
/// Envoys of another mesh would listen at this one's address as well, and its requests would end with them.
fn labels(name: &str, namespace: &str) -> Value {
    json!({"istio": format!("{name}.{namespace}")})
}

/// A Gateway for one Envoy, and the Service by which istiod finds its port.
fn objects(name: &str, namespace: &str, address: &str) -> Value {
    let labels = labels(name, namespace);
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {
                "selector": labels,
                "ports": [{"name": "http", "port": 80, "targetPort": LISTENER_PORT}],
            },
        },
        {
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": name},
            "spec": {
                "selector": labels,
                "servers": [{
                    // Replicas share the network, so each has an address.
                    "bind": address,
                    "port": {"number": 80, "name": "http", "protocol": "HTTP"},
                    "hosts": ["*"],
                }],
            },
        },
    ]})
}

fn bootstrap(name: &str, namespace: &str, address: &str, discovery: &str) -> Value {
    let at = |address: &str, port: u16| json!({"socket_address": {"address": address, "port_value": port}});
    let source = json!({"ads": {}, "resource_api_version": "V3"});
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({
        "node": {
            "id": format!("router~{address}~{name}.{namespace}~{namespace}.svc.cluster.local"),
            "cluster": format!("{name}.{namespace}"),
            "metadata": {
                "NAMESPACE": namespace,
                "CLUSTER_ID": "Kubernetes",
                "LABELS": labels(name, namespace),
                "ISTIO_VERSION": "1.31.0",
            },
        },
        "admin": {"address": at(address, ADMIN_PORT)},
        "dynamic_resources": {
            "lds_config": source,
            "cds_config": source,
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "istiod"}}],
            },
        },
        "static_resources": {"clusters": [{
            "name": "istiod",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {options: {
                "@type": format!("type.googleapis.com/{options}"),
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "load_assignment": {
                "cluster_name": "istiod",
                "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": at(discovery, DISCOVERY_PORT)}},
                ]}],
            },
        }]},
    })
}
