//! The programs of the cluster: their configuration files and command lines. Starts nothing.

use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    authority::{component_kubeconfig, pair, service_account_keys, token_file},
    error::{Result, create_dir, read, write},
    identity::{authentication, token_webhook},
    images::PAUSE_IMAGE,
    instance::{Layout, NODE_ADDRESS, NODE_NAME, REGISTRY},
    process::Launch,
    traefik::Settings,
};

/// The names of the components, in the order in which they are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Component {
    Etcd,
    Containerd,
    Registry,
    Identity,
    ApiServer,
    ControllerManager,
    Scheduler,
    Kubelet,
    KubeProxy,
    Traefik,
}

/// Where the programs of a sandbox are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Programs<'a> {
    /// The folder of etcd, the Kubernetes programs and Traefik.
    pub(crate) folder: &'a Path,
    /// The program `sandbox`, which is a component itself.
    pub(crate) sandbox: &'a Path,
}

impl Component {
    pub(crate) const ALL: [Self; 10] = [
        Self::Etcd,
        Self::Containerd,
        Self::Registry,
        Self::Identity,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubelet,
        Self::KubeProxy,
        Self::Traefik,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Containerd => "containerd",
            Self::Registry => "registry",
            Self::Identity => "identity",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Traefik => "traefik",
        }
    }

    /// Writes the component's configuration files and says how to start it. What is not among the
    /// programs comes from the system.
    pub(crate) fn launch(self, layout: &Layout, programs: Programs<'_>) -> Result<Launch> {
        let Programs { folder, sandbox } = programs;
        match self {
            Self::Etcd => etcd(layout, folder),
            Self::Containerd => containerd(layout),
            Self::Registry => registry(layout),
            Self::Identity => identity(layout, sandbox),
            Self::ApiServer => api_server(layout, folder),
            Self::ControllerManager => controller_manager(layout, folder),
            Self::Scheduler => scheduler(layout, folder),
            Self::Kubelet => kubelet(layout, folder),
            Self::KubeProxy => kube_proxy(layout, folder),
            Self::Traefik => {
                Settings::own(layout, self.name(), NODE_ADDRESS).launch(layout, folder)
            }
        }
    }
}

