//! What goes wrong in the middle: the update stops, no user sees what is not verified, and everything that
//! was done is told.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use switchyard_harness::{Ended, Step, expect_code, expect_said, until};
use switchyard_sandbox::load::{KeepAlive, LoadReport};

use crate::rig::Rig;

/// Runs a step while there is load on the first HAProxy.
async fn under_load(rig: &Rig, step: Step) -> (Ended, LoadReport) {
    // A HAProxy that is replaced closes what its clients keep open, whoever asked for it.
    let load = rig.load(0, 200).keep_alive(KeepAlive::Off).start();
    let ended = tokio::task::spawn_blocking(move || step.run())
        .await
        .expect("the step");
    (ended, load.stop().await.expect("a report"))
}

fn outcome(ended: &Ended) -> [&str; 3] {
    ["updated", "failed", "remaining"].map(|name| ended.outputs[name].as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_update_stops_at_the_first_server_whose_update_fails() {
    let rig = Rig::new(4, 1);
    rig.hook("if [ $1 = web2 ]; then echo 'disk full' >&2; exit 7; fi");
    let (ended, report) = under_load(&rig, rig.step()).await;
    expect_code(&ended, 1);
    assert_eq!(report.lost, 0, "{}\n{}", report.summary(), ended.log());
    assert_eq!(
        outcome(&ended),
        [r#"["web1"]"#, r#"["web2"]"#, r#"["web3","web4"]"#]
    );
    assert_eq!(rig.states(0), ["UP", "MAINT", "UP", "UP"]);
    expect_said(
        &ended,
        &[
            "the update of `web2`",
            "exit code 7",
            "disk full",
            "OUT: its update is not verified",
        ],
    );
    assert_eq!(ended.outputs["verified"], "none");
    assert!(ended.summary.contains("| web2 |"), "{}", ended.summary);
}

#[test]
fn the_next_server_stays_up_when_another_one_goes_down_meanwhile() {
    let rig = Rig::new(4, 1);
    // HAProxy finds it down after three checks, while the first server is being updated.
    rig.hook("if [ $1 = web1 ]; then kill -9 $(cat web4.pid); sleep 2; fi");
    let ended = rig.step().input("min-up", "75%").run();
    expect_code(&ended, 1);
    expect_said(
        &ended,
        &["2 of 3 servers would stay up while `web2` is updated, and 3 have to"],
    );
    assert_eq!(
        outcome(&ended),
        [r#"["web1"]"#, "[]", r#"["web2","web3","web4"]"#]
    );
    assert_eq!(rig.updates(), ["web1"]);
    assert_eq!(rig.states(0)[..3], ["UP", "UP", "UP"]);
}

#[test]
fn a_server_that_somebody_takes_out_meanwhile_is_left_to_them() {
    let rig = Rig::new(3, 1);
    rig.hook("if [ $1 = web1 ]; then touch begun; while [ ! -e go-on ]; do sleep 0.05; done; fi");
    let step = rig.step().input("min-up", "1").start();
    until("the first update has begun", || {
        rig.path().join("begun").exists()
    });
    rig.ask(0, "set server web/web2 state drain");
    std::fs::write(rig.path().join("go-on"), "").expect("let it go on");
    let ended = step.finish();
    expect_code(&ended, 0);
    expect_said(
        &ended,
        &["web2: somebody took it out of the traffic meanwhile"],
    );
    assert_eq!(outcome(&ended), [r#"["web1","web3"]"#, "[]", r#"["web2"]"#]);
    assert_eq!(rig.state(0, "web2"), "DRAIN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_unhealthy_after_its_update_sees_no_user() {
    let rig = Rig::new(2, 1);
    let step = rig
        .step()
        .input("timeout", "3s")
        .input("expect-version", "v3");
    let (ended, report) = under_load(&rig, step).await;
    expect_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "`web1` is not healthy at http://127.0.0.1",
            "it answers with version `v2`, not `v3`",
        ],
    );
    assert_eq!(report.lost, 0, "{}\n{}", report.summary(), ended.log());
    assert!(
        !report.by_version.contains_key("v2"),
        "{}",
        report.summary()
    );
    assert_eq!(rig.states(0), ["MAINT", "UP"]);
    assert_eq!(outcome(&ended), ["[]", r#"["web1"]"#, r#"["web2"]"#]);
}

#[test]
fn a_server_that_haproxy_itself_finds_unwell_sees_no_user() {
    let rig = Rig::new(2, 1);
    // Healthy where the step asks, and not where HAProxy does.
    let start = std::fs::read_to_string(rig.path().join("start")).expect("the script");
    std::fs::write(
        rig.path().join("start"),
        start.replace("VERSION=", "READY=false VERSION="),
    )
    .expect("write");
    let step = rig
        .step()
        .input("timeout", "3s")
        .input("health-url", "http://{host}:{port}/version");
    let ended = step.run();
    expect_code(&ended, 3);
    expect_said(&ended, &["0 of 1 HAProxies find `web1` well within 3s"]);
    assert_eq!(rig.states(0), ["MAINT", "UP"]);
}

#[test]
fn a_haproxy_that_lags_is_waited_for() {
    let rig = Rig::new(2, 2);
    rig.hook(&format!(
        "if [ $1 = web1 ]; then kill -STOP {0}; (sleep 5; kill -CONT {0}) >/dev/null 2>&1 & fi",
        rig.worker(1)
    ));
    let ended = rig.step().run();
    expect_code(&ended, 0);
    assert_eq!(rig.states(1), ["UP", "UP"]);
}

#[test]
fn a_server_goes_back_with_its_old_version_when_a_haproxy_falls_silent() {
    let rig = Rig::new(2, 2);
    let _slow = rig.slow_request(0, "web1", 60_000);
    let silent = Pid::from_raw(rig.worker(1));
    let step = rig
        .step()
        .input("timeout", "5s")
        .input("drain-timeout", "5s")
        .start();
    for haproxy in [0, 1] {
        until("the server is drained", || {
            rig.state(haproxy, "web1") == "DRAIN"
        });
    }
    kill(silent, Signal::SIGSTOP).expect("stop a HAProxy");
    let ended = step.finish();
    kill(silent, Signal::SIGCONT).expect("let it go on");
    expect_code(&ended, 3);
    expect_said(
        &ended,
        &[
            "1 of 2 HAProxies show what is under way within 5s",
            "no answer to",
            "web1: it has its old version, and not every HAProxy confirms that it is back",
        ],
    );
    assert_eq!(outcome(&ended), ["[]", r#"["web1"]"#, r#"["web2"]"#]);
    assert_eq!(rig.state(0, "web1"), "UP");
    assert!(
        rig.updates().is_empty(),
        "nothing is updated behind the back of a silent HAProxy"
    );
    let ended = rig.step().input("drain-timeout", "1s").run();
    expect_code(&ended, 0);
    assert_eq!(rig.updates(), ["web1", "web2"]);
}

#[test]
fn a_haproxy_that_is_silent_at_the_start_is_refused_before_anything_is_touched() {
    let rig = Rig::new(2, 2);
    let silent = Pid::from_raw(rig.worker(1));
    kill(silent, Signal::SIGSTOP).expect("stop a HAProxy");
    let ended = rig.step().run();
    kill(silent, Signal::SIGCONT).expect("let it go on");
    expect_code(&ended, 3);
    expect_said(&ended, &["no answer to"]);
    assert_eq!(rig.states(0), ["UP", "UP"]);
    assert!(rig.updates().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_haproxy_that_is_replaced_in_the_middle_is_told_again_and_nothing_is_lost() {
    let rig = Rig::new(3, 1);
    // The old version still serves when the new process sends it users, until that is told as well.
    rig.hook(&format!(
        "if [ $1 = web2 ]; then {}; sleep 4; fi",
        rig.reload_command(0)
    ));
    let (ended, report) = under_load(&rig, rig.step()).await;
    expect_code(&ended, 0);
    expect_said(
        &ended,
        &[
            "was replaced",
            "it had `web2` in state ready and is told maint again",
        ],
    );
    assert_eq!(report.lost, 0, "{}\n{}", report.summary(), ended.log());
    assert_eq!(rig.states(0), ["UP"; 3]);
}

#[test]
fn quiet_is_not_called_verified_when_sessions_of_a_replaced_haproxy_cannot_be_seen() {
    let rig = Rig::new(2, 1);
    let _slow = rig.slow_request(0, "web1", 60_000);
    let worker = rig.worker(0);
    let step = rig.step().input("servers", "web1").start();
    until("the server is drained", || rig.state(0, "web1") == "DRAIN");
    let reload = std::process::Command::new("bash")
        .args(["-c", &rig.reload_command(0)])
        .status();
    assert!(reload.expect("reload HAProxy").success());
    let ended = step.finish();
    expect_code(&ended, 0);
    assert_ne!(rig.worker(0), worker);
    expect_said(&ended, &["is told drain again"]);
    let evidence = &ended.outputs["evidence"];
    assert!(
        evidence.contains("quiet, not verified: a HAProxy was replaced"),
        "{evidence}"
    );
}

#[test]
fn somebody_who_puts_a_server_back_in_the_middle_of_its_update_stops_it() {
    let rig = Rig::new(2, 1);
    rig.hook("touch begun; while [ ! -e go-on ]; do sleep 0.05; done; sleep 2");
    let step = rig.step().start();
    until("the update has begun", || rig.path().join("begun").exists());
    rig.ask(0, "set server web/web1 state ready");
    std::fs::write(rig.path().join("go-on"), "").expect("let it go on");
    let ended = step.finish();
    expect_code(&ended, 1);
    expect_said(&ended, &["somebody else told it otherwise", "says ready"]);
    assert_eq!(rig.updates(), ["web1"]);
    assert_eq!(outcome(&ended)[2], r#"["web2"]"#);
}

#[test]
fn a_server_that_was_not_updated_yet_is_put_back_on_a_signal() {
    let rig = Rig::new(2, 1);
    let _slow = rig.slow_request(0, "web1", 60_000);
    let step = rig.step().start();
    until("the server is drained", || rig.state(0, "web1") == "DRAIN");
    kill(Pid::from_raw(step.id().cast_signed()), Signal::SIGTERM).expect("signal");
    let ended = step.finish();
    expect_code(&ended, 143);
    expect_said(&ended, &["not updated, back with its old version"]);
    assert_eq!(rig.states(0), ["UP", "UP"]);
    assert!(rig.updates().is_empty());
}

#[test]
fn a_server_whose_update_was_begun_stays_out_on_a_signal() {
    let rig = Rig::new(2, 1);
    rig.hook("touch begun; sleep 60");
    let step = rig.step().start();
    until("the update has begun", || rig.path().join("begun").exists());
    kill(Pid::from_raw(step.id().cast_signed()), Signal::SIGINT).expect("signal");
    let ended = step.finish();
    expect_code(&ended, 130);
    expect_said(&ended, &["OUT: its update is not verified"]);
    assert_eq!(rig.states(0), ["MAINT", "UP"]);
    assert_eq!(outcome(&ended), ["[]", r#"["web1"]"#, r#"["web2"]"#]);
}

/// A webhook that answers each request with a status; gives what was sent.
fn webhook(statuses: &'static [u16]) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!(
        "http://{}/hooks/s3cr3t-path",
        listener.local_addr().expect("an address")
    );
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for status in statuses {
            let (mut stream, _) = listener.accept().expect("a request");
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .expect("a limit");
            let mut request = Vec::new();
            let mut part = [0; 4096];
            while !String::from_utf8_lossy(&request).ends_with('}') {
                match stream.read(&mut part).expect("the request") {
                    0 => break,
                    read => request.extend_from_slice(&part[..read]),
                }
            }
            requests.push(String::from_utf8_lossy(&request).into_owned());
            let answer = format!(
                "HTTP/1.1 {status} Status\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
            );
            stream.write_all(answer.as_bytes()).expect("answer");
        }
        requests
    });
    (url, thread)
}

#[test]
fn a_url_is_posted_to_for_each_server_and_its_refusal_stops_the_update() {
    let rig = Rig::new(3, 1);
    let (url, requests) = webhook(&[204, 500]);
    let step = rig
        .step()
        .input("update", "")
        .input("update-url", url)
        .input("update-token", "t0k3n-of-the-hook")
        .input("expect-version", "v1");
    let ended = step.run();
    expect_code(&ended, 1);
    assert_eq!(
        outcome(&ended),
        [r#"["web1"]"#, r#"["web2"]"#, r#"["web3"]"#]
    );
    let requests = requests.join().expect("the webhook");
    for (request, server) in requests.iter().zip(["web1", "web2"]) {
        let lower = request.to_lowercase();
        assert!(
            lower.contains("authorization: bearer t0k3n-of-the-hook"),
            "{request}"
        );
        let port = rig.port(server);
        for part in [
            format!(r#""server":"{server}""#),
            format!(r#""address":"127.0.0.1:{port}""#),
            format!(r#""port":{port}"#),
            r#""version":"v1""#.to_owned(),
        ] {
            assert!(request.contains(&part), "{part}: {request}");
        }
    }
    assert_eq!(requests.len(), 2, "nothing is posted twice");
    ended.assert_never_shows("t0k3n-of-the-hook");
    ended.assert_never_shows("s3cr3t-path");
}
