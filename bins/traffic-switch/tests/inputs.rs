//! Nonsense in any input is refused before anything is touched: the message names the input, what
//! was given and what is allowed.

use switchyard_harness::{Ended, Step};

fn switch() -> Step {
    Step::new(env!("CARGO_BIN_EXE_traffic-switch"))
        .input("command", "switch")
        .input("application", "web")
        .input("targets", "traefik/web")
        .input("kubeconfig", "/nowhere/kubeconfig")
}

fn refused(step: Step) -> Ended {
    let ended = step.run();
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(ended.log().contains("::error"), "{}", ended.log());
    ended
}

#[test]
fn every_nonsense_names_its_input_and_what_is_allowed() {
    let cases = [
        ("targets", "web", "PROVIDER/NAME"),
        ("targets", "haproxy/web", "service, traefik, gateway"),
        ("targets", "traefik/Web", "no object name"),
        ("targets", "traefik/web:a:99999", "1 to 65535"),
        ("to", "teal", "`blue`"),
        ("weight", "120", "between 0 and 100"),
        ("weight", "ten", "between 0 and 100"),
        ("steps", "10,x", "between 0 and 100"),
        ("hold", "90", "90s"),
        ("min-ready", "0", "min-ready"),
        ("min-ready", "-1", "min-ready"),
        ("longest-request", "soon", "90s"),
        ("timeout", "10ms", "at least 1s"),
        ("verify-url", "ftp://shop.example", "http"),
        ("verify-url", "shop", "not a URL"),
        ("verify-rate", "0", "verify-rate"),
        ("version-header", "x version", "version-header"),
        ("require-verified", "everything", "front-door"),
        ("traefik-api", "traefik", "NAMESPACE/KIND/NAME:PORT"),
        ("kube-proxy-metrics", "nowhere", "NAMESPACE/KIND/NAME:PORT"),
        ("plan", "yes", "`true` or `false`"),
        ("scale-new-down", "1", "`true` or `false`"),
    ];
    for (input, value, allowed) in cases {
        let ended = refused(switch().input(input, value));
        let log = ended.log();
        assert!(
            log.contains(input) && log.contains(allowed),
            "{input}={value}:\n{log}"
        );
    }
}

#[test]
fn inputs_that_contradict_each_other_are_refused() {
    for (step, part) in [
        (
            switch().input("weight", "10").input("steps", "10,50"),
            "exclude each other",
        ),
        (switch().input("steps", "50,10"), "steps must rise"),
        (switch().input("weight", "0"), "input `weight`"),
        (
            switch()
                .input("targets", "service/web")
                .input("weight", "10"),
            "all of the traffic or none, not 10 %",
        ),
        (
            switch().input("targets", "traefik/web\ntraefik/web"),
            "twice",
        ),
    ] {
        let ended = refused(step);
        assert!(ended.log().contains(part), "{part}:\n{}", ended.log());
        assert!(ended.log().contains("hint: "), "{}", ended.log());
    }
}

#[test]
fn an_input_of_another_command_is_refused_by_name() {
    let step = Step::new(env!("CARGO_BIN_EXE_traffic-switch"))
        .input("command", "rollback")
        .input("application", "web")
        .input("steps", "10,100");
    let ended = refused(step);
    assert!(
        ended
            .log()
            .contains("input `steps` is not used by `rollback`"),
        "{}",
        ended.log()
    );
}

#[test]
fn a_kubeconfig_that_is_not_there_is_named() {
    let ended = refused(switch());
    assert!(
        ended.log().contains("/nowhere/kubeconfig"),
        "{}",
        ended.log()
    );
}

#[test]
fn a_status_of_nothing_is_refused() {
    let step = Step::new(env!("CARGO_BIN_EXE_traffic-switch")).input("command", "status");
    let ended = refused(step);
    assert!(
        ended
            .log()
            .contains("`targets` and `application` are both empty"),
        "{}",
        ended.log()
    );
}
