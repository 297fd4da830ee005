//! The real API server takes the tokens of the stand-ins for GitHub and Entra, and RBAC decides what
//! they may. Runs inside the shared sandbox's network namespace.

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use switchyard_sandbox::{
    DIRECT_AUDIENCE, EKS_CLUSTER, HttpAnswer, HttpClient, Sandbox,
    standins::{
        Entra, GITHUB_ISSUER, Job, ResourceManager, StandIn, TokenService,
        arm::{self, ManagedCluster, UserKind},
        aws::{Account, Role, STS_AUDIENCE, Session, Sts},
        entra::{self, Application, Cloud},
    },
};

const CLIENT: &str = "11111111-2222-4333-8444-555555555555";

async fn call(
    sandbox: &Sandbox,
    token: &str,
    method: Method,
    path: &str,
    body: &Value,
) -> HttpAnswer {
    let ca = std::fs::read_to_string(sandbox.ca_certificate()).expect("the authority");
    let client = HttpClient::trusting(&ca).expect("a client");
    let authorization = format!("Bearer {token}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let url = format!("{}{path}", sandbox.api_server());
    let body = Bytes::from(body.to_string());
    client
        .send(method, &url, &headers, body)
        .await
        .expect("an answer")
}

/// Who the API server takes a token's bearer for; `None` when it refuses the token.
async fn who(sandbox: &Sandbox, token: &str) -> Option<Value> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = call(sandbox, token, Method::POST, path, &review).await;
    match answer.status.as_u16() {
        201 => Some(answer.json().expect("JSON")["status"]["userInfo"].clone()),
        401 => None,
        other => panic!("{other}: {}", answer.text()),
    }
}

#[tokio::test]
async fn a_token_of_github_opens_a_cluster_that_trusts_its_issuer() {
    let sandbox = Sandbox::shared();
    let keys = sandbox.github_keys().expect("keys");
    let github = TokenService::with_keys(Arc::clone(&keys));
    github.run(Job::default().in_environment("production"));
    let token = github.token(DIRECT_AUDIENCE);
    let user = who(&sandbox, &token).await.expect("it is taken");
    assert_eq!(
        user["username"],
        "github:repo:acme/shop:environment:production"
    );
    assert_eq!(
        user["groups"],
        json!(["github:acme/shop", "system:authenticated"])
    );
    let workflow = &user["extra"]["github.com/job-workflow-ref"][0];
    assert_eq!(
        workflow,
        "acme/shop/.github/workflows/deploy.yml@refs/heads/main"
    );

    assert!(
        who(&sandbox, &github.token("api://AzureADTokenExchange"))
            .await
            .is_none()
    );
    github.set_issuer("https://token.actions.githubusercontent.com/acme");
    assert!(
        who(&sandbox, &github.token(DIRECT_AUDIENCE))
            .await
            .is_none()
    );
    github.set_issuer(GITHUB_ISSUER);
    github.clock.skew(-400);
    assert!(
        who(&sandbox, &github.token(DIRECT_AUDIENCE))
            .await
            .is_none(),
        "expired"
    );
    github.clock.skew(0);
    keys.rotate().expect("a new key");
    assert!(
        who(&sandbox, &github.token(DIRECT_AUDIENCE))
            .await
            .is_some(),
        "rotated"
    );
    let forger = TokenService::new().expect("keys");
    assert!(
        who(&sandbox, &forger.token(DIRECT_AUDIENCE))
            .await
            .is_none(),
        "nobody's key"
    );
}

/// GitHub and Entra with an application that trusts the environment `production`.
fn azure(sandbox: &Sandbox, object_id: &str) -> (TokenService, Entra) {
    let github = TokenService::new().expect("keys");
    github.run(Job::default().in_environment("production"));
    let keys = sandbox.entra_keys().expect("keys");
    let entra = Entra::with_keys(Cloud::Public, keys);
    let entra = entra.reaching(GITHUB_ISSUER, Arc::clone(&github.keys));
    let subject = "repo:acme/shop:environment:production";
    let application = Application::new(CLIENT, "deployer", object_id);
    let audience = Cloud::Public.assertion_audience();
    entra.register(application.trusting(GITHUB_ISSUER, subject, audience));
    (github, entra)
}