/// Collects one launch: flags, and the configuration files that they name.
pub(crate) struct Draft<'a> {
    layout: &'a Layout,
    name: &'a str,
    program: PathBuf,
    arguments: Vec<String>,
    digest: Sha256,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(layout: &'a Layout, name: &'a str, program: PathBuf) -> Self {
        Self {
            layout,
            name,
            program,
            arguments: Vec::new(),
            digest: Sha256::new(),
        }
    }

    pub(crate) fn flag(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.arguments
            .push(format!("--{name}={}", value.as_ref().display()));
        self
    }

    pub(crate) fn words(mut self, words: &[&str]) -> Self {
        self.arguments
            .extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Writes a configuration file below the state folder; a change of it restarts the component.
    pub(crate) fn file(mut self, relative: &str, content: &str) -> Result<(Self, PathBuf)> {
        let path = self.layout.state.join(relative);
        if let Some(folder) = path.parent() {
            create_dir(folder)?;
        }
        write(&path, content)?;
        self.digest.update(content);
        Ok((self, path))
    }

    pub(crate) fn done(mut self) -> Launch {
        self.digest
            .update(self.program.as_os_str().as_encoded_bytes());
        for argument in &self.arguments {
            self.digest.update(argument);
            self.digest.update([0]);
        }
        let digest = self.digest.finalize();
        Launch {
            name: self.name.to_owned(),
            program: self.program,
            arguments: self.arguments,
            environment: Vec::new(),
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

fn etcd(layout: &Layout, programs: &Path) -> Result<Launch> {
    let (certificate, key) = pair(layout, "etcd");
    let url = "https://127.0.0.1:2379";
    let peer = "http://127.0.0.1:2380";
    Ok(
        Draft::new(layout, Component::Etcd.name(), programs.join("etcd"))
            .flag("data-dir", layout.state.join("etcd"))
            // A sandbox that loses power is made anew: waiting for the disk buys nothing.
            .words(&["--unsafe-no-fsync", "--logger=zap", "--log-level=warn"])
            .flag("listen-client-urls", url)
            .flag("advertise-client-urls", url)
            .flag("listen-peer-urls", peer)
            .flag("initial-advertise-peer-urls", peer)
            .flag("initial-cluster", format!("default={peer}"))
            .flag("cert-file", certificate)
            .flag("key-file", key)
            .flag("trusted-ca-file", layout.ca_certificate())
            .words(&["--client-cert-auth=true"])
            .done(),
    )
}

fn containerd(layout: &Layout) -> Result<Launch> {
    let state = layout.state.display();
    let network = json!({
        "cniVersion": "0.4.0",
        "name": layout.pod_network(),
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": layout.state.join("ipam"),
                    "ranges": [[{"subnet": "10.244.0.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    let registry = format!(
        "server = \"https://{REGISTRY}\"\n[host.\"https://{REGISTRY}\"]\n  \
         capabilities = [\"pull\", \"resolve\"]\n  ca = \"{}\"\n",
        layout.ca_certificate().display()
    );
    // No CAP_SYS_RESOURCE and no AppArmor may be had where this runs. The pods' network namespaces
    // are mounted below the state folder: their place tells whose they are, whatever else is lost.
    let config = format!(
        r#"version = 2
root = "{state}/containerd"
state = "{state}/containerd-state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{state}/registries"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{state}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{snapshotter}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"#,
        socket = layout.containerd_socket().display(),
        snapshotter = snapshotter(&layout.state),
    );
    let draft = Draft::new(layout, Component::Containerd.name(), "containerd".into());
    let (draft, _) = draft.file("cni/10-bridge.conflist", &format!("{network:#}\n"))?;
    let (draft, _) = draft.file(&format!("registries/{REGISTRY}/hosts.toml"), &registry)?;
    let (draft, path) = draft.file("containerd.toml", &config)?;
    Ok(draft
        .flag("config", path)
        .words(&["--log-level=warn"])
        .done())
}

/// Overlays cannot be stacked on overlays: inside a container the layers are copied instead.
fn snapshotter(state: &Path) -> &'static str {
    let is_overlay = nix::sys::statfs::statfs(state)
        .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC);
    if is_overlay { "native" } else { "overlayfs" }
}

fn registry(layout: &Layout) -> Result<Launch> {
    let (certificate, key) = pair(layout, "registry");
    let storage = layout.state.join("registry");
    let config = json!({
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": true}},
        "storage": {
            "filesystem": {"rootdirectory": storage},
            "delete": {"enabled": true},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": REGISTRY, "tls": {"certificate": certificate, "key": key}},
    });
    let draft = Draft::new(layout, Component::Registry.name(), "docker-registry".into());
    let (draft, path) = draft.file("registry.json", &format!("{config:#}\n"))?;
    let path = path.display().to_string();
    Ok(draft.words(&["serve", &path]).done())
}

/// The program `sandbox` itself, which answers the API server's questions about tokens.
fn identity(layout: &Layout, program: &Path) -> Result<Launch> {
    let name = layout.name.to_string();
    // It is built anew in its place: what was built last runs.
    let built = std::fs::metadata(program).and_then(|metadata| metadata.modified());
    let built = format!("{built:?}");
    let mut draft = Draft::new(layout, Component::Identity.name(), program.to_owned());
    draft.digest.update(built);
    let mut launch = draft.words(&["--name", &name, "identity"]).done();
    let root = layout.state.ancestors().nth(2).unwrap_or(&layout.state);
    let root = root.display().to_string();
    launch.environment.push(("SWITCHYARD_CACHE", root));
    Ok(launch)
}

fn api_server(layout: &Layout, programs: &Path) -> Result<Launch> {
    let (certificate, key) = pair(layout, "apiserver");
    let (etcd_certificate, etcd_key) = pair(layout, "apiserver-etcd");
    let (kubelet_certificate, kubelet_key) = pair(layout, "apiserver-kubelet");
    let (public, private) = service_account_keys(layout);
    let ca = layout.ca_certificate();
    let trusted = read(&ca)?;
    let program = programs.join("kube-apiserver");
    let draft = Draft::new(layout, Component::ApiServer.name(), program);
    let authentication = format!("{:#}\n", authentication(&trusted));
    let (draft, authentication) = draft.file("authentication.json", &authentication)?;
    let webhook = format!("{:#}\n", token_webhook(&trusted));
    let (draft, webhook) = draft.file("token-webhook.json", &webhook)?;
    Ok(draft
        .flag("etcd-servers", "https://127.0.0.1:2379")
        .flag("etcd-cafile", &ca)
        .flag("etcd-certfile", etcd_certificate)
        .flag("etcd-keyfile", etcd_key)
        .flag("tls-cert-file", certificate)
        .flag("tls-private-key-file", key)
        .flag("client-ca-file", &ca)
        .flag("token-auth-file", token_file(layout))
        .flag("authentication-config", authentication)
        .flag("authentication-token-webhook-config-file", webhook)
        // What a stand-in withdraws is refused in the next second, not in two minutes.
        .words(&[
            "--authentication-token-webhook-version=v1",
            "--authentication-token-webhook-cache-ttl=1s",
        ])
        .flag("kubelet-certificate-authority", &ca)
        .flag("kubelet-client-certificate", kubelet_certificate)
        .flag("kubelet-client-key", kubelet_key)
        .flag("kubelet-preferred-address-types", "InternalIP")
        .flag("service-account-issuer", "https://kubernetes.default.svc")
        .flag("service-account-key-file", public)
        .flag("service-account-signing-key-file", private)
        .flag("service-cluster-ip-range", "10.96.0.0/16")
        .flag("bind-address", "0.0.0.0")
        .flag("advertise-address", NODE_ADDRESS)
        .words(&["--authorization-mode=Node,RBAC", "--allow-privileged=true"])
        // Restarts are part of the tests: what watches has to notice at once, not in a minute.
        .words(&["--shutdown-delay-duration=0s", "--profiling=false"])
        .done())
}

fn controller_manager(layout: &Layout, programs: &Path) -> Result<Launch> {
    let (ca, ca_key) = pair(layout, "ca");
    let kubeconfig = component_kubeconfig(layout, "controller-manager");
    let program = programs.join("kube-controller-manager");
    Ok(
        Draft::new(layout, Component::ControllerManager.name(), program)
            .flag("kubeconfig", &kubeconfig)
            .flag("authentication-kubeconfig", &kubeconfig)
            .flag("authorization-kubeconfig", &kubeconfig)
            .flag("root-ca-file", &ca)
            .flag("cluster-signing-cert-file", &ca)
            .flag("cluster-signing-key-file", ca_key)
            .flag(
                "service-account-private-key-file",
                service_account_keys(layout).1,
            )
            .words(&[
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                // Addresses of pods come from the bridge plugin, and there is no cloud.
                "--controllers=*,-nodeipam,-node-route-controller,-cloud-node-lifecycle-controller",
            ])
            .done(),
    )
}

fn scheduler(layout: &Layout, programs: &Path) -> Result<Launch> {
    let kubeconfig = component_kubeconfig(layout, "scheduler");
    let program = programs.join("kube-scheduler");
    Ok(Draft::new(layout, Component::Scheduler.name(), program)
        .flag("kubeconfig", &kubeconfig)
        .flag("authentication-kubeconfig", &kubeconfig)
        .flag("authorization-kubeconfig", &kubeconfig)
        .words(&["--leader-elect=false", "--bind-address=127.0.0.1"])
        .done())
}

fn kubelet(layout: &Layout, programs: &Path) -> Result<Launch> {
    let (certificate, key) = pair(layout, "kubelet-serving");
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        "tlsCertFile": certificate,
        "tlsPrivateKeyFile": key,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.ca_certificate()},
        },
        "authorization": {"mode": "Webhook"},
        "podLogsDir": layout.state.join("pod-logs"),
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": false,
        "failSwapOn": false,
        "evictionHard": {"memory.available": "100Mi"},
        // Nobody listens there; without an address every pod gets a MissingClusterDNS event.
        "clusterDNS": ["10.96.0.10"],
        "maxPods": 200,
        "serializeImagePulls": false,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        // Crash loops are part of the tests: the back-off starts and stays short.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "10s"},
        "featureGates": {"KubeletCrashLoopBackOffMax": true},
    });
    let draft = Draft::new(layout, Component::Kubelet.name(), programs.join("kubelet"));
    let (draft, path) = draft.file("kubelet.json", &format!("{config:#}\n"))?;
    Ok(draft
        .flag("kubeconfig", component_kubeconfig(layout, "kubelet"))
        .flag("config", path)
        .flag("root-dir", layout.state.join("kubelet"))
        .flag("hostname-override", NODE_NAME)
        .flag("node-ip", NODE_ADDRESS)
        .done())
}

fn kube_proxy(layout: &Layout, programs: &Path) -> Result<Launch> {
    let draft = Draft::new(
        layout,
        Component::KubeProxy.name(),
        programs.join("kube-proxy"),
    );
    Ok(draft
        .flag("kubeconfig", component_kubeconfig(layout, "proxy"))
        .flag("hostname-override", NODE_NAME)
        .flag("metrics-bind-address", "0.0.0.0:10249")
        .words(&[
            "--proxy-mode=iptables",
            "--cluster-cidr=10.244.0.0/16",
            // These sysctls cannot be written from inside a namespace.
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        ])
        .done())
}
