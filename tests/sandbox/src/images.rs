//! Images of the demo applications: one static program becomes one layer, and goes to the
//! sandbox's registry as any image would. The cluster pulls them for real.

use std::{fmt, path::Path, process::Command};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    error::{Context as _, Result, SandboxError},
    http_client::{HttpAnswer, HttpClient},
    instance::REGISTRY,
};

/// The image of every pod's first container.
pub(crate) const PAUSE_IMAGE: &str = "10.10.0.1:5000/switchyard/pause:1";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image of the sandbox's registry: a repository, a tag and the program in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageSource {
    pub(crate) repository: &'static str,
    pub(crate) tag: &'static str,
    /// The file name of the program.
    pub(crate) program: &'static str,
    /// The environment of the image.
    pub(crate) environment: Vec<String>,
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{REGISTRY}/{}:{}", self.repository, self.tag)
    }
}

/// Tags of `api` and `web`, and how each differs from a plain good version.
const TAGS: [(&str, &str, &[&str]); 8] = [
    ("v1.0.0", "v1.0.0", &[]),
    ("v1.1.0", "v1.1.0", &[]),
    ("v1.2.0", "v1.2.0", &[]),
    ("v2.0.0", "v2.0.0", &[]),
    ("draining", "v1.1.0", &["DRAIN_MS=5000"]),
    ("crashing", "v1.1.0", &["CRASH_AT_START=true"]),
    ("never-ready", "v1.1.0", &["READY=false"]),
    ("failing", "v1.1.0", &["ERROR_RATE=0.2"]),
];

/// All images that the sandbox offers.
pub(crate) fn catalogue() -> Vec<ImageSource> {
    let pause = ImageSource {
        repository: "switchyard/pause",
        tag: "1",
        program: "pause",
        environment: Vec::new(),
    };
    let apps = ["api", "web"].into_iter().flat_map(|app| {
        TAGS.map(|(tag, version, extra)| {
            let mut environment = vec![format!("VERSION={version}")];
            environment.extend(extra.iter().map(|entry| (*entry).to_owned()));
            ImageSource {
                repository: app,
                tag,
                program: app,
                environment,
            }
        })
    });
    std::iter::once(pause).chain(apps).collect()
}

/// A layer and the programs' digests are the same for all tags of an application.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    tar: Bytes,
    digest: String,
}

impl Layer {
    /// Packs one program as `/app`, with the libraries that it loads. Equal programs give equal layers.
    pub(crate) fn of_program(path: &Path) -> Result<Self> {
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "app", path)?;
        for library in libraries(path)? {
            append(
                &mut archive,
                library.trim_start_matches('/'),
                library.as_ref(),
            )?;
        }
        let tar = Bytes::from(archive.into_inner().context(|| "cannot finish a layer")?);
        let digest = digest(&tar);
        Ok(Self { tar, digest })
    }
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, path: &Path) -> Result<()> {
    let content = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let appended = archive.append_data(&mut header, name, content.as_slice());
    appended.context(|| format!("cannot pack {}", path.display()))
}

/// The libraries of a program and its loader; none for a static one.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.context(|| "cannot run `ldd` (package libc-bin)")?;
    Ok(paths_of(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f…)`, and that of the
/// loader, which has no arrow.
fn paths_of(listing: &str) -> Vec<String> {
    let paths = listing.lines().filter_map(|line| {
        let (path, _) = line.split_once(" (0x")?;
        Some(path.rsplit(" => ").next().unwrap_or(path).trim())
    });
    paths
        .filter(|path| path.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

/// Pushes images over the registry's API.
#[derive(Debug)]
pub(crate) struct Registry {
    client: HttpClient,
}

/// What a push changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    AlreadyThere,
    New,
    /// The tag named another image before: whoever pulled it has to forget it.
    Moved,
}

impl Registry {
    pub(crate) fn new(client: HttpClient) -> Self {
        Self { client }
    }

    /// Whether the registry answers.
    pub(crate) async fn is_ready(&self) -> bool {
        let answer = self.client.get(&format!("https://{REGISTRY}/v2/")).await;
        answer.is_ok_and(|answer| answer.status == StatusCode::OK)
    }

    /// Makes the tag name this image.
    pub(crate) async fn push(&self, image: &ImageSource, layer: &Layer) -> Result<Pushed> {
        let config = Bytes::from(config(image, layer).to_string());
        let manifest = Bytes::from(manifest(&config, layer).to_string());
        let url = format!(
            "https://{REGISTRY}/v2/{}/manifests/{}",
            image.repository, image.tag
        );
        let accept = [("accept", MANIFEST)];
        let known = self
            .client
            .send(Method::HEAD, &url, &accept, Bytes::new())
            .await?;
        let known_digest = header_of(&known, "docker-content-digest");
        if known_digest.as_deref() == Some(digest(&manifest).as_str()) {
            return Ok(Pushed::AlreadyThere);
        }
        self.upload(image.repository, &layer.tar, &layer.digest)
            .await?;
        let config_digest = digest(&config);
        self.upload(image.repository, &config, &config_digest)
            .await?;
        let kind = [("content-type", MANIFEST)];
        let answer = self.client.send(Method::PUT, &url, &kind, manifest).await?;
        expect(StatusCode::CREATED, &answer, &format!("push {image}"))?;
        let is_known = known.status == StatusCode::OK;
        Ok(if is_known { Pushed::Moved } else { Pushed::New })
    }

    async fn upload(&self, repository: &str, content: &Bytes, digest: &str) -> Result<()> {
        let base = format!("https://{REGISTRY}/v2/{repository}/blobs");
        let url = format!("{base}/{digest}");
        let known = self
            .client
            .send(Method::HEAD, &url, &[], Bytes::new())
            .await?;
        if known.status == StatusCode::OK {
            return Ok(());
        }
        let start = format!("{base}/uploads/");
        let answer = self
            .client
            .send(Method::POST, &start, &[], Bytes::new())
            .await?;
        expect(StatusCode::ACCEPTED, &answer, "start an upload")?;
        let location = header_of(&answer, header::LOCATION.as_str())
            .ok_or_else(|| SandboxError::new("the registry names no upload location"))?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={digest}");
        let kind = [("content-type", "application/octet-stream")];
        let answer = self
            .client
            .send(Method::PUT, &url, &kind, content.clone())
            .await?;
        expect(StatusCode::CREATED, &answer, "upload a layer")
    }
}

fn config(image: &ImageSource, layer: &Layer) -> Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": ["/app"], "Env": image.environment},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    })
}

fn manifest(config: &Bytes, layer: &Layer) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(config), "size": config.len()},
        "layers": [{"mediaType": LAYER, "digest": layer.digest, "size": layer.tar.len()}],
    })
}

/// The machine's architecture in the words of image manifests.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn header_of(answer: &HttpAnswer, name: &str) -> Option<String> {
    Some(answer.headers.get(name)?.to_str().ok()?.to_owned())
}

fn expect(status: StatusCode, answer: &HttpAnswer, action: &str) -> Result<()> {
    if answer.status == status {
        return Ok(());
    }
    Err(SandboxError::new(format!(
        "the registry refused to {action}: {} {}",
        answer.status,
        answer.text().trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_that_are_files() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffc)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f01)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(paths_of(listing), expected);
        assert_eq!(paths_of("\tstatically linked\n"), [] as [String; 0]);
    }
}
