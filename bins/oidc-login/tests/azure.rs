//! The login to AKS, from the job's identity to a kubeconfig, against strict stand-ins.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::os::unix::fs::{MetadataExt as _, symlink};

use serde_json::json;
use support::{CLIENT, GROUP, OBJECT, SUBJECT, World, files, kubeconfig, plugin_path, read_json};
use switchyard_sandbox::standins::arm::{SUBSCRIPTION, UserKind};
use switchyard_sandbox::standins::entra::{AKS_SERVER, Application, Cloud, TENANT};
use switchyard_sandbox::standins::{Fault, FaultRule, Job, Proxy, ResourceManager, SubjectFormat};

#[test]
fn a_job_becomes_somebody_to_its_cluster_in_six_round_trips() {
    let world = World::new();
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(
        ended.stdout.contains(OBJECT),
        "who we are is not told: {}",
        ended.stdout
    );
    assert_eq!(ended.outputs["context"], "shop");
    assert_eq!(ended.outputs["subject"], SUBJECT);
    assert!(ended.outputs["expires-at"].ends_with('Z'));
    let calls = [
        world.github.exchanges().len(),
        world.entra.exchanges().len(),
        world.arm.exchanges().len(),
        world.cluster.exchanges().len(),
    ];
    assert_eq!(calls, [2, 2, 1, 1]);
    world.assert_no_secret_in(&ended);
}

#[test]
fn the_kubeconfig_is_private_and_its_user_is_our_plugin() {
    let world = World::new();
    let ended = world.azure().run();
    let path = kubeconfig(&ended);
    assert!(path.starts_with(world.temp.path().canonicalize().unwrap()));
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    let config = read_json(&path);
    assert_eq!(config["current-context"], "shop");
    let exec = &config["users"][0]["user"]["exec"];
    assert_eq!(exec["command"], plugin_path());
    assert_eq!(exec["interactiveMode"], "Never");
    let arguments = exec["args"].to_string();
    for part in [TENANT, CLIENT, AKS_SERVER, world.entra.base_url()] {
        assert!(arguments.contains(part), "{arguments}");
    }
    for token in world.tokens() {
        assert!(!config.to_string().contains(&token));
    }
}

#[test]
fn several_clusters_share_one_kubeconfig_and_one_token() {
    let world = World::new();
    world.add_cluster("shop-eu", UserKind::Exec(Cloud::Public));
    let whole = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerService/managedClusters/shop"
    );
    let ended = world
        .azure()
        .input("cluster", format!("shop-eu\n{whole}"))
        .run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let config = read_json(&kubeconfig(&ended));
    assert_eq!(config["contexts"][0]["name"], "shop-eu");
    assert_eq!(config["contexts"][1]["name"], "shop");
    assert_eq!(config["current-context"], "shop-eu");
    assert_eq!(
        world.entra.exchanges().len(),
        2,
        "one token for ARM, one for both clusters"
    );
    assert_eq!(
        world.cluster.exchanges().len(),
        2,
        "each cluster says who we are"
    );
}

#[test]
fn a_command_in_the_answer_of_a_cluster_is_never_taken_over() {
    let world = World::new();
    let marker = world.own.path().join("run");
    world.add_cluster(
        "evil",
        UserKind::ForeignExec {
            command: "/usr/bin/touch".to_owned(),
            arguments: vec![
                marker.display().to_string(),
                "--server-id".to_owned(),
                AKS_SERVER.to_owned(),
            ],
        },
    );
    let ended = world.azure().input("cluster", "evil").run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let text = std::fs::read_to_string(kubeconfig(&ended)).unwrap();
    assert!(!text.contains("touch") && !text.contains("/run"), "{text}");
    assert!(!marker.exists());
}

#[test]
fn a_client_certificate_is_refused_unless_it_is_asked_for() {
    let world = World::new();
    let (certificate, key) = world.authority.client_identity("masterclient").unwrap();
    let user = UserKind::ClientCertificate {
        certificate,
        key: key.clone(),
    };
    world.add_cluster("local", user);
    let ended = world.azure().input("cluster", "local").run();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stdout.contains("client certificate") && ended.stdout.contains("`admin`"),
        "{}",
        ended.log()
    );
    assert!(!ended.outputs.contains_key("kubeconfig"));
    assert!(files(world.temp.path()).is_empty(), "something was left");
    let body = key.lines().nth(1).unwrap();
    ended.assert_never_shows(body);
}

