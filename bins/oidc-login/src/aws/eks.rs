//! EKS's answer to where a cluster is: its address and its authority.
//! <https://docs.aws.amazon.com/eks/latest/APIReference/API_DescribeCluster.html>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use switchyard_http::{DisplaySafeUrl, Method};
use switchyard_runner::Failure;

use super::names::{ClusterName, Region, Service};
use super::refusal::Refusal;
use super::signing::{NotSigned, Scope, Unsigned, signed};
use super::sts::RoleSession;
use crate::explain::printable;
use crate::session::Session;

/// Where a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) server: DisplaySafeUrl,
    /// PEM text.
    pub(crate) authority: String,
}

/// Why EKS did not say where a cluster is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EksError {
    #[error("EKS does not describe cluster `{cluster}` in `{region}` to `{caller}`: {}", printable(&refusal.headline()))]
    Refused {
        cluster: ClusterName,
        region: Region,
        caller: String,
        refusal: Box<Refusal>,
    },
    #[error("EKS does not describe cluster `{cluster}` in `{region}`")]
    Unanswered {
        cluster: ClusterName,
        region: Region,
        source: switchyard_http::Error,
    },
    #[error(
        "cluster `{cluster}` is `{}` and has no API server yet",
        printable(status)
    )]
    NotThere {
        cluster: ClusterName,
        status: String,
    },
    #[error("EKS's answer for cluster `{cluster}` has {problem}")]
    Answer {
        cluster: ClusterName,
        problem: &'static str,
    },
    #[error(transparent)]
    NotSigned(#[from] NotSigned),
}

#[derive(Deserialize)]
struct Answer {
    cluster: Described,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    status: String,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    certificate_authority: Authority,
}

#[derive(Default, Deserialize)]
struct Authority {
    #[serde(default)]
    data: Option<String>,
}

/// Asks EKS for a cluster.
///
/// # Errors
/// When it does not say, or there is nothing to reach yet.
pub(crate) async fn describe(
    session: &Session,
    (region, base): (&Region, &DisplaySafeUrl),
    role_session: &RoleSession,
    cluster: &ClusterName,
) -> Result<Place, EksError> {
    let unanswered = |source| EksError::Unanswered {
        cluster: cluster.clone(),
        region: region.clone(),
        source,
    };
    let unsigned = Unsigned {
        method: Method::GET,
        url: base.join_segments(["clusters", &cluster.to_string()]),
        headers: &[],
        body: String::new(),
    };
    let scope = Scope {
        region,
        service: Service::Eks.name(),
        at: role_session.now(),
    };
    let request = signed(unsigned, &role_session.keys, scope)?.within(session.left());
    let answer = session.client.send(&request).await.map_err(unanswered)?;
    if !answer.status().is_success()
        && let Some(refusal) = Refusal::of_json(&answer)
    {
        return Err(EksError::Refused {
            cluster: cluster.clone(),
            region: region.clone(),
            caller: role_session.arn.clone(),
            refusal: Box::new(refusal),
        });
    }
    let answer = answer.require_success().map_err(unanswered)?;
    let answer: Answer = answer.json().map_err(unanswered)?;
    place(cluster, answer.cluster)
}

fn place(cluster: &ClusterName, described: Described) -> Result<Place, EksError> {
    let wrong = |problem| EksError::Answer {
        cluster: cluster.clone(),
        problem,
    };
    let (Some(endpoint), Some(data)) = (described.endpoint, described.certificate_authority.data)
    else {
        return Err(EksError::NotThere {
            cluster: cluster.clone(),
            status: described.status,
        });
    };
    let server = DisplaySafeUrl::parse(&endpoint)
        .ok()
        .filter(|url| url.expose().scheme() == "https" && url.expose().username().is_empty());
    let authority = STANDARD.decode(data).ok();
    let authority = authority.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(Place {
        server: server.ok_or_else(|| wrong("an address that is no `https://` URL"))?,
        authority: authority
            .filter(|text| text.contains("-----BEGIN "))
            .ok_or_else(|| wrong("an authority that is not the base64 of PEM text"))?,
    })
}

impl EksError {
    /// The failure to end with.
    pub(crate) fn into_failure(self) -> Failure {
        let hints: Vec<String> = match &self {
            Self::Refused { refusal, .. } => refusal.hints(None),
            Self::NotThere { .. } => {
                vec!["wait for it: `aws eks wait cluster-active --name` with its name".to_owned()]
            }
            Self::NotSigned(_) | Self::Unanswered { .. } | Self::Answer { .. } => Vec::new(),
        };
        let failure = match self {
            Self::NotSigned(cause) => Failure::bug(cause),
            Self::Refused { .. }
            | Self::Unanswered { .. }
            | Self::NotThere { .. }
            | Self::Answer { .. } => Failure::remote(self),
        };
        hints.into_iter().fold(failure, Failure::hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(document: &serde_json::Value) -> Result<Place, EksError> {
        let described = serde_json::from_value(document.clone()).unwrap();
        place(&"shop".parse().unwrap(), described)
    }

    #[test]
    fn a_cluster_without_a_safe_address_is_not_gone_to() {
        let pem = STANDARD.encode("-----BEGIN CERTIFICATE-----");
        let good = serde_json::json!({
            "status": "ACTIVE", "endpoint": "https://shop.example.test",
            "certificateAuthority": {"data": pem},
        });
        assert!(placed(&good).is_ok());
        for (pointer, value, words) in [
            ("/endpoint", "http://shop.example.test", "no `https://` URL"),
            ("/certificateAuthority/data", "AAAA", "base64 of PEM"),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value.into();
            let error = placed(&bad).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let young = serde_json::json!({"status": "CREATING", "certificateAuthority": {}});
        let error = placed(&young).unwrap_err().to_string();
        assert!(error.contains("`CREATING`"), "{error}");
    }
}
