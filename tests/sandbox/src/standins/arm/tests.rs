use std::io;

use super::*;
use crate::standins::{
    GITHUB_ISSUER, TokenService,
    entra::{Application, Cloud, Entra},
};

const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
const PRINCIPAL: &str = "99999999-0000-4000-8000-000000000001";

struct World {
    entra: Entra,
    manager: ResourceManager,
    github: TokenService,
}

impl World {
    fn new() -> io::Result<Self> {
        let github = TokenService::new()?;
        let entra = Entra::new(Cloud::Public)?.reaching(GITHUB_ISSUER, Arc::clone(&github.keys));
        let subject = "repo:acme/shop:ref:refs/heads/main";
        let application = Application::new(CLIENT, "deployer", PRINCIPAL);
        entra.register(application.trusting(
            GITHUB_ISSUER,
            subject,
            Cloud::Public.assertion_audience(),
        ));
        let manager = ResourceManager::new(Arc::clone(&entra.tokens));
        manager.add(ManagedCluster {
            resource_group: "shop-rg".to_owned(),
            name: "shop-aks".to_owned(),
            server: "https://shop.private:443".to_owned(),
            public_server: Some("https://shop.public:443".to_owned()),
            ca: "CA".to_owned(),
            user: UserKind::Exec(Cloud::Public),
        });
        manager.assign(
            PRINCIPAL,
            &format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/shop-rg"),
        );
        Ok(Self {
            entra,
            manager,
            github,
        })
    }

    fn token(&self, scope: &str) -> String {
        let assertion = self.github.token(Cloud::Public.assertion_audience());
        let url = format!(
            "https://127.0.0.1/{}/oauth2/v2.0/token",
            super::super::entra::TENANT
        );
        let request = Received::form(
            &url,
            &[
                ("grant_type", "client_credentials"),
                ("client_id", CLIENT),
                ("scope", scope),
                (
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                ),
                ("client_assertion", &assertion),
            ],
        );
        let answer = self.entra.answer(&request);
        let document: Value = serde_json::from_str(&answer.body).expect("JSON");
        document["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("{document}"))
            .to_owned()
    }

    fn ask(&self, path: &str, query: &str) -> Received {
        let token = self.token("https://management.azure.com/.default");
        Received {
            method: "POST".to_owned(),
            ..Received::get(&format!("https://127.0.0.1{path}?{query}"))
        }
        .with_header("content-length", "0")
        .with_header("authorization", &format!("Bearer {token}"))
    }
}

fn path(subscription: &str, group: &str, name: &str) -> String {
    format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ContainerService/managedClusters/{name}/listClusterUserCredential"
    )
}

const QUERY: &str = "api-version=2025-10-01&format=exec";

