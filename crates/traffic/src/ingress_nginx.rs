//! What every ingress-nginx controller must show once a canary's weight is in effect, what it shows
//! (`/configuration/backends` of its status server), and the judgement.
//! Pure: it refuses to fetch anything, and never takes the absence of a contradiction for proof.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use crate::evidence::{Servers, Verification};
use crate::traefik_api::server_address;

/// The path that shows what the workers are given.
pub const BACKENDS_PATH: &str = "configuration/backends";
/// Each worker takes what it is given once a second; shown for longer than that, all of them have it.
pub const TAKEN_AFTER: Duration = Duration::from_millis(1500);

/// What each controller must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NginxExpectation {
    /// Namespace of the Ingresses and of the sides' Services.
    pub namespace: String,
    /// The Service that the main Ingress names.
    pub main: String,
    /// The Service that the canary Ingress names.
    pub canary: String,
    /// Its port, as written there.
    pub port: String,
    /// The weights of both.
    pub weights: BTreeMap<String, u32>,
}

/// A backend as the workers are given it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NginxBackend {
    /// `NAMESPACE-SERVICE-PORT`.
    pub name: String,
    /// `address:port` of each endpoint.
    pub endpoints: BTreeSet<String>,
    /// The canary's weight, where it is one.
    pub weight: u32,
    /// What the weight is a part of.
    pub whole: u32,
    /// Names of its canaries, of which the first counts.
    pub alternatives: Vec<String>,
}

/// Reads the answer of `/configuration/backends`.
pub fn parse_backends(body: &[u8]) -> Result<Vec<NginxBackend>, serde_json::Error> {
    let raw: Vec<RawBackend> = serde_json::from_slice(body)?;
    let backends = raw.into_iter().map(|backend| NginxBackend {
        name: backend.name,
        endpoints: backend
            .endpoints
            .unwrap_or_default()
            .iter()
            .map(address)
            .collect(),
        // What others have written may be any number.
        weight: u32::try_from(backend.policy.weight).unwrap_or(0),
        whole: u32::try_from(backend.policy.total).unwrap_or(0).max(100),
        alternatives: backend.alternatives.unwrap_or_default(),
    });
    Ok(backends.collect())
}

fn address(endpoint: &RawEndpoint) -> String {
    match endpoint.port.parse() {
        Ok(port) => server_address(&endpoint.address, port),
        Err(_) => format!("{}:{}", endpoint.address, endpoint.port),
    }
}

/// Judges what one controller shows. `servers` holds the sides' routable endpoints.
pub fn judge_nginx(
    expected: &NginxExpectation,
    seen: &[NginxBackend],
    servers: &Servers,
) -> Verification {
    match difference(expected, seen, servers) {
        Some(difference) => Verification::pending(difference),
        None => Verification::Verified,
    }
}

fn difference(
    expected: &NginxExpectation,
    seen: &[NginxBackend],
    servers: &Servers,
) -> Option<String> {
    let NginxExpectation {
        namespace,
        main,
        canary,
        port,
        weights,
    } = expected;
    let name = format!("{namespace}-{canary}-{port}");
    let Some(found) = seen.iter().find(|backend| backend.name == name) else {
        return Some(format!("`{canary}` is not loaded"));
    };
    let wanted = weights.get(canary).copied().unwrap_or(0);
    let whole: u32 = weights.values().sum();
    if (found.weight.min(found.whole), found.whole) != (wanted, whole) {
        return Some(format!(
            "`{canary}` has weight {} of {} instead of {wanted} of {whole}",
            found.weight, found.whole
        ));
    }
    let beside: Vec<_> = seen
        .iter()
        .filter(|backend| backend.alternatives.first() == Some(&name))
        .collect();
    if beside.is_empty() {
        return Some(format!("`{canary}` is the canary of nothing"));
    }
    let of_main = beside.into_iter().map(|backend| (main, backend));
    let sides = of_main.chain([(canary, found)]);
    let nothing = BTreeSet::new();
    for (service, backend) in sides {
        let wanted = servers.get(service).unwrap_or(&nothing);
        if backend.endpoints != *wanted {
            return Some(format!(
                "`{service}` has the endpoints {} instead of {}",
                list(&backend.endpoints),
                list(wanted)
            ));
        }
    }
    let carries_nothing = servers.get(main).is_none_or(BTreeSet::is_empty);
    carries_nothing.then(|| {
        format!("`{main}` has no endpoints, and without any the canary gets nothing either")
    })
}