#[test]
fn a_refused_subject_is_explained_in_each_of_its_ways() {
    let legacy = |name: &str| Job::default().in_environment(name);
    for (job, trusted, code, words) in [
        (
            legacy("production"),
            "repo:acme/shop:environment:Production",
            "AADSTS7002138",
            "upper and lower case",
        ),
        (
            legacy("production"),
            "repo:acme/shop:environment:production/",
            "AADSTS700213",
            "ends with `/`",
        ),
        (
            legacy("production"),
            "repo:acme/shop:ref:refs/heads/main",
            "AADSTS700213",
            "replaces branch and event",
        ),
        (
            Job::default(),
            SUBJECT,
            "AADSTS700213",
            "a rescue job is such a job",
        ),
        (
            Job::default().on("pull_request", "refs/pull/7/merge"),
            "repo:acme/shop:pull-request",
            "AADSTS700213",
            "with an underscore",
        ),
        (
            legacy("production").with_subject(SubjectFormat::Immutable),
            SUBJECT,
            "AADSTS700213",
            "ids of owner and repository",
        ),
        (
            legacy("production"),
            "repo:acme@1/shop@2:environment:production",
            "AADSTS700213",
            "older format",
        ),
        (
            legacy("a:b"),
            "repo:acme/shop:environment:a:b",
            "AADSTS700213",
            "%3A",
        ),
        (
            legacy("production")
                .with_subject(SubjectFormat::Template(vec!["job_workflow_ref".to_owned()])),
            SUBJECT,
            "AADSTS700213",
            "include_claim_keys",
        ),
    ] {
        let world = World::of(Cloud::Public, trusted);
        let subject = job.subject();
        world.github.service().run(job);
        let ended = world.azure().input("expected-subject", trusted).run();
        assert_eq!(ended.code, Some(3), "{trusted}: {}", ended.log());
        for part in [
            code,
            words,
            &subject,
            trusted,
            "\"issuer\": \"https://token.actions.githubusercontent.com\"",
        ] {
            assert!(
                ended.stdout.contains(part),
                "{trusted}, {part}: {}",
                ended.stdout
            );
        }
        assert_eq!(
            world.entra.exchanges().len(),
            1,
            "{trusted}: a refusal is repeated"
        );
        world.assert_no_secret_in(&ended);
    }
}

#[test]
fn the_audience_of_another_cloud_is_explained() {
    let world = World::of(Cloud::UsGovernment, SUBJECT);
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stdout.contains("AADSTS700212") && ended.stdout.contains("input `cloud`"),
        "{}",
        ended.log()
    );
    let ended = world.azure().input("cloud", "us-gov").run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
}

#[test]
fn what_entra_refuses_has_plain_words() {
    let world = World::new();
    let unknown = "00000000-0000-4000-8000-000000000000";
    for (input, value, code, words) in [
        (
            "client-id",
            unknown,
            "AADSTS700016",
            "check inputs `client-id` and `tenant`",
        ),
        (
            "tenant",
            unknown,
            "AADSTS90002",
            "the tenant does not exist",
        ),
    ] {
        let ended = world.azure().input(input, value).run();
        assert_eq!(ended.code, Some(3), "{}", ended.log());
        assert!(
            ended.stdout.contains(code) && ended.stdout.contains(words),
            "{}",
            ended.stdout
        );
    }
    world
        .entra
        .service()
        .register(Application::new(CLIENT, "deployer", OBJECT));
    let ended = world.azure().run();
    assert!(
        ended.stdout.contains("AADSTS70025")
            && ended.stdout.contains("no federated credential at all"),
        "{}",
        ended.stdout
    );
    let audience = Cloud::Public.assertion_audience();
    let other = Application::new(CLIENT, "deployer", OBJECT);
    world.entra.service().register(other.trusting(
        "https://ghes.example.test/_services/token",
        SUBJECT,
        audience,
    ));
    let ended = world.azure().run();
    assert!(
        ended.stdout.contains("AADSTS700211") && ended.stdout.contains("copy the token's `iss`"),
        "{}",
        ended.stdout
    );
}