fn kubeconfig(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let document: Value = serde_json::from_str(&answer.body).expect("JSON");
    let encoded = document["kubeconfigs"][0]["value"]
        .as_str()
        .expect("a value");
    let text = String::from_utf8(STANDARD.decode(encoded).expect("base64")).expect("text");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn an_authorized_principal_gets_the_kubeconfig_of_the_cluster() {
    let world = World::new().unwrap();
    let good = path(SUBSCRIPTION, "Shop-RG", "shop-aks");
    let config = kubeconfig(&world.manager.answer(&world.ask(&good, QUERY)));
    assert_eq!(
        config["clusters"][0]["cluster"]["server"],
        "https://shop.private:443"
    );
    let exec = &config["users"][0]["user"]["exec"];
    assert_eq!(exec["command"], "kubelogin");
    assert_eq!(exec["args"][4], super::super::entra::AKS_SERVER);
    let public = format!("{QUERY}&server-fqdn=public");
    let config = kubeconfig(&world.manager.answer(&world.ask(&good, &public)));
    assert_eq!(
        config["clusters"][0]["cluster"]["server"],
        "https://shop.public:443"
    );
}

#[test]
fn clusters_answer_with_certificates_or_somebody_elses_command_too() {
    let world = World::new().unwrap();
    for (name, user, pointer, value) in [
        (
            "local",
            UserKind::ClientCertificate {
                certificate: "C".to_owned(),
                key: "K".to_owned(),
            },
            "/users/0/user/client-key-data",
            "Sw==",
        ),
        (
            "evil",
            UserKind::ForeignExec {
                command: "/bin/sh".to_owned(),
                arguments: vec!["-c".to_owned(), "id: \"x\"".to_owned()],
            },
            "/users/0/user/exec/args/1",
            "id: \"x\"",
        ),
    ] {
        world.manager.add(ManagedCluster {
            resource_group: "shop-rg".to_owned(),
            name: name.to_owned(),
            server: "https://x".to_owned(),
            public_server: None,
            ca: "CA".to_owned(),
            user,
        });
        let request = world.ask(&path(SUBSCRIPTION, "shop-rg", name), QUERY);
        let config = kubeconfig(&world.manager.answer(&request));
        assert_eq!(
            config.pointer(pointer),
            Some(&Value::from(value)),
            "{config}"
        );
    }
}

#[test]
fn a_request_is_refused_for_what_resource_manager_refuses() {
    let world = World::new().unwrap();
    let good = path(SUBSCRIPTION, "shop-rg", "shop-aks");
    let ask = |path: &str, query: &str| world.ask(path, query);
    let other = world.token("6dae42f8-4368-4678-94ff-3960e28e3630/.default");
    let all = format!("/subscriptions/{SUBSCRIPTION}");
    let cases = [
        (
            ask(&good, QUERY).with_header("authorization", ""),
            401,
            "AuthenticationFailed",
        ),
        (
            ask(&good, QUERY).with_header("authorization", "Bearer x"),
            401,
            "InvalidAuthenticationToken",
        ),
        (
            ask(&good, QUERY).with_header("authorization", &format!("Bearer {other}")),
            401,
            "InvalidAuthenticationTokenAudience",
        ),
        (ask(&good, "format=exec"), 400, "MissingApiVersionParameter"),
        (
            ask(&good, "api-version=2020-01-01"),
            400,
            "NoRegisteredProviderFound",
        ),
        (
            ask(&good, "api-version=2025-10-01&format=yaml"),
            400,
            "InvalidParameter",
        ),
        (
            ask(&good, QUERY).with_header("content-length", ""),
            411,
            "LengthRequired",
        ),
        (
            Received {
                method: "GET".to_owned(),
                ..ask(&good, QUERY)
            },
            405,
            "MethodNotAllowed",
        ),
        (
            Received {
                body: "{}".into(),
                ..ask(&good, QUERY)
            },
            400,
            "InvalidParameter",
        ),
        (
            ask(&path("x", "shop-rg", "shop-aks"), QUERY),
            404,
            "SubscriptionNotFound",
        ),
        (ask("/subscriptions/x", QUERY), 404, "InvalidResourceType"),
        (
            ask(&path(SUBSCRIPTION, "other-rg", "shop-aks"), QUERY),
            403,
            "AuthorizationFailed",
        ),
        (
            ask(&path(SUBSCRIPTION, "shop-rg", "gone"), QUERY),
            404,
            "ResourceNotFound",
        ),
    ];
    let expect = |request: &Received, status: u16, code: &str| {
        let answer = world.manager.answer(request);
        let document: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(
            (answer.status, document["error"]["code"].as_str()),
            (status, Some(code))
        );
    };
    for (request, status, code) in cases {
        expect(&request, status, code);
    }
    let request = ask(&good, QUERY);
    world.manager.clock.skew(4_000);
    expect(&request, 401, "ExpiredAuthenticationToken");
    world.manager.clock.skew(0);
    world.manager.assign(PRINCIPAL, &all);
    expect(
        &ask(&path(SUBSCRIPTION, "other-rg", "shop-aks"), QUERY),
        404,
        "ResourceGroupNotFound",
    );
    world.manager.assign_nothing();
    expect(&request, 403, "AuthorizationFailed");
}
