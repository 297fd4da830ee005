//! What a load balancer says of a server, as plain data.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How an operator wants a server to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admin {
    /// Used while it is healthy.
    Ready,
    /// Gets no new clients; those that are bound to it by a cookie still come.
    Drain,
    /// Gets nothing, and is not checked. What is under way goes on.
    Maint,
}

impl Admin {
    /// The load balancer's own word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the load balancer's own checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// It makes none, or not now.
    None,
    /// The last ones passed.
    Passing,
    /// Not all of the last ones passed, or too few were made since it was told to use the server again.
    Unsettled,
}

/// Where a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// IP address or name.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Address {
    /// The host as it stands in a URL.
    #[must_use]
    pub fn url_host(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.url_host(), self.port)
    }
}

/// A server of a backend, as one process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name in the backend.
    pub name: String,
    /// Where it answers; absent where it is a unix socket.
    pub address: Option<Address>,
    /// How it is to be used.
    pub admin: Admin,
    /// Whether it is taken for healthy.
    pub is_running: bool,
    /// Used only when no other server is.
    pub is_backup: bool,
    /// What the checks say.
    pub checks: Checks,
    /// Its state in the load balancer's words.
    pub status: String,
    /// Its weight now, 0 to 256.
    pub weight: u32,
    /// Its weight in the configuration.
    pub own_weight: u32,
    /// Requests and connections under way.
    pub sessions: u64,
    /// Those that wait for it.
    pub queued: u64,
}

impl Server {
    /// Whether it gets its share of new clients.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.is_up() && self.weight > 0
    }

    /// Whether it would get new clients with any weight.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.admin == Admin::Ready && self.is_running
    }

    /// Whether nothing of it is under way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.sessions + self.queued == 0
    }

    /// Whether the load balancer itself would find it well: running, and no check of it unsettled.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.is_running && self.checks != Checks::Unsettled
    }
}

/// A process of the load balancer: another one knows nothing of what this one was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Name of its machine, as it says.
    pub node: String,
    /// Process id there.
    pub pid: u32,
    /// Seconds since 1970 at which it began; 0 where it does not say.
    pub started: u64,
    /// How long it has been running.
    pub uptime: Duration,
    /// Its version.
    pub version: String,
    /// Whether it takes no more connections and only ends those it has.
    pub is_stopping: bool,
}

impl Process {
    /// Whether both are the same process.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.node, self.pid, self.started) == (&other.node, other.pid, other.started)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.uptime.as_secs();
        write!(
            f,
            "HAProxy {}, process {} on {}, up {seconds} s",
            self.version, self.pid, self.node
        )
    }
}

/// What one process says at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Who says it.
    pub process: Process,
    /// The servers of the backend, in its order.
    pub servers: Vec<Server>,
}

impl Look {
    /// The server of this name.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.name == name)
    }
}
