//! Registries: entered by a login, and opened by real skopeo and by the helper's protocol, with a real
//! docker-registry behind strict stand-ins.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::aws::Aws;
use support::registry::{Folders, JOB_TOKEN, OfGitHub, free, secret};
use support::{CLIENT, World, files, read_json};
use switchyard_sandbox::standins::Service as _;
use switchyard_sandbox::standins::aws::{Ecr, Role};
use switchyard_sandbox::standins::entra::TENANT;
use switchyard_sandbox::standins::oci::{Acr, OpenRegistry};

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

#[tokio::test(flavor = "multi_thread")]
async fn the_helper_is_put_into_no_folder_that_others_can_write() {
    let world = OfGitHub::new().await;
    let elsewhere = world.folders.own.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let folder = world.temp.path().join("switchyard-oidc-login");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    let bin = folder.join("bin");
    symlink(&elsewhere, &bin).unwrap();
    let refused = |words: &str| {
        let ended = world.login().run();
        assert_eq!(ended.code, Some(2), "{words}: {}", ended.log());
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
        assert!(!world.folders.config().exists(), "{words}");
    };
    refused("a symbolic link");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    std::fs::remove_file(&bin).unwrap();
    std::fs::create_dir(&bin).unwrap();
    std::fs::set_permissions(&bin, Permissions::from_mode(0o777)).unwrap();
    refused("can be read by others");
    assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 0);
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
    let variables = world.variables();
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
async fn skopeo_reads_from_ecr_with_a_password_for_each_use() {
    let aws = Aws::new();
    let folders = Folders::new(aws.temp.path());
    let behind = OpenRegistry::<Ecr>::reserve().unwrap();
    let door = Ecr::new(Arc::clone(&aws.account)).before(behind);
    let ecr = OpenRegistry::start(door, free(), &aws.authority).await;
    let ecr = ecr.unwrap();
    ecr.fill("acme/api", "v1").await.unwrap();
    let registry = ecr.name().to_owned();
    let login = || {
        folders
            .around(aws.assume())
            .input("ecr-url", ecr.door.base_url())
            .input("registry", &registry)
            .run()
    };
    let ended = login();
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    for words in ["ecr:GetAuthorizationToken", "for AWS's support: request id"] {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
    assert!(!folders.config().exists());
    let role: Role = aws.role.clone().allowing("ecr:GetAuthorizationToken");
    aws.account.add(role);
    let ended = login();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["registry"], registry);
    aws.assert_no_secret_in(&ended);
    folders.assert_private();
    let sessions = aws.account.sessions().len();
    let given = || ecr.door.service().state()["given"].as_u64().unwrap();
    let before = given();
    let step = |program: PathBuf| aws.step_of(program);
    let password = secret(&folders.call(&step, "get", &registry));
    assert!(ecr.door.service().is_open_to("AWS", &password));
    assert_eq!(given(), before + 1);
    let image = format!("{registry}/acme/api:v1");
    let seen = folders.inspect(&aws.authority, &image, &aws.variables());
    assert_eq!(seen.unwrap()["Architecture"], "amd64");
    assert!(given() > before + 1, "the password of another use");
    assert_eq!(
        aws.account.sessions().len(),
        sessions,
        "the kept session was not used"
    );
    for path in files(aws.temp.path()) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&password), "{} holds it", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_logins_at_once_lose_no_entry() {
    let world = OfGitHub::new().await;
    let path = world.folders.config();
    // The other login is at work on the file.
    let other = File::open(path.parent().unwrap()).unwrap();
    other.lock().unwrap();
    let asked = world.ghcr.door.exchanges().len();
    let mut login = world.login().start();
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.ghcr.door.exchanges().len() == asked {
        assert!(Instant::now() < deadline, "the registry is not asked");
        std::thread::sleep(Duration::from_millis(10));
    }
    let entered = json!({"credHelpers": {"other.test": "switchyard"}});
    std::fs::write(&path, entered.to_string()).unwrap();
    assert_eq!(login.child().try_wait().unwrap(), None, "it did not wait");
    other.unlock().unwrap();
    let ended = login.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let mut both = entered;
    both["credHelpers"][world.ghcr.name()] = "switchyard".into();
    assert_eq!(read_json(&path), both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_kept_waiting_for_the_configuration_says_so() {
    let world = OfGitHub::new().await;
    let folder = File::open(world.folders.config().parent().unwrap()).unwrap();
    folder.lock().unwrap();
    let ended = world.login().input("timeout", "2s").run();
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(ended.stdout.contains("cannot lock"), "{}", ended.stdout);
    assert!(!world.folders.config().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_ask_no_helper_get_a_configuration_of_their_own() {
    let world = OfGitHub::new().await;
    let ended = world.login().input("registry-credentials", "file").run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    ended.assert_never_shows(JOB_TOKEN);
    assert!(
        !world.folders.config().exists(),
        "the user's own was touched"
    );
    let folder = ended.outputs["docker-config"].clone();
    assert!(Path::new(&folder).starts_with(world.temp.path().canonicalize().unwrap()));
    world.folders.assert_private_below_runner_temp();
    let image = format!("{}/acme/api:v1", world.ghcr.name());
    let refused = world.folders.inspect(&world.authority, &image, &[]);
    refused.unwrap_err();
    let with_file = [("DOCKER_CONFIG", folder.clone())];
    let seen = world.folders.inspect(&world.authority, &image, &with_file);
    assert_eq!(seen.unwrap()["Architecture"], "amd64");
    let again = world.login().input("registry-credentials", "file").run();
    assert_ne!(again.outputs["docker-config"], folder, "each has its own");
    let ended = world.login().input("registry-credentials", "store").run();
    assert_eq!(ended.code, Some(2));
}
