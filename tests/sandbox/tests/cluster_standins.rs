//! `sandbox standins` as a workflow beside it sees it: what it prints leads to services that fit
//! together and to the real API server. Runs inside the shared sandbox's network namespace.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Method;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use switchyard_sandbox::{HttpClient, Sandbox};

/// The running program and what it printed.
struct Running {
    process: Child,
    settings: BTreeMap<String, String>,
    client: HttpClient,
}

impl Running {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_sandbox"))
            .arg("standins")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut settings = BTreeMap::new();
        for line in BufReader::new(process.stdout.take().expect("a pipe")).lines() {
            let line = line.expect("text");
            let (name, value) = line.split_once('=').expect("NAME=value");
            settings.insert(name.to_owned(), value.to_owned());
            if name == "SWITCHYARD_STANDINS_CA" {
                break;
            }
        }
        let ca =
            std::fs::read_to_string(&settings["SWITCHYARD_STANDINS_CA"]).expect("the authority");
        let client = HttpClient::trusting(&ca).expect("a client");
        Self {
            process,
            settings,
            client,
        }
    }

    async fn ask(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Value {
        let answer = self
            .client
            .send(method, url, headers, Bytes::from(body))
            .await;
        let answer = answer.expect("an answer");
        assert!(
            answer.status.is_success(),
            "{url}: {} {}",
            answer.status,
            answer.text()
        );
        answer.json().expect("JSON")
    }

    async fn github_token(&self, audience: &str) -> String {
        let url = format!(
            "{}&audience={audience}",
            self.settings["ACTIONS_ID_TOKEN_REQUEST_URL"]
        );
        let bearer = format!("Bearer {}", self.settings["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]);
        let headers = [
            ("authorization", bearer.as_str()),
            ("accept", "application/json; api-version=2.0"),
        ];
        let answer = self.ask(Method::GET, &url, &headers, String::new()).await;
        answer["value"].as_str().expect("a token").to_owned()
    }

    /// The keys that the API server takes for GitHub's.
    async fn published(&self) -> Vec<String> {
        let url = "https://10.10.0.1:6444/github/keys";
        let set = self.ask(Method::GET, url, &[], String::new()).await;
        let keys = set["keys"].as_array().expect("keys").iter();
        keys.map(|key| key["kid"].as_str().expect("a key").to_owned())
            .collect()
    }

    async fn who(&self, sandbox: &Sandbox, token: &str) -> Option<Value> {
        let url = format!(
            "{}/apis/authentication.k8s.io/v1/selfsubjectreviews",
            sandbox.api_server()
        );
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = Bytes::from(review.to_string());
        let answer = self
            .client
            .send(Method::POST, &url, &headers, body)
            .await
            .expect("an answer");
        answer
            .status
            .is_success()
            .then(|| answer.json().expect("JSON")["status"]["userInfo"]["username"].clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended where the test came to its end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn the_settings_that_it_prints_lead_from_a_job_to_the_cluster() {
    let sandbox = Sandbox::shared();
    let mut running = Running::start();
    let settings = running.settings.clone();

    let direct = running.github_token(&settings["DIRECT_AUDIENCE"]).await;
    let user = running.who(&sandbox, &direct).await;
    assert_eq!(
        user,
        Some(json!("github:repo:acme/shop:environment:production"))
    );

    let issuer = settings["ACTIONS_ID_TOKEN_REQUEST_URL"]
        .split_inclusive('/')
        .take(3)
        .collect::<String>();
    let change = json!({"environment": "production-rollback", "life": 60}).to_string();
    running
        .ask(
            Method::POST,
            &format!("{issuer}_stand-in/settings"),
            &[],
            change,
        )
        .await;
    let assertion = running
        .github_token("api%3A%2F%2FAzureADTokenExchange")
        .await;
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs([
        ("grant_type", "client_credentials"),
        ("client_id", &settings["AZURE_CLIENT_ID"]),
        ("scope", "6dae42f8-4368-4678-94ff-3960e28e3630/.default"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", &assertion),
    ]);
    let url = format!(
        "{}/{}/oauth2/v2.0/token",
        settings["AZURE_AUTHORITY_URL"], settings["AZURE_TENANT_ID"]
    );
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let given = running.ask(Method::POST, &url, &kind, form.finish()).await;
    let token = given["access_token"].as_str().expect("a token");
    let user = running.who(&sandbox, token).await;
    assert_eq!(user, Some(json!(settings["AZURE_PRINCIPAL_ID"])));

    let key = key_of(&direct);
    assert!(running.published().await.contains(&key));
    let pid = i32::try_from(running.process.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    assert!(running.process.wait().expect("it ends").success());
    assert!(
        !running.published().await.contains(&key),
        "its keys go with it"
    );
}

/// The key that a token names.
fn key_of(token: &str) -> String {
    let header = token.split('.').next().expect("a header");
    let header = URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let header: Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a key").to_owned()
}