fn form(github: &TokenService, scope: &str) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    let assertion = github.token(Cloud::Public.assertion_audience());
    form.extend_pairs([
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("scope", scope),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", &assertion),
    ]);
    form.finish()
}

async fn access_token(client: &HttpClient, entra: &StandIn<Entra>, body: String) -> String {
    let url = format!("{}/{}/oauth2/v2.0/token", entra.base_url(), entra::TENANT);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = client
        .send(Method::POST, &url, &headers, body.into())
        .await
        .expect("an answer");
    let document = answer.json().expect("JSON");
    document["access_token"]
        .as_str()
        .unwrap_or_else(|| panic!("{document}"))
        .to_owned()
}

#[tokio::test]
async fn a_workflow_reaches_an_aks_cluster_over_tls_and_rbac_decides() {
    let sandbox = Sandbox::shared();
    let object_id = format!("99999999-0000-4000-8000-{:012x}", std::process::id());
    let (github, entra) = azure(&sandbox, &object_id);
    let manager = ResourceManager::new(Arc::clone(&entra.tokens));
    let ca = std::fs::read_to_string(sandbox.ca_certificate()).expect("the authority");
    manager.add(ManagedCluster {
        resource_group: "shop-rg".to_owned(),
        name: "shop-aks".to_owned(),
        server: sandbox.api_server().to_owned(),
        public_server: None,
        ca: ca.clone(),
        user: UserKind::Exec(Cloud::Public),
    });
    manager.assign(&object_id, &format!("/subscriptions/{}", arm::SUBSCRIPTION));
    let authority = sandbox.tls_authority().expect("the authority");
    let free = "127.0.0.1:0".parse().expect("an address");
    let entra = StandIn::start_tls(entra, free, &authority).expect("Entra");
    let manager = StandIn::start_tls(manager, free, &authority).expect("Resource Manager");
    let client = HttpClient::trusting(&ca).expect("a client");

    let body = form(&github, "https://management.azure.com/.default");
    let for_manager = access_token(&client, &entra, body).await;
    let path = format!(
        "/subscriptions/{}/resourceGroups/shop-rg/providers/Microsoft.ContainerService/managedClusters/shop-aks/listClusterUserCredential?api-version=2025-10-01&format=exec",
        arm::SUBSCRIPTION
    );
    let url = format!("{}{path}", manager.base_url());
    let authorization = format!("Bearer {for_manager}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-length", "0"),
    ];
    let answer = client
        .send(Method::POST, &url, &headers, Bytes::new())
        .await
        .expect("an answer");
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());

    assert!(
        who(&sandbox, &for_manager).await.is_none(),
        "a token for Resource Manager"
    );
    let body = form(&github, &format!("{}/.default", entra::AKS_SERVER));
    let token = access_token(&client, &entra, body).await;
    let user = who(&sandbox, &token).await.expect("it is taken");
    assert_eq!(user["username"], object_id.as_str());

    let namespace = sandbox.namespace("identity").await;
    let path = format!("/api/v1/namespaces/{}/services", namespace.name());
    let denied = call(&sandbox, &token, Method::GET, &path, &Value::Null).await;
    assert_eq!(denied.status.as_u16(), 403, "{}", denied.text());
    namespace.grant_deployer(&object_id).expect("a binding");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let granted = call(&sandbox, &token, Method::GET, &path, &Value::Null).await;
        if granted.status.as_u16() == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "{}", granted.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An EKS token as a client makes it: a presigned request to STS that names the cluster.
fn eks_token(sts: &StandIn<Sts>, account: &Account, session: &Session, cluster: &str) -> String {
    let url = format!(
        "{}/?Action=GetCallerIdentity&Version=2011-06-15",
        sts.base_url()
    );
    let url = account.presigned(&url, &[("x-k8s-aws-id", cluster)], session, "sts");
    format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url))
}

