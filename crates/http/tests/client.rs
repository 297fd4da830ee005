//! The client against real sockets: a scripted server that answers, cuts and hangs, and a TLS server
//! with a certificate authority of its own.

#![expect(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use switchyard_http::{
    Client, ClientIdentity, ClientSettings, DisplaySafeUrl, Error, Method, ProxySettings, Repeat,
    Request,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What the scripted server does with one connection.
#[derive(Clone)]
enum Step {
    Answer(&'static str, &'static str, String),
    /// Closes the connection after the request was read.
    Cut,
    /// Reads the request and never answers.
    Hang,
}

fn answer(status: &'static str, headers: &'static str, body: impl Into<String>) -> Step {
    Step::Answer(status, headers, body.into())
}

struct Server {
    base: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Takes one step a connection; the last one stays.
    async fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut steps = steps.into_iter().peekable();
            let mut last = None;
            while let Ok((mut stream, _)) = listener.accept().await {
                let step = steps.next().or(last).unwrap();
                last = Some(step.clone());
                let request = read_request(&mut stream).await;
                seen.lock().unwrap().push(request);
                match step {
                    Step::Cut => drop(stream),
                    Step::Hang => {
                        tokio::spawn(async move {
                            let mut rest = Vec::new();
                            let _ = stream.read_to_end(&mut rest).await;
                        });
                    }
                    Step::Answer(status, headers, body) => {
                        write_answer(&mut stream, status, headers, &body).await
                    }
                }
            }
        });
        Self { base, requests }
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn url(&self, path: &str) -> DisplaySafeUrl {
        DisplaySafeUrl::parse(&format!("{}{path}", self.base)).unwrap()
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut data = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&data).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")
                        .map(|n| n.parse::<usize>().unwrap())
                })
                .unwrap_or(0);
            if body.len() >= length {
                return text;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return text,
            Ok(count) => data.extend_from_slice(&buffer[..count]),
        }
    }
}

