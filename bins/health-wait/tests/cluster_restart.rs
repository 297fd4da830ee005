//! The API server itself ends in mid-wait and comes back, in order and killed. Everybody in a
//! sandbox notices, so this one has a sandbox of its own.

mod support;

use support::{App, finish, listen, make_ready, pods_run, step, until};
use switchyard_sandbox::{Ending, FurtherSandbox, Sandbox};

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
