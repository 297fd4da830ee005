//! The way to the API server through an HTTP proxy that opens tunnels, and past it.

mod shop;

use shop::Shop;
use switchyard_harness::{Ended, Step, expect_code, expect_said};
use switchyard_sandbox::{User, standins::Proxy};

const API_SERVER: &str = "10.10.0.1:6443";

/// Runs a step away from the runtime's threads.
async fn run(step: Step) -> Ended {
    let run = tokio::task::spawn_blocking(|| step.run());
    run.await.expect("the step runs")
}

fn status(shop: &Shop) -> Step {
    shop.step("status")
        .input("application", "web")
        .input("timeout", "20s")
}

/// A kubeconfig of the deployer with something replaced.
fn kubeconfig(shop: &Shop, step: &Step, from: &str, to: &str) -> String {
    let path = shop.sandbox.kubeconfig(User::Deployer);
    let text = std::fs::read_to_string(path).expect("a kubeconfig");
    assert!(text.contains(from), "{text}");
    step.file("kubeconfig", &text.replace(from, to))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_through_the_proxy_unless_no_proxy_names_the_server() {
    let shop = Shop::open("proxy").await;
    let proxy = Proxy::start().expect("a proxy");
    let address = proxy.address();
    // A write and a watch, too.
    let step = shop
        .apply(&shop.web("v1.0.0"))
        .variable("HTTPS_PROXY", format!("http://{address}"));
    expect_code(&run(step).await, 0);
    let step = shop
        .step("scale")
        .input("workloads", "deployment/web")
        .input("replicas", "1")
        .input("wait", "true")
        // Without a scheme, as many write it.
        .variable("https_proxy", &address);
    expect_code(&run(step).await, 0);
    let opened = proxy.seen().opened;
    assert!(opened.len() >= 2, "{opened:?}");
    assert!(
        opened.iter().all(|target| target == API_SERVER),
        "{opened:?}"
    );

    let past = [
        "10.10.0.0/16",
        "example.org, 10.10.0.1",
        "10.10.0.1:6443",
        "*",
    ];
    for no_proxy in past {
        let step = status(&shop)
            .variable("HTTPS_PROXY", &address)
            .variable("NO_PROXY", no_proxy);
        expect_code(&run(step).await, 0);
        assert_eq!(proxy.seen().opened.len(), opened.len(), "{no_proxy}");
    }
    for no_proxy in ["10.11.0.0/16", "10.10.0.1:443", ".1", "127.0.0.1"] {
        let before = proxy.seen().opened.len();
        let step = status(&shop)
            .variable("HTTPS_PROXY", &address)
            .variable("no_proxy", no_proxy);
        expect_code(&run(step).await, 0);
        assert!(proxy.seen().opened.len() > before, "{no_proxy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_only_the_proxy_knows_is_left_to_it_to_resolve() {
    let shop = Shop::open("proxy-names").await;
    let name = "kubernetes.default.svc:6443";
    let proxy = Proxy::knowing(name, API_SERVER).expect("a proxy");
    let step = || {
        let step = status(&shop).variable("HTTPS_PROXY", proxy.address());
        let kubeconfig = kubeconfig(&shop, &step, API_SERVER, name);
        step.input("kubeconfig", kubeconfig)
    };
    expect_code(&run(step()).await, 0);
    let opened = proxy.seen().opened;
    assert!(!opened.is_empty() && opened.iter().all(|target| target == name));
    for no_proxy in [".svc", "svc", "*.default.svc", "kubernetes.default.svc"] {
        let step = step().input("timeout", "2s").variable("NO_PROXY", no_proxy);
        expect_code(&run(step).await, 3);
        assert_eq!(proxy.seen().opened, opened, "{no_proxy} leads past it");
    }
    for no_proxy in ["vc", "default.svc.corp"] {
        let before = proxy.seen().opened.len();
        expect_code(&run(step().variable("NO_PROXY", no_proxy)).await, 0);
        assert!(proxy.seen().opened.len() > before, "{no_proxy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_gets_its_password_and_nobody_else_sees_it() {
    let shop = Shop::open("proxy-password").await;
    let proxy = Proxy::asking_for("ann", "p@ss:word").expect("a proxy");
    let through = |credentials: &str| {
        let url = format!("http://{credentials}{}", proxy.address());
        status(&shop).variable("HTTPS_PROXY", url)
    };
    let ended = run(through("ann:p%40ss%3Aword@")).await;
    expect_code(&ended, 0);
    ended.assert_never_shows("p%40ss");
    ended.assert_never_shows("p@ss");
    let opened = proxy.seen().opened.len();
    assert_eq!((opened > 0, proxy.seen().unauthorized), (true, 0));

    for credentials in ["", "ann:wrong-pw@"] {
        let before = proxy.seen().unauthorized;
        let ended = run(through(credentials)).await;
        expect_code(&ended, 3);
        expect_said(
            &ended,
            &["proxy", "(407)", "http://USER:PASSWORD@HOST:PORT"],
        );
        ended.assert_never_shows("wrong-pw");
        assert_eq!(proxy.seen().opened.len(), opened);
        let asked = proxy.seen().unauthorized - before;
        assert!(
            (1..=3).contains(&asked),
            "asked {asked} times: a no stays a no"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubeconfigs_own_proxy_comes_before_the_environments() {
    let shop = Shop::open("proxy-own").await;
    let [own, other] = [(), ()].map(|()| Proxy::start().expect("a proxy"));
    let step = status(&shop)
        .variable("HTTPS_PROXY", other.address())
        .variable("NO_PROXY", "*");
    let with_proxy = format!("\"proxy-url\": \"http://{}\", \"server\"", own.address());
    let kubeconfig = kubeconfig(&shop, &step, "\"server\"", &with_proxy);
    expect_code(&run(step.input("kubeconfig", kubeconfig)).await, 0);
    assert!(!own.seen().opened.is_empty());
    assert!(other.seen().opened.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_not_there_and_one_of_an_unknown_kind_are_named() {
    let shop = Shop::open("proxy-none").await;
    let step = status(&shop)
        .input("timeout", "3s")
        .variable("HTTPS_PROXY", "http://127.0.0.1:1");
    let ended = run(step).await;
    expect_code(&ended, 3);
    expect_said(&ended, &["refused", "through the proxy", "HTTPS_PROXY"]);
    let step = status(&shop).variable("HTTPS_PROXY", "socks5://ann:hidden-pw@127.0.0.1:1");
    let ended = run(step).await;
    expect_code(&ended, 2);
    expect_said(&ended, &["begins with `socks5://`"]);
    ended.assert_never_shows("hidden-pw");
}
