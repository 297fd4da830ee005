//! Nonsense in the inputs is refused before anything is touched: exit code 2, and the input's name.

use switchyard_harness::Step;

fn refused(inputs: &[(&str, &str)]) -> String {
    let mut step = Step::new(env!("CARGO_BIN_EXE_health-wait")).input("kubeconfig", "/nowhere");
    for (name, value) in inputs {
        step = step.input(name, *value);
    }
    let ended = step.run();
    assert_eq!(ended.code, Some(2), "{inputs:?}: {}", ended.log());
    ended.log()
}

#[test]
fn every_input_refuses_nonsense_by_its_name() {
    for (command, input, nonsense, part) in [
        ("rollout", "workloads", "web", "deployment/web"),
        ("rollout", "workloads", "pod/web", "daemonset or job"),
        ("rollout", "selector", "app in blue", "no label selector"),
        ("rollout", "timeout", "5", "`90s`"),
        ("rollout", "timeout", "0s", "longer than 0"),
        ("rollout", "start-delay", "-1s", "`90s`"),
        ("rollout", "max-restarts", "-1", "max-restarts"),
        ("rollout", "log-lines", "many", "log-lines"),
        ("rollout", "checks", "- {target: nowhere}", "check 1"),
        ("rollout", "each-pod", "yes", "`true` or `false`"),
        ("rollout", "warm-up", "1000000", "warm-up"),
        ("rollout", "version-header", "x version", "version-header"),
        ("forward", "forwards", "api=service/api", "no target"),
        ("forward", "timeout", "soon", "`90s`"),
        ("forward", "pass-kubeconfig", "1", "`true` or `false`"),
        ("sleep", "timeout", "5s", "`rollout`"),
    ] {
        let log = refused(&[("command", command), (input, nonsense)]);
        assert!(log.contains(part), "{command} {input}={nonsense}: {log}");
        if command != "sleep" {
            assert!(log.contains(&format!("input `{input}`")), "{log}");
        }
    }
}

#[test]
fn a_step_that_would_check_nothing_is_refused() {
    assert!(refused(&[]).contains("nothing to wait for"));
    assert!(refused(&[("command", "forward"), ("forwards", "service/a:80")]).contains("`run`"));
}

#[test]
fn inputs_that_contradict_each_other_are_refused() {
    let log = refused(&[("workloads", "deployment/a"), ("warm-up", "5")]);
    assert!(log.contains("`warm-up` needs a check"), "{log}");
    let log = refused(&[
        ("command", "forward"),
        ("run", "true"),
        ("forwards", "service/a:80, deployment/a:80"),
    ]);
    assert!(log.contains("`A_URL`"), "{log}");
    let log = refused(&[("command", "forward"), ("warm-up", "5")]);
    assert!(log.contains("not used by `forward`"), "{log}");
}
