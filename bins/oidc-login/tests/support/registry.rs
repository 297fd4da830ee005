//! What a job leaves of its logins to registries, and how clients in later steps use it.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use switchyard_harness::{Ended, Step};
use switchyard_sandbox::TlsAuthority;
use switchyard_sandbox::standins::oci::{Ghcr, OpenRegistry};

use super::files;

pub(crate) const JOB_TOKEN: &str = "ghs_ofThisJobAlone";
pub(crate) const HELPER: &str = "docker-credential-switchyard";

pub(crate) fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) fn name(base_url: &str) -> String {
    base_url.trim_start_matches("https://").to_owned()
}

/// A job's folders, over its steps.
pub(crate) struct Folders {
    pub(crate) own: tempfile::TempDir,
    runner_temp: PathBuf,
}

impl Folders {
    pub(crate) fn new(runner_temp: &Path) -> Self {
        let own = tempfile::tempdir().unwrap();
        std::fs::create_dir(own.path().join("docker")).unwrap();
        std::fs::write(own.path().join("path"), "").unwrap();
        Self {
            own,
            runner_temp: runner_temp.to_owned(),
        }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.own.path().join("docker/config.json")
    }

    pub(crate) fn docker_config(&self) -> String {
        self.own.path().join("docker").display().to_string()
    }

    /// A step that finds docker's configuration here.
    pub(crate) fn around(&self, step: Step) -> Step {
        let path = self.own.path().join("path").display().to_string();
        step.variable("DOCKER_CONFIG", self.docker_config())
            .variable("GITHUB_PATH", path)
    }

    /// The helper where the login put it on PATH.
    pub(crate) fn helper(&self) -> PathBuf {
        let added = std::fs::read_to_string(self.own.path().join("path")).unwrap();
        let folder = added.lines().last().expect("nothing was put on PATH");
        Path::new(folder).join(HELPER)
    }

    /// A call of the helper by a client in a later step.
    pub(crate) fn call(
        &self,
        step: &dyn Fn(PathBuf) -> Step,
        operation: &str,
        registry: &str,
    ) -> Ended {
        step(self.helper())
            .argument(operation)
            .stdin(format!("{registry}\n"))
            .run()
    }

    /// What skopeo says of an image, with what the login left alone: the helper, or a configuration that
    /// `variables` name.
    pub(crate) fn inspect(
        &self,
        authority: &TlsAuthority,
        image: &str,
        variables: &[(&str, String)],
    ) -> Result<Value, String> {
        let certificates = self.own.path().join("certificates");
        std::fs::create_dir_all(&certificates).unwrap();
        std::fs::write(certificates.join("ca.crt"), authority.certificate()).unwrap();
        let added = std::fs::read_to_string(self.own.path().join("path")).unwrap();
        let added = added.lines().map(str::to_owned);
        let path = added.chain([std::env::var("PATH").unwrap()]);
        let path = path.collect::<Vec<_>>().join(":");
        let output = Command::new("skopeo")
            .args(["inspect", "--no-tags", "--cert-dir"])
            .arg(&certificates)
            .arg(format!("docker://{image}"))
            .env("PATH", path)
            .env("DOCKER_CONFIG", self.docker_config())
            .env("HOME", self.own.path())
            .env("XDG_RUNTIME_DIR", self.own.path())
            .env("RUNNER_TEMP", &self.runner_temp)
            .env("GITHUB_ACTIONS", "true")
            .envs(variables.iter().cloned())
            .output()
            .unwrap();
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout).unwrap());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub(crate) fn assert_private_below_runner_temp(&self) {
        for path in files(&self.runner_temp) {
            let mode = path.metadata().unwrap().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }

    pub(crate) fn assert_private(&self) {
        self.assert_private_below_runner_temp();
        let mode = self.config().metadata().unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
}

pub(crate) fn secret(ended: &Ended) -> String {
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    answer["Secret"].as_str().unwrap().to_owned()
}

/// GHCR with an image.
pub(crate) struct OfGitHub {
    pub(crate) authority: TlsAuthority,
    pub(crate) ghcr: OpenRegistry<Ghcr>,
    pub(crate) temp: tempfile::TempDir,
    pub(crate) folders: Folders,
}

impl OfGitHub {
    pub(crate) async fn new() -> Self {
        let authority = TlsAuthority::throw_away().unwrap();
        let behind = OpenRegistry::<Ghcr>::reserve().unwrap();
        let door = Ghcr::new(JOB_TOKEN, &authority, behind).unwrap();
        let ghcr = OpenRegistry::start(door, free(), &authority).await.unwrap();
        ghcr.fill("acme/api", "v1").await.unwrap();
        let temp = tempfile::tempdir().unwrap();
        let folders = Folders::new(temp.path());
        std::fs::write(folders.own.path().join("ca.pem"), authority.certificate()).unwrap();
        Self {
            authority,
            ghcr,
            temp,
            folders,
        }
    }

    pub(crate) fn of(&self, program: impl Into<PathBuf>) -> Step {
        let step = Step::new(program);
        step.variable("RUNNER_TEMP", self.temp.path().display().to_string())
    }

    pub(crate) fn login(&self) -> Step {
        let ca = self.folders.own.path().join("ca.pem");
        self.folders
            .around(self.of(env!("CARGO_BIN_EXE_oidc-login")))
            .input("command", "ghcr")
            .input("github-token", JOB_TOKEN)
            .input("registry", self.ghcr.name())
            .input("extra-ca", ca.display().to_string())
            .input("timeout", "20s")
    }
}
