//! Names and places: which sandbox, where its state lives, at which addresses it is found. Pure;
//! touches neither files nor processes.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Result, SandboxError},
    identity::TrustedIssuer,
};

/// The node's address inside the namespace. Each sandbox has a namespace of its own, so all may
/// use the same one.
pub const NODE_ADDRESS: &str = "10.10.0.1";
/// The node's name in the cluster.
pub const NODE_NAME: &str = "node-1";
/// The API server's address.
pub(crate) const API_SERVER: &str = "https://10.10.0.1:6443";
/// The first address of the service range: the `kubernetes` Service.
pub(crate) const KUBERNETES_SERVICE: &str = "10.96.0.1";
/// `host:port` of the registry, the first part of every image reference.
pub(crate) const REGISTRY: &str = "10.10.0.1:5000";
/// The port of Traefik's HTTP entry point; a Gateway listener has to name the same one.
pub const FRONT_DOOR_PORT: u16 = 8000;
/// Traefik's HTTP entry point.
pub(crate) const FRONT_DOOR: &str = "http://10.10.0.1:8000";
/// Traefik's API (`/api/http/services`, …).
pub(crate) const TRAEFIK_API: &str = "http://10.10.0.1:8080";
/// Traefik's Prometheus metrics.
pub(crate) const TRAEFIK_METRICS: &str = "http://10.10.0.1:9100/metrics";
/// The namespace of the sandbox's own objects: the Gateway `front-door` lives here.
pub const SANDBOX_NAMESPACE: &str = "switchyard-sandbox";

/// The longest path of a state folder: sockets below it must fit the 108 bytes of `sun_path`.
const STATE_PATH_LIMIT: usize = 64;

/// The name of one sandbox: also the name of its network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName(String);

impl Default for InstanceName {
    fn default() -> Self {
        Self("switchyard".to_owned())
    }
}

impl FromStr for InstanceName {
    type Err = SandboxError;

    fn from_str(text: &str) -> Result<Self> {
        let fits = (1..=20).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(SandboxError::new(format!(
                "`{text}` is not a sandbox name: 1 to 20 lower-case letters, digits and dashes, a letter first"
            )))
        }
    }
}

impl TryFrom<String> for InstanceName {
    type Error = SandboxError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<InstanceName> for String {
    fn from(name: InstanceName) -> Self {
        name.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who talks to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Group `system:masters`.
    Admin,
    /// The least-privilege role of `docs/rbac/deployer.yaml`, in each test namespace.
    Deployer,
    /// The built-in role `view`, in each test namespace.
    Reader,
}

impl User {
    /// All users, in the order of their power.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Deployer, Self::Reader];

    /// The user's name in the cluster.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Deployer => "deployer",
            Self::Reader => "reader",
        }
    }
}

/// Where the files of one sandbox are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The sandbox.
    pub(crate) name: InstanceName,
    /// The folder that holds all its state; `down` removes it.
    pub(crate) state: PathBuf,
}

impl Layout {
    /// The layout below a cache root.
    ///
    /// # Errors
    /// A path that sockets, mounts or `PATH`-like lists cannot carry.
    pub(crate) fn new(name: InstanceName, cache_root: &Path) -> Result<Self> {
        let state = cache_root.join("sandbox").join(&name.0);
        let text = state.to_string_lossy();
        let hint = "set SWITCHYARD_CACHE to a short absolute path, e.g. /var/cache/switchyard";
        if !state.is_absolute() || text.contains(char::is_whitespace) || text.contains(':') {
            return Err(SandboxError::new(format!(
                "`{text}` cannot hold a sandbox: an absolute path without spaces and colons is needed"
            ))
            .with_hint(hint));
        }
        if text.len() > STATE_PATH_LIMIT {
            return Err(SandboxError::new(format!(
                "`{text}` has {} bytes, sockets below it allow at most {STATE_PATH_LIMIT}",
                text.len()
            ))
            .with_hint(hint));
        }
        Ok(Self { name, state })
    }

