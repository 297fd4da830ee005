//! Real object stores of a test's own: an S3 server over a folder (versitygw), and Azure's own stand-in (Azurite).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use switchyard_test_postgres::{Authority, tool};
use tempfile::TempDir;

pub(crate) const SECRET: &str = "sesame-of-the-store";

/// Account and key that Azurite always has (its documentation).
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running server.
pub(crate) struct Store {
    process: Child,
    port: u16,
    variables: Vec<(&'static str, String)>,
    /// What a server keeps beside its objects.
    _metadata: Option<TempDir>,
}

impl Store {
    /// S3 over a folder: its buckets are the folders in it.
    pub(crate) fn s3(root: &Path) -> Self {
        Self::s3_with(root, "http", &[])
    }

    /// The same over TLS, with a certificate that `authority` signs.
    pub(crate) fn s3_over_tls(root: &Path, authority: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = authority.issue(&["127.0.0.1".to_owned()]);
        let files = [
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        ];
        std::fs::write(&files[0], certificate).unwrap();
        std::fs::write(&files[1], key).unwrap();
        let [certificate, key] = files.map(|file| file.display().to_string());
        Self::s3_with(root, "https", &["--cert", &certificate, "--key", &key])
    }

    fn s3_with(root: &Path, scheme: &str, arguments: &[&str]) -> Self {
        let port = free_port();
        let program = tool("versitygw").join("versitygw");
        let metadata = tempfile::tempdir().unwrap();
        let process = started(
            Command::new("setpriv")
                .arg("--pdeathsig=KILL")
                .arg(program)
                .args(["--quiet", "--access", "tester", "--secret", SECRET])
                .args(["--port", &format!("127.0.0.1:{port}")])
                .args(arguments)
                .args(["posix", "--sidecar"])
                .args([metadata.path(), root]),
        );
        let variables = vec![
            ("AWS_ACCESS_KEY_ID", "tester".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", format!("{scheme}://127.0.0.1:{port}")),
        ];
        Self {
            process,
            port,
            variables,
            _metadata: Some(metadata),
        }
        .ready()
    }

    /// Azure's blobs, with a container `backups`.
    pub(crate) fn azure(folder: &Path) -> Self {
        let port = free_port();
        let script = tool("azurite").join("node_modules/azurite/dist/src/blob/main.js");
        let process = started(
            Command::new("setpriv")
                .arg("--pdeathsig=KILL")
                .args(["node".as_ref(), script.as_os_str()])
                .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry"])
                .args(["--blobPort", &port.to_string()])
                .arg("--location")
                .arg(folder),
        );
        let variables = vec![
            ("AZURE_STORAGE_ACCOUNT", ACCOUNT.to_owned()),
            ("AZURE_STORAGE_KEY", KEY.to_owned()),
            (
                "AZURE_STORAGE_ENDPOINT",
                format!("http://127.0.0.1:{port}/{ACCOUNT}"),
            ),
        ];
        let store = Self {
            process,
            port,
            variables,
            _metadata: None,
        }
        .ready();
        make_container(port);
        store
    }

    /// What a step needs to reach it.
    pub(crate) fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    fn ready(mut self) -> Self {
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                matches!(self.process.try_wait(), Ok(None)),
                "the store ended"
            );
            assert!(Instant::now() < deadline, "the store takes no connections");
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn started(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn free_port() -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    socket.local_addr().unwrap().port()
}

/// A request signed with the account's key: no client of Azure is needed for the one that makes a container.
fn make_container(port: u16) {
    let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
    let headers = format!("x-ms-date:{date}\nx-ms-version:2021-08-06");
    let resource = format!("/{ACCOUNT}/{ACCOUNT}/backups\nrestype:container");
    let text = format!("PUT{}{headers}\n{resource}", "\n".repeat(12));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &STANDARD.decode(KEY).unwrap());
    let signature = STANDARD.encode(ring::hmac::sign(&key, text.as_bytes()));
    let request = format!(
        "PUT /{ACCOUNT}/backups?restype=container HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
         x-ms-date: {date}\r\nx-ms-version: 2021-08-06\r\nAuthorization: SharedKey {ACCOUNT}:{signature}\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
