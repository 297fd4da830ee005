//! What an Envoy says it has loaded: `/config_dump` and `/clusters` of its admin API.
//! Refuses to know how the replica is reached and what it ought to say.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::traefik_api::server_address;

/// The path that shows the routes that a control plane has sent.
pub const ROUTES_PATH: &str = "config_dump?resource=dynamic_route_configs";
/// The path that shows clusters with their hosts and counters.
pub const CLUSTERS_PATH: &str = "clusters?format=json";

/// What one replica has loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvoyState {
    /// Its routes, of every virtual host.
    pub routes: Vec<EnvoyRoute>,
    /// Its clusters.
    pub clusters: Vec<EnvoyCluster>,
}

/// One route of a virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyRoute {
    /// Its name; istiod takes the name of the rule.
    pub name: String,
    /// The object that istiod made it of, `/apis/GROUP/VERSION/namespaces/NS/KIND/NAME`.
    pub config: String,
    /// Clusters with their weights; a route to one cluster has no weight.
    pub clusters: Vec<(String, Option<u32>)>,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyCluster {
    /// Its name; of istiod's, see [`EnvoyCluster::parts`].
    pub name: String,
    /// Its hosts.
    pub hosts: Vec<EnvoyHost>,
}

/// One host of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyHost {
    /// `address:port`.
    pub address: String,
    /// Whether requests are sent there: healthy by every account.
    pub is_open: bool,
    /// Requests sent there so far.
    pub requests: u64,
    /// Requests that it has not answered yet.
    pub in_flight: u64,
}

/// What the name of one of istiod's clusters says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterName<'name> {
    /// Name of the Service.
    pub service: &'name str,
    /// Its namespace.
    pub namespace: &'name str,
    /// The subset of it; empty for all of its endpoints.
    pub subset: &'name str,
    /// Its port.
    pub port: u16,
}

/// Takes `outbound|PORT|SUBSET|SERVICE.NAMESPACE.svc.DOMAIN` apart.
pub fn cluster_name(name: &str) -> Option<ClusterName<'_>> {
    let mut parts = name.split('|');
    let (direction, port, subset, host) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if direction != "outbound" || parts.next().is_some() {
        return None;
    }
    let mut labels = host.split('.');
    let (service, namespace, svc) = (labels.next()?, labels.next()?, labels.next()?);
    (svc == "svc").then_some(ClusterName {
        service,
        namespace,
        subset,
        port: port.parse().ok()?,
    })
}

impl EnvoyCluster {
    /// The hosts that get new requests.
    pub fn open_hosts(&self) -> BTreeSet<String> {
        self.hosts
            .iter()
            .filter(|host| host.is_open)
            .map(|host| host.address.clone())
            .collect()
    }
}

/// Reads the routes out of a configuration dump.
pub fn parse_routes(body: &[u8]) -> Result<Vec<EnvoyRoute>, serde_json::Error> {
    let dump: RawDump = serde_json::from_slice(body)?;
    let hosts = dump
        .configs
        .into_iter()
        .filter_map(|config| config.route_config)
        .flat_map(|config| config.virtual_hosts);
    let routes = hosts.flat_map(|host| host.routes).filter_map(|raw| {
        let action = raw.route?;
        let weighted = action.weighted_clusters.unwrap_or_default().clusters;
        let weighted = weighted
            .into_iter()
            // Envoy leaves out an unset weight, which is 0 there.
            .map(|cluster| (cluster.name, Some(cluster.weight.unwrap_or(0))));
        let single = action.cluster.map(|name| (name, None));
        Some(EnvoyRoute {
            name: raw.name,
            config: raw.metadata.filter_metadata.istio.config,
            clusters: weighted.chain(single).collect(),
        })
    });
    Ok(routes.collect())
}

/// Reads the answer of `/clusters?format=json`.
pub fn parse_clusters(body: &[u8]) -> Result<Vec<EnvoyCluster>, serde_json::Error> {
    let raw: RawClusters = serde_json::from_slice(body)?;
    let clusters = raw
        .cluster_statuses
        .into_iter()
        .map(|cluster| EnvoyCluster {
            name: cluster.name,
            hosts: cluster.host_statuses.into_iter().map(host).collect(),
        });
    Ok(clusters.collect())
}

fn host(raw: RawHost) -> EnvoyHost {
    let stat = |name: &str| {
        let found = raw.stats.iter().find(|stat| stat.name == name);
        // A value of 0 is left out.
        found.map_or(0, |stat| stat.value.parse().unwrap_or(0))
    };
    let health = &raw.health_status;
    let by_discovery = health.eds_health_status.as_deref();
    EnvoyHost {
        is_open: matches!(
            by_discovery,
            None | Some("HEALTHY" | "UNKNOWN" | "DEGRADED")
        ) && !health.failed_active_health_check
            && !health.failed_outlier_check
            && !health.pending_dynamic_removal,
        requests: stat("rq_total"),
        // What waits for a connection is told by newer Envoys only.
        in_flight: stat("rq_active") + stat("rq_pending_active"),
        address: raw
            .address
            .socket_address
            .map(|socket| server_address(&socket.address, socket.port_value))
            .unwrap_or_default(),
    }
}

#[derive(Deserialize)]
struct RawDump {
    #[serde(default)]
    configs: Vec<RawConfig>,
}

#[derive(Deserialize)]
struct RawConfig {
    route_config: Option<RawRouteConfig>,
}

#[derive(Deserialize)]
struct RawRouteConfig {
    #[serde(default)]
    virtual_hosts: Vec<RawVirtualHost>,
}

