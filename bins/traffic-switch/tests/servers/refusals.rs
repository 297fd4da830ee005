//! What cannot be done is refused before anything is touched.

use switchyard_harness::{Ended, Step, expect_code, expect_said};

use crate::rig::Rig;

fn refused(rig: &Rig, step: Step, code: i32, said: &[&str]) -> Ended {
    let ended = step.run();
    expect_code(&ended, code);
    expect_said(&ended, said);
    expect_said(&ended, &["hint: "]);
    assert!(
        rig.updates().is_empty(),
        "an update was begun:\n{}",
        ended.log()
    );
    assert!(
        rig.states(0).iter().all(|state| state == "UP"),
        "{:?}",
        rig.states(0)
    );
    ended
}

#[test]
fn a_fleet_that_cannot_be_told_is_refused_before_anything_is_touched() {
    let rig = Rig::new(2, 2);
    let admin = rig.socket(0, "admin").display().to_string();
    let beside = |other: &str| rig.step().input("haproxy-api", format!("{admin},{other}"));
    let operator = rig.socket(1, "operator").display().to_string();
    refused(
        &rig,
        beside("/nowhere/admin.sock"),
        3,
        &["cannot connect to the runtime API at `/nowhere/admin.sock`"],
    );
    refused(
        &rig,
        beside(&operator),
        2,
        &["does not allow `set server`", "level admin"],
    );
    refused(
        &rig,
        beside(&rig.socket(0, "operator").display().to_string()),
        2,
        &["are the same process"],
    );
    refused(
        &rig,
        rig.step().input("backend", "api"),
        2,
        &["knows no backend `api`"],
    );
    refused(
        &rig,
        rig.step().input("servers", "web1,web9"),
        2,
        &["no server `web9`"],
    );
    refused(
        &rig,
        rig.step().input("servers", "web1,web1"),
        2,
        &["server `web1` is named twice"],
    );
    refused(
        &rig,
        rig.step().input("adopt", "web9"),
        2,
        &["no server `web9`"],
    );
}

#[test]
fn capacity_that_could_not_be_held_is_refused_before_anything_is_touched() {
    let rig = Rig::new(4, 1);
    for (batch, min_up, said) in [
        (
            "3",
            "2",
            "1 of 4 servers would stay up while `web1`, `web2`, `web3` are updated, and 2 have to",
        ),
        (
            "1",
            "100%",
            "3 of 4 servers would stay up while `web1` is updated, and 4 have to",
        ),
        ("4", "50%", "0 of 4 servers"),
    ] {
        let step = rig.step().input("batch", batch).input("min-up", min_up);
        let ended = refused(&rig, step, 1, &[said]);
        assert!(
            !ended.outputs.contains_key("changed"),
            "{:?}",
            ended.outputs
        );
    }
}

#[test]
fn nonsense_is_refused_with_what_is_allowed() {
    let rig = Rig::new(1, 1);
    for (input, value, said) in [
        (
            "haproxy-api",
            "admin.sock",
            "the absolute path of a unix socket",
        ),
        ("haproxy-api", "", "input `haproxy-api` is empty"),
        ("backend", "web;shutdown frontend web", "a name is made of"),
        ("servers", "web1/state", "a name is made of"),
        ("batch", "0", "batch"),
        ("min-up", "most", "a number of servers such as `2`"),
        ("update", "", "are both empty"),
        ("update-url", "http://127.0.0.1/", "exclude each other"),
        (
            "update-token",
            "secret",
            "`update-token` is for `update-url`",
        ),
        ("health-url", "http://127.0.0.1/", "needs `{host}`"),
        ("health-url", "{host}:{port}", "health-url"),
        ("health-successes", "0", "health-successes"),
        ("drain-timeout", "soon", "90s"),
    ] {
        let step = rig.step().input(input, value);
        let ended = step.run();
        expect_code(&ended, 2);
        expect_said(&ended, &[said]);
    }
    assert!(rig.updates().is_empty());
}

#[test]
fn a_second_update_of_the_same_servers_is_refused_while_the_first_one_runs() {
    let rig = Rig::new(2, 1);
    rig.hook("touch begun; while [ ! -e go-on ]; do sleep 0.05; done");
    let first = rig.step().start();
    switchyard_harness::until("the first update has begun", || {
        rig.path().join("begun").exists()
    });
    let second = rig.step().run();
    std::fs::write(rig.path().join("go-on"), "").expect("let the first one go on");
    expect_code(&second, 1);
    expect_said(&second, &["another update with the state file"]);
    expect_code(&first.finish(), 0);
    assert_eq!(rig.updates(), ["web1", "web2"]);
}