async fn write_answer(
    stream: &mut (impl AsyncWrite + Unpin),
    status: &str,
    headers: &str,
    body: &str,
) {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn settings() -> ClientSettings {
    ClientSettings {
        first_pause: Duration::from_millis(10),
        total_timeout: Duration::from_secs(10),
        ..ClientSettings::new("switchyard-test", "1.2.3")
    }
}

fn client() -> Client {
    Client::new(&settings()).unwrap()
}

fn shown(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn says_who_it_is_and_returns_the_answer() {
    let server = Server::start(vec![answer("200 OK", "", r#"{"n":7}"#)]).await;
    let response = client()
        .send(&Request::get(server.url("/x")))
        .await
        .unwrap();
    assert_eq!(response.json::<serde_json::Value>().unwrap()["n"], 7);
    assert!(server.requests.lock().unwrap()[0].contains("user-agent: switchyard-test/1.2.3"));
}

#[tokio::test]
async fn an_idempotent_request_is_repeated_until_the_service_recovers() {
    let server = Server::start(vec![
        answer("503 Service Unavailable", "", ""),
        Step::Cut,
        answer("502 Bad Gateway", "", ""),
        answer("429 Too Many Requests", "retry-after: 0\r\n", ""),
        answer("200 OK", "", "done"),
    ])
    .await;
    let response = client().send(&Request::get(server.url("/"))).await.unwrap();
    assert_eq!((response.status().as_u16(), response.attempts()), (200, 5));
}

#[tokio::test]
async fn a_request_that_may_have_been_acted_on_is_not_sent_again() {
    for (step, is_ambiguous) in [
        (Step::Cut, true),
        (Step::Hang, true),
        (answer("502 Bad Gateway", "", ""), true),
        (answer("500 Oops", "", ""), false),
    ] {
        let server = Server::start(vec![step]).await;
        let request = Request::post_json(server.url("/"), &serde_json::json!({}))
            .repeat(Repeat::WhenRefused)
            .within(Duration::from_millis(400));
        let error = match client().send(&request).await {
            Ok(response) => response.require_success().unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.is_ambiguous(), is_ambiguous, "{error:?}");
        assert_eq!(server.count(), 1, "{error:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_not_ambiguous() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url =
        DisplaySafeUrl::webhook(&format!("http://{address}/services/T0/B0/topsecretpath")).unwrap();
    let request = Request::post_json(url, &serde_json::json!({}));
    let error = client().send(&request).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(!error.is_ambiguous());
    assert!(
        !shown(&error).contains("topsecretpath"),
        "{}",
        shown(&error)
    );
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_ends_at_once_and_says_so() {
    let server = Server::start(vec![answer(
        "429 Too Many Requests",
        "retry-after: 120\r\n",
        "",
    )])
    .await;
    let error = client()
        .send(&Request::get(server.url("/")))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("asks to wait 120s"), "{error}");
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn an_error_page_that_repeats_the_request_shows_none_of_its_secrets() {
    let page = "The URL /services/T0/B0/topsecretpath and topsecrettoken and topsecretkey and top\\/secret\\/slash were not found\n::error::x";
    let server = Server::start(vec![answer("404 Not Found", "", page)]).await;
    let url = DisplaySafeUrl::webhook(&format!(
        "{}/services/T0/B0/topsecretpath?sig=topsecretsignature",
        server.base
    ))
    .unwrap();
    let request = Request::post_json(url, &serde_json::json!({}))
        .bearer("topsecrettoken")
        .redact("topsecretkey")
        .redact("top/secret/slash");
    let error = client()
        .send(&request)
        .await
        .unwrap()
        .require_success()
        .unwrap_err();
    assert!(!shown(&error).contains("topsecret"), "{}", shown(&error));
    assert!(
        !shown(&error).contains("secret\\\\/slash"),
        "{}",
        shown(&error)
    );
    let host = server.base.trim_start_matches("http://");
    assert!(
        error
            .to_string()
            .starts_with(&format!("{host} answered 404 Not Found: The URL ***")),
        "{error}"
    );
    assert_eq!(error.to_string().lines().count(), 1);
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read_to_its_end() {
    let server = Server::start(vec![answer("200 OK", "", "x".repeat(100_000))]).await;
    let client = Client::new(&ClientSettings {
        body_limit: 10_000,
        ..settings()
    })
    .unwrap();
    let error = client
        .send(&Request::get(server.url("/")))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 10_000, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn redirects_stay_with_the_origin_and_the_method() {
    let other = Server::start(vec![answer("200 OK", "", "other")]).await;
    let elsewhere: &'static str = format!("location: {}/\r\n", other.base).leak();
    for (method, status, location, expected) in [
        (
            Method::GET,
            "301 Moved Permanently",
            "location: /there\r\n",
            200,
        ),
        (
            Method::POST,
            "307 Temporary Redirect",
            "location: /there\r\n",
            200,
        ),
        (
            Method::POST,
            "301 Moved Permanently",
            "location: /there\r\n",
            301,
        ),
        (Method::GET, "301 Moved Permanently", elsewhere, 301),
    ] {
        let server =
            Server::start(vec![answer(status, location, ""), answer("200 OK", "", "")]).await;
        let response = client()
            .send(&Request::new(method, server.url("/here")).bearer("token"))
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), expected);
    }
    assert_eq!(other.count(), 0);
}

#[tokio::test]
async fn endless_redirects_end() {
    let server = Server::start(vec![answer("302 Found", "location: /\r\n", "")]).await;
    let response = client().send(&Request::get(server.url("/"))).await.unwrap();
    assert_eq!(response.status().as_u16(), 302);
}

#[tokio::test]
async fn a_proxy_is_used_except_for_hosts_it_is_not_meant_for() {
    let proxy = Server::start(vec![answer("200 OK", "", "through the proxy")]).await;
    let proxied = |no_proxy: &'static str| {
        let base = proxy.base.clone();
        let proxy = ProxySettings::from_lookup(move |name| match name {
            "HTTP_PROXY" => Some(base.replace("http://", "http://ann:pw@")),
            "NO_PROXY" => Some(no_proxy.to_owned()),
            _ => None,
        });
        Client::new(&ClientSettings {
            proxy,
            ..settings()
        })
        .unwrap()
    };
    let request = Request::get(DisplaySafeUrl::parse("http://service.test/path").unwrap())
        .within(Duration::from_secs(3));
    let response = proxied("").send(&request).await.unwrap();
    assert_eq!(&response.body()[..], b"through the proxy");
    let seen = proxy.requests.lock().unwrap()[0].clone();
    assert!(seen.starts_with("GET http://service.test/path"), "{seen}");
    assert!(
        seen.contains("proxy-authorization: Basic YW5uOnB3"),
        "{seen}"
    );

    for no_proxy in ["127.0.0.1", "127.0.0.0/8", "other.test, 127.0.0.1", "*"] {
        let server = Server::start(vec![answer("200 OK", "", "direct")]).await;
        let request = Request::get(server.url("/"));
        let response = proxied(no_proxy).send(&request).await.unwrap();
        assert_eq!(&response.body()[..], b"direct", "{no_proxy}");
    }
    // Nobody but the proxy can resolve this name, so going past it shows as a failure.
    let request = request.repeat(Repeat::Never);
    for no_proxy in ["test", ".test", "service.test"] {
        let error = proxied(no_proxy).send(&request).await.unwrap_err();
        assert!(
            matches!(error, Error::Connect { .. }),
            "{no_proxy}: {error}"
        );
    }
    for no_proxy in ["est", "test.org", "other.test", "10.0.0.0/8"] {
        let response = proxied(no_proxy).send(&request).await.unwrap();
        assert_eq!(&response.body()[..], b"through the proxy", "{no_proxy}");
    }
}

/// A proxy that opens tunnels, and asks for `ann:p@ss`. Gives its address and the requests to it.
async fn tunnel_proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let request = read_request(&mut client).await;
            seen.lock().unwrap().push(request.clone());
            let password = "proxy-authorization: basic yw5uonbac3m=\r\n"; // ann:p@ss, lower case
            if !request.to_ascii_lowercase().contains(password) {
                let ask = "proxy-authenticate: Basic\r\n";
                write_answer(&mut client, "407 Proxy Authentication Required", ask, "").await;
                continue;
            }
            let target = request.split(' ').nth(1).unwrap();
            let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
            client
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await
                .unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, requests)
}

#[tokio::test]
async fn tls_goes_through_a_tunnel_for_which_the_proxy_gets_the_password() {
    let directory = tempfile::tempdir().unwrap();
    let (url, ca) = tls_server(directory.path()).await;
    let (address, requests) = tunnel_proxy().await;
    let request = Request::get(DisplaySafeUrl::parse(&url).unwrap()).repeat(Repeat::Never);
    let through = |credentials: &str, no_proxy: &'static str| {
        let proxy = format!("http://{credentials}{address}");
        Client::new(&ClientSettings {
            extra_ca: Some(ca.clone()),
            proxy: ProxySettings::from_lookup(move |name| match name {
                "https_proxy" => Some(proxy.clone()),
                "NO_PROXY" => Some(no_proxy.to_owned()),
                _ => None,
            }),
            ..settings()
        })
        .unwrap()
    };
    let client = through("ann:p%40ss@", "");
    for _ in 0..2 {
        let response = client.send(&request).await.unwrap();
        assert_eq!(&response.body()[..], b"secure");
    }
    let seen = requests.lock().unwrap().clone();
    let host = url.trim_start_matches("https://").trim_end_matches('/');
    assert_eq!(seen.len(), 2, "the server closes each connection: {seen:?}");
    assert!(
        seen.iter()
            .all(|head| head.starts_with(&format!("CONNECT {host} "))),
        "{seen:?}"
    );

    for credentials in ["", "ann:hidden-pw@"] {
        let error = through(credentials, "").send(&request).await.unwrap_err();
        assert!(
            shown(&error).contains("proxy authorization required"),
            "{}",
            shown(&error)
        );
        assert!(!shown(&error).contains("hidden-pw"), "{}", shown(&error));
    }
    let before = requests.lock().unwrap().len();
    let response = through("", "localhost").send(&request).await.unwrap();
    assert_eq!(&response.body()[..], b"secure");
    assert_eq!(requests.lock().unwrap().len(), before);
}

/// A TLS server under a certificate authority that only the returned file names.
async fn tls_server(directory: &Path) -> (String, std::path::PathBuf) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let ca_file = directory.join("ca.pem");
    std::fs::write(&ca_file, ca_certificate.pem()).unwrap();

    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                read_request(&mut stream).await;
                write_answer(&mut stream, "200 OK", "", "secure").await;
            }
        }
    });
    (format!("https://localhost:{port}/"), ca_file)
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_only_when_given() {
    let directory = tempfile::tempdir().unwrap();
    let (url, ca) = tls_server(directory.path()).await;
    let request = Request::get(DisplaySafeUrl::parse(&url).unwrap()).repeat(Repeat::Never);
    let error = client().send(&request).await.unwrap_err();
    assert!(shown(&error).contains("UnknownIssuer"), "{}", shown(&error));
    let trusting = Client::new(&ClientSettings {
        extra_ca: Some(ca),
        ..settings()
    })
    .unwrap();
    assert_eq!(
        &trusting.send(&request).await.unwrap().body()[..],
        b"secure"
    );
}

