//! A canary as scripts give and take its share: patch the weights, and scale the canary to 0 in the same
//! breath as its share is taken away.

use super::HELD;
use super::shop::{Route, Shop};

pub(super) fn there_and_back(shop: &Shop) -> anyhow::Result<()> {
    weigh(shop, 90, 10)?;
    std::thread::sleep(HELD);
    weigh(shop, 50, 50)?;
    std::thread::sleep(HELD);
    weigh(shop, 100, 0)?;
    shop.kubectl(&["scale", "deployment/api-canary", "--replicas=0"])
}

fn weigh(shop: &Shop, main: u32, canary: u32) -> anyhow::Result<()> {
    let (object, patch) = match shop.route() {
        Route::Traefik => (
            "traefikservice/api",
            format!(
                r#"{{"spec":{{"weighted":{{"services":[{{"name":"api","port":80,"weight":{main}}},{{"name":"api-canary","port":80,"weight":{canary}}}]}}}}}}"#
            ),
        ),
        Route::Gateway => (
            "httproute/api",
            format!(
                r#"{{"spec":{{"rules":[{{"backendRefs":[{{"name":"api","port":80,"weight":{main}}},{{"name":"api-canary","port":80,"weight":{canary}}}]}}]}}}}"#
            ),
        ),
        Route::Istio => (
            "virtualservice/api",
            format!(
                r#"{{"spec":{{"http":[{{"route":[{{"destination":{{"host":"api","port":{{"number":80}}}},"weight":{main}}},{{"destination":{{"host":"api-canary","port":{{"number":80}}}},"weight":{canary}}}]}}]}}}}"#
            ),
        ),
        Route::Nginx => (
            "ingress/api-next",
            format!(
                r#"{{"metadata":{{"annotations":{{"nginx.ingress.kubernetes.io/canary-weight":"{canary}"}}}}}}"#
            ),
        ),
    };
    shop.kubectl(&["patch", object, "--type=merge", "-p", &patch])
}
