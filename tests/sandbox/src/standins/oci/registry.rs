//! A real docker-registry behind a door that gives out its tokens. Every request for `/v2/` reaches
//! it as the client sent it, and it alone decides what a token opens.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, header};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::UnixStream;

use crate::{
    error::{Context as _, Result, SandboxError, create_dir, write},
    http_client::{HttpAnswer, HttpClient},
    standins::{
        random::{hex, opaque},
        server::{Service, StandIn},
    },
    tls::TlsAuthority,
};

/// How long the registry may take to answer.
const START_LIMIT: Duration = Duration::from_secs(20);
/// What the registry complains of, in its folder.
const LOG: &str = "registry.log";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What stands before a registry, and decides who comes to it.
pub trait Door: Service {
    /// The socket on which the registry behind it listens.
    fn socket_behind(&self) -> &Path;

    /// Whose tokens the registry checks; `None` where the door lets nobody through who may not come.
    fn trusted(&self, base_url: &str) -> Option<TrustedTokens>;

    /// A header `Authorization` that may write to a repository, to put something there.
    fn authorization_to_fill(&self, base_url: &str, repository: &str) -> String;
}

/// The tokens that a registry takes.
pub struct TrustedTokens {
    /// The address at which they are given out.
    pub realm: String,
    /// The registry's name in them.
    pub service: String,
    /// Who signs them.
    pub issuer: &'static str,
}

/// A door with the registry behind it. Dropping it ends the registry and removes its files.
pub struct OpenRegistry<D: Door> {
    /// The door.
    pub door: StandIn<D>,
    client: HttpClient,
    process: Child,
    folder: PathBuf,
}

impl<D: Door> OpenRegistry<D> {
    /// A fresh folder with the socket on which the registry will listen, which a door has to know first.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn reserve() -> Result<PathBuf> {
        let folder = std::env::temp_dir().join(format!("registry-{}", opaque(12)));
        create_dir(&folder)?;
        Ok(folder.join("registry.sock"))
    }

    /// Starts the door at an address and the registry behind it; returns when both answer.
    ///
    /// # Errors
    /// One of them does not start. `docker-registry` has to be on `PATH`.
    pub async fn start(door: D, address: SocketAddr, authority: &TlsAuthority) -> Result<Self> {
        let socket = door.socket_behind().to_owned();
        let folder = socket.parent().unwrap_or(&socket).to_owned();
        let door = StandIn::start_tls(door, address, authority)
            .context(|| "cannot start a registry's door")?;
        let bundle = folder.join("authority.pem");
        write(&bundle, authority.certificate())?;
        let trusted = door.service().trusted(door.base_url());
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": folder.join("storage")}},
            "http": {"net": "unix", "addr": socket},
        });
        if let Some(tokens) = trusted {
            config["auth"] = json!({"token": {
                "realm": tokens.realm, "service": tokens.service, "issuer": tokens.issuer,
                "rootcertbundle": bundle,
            }});
        }
        write(&folder.join("registry.json"), format!("{config:#}\n"))?;
        let process = spawn(&folder)?;
        let client = HttpClient::trusting(authority.certificate())?;
        let mut registry = Self {
            door,
            client,
            process,
            folder,
        };
        registry.wait(&socket).await?;
        Ok(registry)
    }

    /// The registry's name: host and port of its door.
    #[must_use]
    pub fn name(&self) -> &str {
        super::login_server(self.door.base_url())
    }

    /// Puts an image without layers there, and returns its digest.
    ///
    /// # Errors
    /// The registry refuses.
    pub async fn fill(&self, repository: &str, tag: &str) -> Result<String> {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        let config = Bytes::from(config.to_string());
        let config_digest = digest(&config);
        let start = self
            .send(
                repository,
                Method::POST,
                "blobs/uploads/",
                "text/plain",
                Bytes::new(),
            )
            .await?;
        let location = start
            .headers
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok());
        let location =
            location.ok_or_else(|| SandboxError::new("the registry names no upload location"))?;
        let mut url: url::Url = location
            .parse()
            .context(|| format!("`{location}` is no address"))?;
        url.query_pairs_mut().append_pair("digest", &config_digest);
        let kind = "application/octet-stream";
        self.send_to(repository, Method::PUT, url.as_str(), kind, config.clone())
            .await?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": config.len()},
        });
        let manifest = Bytes::from(manifest.to_string());
        let path = format!("manifests/{tag}");
        self.send(repository, Method::PUT, &path, MANIFEST, manifest.clone())
            .await?;
        Ok(digest(&manifest))
    }

    async fn send(
        &self,
        repository: &str,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<HttpAnswer> {
        let url = format!("{}/v2/{repository}/{path}", self.door.base_url());
        self.send_to(repository, method, &url, kind, body).await
    }

    async fn send_to(
        &self,
        repository: &str,
        method: Method,
        url: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<HttpAnswer> {
        let authorization = self
            .door
            .service()
            .authorization_to_fill(self.door.base_url(), repository);
        let length = body.len().to_string();
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", kind),
            ("content-length", &length),
        ];
        let answer = self.client.send(method, url, &headers, body).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(SandboxError::new(format!(
            "the registry refused {url}: {} {}",
            answer.status,
            answer.text()
        )))
    }

    async fn wait(&mut self, socket: &Path) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while UnixStream::connect(socket).await.is_err() {
            let ended = self.process.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read(self.folder.join(LOG)).unwrap_or_default();
                let log = String::from_utf8_lossy(&log).into_owned();
                return Err(SandboxError::new(format!(
                    "docker-registry does not start: {log}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn spawn(folder: &Path) -> Result<Child> {
    let log = folder.join(LOG);
    let errors = File::create(&log).context(|| format!("cannot create {}", log.display()))?;
    let spawned = Command::new("docker-registry")
        .arg("serve")
        .arg(folder.join("registry.json"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn();
    spawned.context(|| "cannot run `docker-registry` (package docker-registry)")
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

impl<D: Door> Drop for OpenRegistry<D> {
    fn drop(&mut self) {
        // It may have ended by itself, and its folder may be gone: nothing is left to do then.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
