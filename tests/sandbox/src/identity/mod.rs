//! What the API server asks about tokens that are not its own: the public keys of GitHub and of Entra,
//! as far as stand-ins published them below the state folder, and who presents an EKS token. Its
//! addresses never change, so stand-ins come and go without a change at the API server.
//!
//! It gives out no token and decides nothing that RBAC decides.

mod configuration;
mod eks_token;

use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{
    error::{Context as _, Result, read},
    http_client::HttpClient,
    instance::{Layout, NODE_ADDRESS},
    standins::{GITHUB_ISSUER, entra, token_service},
    tls::TlsAuthority,
};
pub use configuration::DIRECT_AUDIENCE;
pub(crate) use configuration::{authentication, token_webhook};
pub(crate) use eks_token::AccessEntry;
pub use eks_token::AccessEntryGuard;
pub use eks_token::EKS_CLUSTER;

/// The port on the node's address.
const PORT: u16 = 6444;

/// An issuer whose tokens the API server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrustedIssuer {
    /// GitHub's token service.
    GitHub,
    /// Entra, for the stand-ins' tenant in the public cloud.
    Entra,
}

impl TrustedIssuer {
    pub(crate) const ALL: [Self; 2] = [Self::GitHub, Self::Entra];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::Entra => "entra",
        }
    }

    /// What stands in the tokens.
    pub(crate) fn url(self) -> String {
        match self {
            Self::GitHub => GITHUB_ISSUER.to_owned(),
            Self::Entra => entra::Cloud::Public.issuer(entra::TENANT),
        }
    }

    fn discovery(self) -> Value {
        let keys = format!("{}/{}/keys", address(), self.name());
        match self {
            Self::GitHub => token_service::discovery(&self.url(), &keys),
            Self::Entra => entra::discovery(entra::Cloud::Public, &keys),
        }
    }
}

fn address() -> String {
    format!("https://{NODE_ADDRESS}:{PORT}")
}

/// Whether it serves.
pub(crate) async fn is_ready(client: &HttpClient) -> bool {
    let url = format!("{}/github/keys", address());
    client
        .get(&url)
        .await
        .is_ok_and(|answer| answer.status.is_success())
}

struct Identity {
    layout: Layout,
    client: HttpClient,
}

/// Serves until the process ends.
pub(crate) async fn serve(layout: Layout) -> Result<()> {
    let address = SocketAddr::from(([10, 10, 0, 1], PORT));
    let tls = TlsAuthority::of(&layout)?.server("identity", address.ip())?;
    let tls = TlsAcceptor::from(tls);
    let identity = Arc::new(Identity {
        client: HttpClient::trusting(&read(&layout.ca_certificate())?)?,
        layout,
    });
    let listener = TcpListener::bind(address).await;
    let listener = listener.context(|| format!("cannot listen at {address}"))?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (tls, identity) = (tls.clone(), Arc::clone(&identity));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = service_fn(|request| answer(request, Arc::clone(&identity)));
            // An error is a client that went away.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    identity: Arc<Identity>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let of = |issuer: TrustedIssuer, rest: &str| path == format!("/{}{rest}", issuer.name());
    let document = if *request.method() == Method::POST && path == "/token-review" {
        let body = request
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes());
        Some(identity.review(&body.unwrap_or_default()).await)
    } else {
        TrustedIssuer::ALL.into_iter().find_map(|issuer| {
            if of(issuer, "/.well-known/openid-configuration") {
                Some(issuer.discovery())
            } else if of(issuer, "/keys") {
                Some(published(&identity.layout.published_keys(issuer)))
            } else {
                None
            }
        })
    };
    let body = document.as_ref().map(Value::to_string).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    if document.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    let kind = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}

/// All keys that are published in a folder, as one set.
fn published(folder: &Path) -> Value {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let complete = files.map(|file| file.path()).filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    let sets = complete
        .filter_map(|path| serde_json::from_slice::<Value>(&std::fs::read(path).ok()?).ok());
    let keys: Vec<Value> = sets
        .flat_map(|set| set["keys"].as_array().cloned().unwrap_or_default())
        .collect();
    json!({"keys": keys})
}

impl Identity {
    /// Answers a TokenReview.
    async fn review(&self, body: &[u8]) -> Value {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let token = request["spec"]["token"].as_str().unwrap_or_default();
        let reviewed = if token.starts_with(eks_token::PREFIX) {
            eks_token::review(token, &self.client, &self.layout.access_entries())
                .await
                .map(Some)
        } else {
            // Somebody else's token: no error, only not ours.
            Ok(None)
        };
        let status = match reviewed {
            Ok(Some(user)) => json!({"authenticated": true, "user": user}),
            Ok(None) => json!({"authenticated": false}),
            Err(error) => json!({"authenticated": false, "error": error.chain()}),
        };
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_keys_of_all_stand_ins_make_one_set() {
        let folder = std::env::temp_dir().join(format!("published-{}", rand::random::<u64>()));
        assert_eq!(published(&folder), json!({"keys": []}), "no folder yet");
        std::fs::create_dir(&folder).unwrap();
        for (name, content) in [
            ("a.json", r#"{"keys":[{"kid":"1"},{"kid":"2"}]}"#),
            ("b.json", r#"{"keys":[{"kid":"3"}]}"#),
            ("c.partial", r#"{"keys":[{"kid":"4"}]}"#),
            ("d.json", r#"{"keys":"#),
        ] {
            std::fs::write(folder.join(name), content).unwrap();
        }
        let set = published(&folder);
        let mut ids: Vec<&str> = set["keys"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|key| key["kid"].as_str())
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, ["1", "2", "3"]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