#[test]
fn what_only_a_policy_or_another_cloud_refuses_has_plain_words_too() {
    let world = World::new();
    for (code, words) in [
        (7_002_131, "flexible federated credential"),
        (700_223, "a policy of the tenant"),
        (700_238, "a policy of the tenant"),
        (900_382, "in different clouds"),
        (50_027, "empty or no token"),
    ] {
        let fault = world.entra.service().refusal(code, "a \"quoted\" reason");
        world.entra.fail(FaultRule::next(1, fault));
        let ended = world.azure().run();
        assert_eq!(ended.code, Some(3), "{code}: {}", ended.log());
        assert!(
            ended.stdout.contains(words) && ended.stdout.contains("\"quoted\""),
            "{code}: {}",
            ended.stdout
        );
    }
}

#[test]
fn everything_goes_through_the_proxy_that_the_environment_names() {
    let world = World::new();
    let proxy = Proxy::asking_for("ann", "hunter2").unwrap();
    let url = proxy.url().replace("http://", "http://ann:hunter2@");
    let ended = world.azure().variable("HTTPS_PROXY", &url).run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let asked = proxy.seen().asked;
    for service in [
        world.github.base_url(),
        world.entra.base_url(),
        world.arm.base_url(),
        world.server(),
    ] {
        let host = service.trim_start_matches("https://");
        assert!(asked.iter().any(|one| one == host), "{host}: {asked:?}");
    }
    let config = kubeconfig(&ended);
    assert!(!std::fs::read_to_string(config).unwrap().contains("hunter2"));
    ended.assert_never_shows("hunter2");
    let wrong = world.azure().variable("HTTPS_PROXY", proxy.url());
    let ended = wrong.input("timeout", "1s").run();
    assert_eq!(ended.code, Some(3), "{}", ended.log());
}

#[test]
fn a_credential_that_still_spreads_is_waited_for_with_a_fresh_token_each_time() {
    let world = World::new();
    world.entra.service().propagate(1);
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(ended.stdout.contains("needs a while"), "{}", ended.stdout);
    assert_eq!(world.entra.exchanges().len(), 3);
    let assertions: Vec<String> = world
        .entra
        .exchanges()
        .into_iter()
        .map(|exchange| exchange.body)
        .collect();
    assert_ne!(assertions[0], assertions[1]);
    world.assert_no_secret_in(&ended);
}

#[test]
fn an_assertion_that_has_expired_is_named_as_one() {
    let world = World::new();
    world.entra.service().clock.skew(3600);
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stdout.contains("AADSTS700024") && ended.stdout.contains("has expired"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_job_that_gets_no_token_is_told_before_anything_is_sent() {
    let world = World::new();
    let without = || {
        let step = world.azure().without("ACTIONS_ID_TOKEN_REQUEST_URL");
        step.without("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    };
    let ended = without().run();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stdout.contains("id-token: write"), "{}", ended.stdout);
    let event = world.own.path().join("event.json");
    let fork = json!({
        "pull_request": {"head": {"repo": {"full_name": "mallory/shop"}}},
        "repository": {"full_name": "acme/shop"},
    });
    std::fs::write(&event, fork.to_string()).unwrap();
    let ended = without()
        .variable("GITHUB_EVENT_PATH", event.display().to_string())
        .run();
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stdout.contains("fork") && ended.stdout.contains("mallory/shop"),
        "{}",
        ended.stdout
    );
    assert!(world.entra.exchanges().is_empty() && world.github.exchanges().is_empty());
}

#[test]
fn what_resource_manager_refuses_is_told_with_the_role_or_the_input() {
    let world = World::new();
    let ended = world.azure().input("cluster", "shop, other").run();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stdout.contains("cluster `other`") && ended.stdout.contains("knows no such cluster"),
        "{}",
        ended.stdout
    );
    world.arm.service().assign_nothing();
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stdout.contains("403") && ended.stdout.contains("Cluster User Role"),
        "{}",
        ended.stdout
    );
    assert!(!ended.outputs.contains_key("kubeconfig"));
    world.assert_no_secret_in(&ended);
}

