//! Azure Resource Manager's answer to who may use a cluster: its kubeconfig, of which we take little.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use switchyard_http::{DisplaySafeUrl, HeaderValue, Repeat, Request, StatusCode, header};
use switchyard_runner::{Failure, Secret};

use crate::kubeconfig::{Answer, InvalidAnswer};
use crate::session::Session;

const API_VERSION: &str = "2025-10-01";

/// A cluster as an input names it: `name`, `group/name`, or its whole resource id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterRef {
    subscription: Option<String>,
    group: Option<String>,
    name: String,
}

/// A cluster with all that ARM needs to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AksCluster {
    pub(crate) subscription: String,
    pub(crate) group: String,
    pub(crate) name: String,
}

/// Why ARM gave no kubeconfig.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArmError {
    #[error("cannot get the user credential of {cluster}")]
    Http {
        cluster: AksCluster,
        source: switchyard_http::Error,
    },
    /// The answer is not repeated: it may hold a key.
    #[error("the user credential of {cluster} is not the JSON that Azure documents")]
    Answer { cluster: AksCluster },
    #[error("the kubeconfig of {cluster} cannot be used: {problem}")]
    Kubeconfig {
        cluster: AksCluster,
        problem: InvalidAnswer,
    },
}

#[derive(Deserialize)]
struct Credentials {
    kubeconfigs: Vec<Kubeconfig>,
}

#[derive(Deserialize)]
struct Kubeconfig {
    value: String,
}

impl FromStr for ClusterRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "a cluster's name, `group/name`, or `/subscriptions/…/resourceGroups/…/providers/Microsoft.ContainerService/managedClusters/…`";
        let parts: Vec<&str> = text.split('/').collect();
        let (subscription, group, name) = match parts.as_slice() {
            [name] => (None, None, *name),
            [group, name] => (None, Some(*group), *name),
            [
                "",
                subscriptions,
                subscription,
                groups,
                group,
                providers,
                provider,
                kind,
                name,
            ] if subscriptions.eq_ignore_ascii_case("subscriptions")
                && groups.eq_ignore_ascii_case("resourceGroups")
                && providers.eq_ignore_ascii_case("providers")
                && provider.eq_ignore_ascii_case("Microsoft.ContainerService")
                && kind.eq_ignore_ascii_case("managedClusters") =>
            {
                (Some(*subscription), Some(*group), *name)
            }
            _ => return Err(format!("it is not {form}")),
        };
        let is_name = |part: &str| {
            !part.is_empty()
                && !part.trim_matches('.').is_empty()
                && part
                    .chars()
                    .all(|c| c.is_alphanumeric() || "-_.()".contains(c))
        };
        let mut given = [subscription, group, Some(name)].into_iter().flatten();
        if !given.all(is_name) {
            return Err(format!(
                "a part of it is empty or holds characters that Azure's names have not; it must be {form}"
            ));
        }
        Ok(Self {
            subscription: subscription.map(str::to_owned),
            group: group.map(str::to_owned),
            name: name.to_owned(),
        })
    }
}

impl ClusterRef {
    /// The cluster, with what the reference leaves out taken from the inputs; the missing input otherwise.
    pub(crate) fn complete(
        self,
        subscription: Option<&str>,
        group: Option<&str>,
    ) -> Result<AksCluster, &'static str> {
        let given = |own: Option<String>, input: Option<&str>| own.or(input.map(str::to_owned));
        Ok(AksCluster {
            subscription: given(self.subscription, subscription).ok_or("subscription")?,
            group: given(self.group, group).ok_or("resource-group")?,
            name: self.name,
        })
    }
}

impl fmt::Display for AksCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subscription,
            group,
            name,
        } = self;
        write!(
            f,
            "cluster `{name}` (resource group `{group}`, subscription `{subscription}`)"
        )
    }
}

/// Names of the contexts: the clusters' names, with as much in front as it takes to tell them apart.
pub(crate) fn context_names(clusters: &[AksCluster]) -> Vec<String> {
    let is_unique = |name: fn(&AksCluster) -> String, cluster: &AksCluster| {
        let wanted = name(cluster);
        clusters
            .iter()
            .filter(|other| name(other) == wanted)
            .count()
            == 1
    };
    let short = |cluster: &AksCluster| cluster.name.clone();
    let longer = |cluster: &AksCluster| format!("{}/{}", cluster.group, cluster.name);
    let named = clusters.iter().map(|cluster| {
        if is_unique(short, cluster) {
            short(cluster)
        } else if is_unique(longer, cluster) {
            longer(cluster)
        } else {
            format!("{}/{}", cluster.subscription, longer(cluster))
        }
    });
    named.collect()
}

/// Which address of a private cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fqdn {
    Private,
    Public,
}

