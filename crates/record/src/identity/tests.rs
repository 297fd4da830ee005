use proptest::prelude::*;

use super::*;

fn parts() -> DeploymentIdParts {
    DeploymentIdParts {
        repository: "acme/shop".to_owned(),
        run_id: "1001".to_owned(),
        environment: "production".to_owned(),
        cluster: "arn:aws:eks:eu-west-1:1:cluster/main".to_owned(),
        namespace: "shop".to_owned(),
        application: "web".to_owned(),
    }
}

#[test]
fn an_identity_is_one_line_and_is_read_back() {
    let id = DeploymentId::new(parts()).unwrap();
    assert_eq!(
        id.to_string(),
        "acme/shop/1001/production/arn:aws:eks:eu-west-1:1:cluster%2Fmain/shop/web"
    );
    assert_eq!(id.to_string().parse(), Ok(id));
}

#[test]
fn a_later_deployment_of_the_same_run_has_its_own_name() {
    let first = DeploymentId::new(parts()).unwrap();
    let second = first.with_repeat(2);
    assert!(first.is_same_run(&second));
    assert_ne!(first.record_name(), second.record_name());
    assert_eq!(second.to_string().parse(), Ok(second));
}

#[test]
fn names_of_objects_are_stable_and_valid() {
    let id = DeploymentId::new(parts()).unwrap();
    assert_eq!(id.short_hash().len(), 12);
    assert_eq!(
        id.record_name(),
        format!("switchyard.web.{}", id.short_hash())
    );
    assert_eq!(lease_name("web"), "switchyard-web");
    assert_eq!(
        id.run_url("https://github.com/").as_deref(),
        Some("https://github.com/acme/shop/actions/runs/1001")
    );
}

#[test]
fn a_local_run_has_no_link() {
    let local = DeploymentIdParts {
        repository: "local".to_owned(),
        run_id: "local".to_owned(),
        ..parts()
    };
    let id = DeploymentId::new(local).unwrap();
    assert_eq!(id.run_url("https://github.com"), None);
}

#[test]
fn parts_that_kubernetes_would_refuse_are_refused_by_name() {
    let refused = [
        DeploymentIdParts {
            application: "Web".into(),
            ..parts()
        },
        DeploymentIdParts {
            application: "a".repeat(64),
            ..parts()
        },
        DeploymentIdParts {
            namespace: "-shop".into(),
            ..parts()
        },
        DeploymentIdParts {
            environment: String::new(),
            ..parts()
        },
        DeploymentIdParts {
            cluster: "a\nb".into(),
            ..parts()
        },
        DeploymentIdParts {
            repository: "acme".into(),
            ..parts()
        },
        DeploymentIdParts {
            run_id: "1/2".into(),
            ..parts()
        },
    ];
    let named: Vec<_> = refused
        .into_iter()
        .map(|parts| DeploymentId::new(parts).unwrap_err().part)
        .collect();
    assert_eq!(
        named,
        [
            "application",
            "application",
            "namespace",
            "environment",
            "cluster",
            "repository",
            "run-id"
        ]
    );
}

#[test]
fn nonsense_is_not_read_as_an_identity() {
    for text in [
        "",
        "a/b",
        "acme/shop/1/p/c/ns/app~1",
        "acme/shop/1/p%zz/c/ns/app",
        "acme/shop/1/p/c/ns/app~",
    ] {
        assert!(text.parse::<DeploymentId>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn whatever_the_names_are_the_text_form_is_unambiguous(
        environment in "[^\\p{C}\\s]{1,20}",
        cluster in "[^\\p{C}\\s]{1,20}",
        repeat in 1_u32..9,
    ) {
        let id = DeploymentId::new(DeploymentIdParts { environment, cluster, ..parts() })
            .unwrap()
            .with_repeat(repeat);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
    }
}
