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

use crate::envoy_admin::{CLUSTERS_PATH, EnvoyState, ROUTES_PATH, parse_clusters, parse_routes};
use crate::evidence::KubeProxySample;
use crate::ingress_nginx::{BACKENDS_PATH, NginxBackend, TAKEN_AFTER, parse_backends};
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
    /// Envoy's admin API; empty when it was not given.
    pub envoy_admin: Vec<ProxySource>,
    /// The status servers of ingress-nginx's controllers; empty when they were not given.
    pub nginx_status: Vec<ProxySource>,
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
            counters_of(&text)
        })
        .await
    }

    /// What every Envoy has loaded.
    pub async fn envoy_states(&self) -> Vec<(String, Result<EnvoyState, String>)> {
        self.each(&self.envoy_admin, |replica| async move {
            self.envoy_state(&replica).await
        })
        .await
    }

    async fn envoy_state(&self, replica: &Replica) -> Result<EnvoyState, String> {
        let other = |error| format!("it answers something else: {error}");
        let routes = self.ask(replica, ROUTES_PATH).await?;
        let clusters = self.ask(replica, CLUSTERS_PATH).await?;
        Ok(EnvoyState {
            routes: parse_routes(&routes.body).map_err(other)?,
            clusters: parse_clusters(&clusters.body).map_err(other)?,
        })
    }

    /// What the workers of every ingress-nginx controller have taken.
    pub async fn nginx_backends(&self) -> Vec<(String, Result<Vec<NginxBackend>, String>)> {
        self.each(&self.nginx_status, |replica| async move {
            let given = self.backends_of(&replica).await?;
            tokio::time::sleep(TAKEN_AFTER).await;
            if self.backends_of(&replica).await? != given {
                return Err("its workers are being given something else".to_owned());
            }
            Ok(given)
        })
        .await
    }

    async fn backends_of(&self, replica: &Replica) -> Result<Vec<NginxBackend>, String> {
        let answer = self.ask(replica, BACKENDS_PATH).await?;
        parse_backends(&answer.body).map_err(|error| format!("it answers something else: {error}"))
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

/// Requests finished by service. Without a single counter by service nobody counts, which is not
/// the same as nothing being in flight.
fn counters_of(metrics: &str) -> Result<BTreeMap<String, f64>, String> {
    if crate::traefik_api::counts_services(metrics) {
        return Ok(finished_requests(metrics));
    }
    let problem = if metrics.contains("traefik_config_reloads_total") {
        "its metrics count no requests by service (`metrics.prometheus.addServicesLabels`)"
    } else {
        "its metrics are not Traefik's"
    };
    Err(problem.to_owned())
}

/// What two questions to the same replicas have brought, put together by replica.
///
/// # Errors
/// In words: the answers are not of the same replicas.
pub fn paired<A, B>(
    first: Vec<(String, A)>,
    second: Vec<(String, B)>,
) -> Result<Vec<(String, A, B)>, String> {
    if first.len() != second.len() {
        return Err(format!(
            "{} replicas answered its API, and {} its metrics",
            first.len(),
            second.len()
        ));
    }
    let mut by_name: BTreeMap<String, Vec<B>> = BTreeMap::new();
    for (name, answer) in second.into_iter().rev() {
        by_name.entry(name).or_default().push(answer);
    }
    let pairs = first.into_iter().map(|(name, answer)| {
        let other = by_name.get_mut(&name).and_then(Vec::pop);
        let other = other.ok_or_else(|| format!("replica {name} was asked for no metrics"))?;
        Ok((name, answer, other))
    });
    pairs.collect()
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
    fn metrics_without_services_count_nothing() {
        let bare = "traefik_config_reloads_total 3\n";
        assert!(counters_of(bare).unwrap_err().contains("addServicesLabels"));
        assert!(counters_of("go_goroutines 4\n").is_err());
        let counted = concat!(
            "traefik_config_reloads_total 3\n",
            "traefik_service_requests_total{code=\"200\",service=\"web@kubernetescrd\"} 4\n",
        );
        assert_eq!(counters_of(counted).unwrap().len(), 1);
    }

    #[test]
    fn answers_are_put_together_by_replica_and_not_by_place() {
        let of = |names: &[&str]| -> Vec<(String, String)> {
            names
                .iter()
                .map(|name| ((*name).to_owned(), format!("of {name}")))
                .collect()
        };
        let pairs = paired(of(&["a", "b"]), of(&["b", "a"])).unwrap();
        assert!(
            pairs.iter().all(|(_, one, other)| one == other),
            "{pairs:?}"
        );
        assert!(paired(of(&["a", "b"]), of(&["a"])).is_err());
        assert!(paired(of(&["a", "b"]), of(&["a", "c"])).is_err());
    }

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
