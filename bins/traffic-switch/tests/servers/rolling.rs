//! A rolling update that goes well, and what it is told to keep to.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use switchyard_harness::{Ended, expect_code, expect_said};

use crate::rig::{OwnChecks, Rig};

fn names(ended: &Ended, output: &str) -> Vec<String> {
    serde_json::from_str(&ended.outputs[output]).expect("names as JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_over_a_rolling_update_of_four_servers_that_do_not_drain() {
    let rig = Rig::new(4, 2);
    let loads = [rig.load(0, 300).start(), rig.load(1, 100).start()];
    let step = rig.step().input("min-up", "3");
    let ended = tokio::task::spawn_blocking(move || step.run())
        .await
        .expect("the step");
    for load in loads {
        let report = load.stop().await.expect("a report");
        assert_eq!(report.lost, 0, "{}\n{}", report.summary(), ended.log());
        assert!(
            report.by_version["v2"] > 0 && report.by_version["v1"] > 0,
            "{}",
            report.summary()
        );
    }
    expect_code(&ended, 0);
    let all = ["web1", "web2", "web3", "web4"];
    assert_eq!(names(&ended, "updated"), all);
    assert_eq!(rig.updates(), all);
    assert_eq!(
        (&*ended.outputs["failed"], &*ended.outputs["remaining"]),
        ("[]", "[]")
    );
    assert_eq!(
        (&*ended.outputs["result"], &*ended.outputs["verified"]),
        ("updated", "data-plane")
    );
    for haproxy in [0, 1] {
        assert_eq!(rig.states(haproxy), ["UP"; 4]);
    }
    expect_said(
        &ended,
        &["2 of 2 HAProxies say that `web3` is in state maint"],
    );
    assert!(
        ended.summary.contains("4 of 4 updated"),
        "{}",
        ended.summary
    );
    let port = rig.port("web2");
    let given = format!("web2 127.0.0.1:{port} 127.0.0.1 {port} web v2\n");
    assert!(rig.given().contains(&given), "{}", rig.given());
    assert!(
        !rig.path().join("state.json").exists(),
        "a finished update leaves nothing to go on with"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_at_once_are_updated_without_loss_where_two_stay_up() {
    let rig = Rig::new(4, 1);
    let load = rig.load(0, 200).start();
    let step = rig.step().input("batch", "2").input("min-up", "2");
    let ended = tokio::task::spawn_blocking(move || step.run())
        .await
        .expect("the step");
    let report = load.stop().await.expect("a report");
    expect_code(&ended, 0);
    assert_eq!(report.lost, 0, "{}\n{}", report.summary(), ended.log());
    let mut updates = rig.updates();
    updates[..2].sort();
    updates[2..].sort();
    assert_eq!(updates, ["web1", "web2", "web3", "web4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_haproxy_without_checks_of_its_own_relies_on_ours_and_loses_nothing() {
    let rig = Rig::with(3, 1, OwnChecks::Off);
    let load = rig.load(0, 200).start();
    let step = rig.step();
    let ended = tokio::task::spawn_blocking(move || step.run())
        .await
        .expect("the step");
    let report = load.stop().await.expect("a report");
    expect_code(&ended, 0);
    assert_eq!(report.lost, 0, "{}\n{}", report.summary(), ended.log());
    assert_eq!(rig.updates(), ["web1", "web2", "web3"]);
    assert_eq!(rig.states(0), ["no check"; 3]);
}

#[test]
fn a_plan_says_what_would_be_done_and_changes_nothing() {
    let rig = Rig::new(3, 1);
    let ended = rig
        .step()
        .input("plan", "true")
        .input("servers", "web3,web1")
        .run();
    expect_code(&ended, 0);
    expect_said(
        &ended,
        &["3 servers are up; at least 2 stay up", "1. web3", "2. web1"],
    );
    assert_eq!(
        (&*ended.outputs["result"], &*ended.outputs["changed"]),
        ("planned", "false")
    );
    assert_eq!(rig.states(0), ["UP"; 3]);
    assert!(rig.updates().is_empty());
    assert!(!rig.path().join("state.json").exists());
    assert!(!rig.path().join("state.json.lock").exists());
}

#[test]
fn what_outlives_both_limits_is_cut_and_said_so() {
    let rig = Rig::new(2, 1);
    let mut slow = rig.slow_request(0, "web1", 60_000);
    let ended = rig.step().input("drain-timeout", "1s").run();
    expect_code(&ended, 0);
    expect_said(
        &ended,
        &[
            "web1: 1 still under way after 1s (`drain-timeout`)",
            "web1: 1 still under way after another 1s (`longest-request`): the update cuts them",
        ],
    );
    assert!(
        ended.outputs["evidence"].contains("1 session cut"),
        "{}",
        ended.outputs["evidence"]
    );
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}

#[test]
fn users_that_are_bound_by_a_cookie_keep_their_server_until_the_limit_and_then_go_to_another_one() {
    let rig = Rig::new(2, 1);
    let bound = rig.url(0, "").trim_start_matches("http://").to_owned();
    let ask = move || {
        let mut stream = TcpStream::connect(&bound).expect("connect");
        let request = b"GET /slow?ms=200 HTTP/1.1\r\nhost: app\r\ncookie: SRV=web1\r\nconnection: close\r\n\r\n";
        stream.write_all(request).expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let users: Vec<_> = (0..4)
        .map(|number| {
            let (ask, is_over) = (ask.clone(), is_over.clone());
            // At other times each, so that one is always under way.
            std::thread::sleep(std::time::Duration::from_millis(50 * number));
            std::thread::spawn(move || {
                let mut answers = Vec::new();
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    answers.push(ask());
                }
                answers
            })
        })
        .collect();
    let ended = rig
        .step()
        .input("drain-timeout", "1s")
        .input("servers", "web1")
        .run();
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    expect_code(&ended, 0);
    expect_said(&ended, &["still under way after 1s (`drain-timeout`)"]);
    let answers: Vec<String> = users
        .into_iter()
        .flat_map(|user| user.join().expect("a user"))
        .collect();
    for answer in &answers {
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "{answer}\n{}",
            ended.log()
        );
    }
    let has = |pod: &str| {
        answers
            .iter()
            .any(|answer| answer.contains(&format!("\"pod\":\"{pod}\"")))
    };
    assert!(has("web1") && has("web2"), "{answers:?}");
    assert!(
        !ended.outputs["evidence"].contains("cut"),
        "{}",
        ended.outputs["evidence"]
    );
}

#[test]
fn a_server_that_somebody_else_took_out_is_left_as_it_is() {
    let rig = Rig::new(3, 1);
    rig.ask(0, "set server web/web2 state maint");
    let ended = rig.step().input("min-up", "1").run();
    expect_code(&ended, 0);
    assert_eq!(names(&ended, "updated"), ["web1", "web3"]);
    assert_eq!(names(&ended, "remaining"), ["web2"]);
    assert_eq!(rig.updates(), ["web1", "web3"]);
    assert_eq!(rig.state(0, "web2"), "MAINT");
    expect_said(
        &ended,
        &["left as it is, somebody else took it out of the traffic: web2"],
    );
}
