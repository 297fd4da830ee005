//! Asking every replica of a proxy what it has loaded, by URL or through port-forwards.
//! Refuses to judge the answers; a replica that gives none is told from one that says no.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures::future::join_all;
use switchyard_cluster::port_forward::{ForwardTarget, PodPort};
use switchyard_cluster::{Cluster, Deadline};
use switchyard_http::{Client, DisplaySafeUrl, Repeat, Request};
use thiserror::Error;

use crate::evidence::KubeProxySample;
use crate::traefik_api::{ApiService, finished_requests, next_page, parse_services};

/// A proxy answers its API at once or it is not well.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Services asked for on one page of Traefik's API.
const PAGE: u32 = 1000;

/// Where the replicas of a proxy answer: a URL of one, or all pods behind an object.
#[derive(Clone, Debug, PartialEq)]
pub enum ProxySource {
    /// One replica.
    Url(DisplaySafeUrl),
    /// Every ready pod behind `NAMESPACE/KIND/NAME:PORT`, reached by port-forward.
    Pods {
        /// Namespace of the proxy.
        namespace: String,
        /// Service or workload, and port.
        target: ForwardTarget,
    },
}

/// A text that names no proxy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{given}` is neither a URL nor `NAMESPACE/KIND/NAME:PORT`: {problem}")]
pub struct BadProxySource {
    given: String,
    problem: String,
}

impl FromStr for ProxySource {
    type Err = BadProxySource;

    fn from_str(text: &str) -> Result<Self, BadProxySource> {
        let given = text.trim();
        let bad = |problem: String| BadProxySource {
            given: given.to_owned(),
            problem,
        };
        if given.contains("://") {
            return DisplaySafeUrl::parse(given)
                .map(Self::Url)
                .map_err(|error| bad(error.to_string()));
        }
        let (namespace, rest) = given
            .split_once('/')
            .ok_or_else(|| bad("there is no `/`".to_owned()))?;
        let target = rest.parse().map_err(
            |error: switchyard_cluster::port_forward::ForwardTargetError| bad(error.to_string()),
        )?;
        Ok(Self::Pods {
            namespace: namespace.to_owned(),
            target,
        })
    }
}

impl fmt::Display for ProxySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => formatter.write_str(&url.host()),
            Self::Pods { namespace, target } => write!(formatter, "{namespace}/{target}"),
        }
    }
}

/// One replica of a proxy.
#[derive(Clone, Debug)]
pub struct Replica {
    /// How it is named to people.
    pub name: String,
    reach: Reach,
}

#[derive(Clone, Debug)]
enum Reach {
    Url(DisplaySafeUrl),
    Pod { cluster: Cluster, pod: PodPort },
}

/// An answer of a replica.
struct Answer {
    next_page: Option<String>,
    body: Vec<u8>,
}

/// How kube-proxies are asked.
#[derive(Clone, Debug, PartialEq)]
pub enum KubeProxies {
    /// At these places.
    At(Vec<ProxySource>),
    /// Not at all: the user says that nobody reaches the Services through kube-proxy.
    Bypassed,
}

/// The proxies in the way of an application's traffic.
#[derive(Clone, Debug)]
pub struct Proxies {
    /// For reaching pods.
    pub cluster: Cluster,
    /// For reaching URLs.
    pub client: Client,
    /// Traefik's API; empty when it was not given.
    pub traefik_api: Vec<ProxySource>,
    /// Traefik's metrics; empty means the API's own addresses.
    pub traefik_metrics: Vec<ProxySource>,
    /// kube-proxy's metrics.
    pub kube_proxy: KubeProxies,
}

impl Proxies {
    /// The replicas that these sources lead to now; pods come and go.
    ///
    /// # Errors
    /// In words: which source leads nowhere, and why.
    pub async fn replicas(&self, sources: &[ProxySource]) -> Result<Vec<Replica>, String> {
        let mut replicas = Vec::new();
        for source in sources {
            match source {
                ProxySource::Url(url) => {
                    replicas.push(Replica {
                        name: url.host(),
                        reach: Reach::Url(url.clone()),
                    });
                }
                ProxySource::Pods { namespace, target } => {
                    let cluster = self.cluster.in_namespace(namespace);
                    let found = cluster
                        .pod_ports(target, Deadline::after(ANSWER_LIMIT))
                        .await;
                    let pods = found.map_err(|error| format!("{source}: {error}"))?;
                    replicas.extend(pods.into_iter().map(|pod| Replica {
                        name: pod.pod.clone(),
                        reach: Reach::Pod {
                            cluster: cluster.clone(),
                            pod,
                        },
                    }));
                }
            }
        }
        Ok(replicas)
    }

    /// What every Traefik replica has loaded.
    pub async fn traefik_services(&self) -> Vec<(String, Result<Vec<ApiService>, String>)> {
        self.each(&self.traefik_api, |replica| async move {
            self.services_of(&replica).await
        })
        .await
    }