#[test]
fn throttling_and_cut_answers_are_survived_within_the_timeout() {
    let world = World::new();
    world
        .arm
        .fail(FaultRule::next(1, ResourceManager::throttled(1)));
    world.entra.fail(FaultRule::next(1, Fault::CutWithin));
    world.github.fail(FaultRule::next(1, Fault::Cut));
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    world
        .arm
        .fail(FaultRule::next(1, ResourceManager::throttled(3600)));
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stdout.contains("asks to wait 3600s"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_service_that_is_not_there_or_not_trusted_is_named() {
    let world = World::new();
    let refused = world
        .azure()
        .input("authority-url", "https://127.0.0.1:1")
        .input("timeout", "4s")
        .run();
    assert_eq!(refused.code, Some(3));
    assert!(
        refused.stdout.contains("cannot connect to 127.0.0.1:1"),
        "{}",
        refused.stdout
    );
    let step = world.azure().input("timeout", "4s");
    let untrusted = step.without("INPUT_EXTRA_CA").run();
    assert_eq!(untrusted.code, Some(3));
    assert!(
        untrusted.stdout.to_lowercase().contains("certificate"),
        "{}",
        untrusted.stdout
    );
}

#[test]
fn a_kubeconfig_is_never_written_over_what_is_there() {
    let world = World::new();
    let temp = world.temp.path();
    std::fs::write(temp.join("existing"), "apiVersion: v1").unwrap();
    std::fs::write(temp.join("malformed"), "{").unwrap();
    symlink(temp.join("existing"), temp.join("link")).unwrap();
    std::fs::create_dir(temp.join("folder")).unwrap();
    for (name, words) in [
        ("existing", "exists already"),
        ("malformed", "exists already"),
        ("link", "a symbolic link"),
        ("folder", "a folder"),
        ("../outside", "not below"),
        ("nowhere/config", "nowhere"),
    ] {
        let ended = world.azure().input("kubeconfig", name).run();
        assert_eq!(ended.code, Some(2), "{name}: {}", ended.log());
        assert!(ended.stdout.contains(words), "{name}: {}", ended.stdout);
    }
    assert!(
        world.github.exchanges().is_empty(),
        "asked before the input was refused"
    );
    let ended = world.azure().input("kubeconfig", "mine").run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(
        kubeconfig(&ended),
        temp.canonicalize().unwrap().join("mine")
    );
}

#[test]
fn two_steps_that_log_in_at_once_both_have_a_kubeconfig_of_their_own() {
    let world = World::new();
    let (one, two) = (world.azure().start(), world.azure().start());
    let (one, two) = (one.finish(), two.finish());
    assert_eq!(
        (one.code, two.code),
        (Some(0), Some(0)),
        "{} {}",
        one.log(),
        two.log()
    );
    assert_ne!(kubeconfig(&one), kubeconfig(&two));
}

#[test]
fn nonsense_is_refused_by_the_name_of_its_input() {
    let world = World::new();
    for (input, value) in [
        ("client-id", "my-application"),
        ("tenant", "a/b"),
        ("cluster", "a/b/c"),
        ("cluster", ""),
        ("authority-url", "http://login.example.test"),
        ("cloud", "private"),
        ("timeout", "0"),
    ] {
        let ended = world.azure().input(input, value).run();
        assert_eq!(ended.code, Some(2), "{input}: {}", ended.log());
        assert!(
            ended.stdout.contains(&format!("input `{input}`")),
            "{input}: {}",
            ended.stdout
        );
    }
    let ended = world.azure().without("INPUT_SUBSCRIPTION").run();
    assert!(
        ended.stdout.contains("input `subscription` is required"),
        "{}",
        ended.stdout
    );
    assert!(world.github.exchanges().is_empty());
}
