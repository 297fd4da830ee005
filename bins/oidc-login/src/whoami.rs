//! The proof of a login: the cluster itself says who we are to it.

use serde::Deserialize;
use serde_json::json;
use switchyard_http::{Client, DisplaySafeUrl, Repeat, Request, StatusCode};
use switchyard_runner::{Failure, Secret};

use crate::explain::printable;
use crate::session::Session;

const REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// Who we are to a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Identity {
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) groups: Vec<String>,
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    user_info: Identity,
}

/// Why a cluster did not say who we are.
#[derive(Debug, thiserror::Error)]
#[error("cluster `{cluster}` does not say who we are to it")]
pub(crate) struct Unknown {
    cluster: String,
    #[source]
    source: switchyard_http::Error,
}

impl Identity {
    /// Asks a cluster who we are; with a token, or as the client's certificate says.
    ///
    /// # Errors
    /// When it does not answer in time, or knows us not.
    pub(crate) async fn ask(
        session: &Session,
        client: &Client,
        (cluster, server): (&str, &DisplaySafeUrl),
        token: Option<&Secret>,
    ) -> Result<Self, Unknown> {
        let unknown = |source| Unknown {
            cluster: cluster.to_owned(),
            source,
        };
        let segments = REVIEW.split('/').filter(|segment| !segment.is_empty());
        let review =
            json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let mut request = Request::post_json(server.join_segments(segments), &review)
            // A review is answered and forgotten.
            .repeat(Repeat::Idempotent)
            .within(session.left());
        if let Some(token) = token {
            request = request.bearer(token.expose());
        }
        let answer = client.send(&request).await.map_err(unknown)?;
        let answer = answer.require_success().map_err(unknown)?;
        let review: Review = answer.json().map_err(unknown)?;
        Ok(review.status.user_info)
    }

    /// In one printable line.
    pub(crate) fn describe(&self) -> String {
        let groups = if self.groups.is_empty() {
            "no group".to_owned()
        } else {
            self.groups.join("`, `")
        };
        printable(&format!("`{}`, in `{groups}`", self.username))
    }
}

impl Unknown {
    /// The failure to end with.
    pub(crate) fn into_failure(self) -> Failure {
        let hint = match self.source.status() {
            Some(StatusCode::UNAUTHORIZED) => Some(
                "the cluster does not take the token: is it configured for this issuer, audience and tenant? A cluster of EKS needs an access entry for the role",
            ),
            Some(StatusCode::FORBIDDEN) => Some(
                "the cluster's authorization keeps even `system:basic-user` from asking; bind that role to `system:authenticated`",
            ),
            Some(StatusCode::NOT_FOUND) => Some("SelfSubjectReview needs Kubernetes 1.28 or later"),
            Some(_) => None,
            None => Some(
                "can this runner reach the cluster? A private one needs a runner in its network, or input `public-fqdn`",
            ),
        };
        Failure::remote(self).maybe_hint(hint)
    }
}
