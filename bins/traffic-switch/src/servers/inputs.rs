//! The inputs of `servers`, and nothing but their declaration and their types.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use switchyard_http::{DisplaySafeUrl, HeaderName};
use switchyard_runner::secret::SECRET;
use switchyard_runner::{List, Secret, values};
use switchyard_servers::Address;
use switchyard_servers::haproxy::Place;
use switchyard_servers::plan::MinUp;
use switchyard_traffic::share::Percent;

use crate::inputs::limit;

/// Inputs of `servers`.
#[derive(Debug, Args)]
pub(crate) struct ServersInputs {
    /// Where every HAProxy process answers its runtime API
    ///
    /// Absolute paths of unix sockets and `HOST:PORT` (`stats socket … level admin`), one for each process:
    /// what one is told, the others do not know. A step that leaves one out lets it send users to a server
    /// that is being updated.
    #[arg(long, default_value = "")]
    pub(crate) haproxy_api: List<Place>,
    /// Backend of HAProxy whose servers are updated
    #[arg(long)]
    pub(crate) backend: Name,
    /// Servers to update, in this order; all of the backend when none is given
    ///
    /// Of `server-weights`: those that get the share of `weight` together.
    #[arg(long, default_value = "")]
    pub(crate) servers: List<Name>,
    /// Servers out of the traffic that a killed run left there, where its `state-file` is lost
    ///
    /// A server that is drained or in maintenance is left as it is otherwise: somebody else took it out.
    #[arg(long, default_value = "")]
    pub(crate) adopt: List<Name>,
    /// Servers to update at once
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: u32,
    /// Servers that have to stay up: a number, or a share of those that were up at the start
    #[arg(long, default_value = "50%")]
    pub(crate) min_up: MinUp,
    /// Command that updates one server, as a bash script
    ///
    /// It finds the server in `SERVER_NAME`, `SERVER_ADDRESS`, `SERVER_HOST`, `SERVER_PORT` and
    /// `SERVER_BACKEND`, and `expect-version` in `EXPECT_VERSION`. It may be run again for a server after it
    /// was interrupted.
    #[arg(long)]
    pub(crate) update: Option<String>,
    /// URL that updates one server when it is posted to, instead of `update`
    ///
    /// The body is JSON: `server`, `address`, `host`, `port`, `backend`, `version`. It is to answer with a
    /// success once the server is updated, and is never sent again by itself.
    #[arg(long)]
    pub(crate) update_url: Option<WebhookUrl>,
    /// Bearer token for `update-url`
    #[arg(long, value_name = SECRET)]
    pub(crate) update_token: Option<Secret>,
    /// Most time for the update of one server
    #[arg(long, default_value = "10m", value_parser = limit)]
    pub(crate) update_timeout: Duration,
    /// Where an updated server is checked: `{host}` and `{port}` stand for its own
    #[arg(long, default_value = "http://{host}:{port}/")]
    pub(crate) health_url: HealthUrl,
    /// Good answers in a row that make a server healthy
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) health_successes: u32,
    /// Time between two checks of an updated server
    #[arg(long, default_value = "1s", value_parser = values::duration)]
    pub(crate) health_interval: Duration,
    /// Response header that carries the version
    #[arg(long, default_value = "x-version")]
    pub(crate) version_header: HeaderName,
    /// Version that must answer after the switch
    #[arg(long)]
    pub(crate) expect_version: Option<String>,
    /// How long a drained server may keep the users that are bound to it by a cookie
    ///
    /// Then it goes into maintenance, and they go to other servers.
    #[arg(long, default_value = "2m", value_parser = values::duration)]
    pub(crate) drain_timeout: Duration,
    /// The longest that a request takes
    #[arg(long, default_value = "30s", value_parser = values::duration)]
    pub(crate) longest_request: Duration,
    /// The longest that any one wait may take
    #[arg(long, default_value = "2m", value_parser = limit)]
    pub(crate) timeout: Duration,
    /// File that tells a later run where this one was
    ///
    /// In the user's state folder (`$XDG_STATE_HOME`, else `~/.local/state`) when it is not given. It has to
    /// outlive the runner.
    #[arg(long)]
    pub(crate) state_file: Option<PathBuf>,
    /// Print what would be done, and change nothing
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) plan: bool,
}

/// Inputs of `server-weights`.
#[derive(Debug, Args)]
pub(crate) struct WeightsInputs {
    /// Where every HAProxy process answers its runtime API, in the forms of `servers`
    #[arg(long, default_value = "")]
    pub(crate) haproxy_api: List<Place>,
    /// Backend of HAProxy whose servers get weights
    #[arg(long)]
    pub(crate) backend: Name,
    /// Servers that get the share together
    #[arg(long, default_value = "")]
    pub(crate) servers: List<Name>,
    /// Percentage of the backend's traffic for `servers`; every weight of the configuration when not given
    #[arg(long)]
    pub(crate) weight: Option<Percent>,
    /// The longest that any one wait may take
    #[arg(long, default_value = "2m", value_parser = limit)]
    pub(crate) timeout: Duration,
    /// Print what would be done, and change nothing
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) plan: bool,
}

/// The name of a backend or server: nothing that could be a further command of the runtime API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if text.is_empty() || !text.chars().all(is_allowed) {
            return Err("a name is made of letters, digits, `-`, `_`, `.` and `:`".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A URL of which no more than its host is shown: its path may be a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebhookUrl(pub(crate) DisplaySafeUrl);

impl FromStr for WebhookUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = DisplaySafeUrl::webhook(text);
        url.map(Self).map_err(|error| error.to_string())
    }
}

/// A URL with places for a server's host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthUrl(String);

impl HealthUrl {
    /// The URL for a server; absent where its host is none.
    pub(crate) fn of(&self, address: &Address) -> Option<DisplaySafeUrl> {
        let text = self.0.replace("{host}", &address.url_host());
        let text = text.replace("{port}", &address.port.to_string());
        DisplaySafeUrl::parse(&text).ok()
    }
}

impl FromStr for HealthUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains("{host}") {
            return Err(
                "it needs `{host}`, or every server would be checked at the same place".to_owned(),
            );
        }
        let filled = text.replace("{host}", "127.0.0.1").replace("{port}", "80");
        DisplaySafeUrl::parse(&filled)
            .map(|_| Self(text.to_owned()))
            .map_err(|error| error.to_string())
    }
}