    /// Requests finished by service, of every Traefik replica.
    pub async fn traefik_counters(&self) -> Vec<(String, Result<BTreeMap<String, f64>, String>)> {
        let sources = if self.traefik_metrics.is_empty() {
            &self.traefik_api
        } else {
            &self.traefik_metrics
        };
        self.each(sources, |replica| async move {
            let text = self.text(&replica, "metrics").await?;
            if text.contains("traefik_config_reloads_total")
                || crate::traefik_api::counts_services(&text)
            {
                Ok(finished_requests(&text))
            } else {
                Err("its metrics are not Traefik's".to_owned())
            }
        })
        .await
    }

    /// What every kube-proxy says of its synchronisation.
    pub async fn kube_proxy_samples(&self) -> Vec<(String, Result<KubeProxySample, String>)> {
        let KubeProxies::At(sources) = &self.kube_proxy else {
            return Vec::new();
        };
        self.each(sources, |replica| async move {
            let text = self.text(&replica, "metrics").await?;
            KubeProxySample::parse(&text)
                .ok_or_else(|| "its metrics do not tell when rules were written".to_owned())
        })
        .await
    }

    async fn each<T, F, Fut>(
        &self,
        sources: &[ProxySource],
        ask: F,
    ) -> Vec<(String, Result<T, String>)>
    where
        F: Fn(Replica) -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        match self.replicas(sources).await {
            Ok(replicas) => {
                let asked = replicas.into_iter().map(|replica| {
                    let name = replica.name.clone();
                    let answer = ask(replica);
                    async move { (name, answer.await) }
                });
                join_all(asked).await
            }
            Err(problem) => vec![("(replicas)".to_owned(), Err(problem))],
        }
    }

    async fn services_of(&self, replica: &Replica) -> Result<Vec<ApiService>, String> {
        let mut services = Vec::new();
        let mut page = 1;
        loop {
            let path = format!("api/http/services?per_page={PAGE}&page={page}");
            let answer = self.ask(replica, &path).await?;
            let parsed = parse_services(&answer.body)
                .map_err(|error| format!("it answers something else: {error}"))?;
            services.extend(parsed);
            match next_page(answer.next_page.as_deref(), page) {
                Some(next) => page = next,
                None => return Ok(services),
            }
        }
    }

    async fn text(&self, replica: &Replica, path: &str) -> Result<String, String> {
        let answer = self.ask(replica, path).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    async fn ask(&self, replica: &Replica, path: &str) -> Result<Answer, String> {
        match &replica.reach {
            Reach::Url(base) => self.ask_url(base, path).await,
            Reach::Pod { cluster, pod } => ask_pod(cluster, pod, path).await,
        }
    }

    async fn ask_url(&self, base: &DisplaySafeUrl, path: &str) -> Result<Answer, String> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        // A metrics address is often given with its path.
        let is_whole = base
            .expose()
            .path()
            .trim_end_matches('/')
            .ends_with(&format!("/{path}"));
        let segments = path.split('/').filter(|_| !is_whole);
        let mut url = base.join_segments(segments).expose().clone();
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let url = DisplaySafeUrl::parse(url.as_str()).map_err(|error| error.to_string())?;
        let request = Request::get(url).repeat(Repeat::Never).within(ANSWER_LIMIT);
        let response = self
            .client
            .send(&request)
            .await
            .map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("it answers {}", response.status()));
        }
        let next_page = response
            .headers()
            .get("X-Next-Page")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        Ok(Answer {
            next_page,
            body: response.body().to_vec(),
        })
    }
}

async fn ask_pod(cluster: &Cluster, pod: &PodPort, path: &str) -> Result<Answer, String> {
    let request = http::Request::get(format!("/{path}"))
        .header("Host", "localhost")
        .body(http_body_util::Full::default());
    let request = request.map_err(|error| error.to_string())?;
    let response = cluster
        .http_through_pod(pod, request, ANSWER_LIMIT)
        .await
        .map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("it answers {}", response.status()));
    }
    let next_page = response
        .headers()
        .get("X-Next-Page")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    Ok(Answer {
        next_page,
        body: response.body().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_url_or_the_pods_behind_an_object() {
        assert!(matches!(
            "http://10.0.0.1:8080".parse(),
            Ok(ProxySource::Url(_))
        ));
        let pods: ProxySource = "traefik/deployment/traefik:8080".parse().unwrap();
        assert_eq!(pods.to_string(), "traefik/deployment/traefik:8080");
        for nonsense in [
            "",
            "traefik",
            "traefik/x/y",
            "ftp://x",
            "kube-system/daemonset/kube-proxy",
        ] {
            assert!(nonsense.parse::<ProxySource>().is_err(), "{nonsense}");
        }
    }
}
