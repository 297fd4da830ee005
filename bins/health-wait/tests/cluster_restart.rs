//! The API server itself ends in mid-wait and comes back, in order and killed. Everybody in a
//! sandbox notices, so this one has a sandbox of its own.

mod support;

use std::io::{BufRead as _, BufReader};
use std::sync::{Arc, Mutex};

use serde_json::json;
use support::{App, finish, step, until};
use switchyard_harness::Started;
use switchyard_sandbox::{Ending, FurtherSandbox, HttpClient, Sandbox, TestNamespace};

/// Collects what a step says while it runs.
fn listen(started: &mut Started) -> Arc<Mutex<String>> {
    let said = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&said);
    let stream = started.child().stdout.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            *heard.lock().unwrap() += &(line + "\n");
        }
    });
    said
}

/// Makes every pod ready, past the Service, which has no endpoint before.
async fn make_ready(namespace: &TestNamespace) {
    let ips = "jsonpath={.items[*].status.podIP}";
    let ips = namespace.kubectl(&["get", "pods", "-o", ips]).unwrap();
    for ip in ips.split_whitespace() {
        let url = format!("http://{ip}:8081/control");
        let change = json!({"ready": true});
        let answer = HttpClient::plain().post_json(&url, &change).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
    }
}

/// Waits until so many pods run; they are not ready before somebody makes them so.
async fn pods_run(namespace: &TestNamespace, count: usize) {
    let phases = ["get", "pods", "-o", "jsonpath={.items[*].status.phase}"];
    until("running pods", || {
        let phases = namespace.kubectl(&phases).unwrap();
        phases.matches("Running").count() == count
    })
    .await;
}

async fn outlives_it(sandbox: &Sandbox) {
    let namespace = sandbox.namespace("restart").await;
    App::new(sandbox, "api")
        .image(sandbox.image("api", "never-ready"))
        .apply(&namespace);
    let mut started = step(sandbox, &namespace)
        .input("workloads", "deployment/api")
        .input("timeout", "2m")
        .start();
    let said = listen(&mut started);
    let is_told = |text: &str| said.lock().unwrap().contains(text);
    until("the wait", || is_told("0 of 1 replicas ready")).await;
    pods_run(&namespace, 1).await;
    for (ending, replicas) in [(Ending::InOrder, 2_usize), (Ending::Killed, 3)] {
        sandbox.restart_api_server(ending).await.unwrap();
        // That it found back is seen by what it tells of a change that came afterwards.
        let scale = format!("--replicas={replicas}");
        namespace
            .kubectl(&["scale", "deployment/api", &scale])
            .unwrap();
        let change = format!("0 of {replicas} replicas ready");
        until("news after the restart", || {
            let ended = started.child().try_wait().unwrap();
            assert!(ended.is_none(), "it gave up:\n{}", said.lock().unwrap());
            is_told(&change)
        })
        .await;
        pods_run(&namespace, replicas).await;
    }
    make_ready(&namespace).await;
    let ended = finish(started).await;
    let log = said.lock().unwrap().clone() + &ended.stderr;
    assert_eq!(ended.code, Some(0), "{log}");
    assert!(log.contains("deployment/api: done"), "{log}");
    assert_eq!(ended.outputs["healthy"], "true");
}

#[test]
fn a_wait_outlives_an_api_server_that_is_ended_and_one_that_is_killed() {
    let further = FurtherSandbox::start("restart-wait").unwrap();
    // Made inside the further sandbox's network.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(outlives_it(further.sandbox()));
}