/// Asks ARM for the kubeconfig of a cluster's users.
///
/// # Errors
/// When there is none, or none that can be used.
pub(crate) async fn user_credential(
    session: &Session,
    resource_manager: &DisplaySafeUrl,
    token: &Secret,
    cluster: &AksCluster,
    fqdn: Fqdn,
) -> Result<Answer, ArmError> {
    let failed = |source| ArmError::Http {
        cluster: cluster.clone(),
        source,
    };
    let request = Request::new(
        switchyard_http::Method::POST,
        url(resource_manager, cluster, fqdn),
    )
    .bearer(token.expose())
    .header(header::CONTENT_LENGTH, HeaderValue::from_static("0"))
    // Listing changes nothing, although it is a POST.
    .repeat(Repeat::IdempotentAfterAnyServerError)
    .within(session.left());
    let answer = session.client.send(&request).await.map_err(failed)?;
    let answer = answer.require_success().map_err(failed)?;
    let unreadable = || ArmError::Answer {
        cluster: cluster.clone(),
    };
    let credentials: Credentials =
        serde_json::from_slice(answer.body()).map_err(|_| unreadable())?;
    let first = credentials.kubeconfigs.first().ok_or_else(unreadable)?;
    let text = STANDARD.decode(&first.value).map_err(|_| unreadable())?;
    let text = String::from_utf8(text).map_err(|_| unreadable())?;
    Answer::parse(&text).map_err(|problem| ArmError::Kubeconfig {
        cluster: cluster.clone(),
        problem,
    })
}

fn url(resource_manager: &DisplaySafeUrl, cluster: &AksCluster, fqdn: Fqdn) -> DisplaySafeUrl {
    let path = [
        "subscriptions",
        &cluster.subscription,
        "resourceGroups",
        &cluster.group,
        "providers",
        "Microsoft.ContainerService",
        "managedClusters",
        &cluster.name,
        "listClusterUserCredential",
    ];
    let url = resource_manager.join_segments(path);
    let url = url.with_query([("api-version", API_VERSION), ("format", "exec")]);
    match fqdn {
        Fqdn::Private => url,
        Fqdn::Public => url.with_query([("server-fqdn", "public")]),
    }
}

impl ArmError {
    /// The failure to end with.
    pub(crate) fn into_failure(self) -> Failure {
        let hint = match &self {
            Self::Http { source, .. } => match source.status() {
                Some(StatusCode::UNAUTHORIZED) => Some(
                    "Azure Resource Manager does not take the token of this tenant for this subscription: check inputs `tenant` and `subscription`",
                ),
                Some(StatusCode::FORBIDDEN) => Some(
                    "give the application the role `Azure Kubernetes Service Cluster User Role` on the cluster; a new assignment takes some minutes to be known everywhere",
                ),
                Some(StatusCode::NOT_FOUND) => Some(
                    "check inputs `subscription`, `resource-group` and `cluster`: Azure knows no such cluster",
                ),
                Some(_) | None => None,
            },
            Self::Answer { .. } | Self::Kubeconfig { .. } => None,
        };
        Failure::remote(self).maybe_hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(subscription: &str, group: &str, name: &str) -> AksCluster {
        AksCluster {
            subscription: subscription.to_owned(),
            group: group.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_cluster_is_named_in_three_ways() {
        let whole = "/subscriptions/s/resourcegroups/g/providers/Microsoft.ContainerService/managedClusters/n";
        for text in ["n", "g/n", whole] {
            let reference: ClusterRef = text.parse().unwrap();
            assert_eq!(
                reference.complete(Some("s"), Some("g")),
                Ok(cluster("s", "g", "n")),
                "{text}"
            );
        }
        let reference: ClusterRef = "n".parse().unwrap();
        assert_eq!(
            reference.clone().complete(None, Some("g")),
            Err("subscription")
        );
        assert_eq!(reference.complete(Some("s"), None), Err("resource-group"));
    }

    #[test]
    fn what_could_lead_to_another_resource_is_refused() {
        for text in [
            "",
            "/",
            "a/b/c",
            "g/",
            "../n",
            "n?x=y",
            "n#",
            "/subscriptions/s/resourceGroups/g",
            "a b",
        ] {
            assert!(text.parse::<ClusterRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn contexts_are_told_apart() {
        let names = context_names(&[
            cluster("s", "g", "one"),
            cluster("s", "g", "two"),
            cluster("s", "h", "two"),
            cluster("s", "g", "three"),
            cluster("t", "g", "three"),
        ]);
        assert_eq!(names, ["one", "g/two", "h/two", "s/g/three", "t/g/three"]);
    }

    #[test]
    fn the_exec_format_is_always_asked_for() {
        let base = DisplaySafeUrl::parse("https://management.azure.com").unwrap();
        let asked = url(&base, &cluster("s", "g", "n"), Fqdn::Public);
        assert_eq!(
            asked.expose().as_str(),
            "https://management.azure.com/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/n/listClusterUserCredential?api-version=2025-10-01&format=exec&server-fqdn=public"
        );
    }
}