#[tokio::test]
async fn the_authority_of_one_cluster_is_the_only_one_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let (url, ca) = tls_server(directory.path()).await;
    let other = tempfile::tempdir().unwrap();
    let (_, other_ca) = tls_server(other.path()).await;
    let request = Request::get(DisplaySafeUrl::parse(&url).unwrap()).repeat(Repeat::Never);
    let trusting = |only: &Path| {
        let settings = ClientSettings {
            only_ca: Some(std::fs::read_to_string(only).unwrap()),
            // Trusted besides the system's own, which do not count here.
            extra_ca: Some(ca.clone()),
            ..settings()
        };
        Client::new(&settings).unwrap()
    };
    let answer = trusting(&ca).send(&request).await.unwrap();
    assert_eq!(&answer.body()[..], b"secure");
    let error = trusting(&other_ca).send(&request).await.unwrap_err();
    assert!(shown(&error).contains("certificate"), "{}", shown(&error));
}

#[test]
fn an_unusable_authority_or_identity_is_refused_without_being_shown() {
    let with_authority = ClientSettings {
        only_ca: Some("hunter2".to_owned()),
        ..settings()
    };
    let with_identity = ClientSettings {
        identity: Some(ClientIdentity::new("hunter2", "hunter2")),
        ..settings()
    };
    for settings in [with_authority, with_identity] {
        let error = Client::new(&settings).unwrap_err();
        let shown = format!("{error} {error:?} {:?}", settings.identity);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn an_unusable_ca_file_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("not-a-ca.pem");
    for content in [
        None,
        Some("no certificate here"),
        Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let error = Client::new(&ClientSettings {
            extra_ca: Some(file.clone()),
            ..settings()
        })
        .unwrap_err();
        assert!(error.to_string().contains("not-a-ca.pem"), "{error}");
    }
}