#[derive(Deserialize)]
struct RawVirtualHost {
    #[serde(default)]
    routes: Vec<RawRoute>,
}

#[derive(Deserialize)]
struct RawRoute {
    #[serde(default)]
    name: String,
    #[serde(default)]
    metadata: RawMetadata,
    route: Option<RawAction>,
}

#[derive(Default, Deserialize)]
struct RawMetadata {
    #[serde(default)]
    filter_metadata: RawFilterMetadata,
}

#[derive(Default, Deserialize)]
struct RawFilterMetadata {
    #[serde(default)]
    istio: RawIstio,
}

#[derive(Default, Deserialize)]
struct RawIstio {
    #[serde(default)]
    config: String,
}

#[derive(Deserialize)]
struct RawAction {
    cluster: Option<String>,
    weighted_clusters: Option<RawWeighted>,
}

#[derive(Default, Deserialize)]
struct RawWeighted {
    #[serde(default)]
    clusters: Vec<RawWeight>,
}

#[derive(Deserialize)]
struct RawWeight {
    #[serde(default)]
    name: String,
    weight: Option<u32>,
}

#[derive(Deserialize)]
struct RawClusters {
    #[serde(default)]
    cluster_statuses: Vec<RawCluster>,
}

#[derive(Deserialize)]
struct RawCluster {
    #[serde(default)]
    name: String,
    #[serde(default)]
    host_statuses: Vec<RawHost>,
}

#[derive(Deserialize)]
struct RawHost {
    #[serde(default)]
    address: RawAddress,
    #[serde(default)]
    stats: Vec<RawStat>,
    #[serde(default)]
    health_status: RawHealth,
}

#[derive(Default, Deserialize)]
struct RawAddress {
    socket_address: Option<RawSocket>,
}

#[derive(Deserialize)]
struct RawSocket {
    #[serde(default)]
    address: String,
    #[serde(default)]
    port_value: u16,
}

#[derive(Deserialize)]
struct RawStat {
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Default, Deserialize)]
struct RawHealth {
    eds_health_status: Option<String>,
    #[serde(default)]
    failed_active_health_check: bool,
    #[serde(default)]
    failed_outlier_check: bool,
    #[serde(default)]
    pending_dynamic_removal: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_with_what_they_were_made_of_and_redirects_are_none() {
        let body = br#"{"configs": [{"version_info": "x", "route_config": {"name": "http.80", "virtual_hosts": [
            {"name": "shop.test:80", "routes": [
              {"name": "canary", "match": {"prefix": "/"},
               "metadata": {"filter_metadata": {"istio": {"config": "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/web"}}},
               "route": {"weighted_clusters": {"clusters": [
                 {"name": "outbound|80||web-blue.shop.svc.cluster.local", "weight": 90},
                 {"name": "outbound|80||web-green.shop.svc.cluster.local", "weight": 10}]}}},
              {"match": {"prefix": "/"}, "route": {"cluster": "outbound|80||web-blue.shop.svc.cluster.local"}},
              {"match": {"prefix": "/old"}, "redirect": {"path_redirect": "/"}}]}]}}]}"#;
        let routes = parse_routes(body).unwrap();
        assert_eq!(routes.len(), 2);
        assert_eq!(routes[0].name, "canary");
        assert!(routes[0].config.ends_with("/shop/virtual-service/web"));
        assert_eq!(routes[0].clusters[1].1, Some(10));
        assert_eq!(routes[1].clusters[0].1, None);
        assert_eq!(parse_routes(b"{}").unwrap(), []);
    }

    #[test]
    fn hosts_are_open_only_when_every_account_of_their_health_is_good() {
        let body = br#"{"cluster_statuses": [{"name": "outbound|80||web-blue.shop.svc.cluster.local", "host_statuses": [
            {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 8080}},
             "stats": [{"name": "rq_total", "value": "7"}, {"name": "rq_active", "type": "GAUGE"}],
             "health_status": {"eds_health_status": "HEALTHY"}},
            {"address": {"socket_address": {"address": "10.0.0.2", "port_value": 8080}},
             "stats": [{"name": "rq_active", "value": "2", "type": "GAUGE"},
                       {"name": "rq_pending_active", "value": "1", "type": "GAUGE"}],
             "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": true}},
            {"address": {"socket_address": {"address": "10.0.0.3", "port_value": 8080}},
             "health_status": {"eds_health_status": "DRAINING"}}]}]}"#;
        let clusters = parse_clusters(body).unwrap();
        assert_eq!(
            clusters[0].open_hosts(),
            BTreeSet::from(["10.0.0.1:8080".to_owned()])
        );
        let counted: Vec<_> = clusters[0]
            .hosts
            .iter()
            .map(|host| (host.requests, host.in_flight))
            .collect();
        assert_eq!(counted, [(7, 0), (0, 3), (0, 0)]);
    }

    #[test]
    fn a_cluster_of_istiod_says_which_service_it_is() {
        let name = cluster_name("outbound|80||web-blue.shop.svc.cluster.local").unwrap();
        assert_eq!(
            (name.service, name.namespace, name.subset, name.port),
            ("web-blue", "shop", "", 80)
        );
        let subset = cluster_name("outbound|80|v1|web.shop.svc.cluster.local").unwrap();
        assert_eq!((subset.service, subset.subset), ("web", "v1"));
        for other in ["inbound|80||", "outbound|443||example.com", "xds-grpc"] {
            assert_eq!(cluster_name(other), None, "{other}");
        }
    }
}
