//! Azure Resource Manager as far as the user credential of an AKS cluster goes. It checks the token,
//! then what the principal may, and only then what there is, as the real one does.
//! <https://learn.microsoft.com/rest/api/aks/managed-clusters/list-cluster-user-credentials>

mod kubeconfig;
mod refusal;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    clock::Clock,
    entra::{AccessTokens, Resource},
    received::Received,
    server::{Answer, Fault, Service},
};
pub use kubeconfig::UserKind;
use refusal::Refusal;

/// The subscription of the stand-ins.
pub const SUBSCRIPTION: &str = "0b1f6471-1bf0-4dda-aec3-cb9272f09590";
/// The versions of the API that are served here.
const VERSIONS: [&str; 4] = ["2024-09-01", "2025-05-01", "2025-08-01", "2025-10-01"];
const ACTION: &str = "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action";

/// An AKS cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedCluster {
    /// Its resource group.
    pub resource_group: String,
    /// Its name.
    pub name: String,
    /// Its API server's address.
    pub server: String,
    /// Its public address, of a private cluster that has one too.
    pub public_server: Option<String>,
    /// The authority of the API server's certificate, PEM.
    pub ca: String,
    /// The user in its kubeconfig.
    pub user: UserKind,
}

/// Azure Resource Manager with one subscription.
pub struct ResourceManager {
    /// The service's clock.
    pub clock: Clock,
    tokens: Arc<AccessTokens>,
    settings: Mutex<Settings>,
}

#[derive(Default)]
struct Settings {
    clusters: Vec<ManagedCluster>,
    /// Object id of a principal, and the scope below which it may get credentials.
    assignments: Vec<(String, String)>,
}

impl ResourceManager {
    /// Resource Manager that takes these tokens.
    #[must_use]
    pub fn new(tokens: Arc<AccessTokens>) -> Self {
        Self {
            clock: Clock::default(),
            tokens,
            settings: Mutex::default(),
        }
    }

    /// Adds a cluster, and with it its resource group.
    pub fn add(&self, cluster: ManagedCluster) {
        self.lock().clusters.push(cluster);
    }

    /// Assigns the role Azure Kubernetes Service Cluster User to a principal, for everything below a
    /// scope, e.g. `/subscriptions/ID/resourceGroups/NAME`.
    pub fn assign(&self, object_id: &str, scope: &str) {
        let scope = scope.trim_end_matches('/').to_lowercase();
        self.lock().assignments.push((object_id.to_owned(), scope));
    }

    /// Takes all role assignments away.
    pub fn assign_nothing(&self) {
        self.lock().assignments.clear();
    }

    /// What Resource Manager answers to too many requests; `Retry-After` in seconds.
    #[must_use]
    pub fn throttled(seconds: u32) -> Fault {
        let answer = Refusal::Throttled(seconds).answer();
        Fault::Answer(answer.with_header("retry-after", seconds.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn route(&self, request: &Received) -> Result<Answer, Refusal> {
        let principal = self.principal(request)?;
        let version = request.query("api-version").ok_or(Refusal::NoVersion)?;
        let target =
            Target::parse(&request.path).ok_or_else(|| Refusal::NoRoute(request.path.clone()))?;
        if request.method != "POST" {
            return Err(Refusal::WrongMethod(request.method.clone()));
        }
        if request.header("content-length").is_none()
            && request.header("transfer-encoding").is_none()
        {
            return Err(Refusal::NoLength);
        }
        if target.subscription != SUBSCRIPTION {
            return Err(Refusal::UnknownSubscription(target.subscription));
        }
        self.authorize(&principal, &target)?;
        if !VERSIONS.contains(&version) {
            return Err(Refusal::UnknownVersion(version.to_owned()));
        }
        if !request.body.is_empty() {
            return Err(Refusal::UnexpectedBody);
        }
        let cluster = self.find(&target)?;
        let server = match request.query("server-fqdn") {
            None => &cluster.server,
            Some("public") => cluster.public_server.as_ref().unwrap_or(&cluster.server),
            Some(other) => return Err(Refusal::InvalidParameter("server-fqdn", other.to_owned())),
        };
        match request.query("format") {
            None | Some("azure" | "exec" | "web-browser") => {}
            Some(other) => return Err(Refusal::InvalidParameter("format", other.to_owned())),
        }
        let text = kubeconfig::render(&cluster, server);
        let entry = json!({"name": "clusterUser", "value": STANDARD.encode(text)});
        Ok(Answer::json(200, &json!({"kubeconfigs": [entry]})))
    }

    fn authorize(&self, principal: &str, target: &Target) -> Result<(), Refusal> {
        let scope = target.scope();
        let settings = self.lock();
        let mut assignments = settings.assignments.iter();
        let lowered = scope.to_lowercase();
        let is_assigned = assignments.any(|(object_id, assigned)| {
            let rest = lowered.strip_prefix(assigned.as_str());
            object_id == principal
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if is_assigned {
            return Ok(());
        }
        Err(Refusal::NotAuthorized {
            principal: principal.to_owned(),
            scope,
        })
    }

    fn find(&self, target: &Target) -> Result<ManagedCluster, Refusal> {
        let settings = self.lock();
        let mut of_group = settings
            .clusters
            .iter()
            .filter(|cluster| cluster.resource_group.eq_ignore_ascii_case(&target.group))
            .peekable();
        if of_group.peek().is_none() {
            return Err(Refusal::UnknownGroup(target.group.clone()));
        }
        let found = of_group.find(|cluster| cluster.name.eq_ignore_ascii_case(&target.name));
        found.cloned().ok_or_else(|| Refusal::UnknownCluster {
            name: target.name.clone(),
            group: target.group.clone(),
        })
    }

    fn principal(&self, request: &Received) -> Result<String, Refusal> {
        let text = request.bearer().ok_or(Refusal::NoToken)?;
        let now = self.clock.now();
        let token = self.tokens.check(text, &Resource::ResourceManager, now);
        let token = token.map_err(|reason| Refusal::Token {
            reason,
            text: text.to_owned(),
            now,
        })?;
        Ok(token.text("oid").to_owned())
    }
}

/// The cluster that a request is about.
struct Target {
    subscription: String,
    group: String,
    name: String,
}

impl Target {
    /// Reads the path of the action; the fixed words of it may be in any case.
    fn parse(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let [a, subscription, b, group, c, provider, kind, name, action] = segments.as_slice()
        else {
            return None;
        };
        let words = [
            (a, "subscriptions"),
            (b, "resourceGroups"),
            (c, "providers"),
            (provider, "Microsoft.ContainerService"),
            (kind, "managedClusters"),
            (action, "listClusterUserCredential"),
        ];
        words
            .iter()
            .all(|(given, word)| given.eq_ignore_ascii_case(word))
            .then(|| Self {
                subscription: subscription.to_lowercase(),
                group: (*group).to_owned(),
                name: (*name).to_owned(),
            })
    }

    fn scope(&self) -> String {
        let Self {
            subscription,
            group,
            name,
        } = self;
        format!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ContainerService/managedClusters/{name}"
        )
    }
}

impl Service for ResourceManager {
    fn answer(&self, request: &Received) -> Answer {
        self.route(request)
            .unwrap_or_else(|refusal| refusal.answer())
    }

    fn state(&self) -> Value {
        let settings = self.lock();
        let names: Vec<&str> = settings
            .clusters
            .iter()
            .map(|cluster| cluster.name.as_str())
            .collect();
        json!({"clusters": names, "assignments": settings.assignments})
    }
}

#[cfg(test)]
mod tests;