#[tokio::test]
async fn a_session_of_an_admitted_role_opens_the_cluster_with_an_eks_token() {
    let sandbox = Sandbox::shared();
    let github = TokenService::new().expect("keys");
    let account = Account::new().trusting(GITHUB_ISSUER, Arc::clone(&github.keys));
    let name = format!("deploy-{}", std::process::id());
    let role = Role::new(&name, "repo:acme/shop:ref:refs/heads/main");
    let arn = role.arn();
    account.add(role);
    let account = Arc::new(account);
    let authority = sandbox.tls_authority().expect("the authority");
    let free = "127.0.0.1:0".parse().expect("an address");
    let sts = StandIn::start_tls(Sts::new(Arc::clone(&account)), free, &authority).expect("STS");

    let ca = std::fs::read_to_string(sandbox.ca_certificate()).expect("the authority");
    let client = HttpClient::trusting(&ca).expect("a client");
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs([
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", &arn),
        ("RoleSessionName", "run-1"),
        ("WebIdentityToken", &github.token(STS_AUDIENCE)),
    ]);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let url = format!("{}/", sts.base_url());
    let body = Bytes::from(form.finish());
    let answer = client
        .send(Method::POST, &url, &headers, body)
        .await
        .expect("an answer");
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let session = account.sessions().pop().expect("a session");
    let token = |cluster: &str| eks_token(&sts, &account, &session, cluster);

    assert!(
        who(&sandbox, &token(EKS_CLUSTER)).await.is_none(),
        "no access entry"
    );
    let entry = sandbox
        .admit_role(&arn, &["deployers"])
        .expect("an access entry");
    let user = who(&sandbox, &token(EKS_CLUSTER))
        .await
        .expect("it is taken");
    assert_eq!(user["username"], session.arn());
    assert_eq!(user["groups"], json!(["deployers", "system:authenticated"]));
    assert!(
        who(&sandbox, &token("another")).await.is_none(),
        "signed for another cluster"
    );
    let tampered = token(EKS_CLUSTER).replace("k8s-aws-v1.", "k8s-aws-v1.x");
    assert!(who(&sandbox, &tampered).await.is_none());
    account.clock.skew(-1_000);
    let old = token(EKS_CLUSTER);
    account.clock.skew(0);
    assert!(
        who(&sandbox, &old).await.is_none(),
        "older than a quarter of an hour"
    );
    drop(entry);
    // Another token: the API server remembers for ten seconds whose the last one was.
    account.clock.skew(-60);
    assert!(
        who(&sandbox, &token(EKS_CLUSTER)).await.is_none(),
        "shut out again"
    );
}

#[tokio::test]
async fn the_certificate_of_an_aks_administrator_opens_the_cluster() {
    let sandbox = Sandbox::shared();
    let authority = sandbox.tls_authority().expect("the authority");
    let (certificate, key) = authority.administrator_identity().expect("a certificate");
    let folder = std::env::temp_dir().join(format!("administrator-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&folder).expect("a folder");
    let (certificate_file, key_file) = (folder.join("client.crt"), folder.join("client.key"));
    std::fs::write(&certificate_file, certificate).expect("a file");
    std::fs::write(&key_file, key).expect("a file");
    let output = Command::new(sandbox.kubectl())
        .args([
            "--kubeconfig",
            "/dev/null",
            "--server",
            sandbox.api_server(),
        ])
        .arg("--certificate-authority")
        .arg(sandbox.ca_certificate())
        .arg("--client-certificate")
        .arg(&certificate_file)
        .arg("--client-key")
        .arg(&key_file)
        .args([
            "auth",
            "whoami",
            "-o",
            "jsonpath={.status.userInfo.username} {.status.userInfo.groups}",
        ])
        .output()
        .expect("kubectl runs");
    std::fs::remove_dir_all(folder).expect("it is ours");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        text, "masterclient [\"system:masters\",\"system:authenticated\"]",
        "{errors}"
    );
}

#[tokio::test]
async fn the_sandboxs_own_users_keep_their_tokens() {
    let sandbox = Sandbox::shared();
    for user in switchyard_sandbox::User::ALL {
        let path = sandbox.kubeconfig(user);
        let config: Value =
            serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
        let token = config["users"][0]["user"]["token"]
            .as_str()
            .expect("a token");
        let known = who(&sandbox, token).await.expect("it is taken");
        assert_eq!(known["username"], user.name());
    }
    assert!(who(&sandbox, "0123456789abcdef").await.is_none());
}
