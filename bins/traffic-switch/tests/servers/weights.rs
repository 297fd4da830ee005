//! Conformance of the weights: what is asked for is what users get, within an exact interval.

use std::time::Duration;

use switchyard_harness::{Step, expect_code, expect_said};
use switchyard_traffic::share::Percent;
use switchyard_traffic::statistic::{ShareVerdict, share_verdict};

use crate::rig::Rig;

fn step(rig: &Rig) -> Step {
    rig.bare_step().input("command", "server-weights")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_servers_gets_the_share_that_was_asked_for() {
    let rig = Rig::new(4, 2);
    rig.restart("web1", "v2");
    rig.restart("web2", "v2");
    for percent in [0, 1, 10, 50, 99, 100] {
        let step = step(&rig)
            .input("servers", "web1,web2")
            .input("weight", percent.to_string());
        let ended = tokio::task::spawn_blocking(move || step.run())
            .await
            .expect("the step");
        expect_code(&ended, 0);
        expect_said(
            &ended,
            &[&format!(
                "web1, web2 get {percent}.0 % of the traffic together"
            )],
        );
        assert_eq!(
            (&*ended.outputs["result"], &*ended.outputs["verified"]),
            ("weighted", "data-plane")
        );
        for haproxy in [0, 1] {
            let load = rig.load(haproxy, 400);
            let report = load
                .run_for(Duration::from_secs(2))
                .await
                .expect("a report");
            assert_eq!(report.lost, 0, "{percent} %: {}", report.summary());
            let of = |version: &str| report.by_version.get(version).copied().unwrap_or(0);
            let (hits, answers) = (of("v2"), of("v1") + of("v2"));
            assert!(answers > 600, "{}", report.summary());
            let verdict =
                share_verdict(hits, answers, Percent::new(percent).expect("a percentage"));
            assert!(
                matches!(verdict, ShareVerdict::Fits { .. }),
                "{percent} % asked for, {hits} of {answers}: {verdict:?}"
            );
        }
    }
    let back = step(&rig);
    let ended = tokio::task::spawn_blocking(move || back.run())
        .await
        .expect("the step");
    expect_code(&ended, 0);
    assert_eq!(
        ended.outputs["weights"],
        r#"{"web1":1,"web2":1,"web3":1,"web4":1}"#
    );
}

#[test]
fn weights_that_are_right_already_are_left_as_they_are_and_a_plan_changes_nothing() {
    let rig = Rig::new(2, 1);
    let weigh = |rig: &Rig| step(rig).input("servers", "web1").input("weight", "10");
    let planned = weigh(&rig).input("plan", "true").run();
    expect_code(&planned, 0);
    expect_said(
        &planned,
        &[
            "web2: weight 1 → 9",
            "web1 get 10.0 % of the traffic together",
        ],
    );
    assert_eq!(
        (&*planned.outputs["result"], &*planned.outputs["changed"]),
        ("planned", "false")
    );
    assert_eq!(weigh(&rig).run().outputs["result"], "weighted");
    let again = weigh(&rig).run();
    assert_eq!(
        (&*again.outputs["result"], &*again.outputs["changed"]),
        ("nothing-to-do", "false")
    );
}

#[test]
fn a_share_that_cannot_be_given_is_refused() {
    let rig = Rig::new(2, 1);
    for (servers, weight, code, said) in [
        ("web1", "", 2, "input `weight` is empty"),
        ("", "10", 2, "input `servers` is empty"),
        ("web9", "10", 2, "no server `web9`"),
        ("web1,web2", "10", 1, "no server is up beside those"),
        ("web1", "101", 2, "between 0 and 100"),
    ] {
        let ended = step(&rig)
            .input("servers", servers)
            .input("weight", weight)
            .run();
        expect_code(&ended, code);
        expect_said(&ended, &[said]);
    }
    rig.ask(0, "set server web/web1 state maint");
    let ended = step(&rig)
        .input("servers", "web1")
        .input("weight", "10")
        .run();
    expect_code(&ended, 1);
    expect_said(
        &ended,
        &["none of the servers that are to get 10 %25 of the traffic is up"],
    );
}
