//! What a Traefik replica says it has loaded: `/api/http/services`, and its request counters.
//! Refuses to know how the replica is reached and what it ought to say.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// One service as Traefik's API shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiService {
    /// `NAME@PROVIDER`.
    pub name: String,
    /// Children of a weighted service.
    pub children: Vec<Child>,
    /// Servers of a load balancer.
    pub servers: Vec<Server>,
}

/// A child of a weighted service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its name, with or without `@PROVIDER`.
    pub name: String,
    /// Its weight; unset means 1.
    pub weight: u32,
}

/// A server of a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `address:port`.
    pub address: String,
    /// Whether it is terminating, so that no new session goes there.
    pub is_fenced: bool,
}

impl ApiService {
    /// The servers that get new requests.
    pub fn open_servers(&self) -> BTreeSet<String> {
        self.servers
            .iter()
            .filter(|server| !server.is_fenced)
            .map(|server| server.address.clone())
            .collect()
    }
}

#[derive(Deserialize)]
struct RawService {
    #[serde(default)]
    name: String,
    weighted: Option<RawWeighted>,
    #[serde(rename = "loadBalancer")]
    load_balancer: Option<RawBalancer>,
}

#[derive(Deserialize)]
struct RawWeighted {
    #[serde(default)]
    services: Vec<RawChild>,
}

#[derive(Deserialize)]
struct RawChild {
    #[serde(default)]
    name: String,
    weight: Option<u32>,
}

#[derive(Deserialize)]
struct RawBalancer {
    #[serde(default)]
    servers: Vec<RawServer>,
}

#[derive(Deserialize)]
struct RawServer {
    #[serde(default)]
    url: String,
    #[serde(default)]
    fenced: bool,
}

/// Reads one page of `/api/http/services`.
pub fn parse_services(body: &[u8]) -> Result<Vec<ApiService>, serde_json::Error> {
    let raw: Vec<RawService> = serde_json::from_slice(body)?;
    Ok(raw.into_iter().map(service).collect())
}

fn service(raw: RawService) -> ApiService {
    let children = raw
        .weighted
        .map(|weighted| weighted.services)
        .unwrap_or_default();
    let servers = raw
        .load_balancer
        .map(|balancer| balancer.servers)
        .unwrap_or_default();
    ApiService {
        name: raw.name,
        children: children
            .into_iter()
            .map(|child| Child {
                name: child.name,
                weight: child.weight.unwrap_or(1),
            })
            .collect(),
        servers: servers
            .into_iter()
            .map(|server| Server {
                address: address_of(&server.url),
                is_fenced: server.fenced,
            })
            .collect(),
    }
}

/// `http://10.0.0.1:8080/` as `10.0.0.1:8080`.
fn address_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_owned()
}

/// An endpoint as Traefik writes it: IPv6 addresses in brackets.
pub fn server_address(ip: &str, port: u16) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

/// The next page to ask for, from `X-Next-Page`; Traefik answers 1 on the last one.
pub fn next_page(header: Option<&str>, current: u32) -> Option<u32> {
    header
        .and_then(|text| text.parse().ok())
        .filter(|next| *next > current)
}

/// Requests that each service has finished, since it was first counted.
///
/// Traefik counts a request when it ends, so one in flight is not in it yet.
pub fn finished_requests(metrics: &str) -> BTreeMap<String, f64> {
    let mut totals = BTreeMap::new();
    for sample in crate::metrics::samples(metrics, "traefik_service_requests_total") {
        if let Some(service) = sample.labels.get("service") {
            *totals.entry(service.clone()).or_insert(0.0) += sample.value;
        }
    }
    totals
}

/// Whether a replica counts requests by service at all (`addServicesLabels`).
pub fn counts_services(metrics: &str) -> bool {
    metrics.contains("traefik_service_requests_total")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_servers_are_read_and_an_unset_weight_is_one() {
        let body = br#"[
          {"name":"shop-web@kubernetescrd","status":"enabled","type":"weighted",
           "weighted":{"services":[{"name":"shop-web-blue-80","weight":0},{"name":"shop-web-green-80"}]}},
          {"name":"shop-web-blue-80@kubernetescrd","loadBalancer":{"servers":[
            {"url":"http://10.244.0.5:8080"},{"url":"http://10.244.0.6:8080","fenced":true}]}},
          {"name":"api@internal","status":"enabled"}]"#;
        let services = parse_services(body).unwrap();
        assert_eq!(services[0].children[0].weight, 0);
        assert_eq!(services[0].children[1].weight, 1);
        assert_eq!(
            services[1].open_servers(),
            BTreeSet::from(["10.244.0.5:8080".to_owned()])
        );
    }

    #[test]
    fn the_last_page_is_known_by_its_header() {
        assert_eq!(next_page(Some("2"), 1), Some(2));
        assert_eq!(next_page(Some("1"), 2), None);
        assert_eq!(next_page(None, 1), None);
    }

    #[test]
    fn finished_requests_are_summed_over_codes_and_methods() {
        let text = "traefik_service_requests_total{code=\"200\",service=\"a@x\"} 3\n\
                    traefik_service_requests_total{code=\"500\",service=\"a@x\"} 2\n";
        assert!((finished_requests(text)["a@x"] - 5.0).abs() < f64::EPSILON);
    }
}
