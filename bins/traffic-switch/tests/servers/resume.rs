//! A run that was killed, and the one after it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use switchyard_harness::{expect_code, expect_said, until};

use crate::rig::Rig;

/// Runs a step until the update of `web2` has begun, and kills it there.
fn killed_at_the_second_server(rig: &Rig) {
    rig.hook("if [ $1 = web2 ]; then echo $PPID >script; touch begun; while [ ! -e go-on ]; do sleep 0.05; done; fi");
    let step = rig.step().start();
    until("the update of the second server has begun", || {
        rig.path().join("begun").exists()
    });
    kill(Pid::from_raw(step.id().cast_signed()), Signal::SIGKILL).expect("kill the step");
    assert_eq!(step.finish().code, None);
    // What the step started dies with the runner as well.
    let script = std::fs::read_to_string(rig.path().join("script")).expect("the script's process");
    let group = script
        .trim()
        .parse()
        .map(Pid::from_raw)
        .expect("a process id");
    nix::sys::signal::killpg(group, Signal::SIGKILL).expect("kill the script");
    std::fs::write(rig.path().join("go-on"), "").expect("let the next one go on");
    assert_eq!(rig.states(0), ["UP", "MAINT", "UP"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_run_goes_on_with_the_server_that_a_killed_one_left_out() {
    let rig = Rig::new(3, 1);
    killed_at_the_second_server(&rig);
    let load = rig.load(0, 200).start();
    let step = rig
        .step()
        .input("min-up", "2")
        .variable("GITHUB_RUN_ATTEMPT", "2");
    let ended = tokio::task::spawn_blocking(move || step.run())
        .await
        .expect("the step");
    let report = load.stop().await.expect("a report");
    expect_code(&ended, 0);
    assert_eq!(report.lost, 0, "{}\n{}", report.summary(), ended.log());
    expect_said(
        &ended,
        &[
            "out: an earlier run was stopped in its update",
            "updated by an earlier run: web1",
        ],
    );
    assert_eq!(rig.updates(), ["web1", "web2", "web2", "web3"]);
    assert_eq!(ended.outputs["updated"], r#"["web1","web2","web3"]"#);
    assert_eq!(rig.states(0), ["UP"; 3]);
}

#[test]
fn another_run_takes_the_server_up_and_updates_every_one() {
    let rig = Rig::new(3, 1);
    killed_at_the_second_server(&rig);
    let ended = rig.step().variable("GITHUB_RUN_ID", "2002").run();
    expect_code(&ended, 0);
    assert_eq!(rig.updates(), ["web1", "web2", "web2", "web1", "web3"]);
}

#[test]
fn without_its_state_file_the_server_is_somebody_elses_until_it_is_named() {
    let rig = Rig::new(3, 1);
    killed_at_the_second_server(&rig);
    std::fs::remove_file(rig.path().join("state.json")).expect("lose the state file");
    let ended = rig.step().input("servers", "web2").run();
    expect_code(&ended, 1);
    expect_said(
        &ended,
        &["taken out of the traffic by somebody else", "`adopt`"],
    );
    let ended = rig.step().input("adopt", "web2").input("min-up", "1").run();
    expect_code(&ended, 0);
    assert_eq!(rig.updates(), ["web1", "web2", "web2", "web1", "web3"]);
    assert_eq!(rig.states(0), ["UP"; 3]);
}

#[test]
fn a_state_file_that_is_none_is_refused() {
    let rig = Rig::new(1, 1);
    std::fs::write(rig.path().join("state.json"), "{}").expect("write");
    let ended = rig.step().input("min-up", "0").run();
    expect_code(&ended, 2);
    expect_said(&ended, &["read what an earlier run left in", "state.json"]);
}