fn list(endpoints: &BTreeSet<String>) -> String {
    if endpoints.is_empty() {
        return "(none)".to_owned();
    }
    let names: Vec<_> = endpoints.iter().map(String::as_str).collect();
    names.join(", ")
}

#[derive(Deserialize)]
struct RawBackend {
    name: String,
    endpoints: Option<Vec<RawEndpoint>>,
    #[serde(rename = "trafficShapingPolicy", default)]
    policy: RawPolicy,
    #[serde(rename = "alternativeBackends")]
    alternatives: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawEndpoint {
    address: String,
    port: String,
}

#[derive(Default, Deserialize)]
struct RawPolicy {
    #[serde(default)]
    weight: i64,
    #[serde(rename = "weightTotal", default)]
    total: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the controller marshals what it gives its workers (`configureBackends` of ingress-nginx 1.11).
    const BACKENDS: &[u8] = br#"[
      {"name": "shop-web-80", "service": {"metadata": {"name": "web"}}, "port": 80, "sslPassthrough": false,
       "endpoints": [{"address": "10.0.0.1", "port": "8080"}], "sessionAffinityConfig": {"name": "", "mode": "",
       "cookieSessionAffinity": {"name": ""}}, "upstreamHashByConfig": {}, "noServer": false,
       "trafficShapingPolicy": {"weight": 0, "weightTotal": 0, "header": "", "headerValue": "", "headerPattern": "", "cookie": ""},
       "alternativeBackends": ["shop-web-canary-80"]},
      {"name": "shop-web-canary-80", "port": 80, "endpoints": [{"address": "10.0.0.2", "port": "8080"}], "noServer": true,
       "trafficShapingPolicy": {"weight": 10, "weightTotal": 100, "header": "", "headerValue": "", "headerPattern": "", "cookie": ""}},
      {"name": "upstream-default-backend", "port": 0, "endpoints": [{"address": "127.0.0.1", "port": "8181"}], "noServer": false,
       "trafficShapingPolicy": {"weight": 0, "weightTotal": 0}}]"#;

    fn expected(canary: u32) -> NginxExpectation {
        NginxExpectation {
            namespace: "shop".to_owned(),
            main: "web".to_owned(),
            canary: "web-canary".to_owned(),
            port: "80".to_owned(),
            weights: BTreeMap::from([
                ("web".to_owned(), 100 - canary),
                ("web-canary".to_owned(), canary),
            ]),
        }
    }

    fn servers(main: &[&str], canary: &[&str]) -> Servers {
        let set = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        BTreeMap::from([
            ("web".to_owned(), set(main)),
            ("web-canary".to_owned(), set(canary)),
        ])
    }

    fn seen() -> Vec<NginxBackend> {
        parse_backends(BACKENDS).unwrap()
    }

    const MAIN: &[&str] = &["10.0.0.1:8080"];
    const CANARY: &[&str] = &["10.0.0.2:8080"];

    #[test]
    fn weights_canaries_and_endpoints_have_to_be_as_written() {
        let judge =
            |canary: u32, servers: &Servers| judge_nginx(&expected(canary), &seen(), servers);
        assert!(judge(10, &servers(MAIN, CANARY)).is_verified());
        assert!(judge(50, &servers(MAIN, CANARY)).is_pending());
        assert!(judge(10, &servers(MAIN, &["10.0.0.9:8080"])).is_pending());
        assert!(judge(10, &servers(&["10.0.0.9:8080"], CANARY)).is_pending());
    }

    #[test]
    fn a_canary_of_nothing_gets_nothing() {
        let mut alone = seen();
        alone[0].alternatives.clear();
        let judged = judge_nginx(&expected(10), &alone, &servers(MAIN, CANARY));
        assert!(judged.is_pending(), "{judged}");
        // A second canary is not heeded.
        let mut second = seen();
        second[0].alternatives.insert(0, "shop-other-80".to_owned());
        let judged = judge_nginx(&expected(10), &second, &servers(MAIN, CANARY));
        assert!(judged.is_pending(), "{judged}");
    }

    #[test]
    fn a_canary_whose_main_service_has_no_endpoints_is_not_called_in_effect() {
        let mut dead = seen();
        dead[0].endpoints.clear();
        dead[1].weight = 100;
        let judged = judge_nginx(&expected(100), &dead, &servers(&[], CANARY));
        assert!(
            judged.to_string().contains("`web` has no endpoints"),
            "{judged}"
        );
    }
}
