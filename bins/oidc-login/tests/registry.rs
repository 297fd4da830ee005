//! Registries: entered by a login, and opened by real skopeo and by the helper's protocol, with a real
//! docker-registry behind strict stand-ins.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use support::aws::Aws;
use support::{CLIENT, World, files, read_json};
use switchyard_harness::{Ended, Step};
use switchyard_sandbox::TlsAuthority;
use switchyard_sandbox::standins::aws::{Ecr, Role};
use switchyard_sandbox::standins::entra::TENANT;
use switchyard_sandbox::standins::oci::{Acr, Ghcr, OpenRegistry};
use switchyard_sandbox::standins::{Service, StandIn};

const JOB_TOKEN: &str = "ghs_ofThisJobAlone";
const HELPER: &str = "docker-credential-switchyard";

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn name(base_url: &str) -> String {
    base_url.trim_start_matches("https://").to_owned()
}

/// A job's folders, over its steps.
struct Folders {
    own: tempfile::TempDir,
    runner_temp: PathBuf,
}

impl Folders {
    fn new(runner_temp: &Path) -> Self {
        let own = tempfile::tempdir().unwrap();
        std::fs::create_dir(own.path().join("docker")).unwrap();
        std::fs::write(own.path().join("path"), "").unwrap();
        Self {
            own,
            runner_temp: runner_temp.to_owned(),
        }
    }

    fn config(&self) -> PathBuf {
        self.own.path().join("docker/config.json")
    }

    fn docker_config(&self) -> String {
        self.own.path().join("docker").display().to_string()
    }

    /// A step that finds docker's configuration here.
    fn around(&self, step: Step) -> Step {
        let path = self.own.path().join("path").display().to_string();
        step.variable("DOCKER_CONFIG", self.docker_config())
            .variable("GITHUB_PATH", path)
    }

    /// The helper where the login put it on PATH.
    fn helper(&self) -> PathBuf {
        let added = std::fs::read_to_string(self.own.path().join("path")).unwrap();
        let folder = added.lines().last().expect("nothing was put on PATH");
        Path::new(folder).join(HELPER)
    }

    /// A call of the helper by a client in a later step.
    fn call(&self, step: &dyn Fn(PathBuf) -> Step, operation: &str, registry: &str) -> Ended {
        step(self.helper())
            .argument(operation)
            .stdin(format!("{registry}\n"))
            .run()
    }

