//! A real docker-registry behind the doors of ACR and GHCR, read by `skopeo` as anybody's client reads
//! it. Needs `docker-registry` and `skopeo`, which come with the sandbox; no cluster.

use std::{fs, path::PathBuf, process::Command, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use switchyard_sandbox::{
    HttpAnswer, HttpClient, TlsAuthority,
    standins::{
        Entra, GITHUB_ISSUER, Received, Service as _, TokenService,
        entra::{self, Application, Cloud},
        oci::{Acr, Ghcr, OpenRegistry},
    },
};

const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
const PRINCIPAL: &str = "99999999-0000-4000-8000-000000000001";
const FREE: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A folder with an authority's certificate and a login, as `skopeo` takes them.
struct Login(PathBuf);

impl Login {
    fn new(authority: &TlsAuthority, registry: &str, user: &str, password: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("login-{:016x}", rand::random::<u64>()));
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("ca.crt"), authority.certificate()).expect("the authority");
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let config = json!({"auths": {registry: {"auth": auth}}});
        fs::write(folder.join("auth.json"), config.to_string()).expect("a login");
        Self(folder)
    }

    /// The digest that `skopeo` reads, or what it says.
    fn inspect(&self, reference: &str) -> Result<String, String> {
        let output = Command::new("skopeo")
            .args([
                "inspect",
                "--no-tags",
                "--format",
                "{{.Digest}}",
                "--authfile",
            ])
            .arg(self.0.join("auth.json"))
            .arg("--cert-dir")
            .arg(&self.0)
            .arg(format!("docker://{reference}"))
            .output()
            .expect("skopeo (package skopeo) runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An access token of Entra for a scope.
fn entra_token(entra: &Entra, github: &TokenService, scope: &str) -> String {
    let assertion = github.token(Cloud::Public.assertion_audience());
    let mut form = url::form_urlencoded::Serializer::new(String::new());
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
    let kind = (
        "content-type".to_owned(),
        "application/x-www-form-urlencoded".to_owned(),
    );
    let answer = entra.answer(&Received {
        method: "POST".to_owned(),
        path: format!("/{}/oauth2/v2.0/token", entra::TENANT),
        query: Vec::new(),
        raw_query: String::new(),
        headers: [kind].into(),
        body: Bytes::from(form.finish()),
        base_url: String::new(),
    });
    let document: Value = serde_json::from_str(&answer.body).expect("JSON");
    document["access_token"]
        .as_str()
        .unwrap_or_else(|| panic!("{document}"))
        .to_owned()
}

async fn post(client: &HttpClient, url: &str, fields: &[(&str, &str)]) -> HttpAnswer {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let body = Bytes::from(form.finish());
    client
        .send(Method::POST, url, &headers, body)
        .await
        .expect("an answer")
}

#[tokio::test]
async fn a_token_of_entra_opens_acr_to_skopeo_for_pulling_only() {
    let authority = TlsAuthority::throw_away().expect("an authority");
    let github = TokenService::new().expect("keys");
    let entra = Entra::new(Cloud::Public).expect("keys");
    let entra = entra.reaching(GITHUB_ISSUER, Arc::clone(&github.keys));
    let subject = "repo:acme/shop:ref:refs/heads/main";
    let application = Application::new(CLIENT, "deployer", PRINCIPAL);
    let audience = Cloud::Public.assertion_audience();
    entra.register(application.trusting(GITHUB_ISSUER, subject, audience));

    let behind = OpenRegistry::<Acr>::reserve().expect("a port");
    let acr = Acr::new(Arc::clone(&entra.tokens), &authority, behind).expect("keys");
    let registry = OpenRegistry::start(acr, FREE.into(), &authority)
        .await
        .expect("a registry");
    let pushed = registry.fill("shop/api", "v1").await.expect("an image");
    let (url, name) = (
        registry.door.base_url().to_owned(),
        registry.name().to_owned(),
    );
    let client = HttpClient::trusting(authority.certificate()).expect("a client");

    let exchange = async |token: &str, service: &str| {
        let fields = [
            ("grant_type", "access_token"),
            ("service", service),
            ("tenant", entra::TENANT),
            ("access_token", token),
        ];
        post(&client, &format!("{url}/oauth2/exchange"), &fields).await
    };
    let token = entra_token(
        &entra,
        &github,
        "https://containerregistry.azure.net/.default",
    );
    assert_eq!(exchange(&token, &name).await.status, 401, "no role yet");
    registry.door.service().assign_pull(PRINCIPAL);
    assert_eq!(exchange(&token, "other.azurecr.io").await.status, 400);
    let other = entra_token(&entra, &github, "https://management.azure.com/.default");
    assert_eq!(
        exchange(&other, &name).await.status,
        401,
        "a token for Resource Manager"
    );
    let exchanged = exchange(&token, &name).await.json().expect("JSON");
    let refresh = exchanged["refresh_token"]
        .as_str()
        .expect("a refresh token");

    let user = "00000000-0000-0000-0000-000000000000";
    let image = format!("{name}/shop/api:v1");
    assert_eq!(
        Login::new(&authority, &name, user, refresh).inspect(&image),
        Ok(pushed)
    );
    let refused = Login::new(&authority, &name, user, "nonsense").inspect(&image);
    assert!(
        refused
            .as_ref()
            .is_err_and(|text| text.contains("authentication required")),
        "{refused:?}"
    );

    let fields = [
        ("grant_type", "refresh_token"),
        ("service", name.as_str()),
        ("scope", "repository:shop/api:pull,push"),
        ("refresh_token", refresh),
    ];
    let given = post(&client, &format!("{url}/oauth2/token"), &fields).await;
    let given = given.json().expect("JSON");
    let authorization = format!(
        "Bearer {}",
        given["access_token"].as_str().expect("a token")
    );
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-length", "0"),
    ];
    let uploads = format!("{url}/v2/shop/api/blobs/uploads/");
    let push = client
        .send(Method::POST, &uploads, &headers, Bytes::new())
        .await
        .expect("an answer");
    assert_eq!(
        push.status, 401,
        "the registry itself refuses what the token does not allow"
    );
    registry.door.service().clock.skew(4 * 3_600);
    let late = post(&client, &format!("{url}/oauth2/token"), &fields).await;
    assert_eq!(late.status, 401, "the refresh token is over");
}

#[tokio::test]
async fn the_jobs_token_opens_the_packages_of_its_owner_at_ghcr() {
    let authority = TlsAuthority::throw_away().expect("an authority");
    let behind = OpenRegistry::<Ghcr>::reserve().expect("a port");
    let ghcr = Ghcr::new("job-token", &authority, behind).expect("keys");
    let registry = OpenRegistry::start(ghcr, FREE.into(), &authority)
        .await
        .expect("a registry");
    let pushed = registry.fill("acme/api", "v1").await.expect("an image");
    registry.fill("other/api", "v1").await.expect("an image");
    let name = registry.name().to_owned();
    let of = |password: &str, repository: &str| {
        let login = Login::new(&authority, &name, "x", password);
        login.inspect(&format!("{name}/{repository}:v1"))
    };
    assert_eq!(of("job-token", "acme/api"), Ok(pushed));
    for (password, repository) in [("other-token", "acme/api"), ("job-token", "other/api")] {
        let refused = of(password, repository);
        assert!(
            refused
                .as_ref()
                .is_err_and(|text| text.contains("403 (Forbidden)")),
            "{refused:?}"
        );
    }
    let client = HttpClient::trusting(authority.certificate()).expect("a client");
    let challenge = client
        .get(&format!("{}/v2/", registry.door.base_url()))
        .await
        .expect("an answer");
    let header = challenge.headers["www-authenticate"]
        .to_str()
        .expect("text");
    assert!(
        header.ends_with("scope=\"repository:user/image:pull\""),
        "{header}"
    );
}