    /// The network namespace as a file to enter.
    pub(crate) fn network_namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name.0)
    }

    /// Held while `up` or `down` works on this sandbox. It outlives the state folder.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.state.with_extension("lock")
    }

    /// What `up` writes last and everybody else reads.
    pub(crate) fn description_file(&self) -> PathBuf {
        self.state.join("sandbox.json")
    }

    /// Certificates, keys and tokens.
    pub(crate) fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// The certificate of the sandbox's own authority.
    pub(crate) fn ca_certificate(&self) -> PathBuf {
        self.pki().join("ca.crt")
    }

    /// The kubeconfig of a user.
    pub(crate) fn kubeconfig(&self, user: User) -> PathBuf {
        self.state.join(format!("{}.kubeconfig", user.name()))
    }

    /// The log of a component.
    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.state.join("log").join(format!("{component}.log"))
    }

    /// The record of a running component.
    pub(crate) fn process_record(&self, component: &str) -> PathBuf {
        self.state
            .join("processes")
            .join(format!("{component}.json"))
    }

    /// The socket of containerd.
    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }

    /// Where stand-ins publish the keys of an issuer that the API server takes tokens of.
    pub(crate) fn published_keys(&self, issuer: TrustedIssuer) -> PathBuf {
        self.state.join("identity").join(issuer.name())
    }

    /// Where stand-ins say which roles of AWS may come in.
    pub(crate) fn access_entries(&self) -> PathBuf {
        self.state.join("identity/access-entries")
    }

    /// The name of the CNI network: it marks what CNI leaves behind as ours.
    pub(crate) fn pod_network(&self) -> String {
        format!("switchyard-{}", self.name)
    }
}

/// The folder for everything that is built or downloaded once:
/// `${SWITCHYARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/switchyard}`. `lookup` stands for the
/// environment.
///
/// # Errors
/// None of the three variables is set.
pub(crate) fn cache_root(lookup: impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    let given = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let root = given("SWITCHYARD_CACHE").map(PathBuf::from);
    let xdg = || given("XDG_CACHE_HOME").map(|dir| Path::new(&dir).join("switchyard"));
    let home = || given("HOME").map(|dir| Path::new(&dir).join(".cache/switchyard"));
    root.or_else(xdg).or_else(home).ok_or_else(|| {
        SandboxError::new("no cache folder: SWITCHYARD_CACHE, XDG_CACHE_HOME and HOME are unset")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_name_a_namespace_are_refused() {
        for name in [
            "",
            "a/b",
            "..",
            "Upper",
            "1st",
            "a b",
            "this-name-is-far-too-long",
        ] {
            assert!(name.parse::<InstanceName>().is_err(), "{name}");
        }
        assert!("serial-2".parse::<InstanceName>().is_ok());
    }

    #[test]
    fn state_paths_that_sockets_cannot_carry_are_refused() {
        let name = InstanceName::default;
        assert!(Layout::new(name(), Path::new("/root/.cache/switchyard")).is_ok());
        for root in [
            "relative",
            "/with space",
            "/a:b",
            &format!("/{}", "long/".repeat(20)),
        ] {
            let error = Layout::new(name(), Path::new(root)).expect_err(root);
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn cache_root_prefers_the_most_specific_variable() {
        let root = |set: &[(&str, &str)]| {
            let set: Vec<_> = set
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            cache_root(move |name| set.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()))
        };
        let all = [
            ("SWITCHYARD_CACHE", "/a"),
            ("XDG_CACHE_HOME", "/b"),
            ("HOME", "/c"),
        ];
        assert_eq!(root(&all).expect("set"), Path::new("/a"));
        assert_eq!(root(&all[1..]).expect("set"), Path::new("/b/switchyard"));
        assert_eq!(
            root(&all[2..]).expect("set"),
            Path::new("/c/.cache/switchyard")
        );
        assert!(root(&[("HOME", "")]).is_err());
    }
}