    /// What skopeo says of an image, with what the login left alone.
    fn inspect(
        &self,
        authority: &TlsAuthority,
        image: &str,
        variables: &[(&str, String)],
    ) -> Result<Value, String> {
        let certificates = self.own.path().join("certificates");
        std::fs::create_dir_all(&certificates).unwrap();
        std::fs::write(certificates.join("ca.crt"), authority.certificate()).unwrap();
        let path = format!(
            "{}:{}",
            self.helper().parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
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

    fn assert_private(&self) {
        for path in files(&self.runner_temp) {
            let mode = path.metadata().unwrap().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
        let mode = self.config().metadata().unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
}

fn secret(ended: &Ended) -> String {
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    answer["Secret"].as_str().unwrap().to_owned()
}

/// GHCR with an image.
struct OfGitHub {
    authority: TlsAuthority,
    ghcr: OpenRegistry<Ghcr>,
    temp: tempfile::TempDir,
    folders: Folders,
}

impl OfGitHub {
    async fn new() -> Self {
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

    fn of(&self, program: impl Into<PathBuf>) -> Step {
        let step = Step::new(program);
        step.variable("RUNNER_TEMP", self.temp.path().display().to_string())
    }

    fn login(&self) -> Step {
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

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reads_from_ghcr_with_the_jobs_token() {
    let world = OfGitHub::new().await;
    let folders = &world.folders;
    let before = json!({"credsStore": "desktop", "auths": {"a.test": {"auth": "eDp5"}}, "credHelpers": {"b.test": "b"}});
    std::fs::write(folders.config(), before.to_string()).unwrap();
    let ended = world.login().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["registry"], world.ghcr.name());
    let mut after = before;
    after["credHelpers"][world.ghcr.name()] = "switchyard".into();
    assert_eq!(read_json(&folders.config()), after);
    folders.assert_private();
    let config = std::fs::read_to_string(folders.config()).unwrap();
    assert!(!config.contains(JOB_TOKEN));
    let image = format!("{}/acme/api:v1", world.ghcr.name());
    let seen = folders.inspect(&world.authority, &image, &[]).unwrap();
    assert_eq!(seen["Architecture"], "amd64");
    let ended = world.login().run();
    assert_eq!(ended.code, Some(0), "again: {}", ended.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_helper_speaks_dockers_protocol() {
    let world = OfGitHub::new().await;
    assert_eq!(world.login().run().code, Some(0));
    let registry = world.ghcr.name();
    let step = |program: PathBuf| world.of(program);
    let call = |operation: &str, text: &str| world.folders.call(&step, operation, text);
    for text in [registry.to_owned(), format!("https://{registry}/v2/")] {
        let ended = call("get", &text);
        let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
        let wanted =
            json!({"ServerURL": registry, "Username": "x-access-token", "Secret": JOB_TOKEN});
        assert_eq!(answer, wanted, "{}", ended.log());
        assert_eq!(ended.stderr, "");
    }
    let listed: Value = serde_json::from_str(&call("list", "").stdout).unwrap();
    assert_eq!(listed, json!({registry: "x-access-token"}));
    let ended = call("store", "{}");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("not kept"), "{}", ended.stderr);
    for text in ["", "other.test", "!"] {
        let ended = call("get", text);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{text}");
    }
    assert_eq!(call("erase", registry).code, Some(0));
    assert_eq!(call("get", registry).code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ghcr_does_not_take_enters_nothing() {
    let world = OfGitHub::new().await;
    let ended = world.login().input("github-token", "ghs_other").run();
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    for words in ["does not take our password", "packages: read"] {
        assert!(ended.stdout.contains(words), "{}", ended.stdout);
    }
    ended.assert_never_shows("ghs_other");
    assert!(!world.folders.config().exists());
    assert!(files(world.temp.path()).is_empty());
}

/// What is said of a configuration, and how it comes to be.
type Spoiling<'a> = (&'a str, &'a dyn Fn(&Path));

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_must_not_be_touched_is_refused_by_name() {
    let world = OfGitHub::new().await;
    let path = world.folders.config();
    let asked = world.ghcr.door.exchanges().len();
    let elsewhere = world.folders.own.path().join("elsewhere.json");
    let taken = json!({"credHelpers": {world.ghcr.name(): "other"}}).to_string();
    let spoilings: [Spoiling<'_>; 6] = [
        ("no JSON object", &|path| {
            std::fs::write(path, "{hunter2").unwrap();
        }),
        ("no JSON object", &|path| {
            std::fs::write(path, "[]").unwrap()
        }),
        ("whose `credHelpers` is no object", &|path| {
            std::fs::write(path, r#"{"credHelpers": "hunter2"}"#).unwrap();
        }),
        ("names another helper", &|path| {
            std::fs::write(path, &taken).unwrap();
        }),
        ("read-only", &|path| {
            std::fs::write(path, "{}").unwrap();
            std::fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
        }),
        ("a symbolic link", &|path| {
            std::fs::write(&elsewhere, "{}").unwrap();
            symlink(&elsewhere, path).unwrap();
        }),
    ];
    for (words, spoil) in spoilings {
        spoil(&path);
        let before = std::fs::read(&path).unwrap();
        let ended = world.login().run();
        assert_eq!(ended.code, Some(2), "{words}: {}", ended.log());
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
        let named = path.display().to_string();
        assert!(ended.stdout.contains(&named), "{}", ended.stdout);
        ended.assert_never_shows("hunter2");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{words}");
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(world.ghcr.door.exchanges().len(), asked, "asked before");
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reads_from_acr_with_what_entra_gives() {
    let world = World::new();
    let folders = Folders::new(world.temp.path());
    let behind = OpenRegistry::<Acr>::reserve().unwrap();
    let tokens = Arc::clone(&world.entra.service().tokens);
    let door = Acr::new(tokens, &world.authority, behind).unwrap();
    let acr = OpenRegistry::start(door, free(), &world.authority).await;
    let acr = acr.unwrap();
    acr.fill("acme/api", "v1").await.unwrap();
    let login = || {
        folders
            .around(world.step())
            .input("command", "azure")
            .input("tenant", TENANT)
            .input("client-id", CLIENT)
            .input("registry", acr.name())
            .input("authority-url", world.entra.base_url())
            .input("extra-ca", world.ca().display().to_string())
            .input("timeout", "20s")
            .run()
    };
    let ended = login();
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(ended.stdout.contains("AcrPull"), "{}", ended.stdout);
    assert!(!folders.config().exists());
    acr.door.service().assign_pull(&world.object);
    let ended = login();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["registry"], acr.name());
    world.assert_no_secret_in(&ended);
    folders.assert_private();
    let github = world.github.service();
    let url = github.request_url(world.github.base_url());
    let variables = [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url),
        (
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            github.request_token.clone(),
        ),
    ];
    let image = format!("{}/acme/api:v1", acr.name());
    let exchanges = world.entra.exchanges().len();
    let seen = folders
        .inspect(&world.authority, &image, &variables)
        .unwrap();
    assert_eq!(seen["Architecture"], "amd64");
    assert_eq!(
        world.entra.exchanges().len(),
        exchanges,
        "the kept token was not used"
    );
    let step = |program: PathBuf| world.step_of(program);
    let password = secret(&folders.call(&step, "get", acr.name()));
    for path in files(world.temp.path()) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&password), "{} holds it", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ecr_gives_each_use_a_password_of_its_own_and_none_is_kept() {
    let aws = Aws::new();
    let folders = Folders::new(aws.temp.path());
    let ecr: StandIn<Ecr> = support::start(Ecr::new(Arc::clone(&aws.account)), &aws.authority);
    let registry = name(ecr.base_url());
    let login = || {
        folders
            .around(aws.assume())
            .input("ecr-url", ecr.base_url())
            .input("registry", &registry)
            .run()
    };
    let ended = login();
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(
        ended.stdout.contains("ecr:GetAuthorizationToken"),
        "{}",
        ended.stdout
    );
    assert!(!folders.config().exists());
    let role: Role = aws.role.clone().allowing("ecr:GetAuthorizationToken");
    aws.account.add(role);
    let ended = login();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["registry"], registry);
    aws.assert_no_secret_in(&ended);
    folders.assert_private();
    let sessions = aws.account.sessions().len();
    let step = |program: PathBuf| aws.step_of(program);
    let password = secret(&folders.call(&step, "get", &registry));
    assert!(ecr.service().is_open_to("AWS", &password));
    assert_eq!(
        aws.account.sessions().len(),
        sessions,
        "the kept session was not used"
    );
    assert_eq!(ecr.service().state()["given"], 2);
    for path in files(aws.temp.path()) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&password), "{} holds it", path.display());
    }
}
