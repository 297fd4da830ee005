//! What later steps get of a role's session when somebody asks for it: a profile that AWS's own command line
//! uses, or the keys in the environment.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::aws::Aws;
use support::{files, read_json};
use switchyard_harness::Ended;
use switchyard_sandbox::standins::{Answer, Fault, FaultRule};

/// AWS's command line, of a pinned version.
fn command_line() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/tools");
    let output = Command::new(tools).arg("aws").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let folder = String::from_utf8(output.stdout).unwrap();
    Path::new(folder.trim()).join("aws")
}

/// A job whose login wrote a profile.
struct Profiled {
    aws: Aws,
    config: PathBuf,
}

impl Profiled {
    fn new() -> Self {
        let aws = Aws::new();
        let ended = aws.assume().input("profile", "deploy").run();
        assert_eq!(ended.code, Some(0), "{}", ended.log());
        let config = PathBuf::from(&ended.outputs["aws-config"]);
        assert_eq!(config.metadata().unwrap().mode() & 0o777, 0o600);
        aws.assert_no_secret_in(&ended);
        Self { aws, config }
    }

    /// AWS's command line in a later step, under this profile.
    fn call(&self, profile: &str) -> Output {
        let home = tempfile::tempdir().unwrap();
        Command::new(command_line())
            .args(["sts", "get-caller-identity", "--output", "json"])
            .args(["--endpoint-url", self.aws.sts.base_url()])
            .arg("--ca-bundle")
            .arg(self.aws.ca())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", home.path())
            .env("AWS_CONFIG_FILE", &self.config)
            .env("AWS_PROFILE", profile)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("GITHUB_ACTIONS", "true")
            .envs(self.aws.variables())
            .output()
            .unwrap()
    }

    /// Who it is to STS.
    fn who(&self) -> String {
        let output = self.call("deploy");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["Arn"].as_str().unwrap().to_owned()
    }

    fn sessions(&self) -> usize {
        self.aws.account.sessions().len()
    }
}

#[test]
fn awss_command_line_is_the_role_by_the_profile() {
    let job = Profiled::new();
    let arn = job.aws.account.sessions().remove(0).arn();
    assert_eq!(job.who(), arn);
    assert_eq!(job.sessions(), 1, "the kept session was not used");
    let other = job.call("other");
    assert!(!other.status.success(), "without the profile it is nobody");
}

/// What AWS's clients start asks for nothing, and opens no way to anybody, while the kept session lasts.
#[test]
fn a_session_that_is_kept_is_given_without_a_way_to_the_network() {
    let job = Profiled::new();
    std::fs::remove_file(job.aws.ca()).unwrap();
    let text = std::fs::read_to_string(&job.config).unwrap();
    let command = text
        .lines()
        .find_map(|line| line.strip_prefix("credential_process = "))
        .unwrap();
    let call = || {
        let words = command.split(' ').skip(1);
        words
            .fold(job.aws.step(), |step, word| step.argument(word))
            .run()
    };
    let ended = call();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    let session = job.aws.account.sessions().remove(0);
    assert_eq!(answer["AccessKeyId"], session.access_key.as_str());
    std::fs::remove_file(job.aws.kept("session")).unwrap();
    let ended = call();
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(ended.stderr.contains("extra-ca"), "{}", ended.stderr);
}

#[test]
fn the_profile_outlives_the_session() {
    let job = Profiled::new();
    let path = job.aws.kept("session");
    let mut entry = read_json(&path);
    let from_now = |seconds: i64| {
        let second = jiff::Timestamp::now().as_second() + seconds;
        jiff::Timestamp::from_second(second).unwrap().to_string()
    };
    // Less is left than AWS's clients want.
    entry["since"] = from_now(-2_900).into();
    entry["until"] = from_now(700).into();
    std::fs::write(&path, entry.to_string()).unwrap();
    job.who();
    assert_eq!(job.sessions(), 2);
    // What is left is given out when there is nothing else.
    std::fs::write(&path, entry.to_string()).unwrap();
    let refusal = Fault::Answer(Answer::text(401, ""));
    job.aws.github.fail(FaultRule::next(100, refusal));
    job.who();
    assert_eq!(job.sessions(), 2);
    std::fs::remove_file(&path).unwrap();
    let output = job.call("deploy");
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    for secret in job.aws.secrets() {
        assert!(!errors.contains(&secret), "a secret is shown");
    }
}

#[test]
fn the_configuration_keeps_the_profiles_of_other_logins() {
    let job = Profiled::new();
    let login = |profile: &str| job.aws.assume().input("profile", profile);
    let at_once: Vec<_> = ["one", "two", "three", "default"]
        .map(|profile| login(profile).start())
        .into_iter()
        .map(switchyard_harness::Started::finish)
        .collect();
    for ended in &at_once {
        assert_eq!(ended.code, Some(0), "{}", ended.log());
        assert_eq!(
            ended.outputs["aws-config"],
            job.config.display().to_string()
        );
    }
    let text = std::fs::read_to_string(&job.config).unwrap();
    let mut sections: Vec<&str> = text.lines().filter(|line| line.starts_with('[')).collect();
    sections.sort_unstable();
    let all = [
        "[default]",
        "[profile deploy]",
        "[profile one]",
        "[profile three]",
        "[profile two]",
    ];
    assert_eq!(sections, all);
}

#[test]
fn a_configuration_that_others_could_have_written_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let job = Profiled::new();
    std::fs::set_permissions(&job.config, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = job.aws.assume().input("profile", "deploy").run();
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(
        ended.stdout.contains("can be read by others"),
        "{}",
        ended.stdout
    );
}

#[test]
fn what_a_shell_would_read_otherwise_is_no_part_of_a_profile() {
    let aws = Aws::new();
    for (input, value) in [("audience", "a$(id)b"), ("profile", "a]b")] {
        let step = aws.assume().input("profile", "deploy");
        let ended = step.input(input, value).run();
        assert_eq!(ended.code, Some(2), "{input}: {}", ended.log());
    }
    assert!(aws.github.exchanges().is_empty());
}

/// The variables of a runner's file, as the runner reads them.
fn variables(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (name, delimiter) = line.split_once("<<").unwrap();
        let value: Vec<&str> = lines
            .by_ref()
            .take_while(|line| *line != delimiter)
            .collect();
        found.insert(name.to_owned(), value.join("\n"));
    }
    found
}

/// A login whose runner has a file of variables, and the variables of later steps.
fn exporting(aws: &Aws, asked: &str) -> (Ended, BTreeMap<String, String>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    std::fs::write(&file, "").unwrap();
    let ended = aws
        .assume()
        .input("export-credentials", asked)
        .variable("GITHUB_ENV", file.display().to_string())
        .run();
    let text = std::fs::read_to_string(&file).unwrap();
    (ended, variables(&text))
}

#[test]
fn later_steps_become_the_role_only_when_that_was_asked_for() {
    let aws = Aws::new();
    for asked in ["", "false"] {
        let (ended, variables) = exporting(&aws, asked);
        assert_eq!(ended.code, Some(0), "{}", ended.log());
        assert!(variables.is_empty(), "{asked}");
    }
    let (ended, variables) = exporting(&aws, "true");
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let session = aws.account.sessions().pop().unwrap();
    assert_eq!(
        variables,
        [
            ("AWS_ACCESS_KEY_ID", session.access_key.as_str()),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_SECRET_ACCESS_KEY", session.secret.as_str()),
            ("AWS_SESSION_TOKEN", session.token.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    );
    for secret in [&session.access_key, &session.secret, &session.token] {
        let mask = format!("::add-mask::{secret}");
        assert!(ended.stdout.lines().any(|line| line == mask), "not masked");
        let masks = ended.stdout.lines().filter(|line| **line == mask);
        assert_eq!(masks.count(), 1, "masked again");
    }
    aws.assert_no_secret_in(&ended);
}

#[test]
fn keys_are_exported_to_nobody_where_there_are_no_later_steps() {
    let aws = Aws::new();
    let ended = aws.assume().input("export-credentials", "true").run();
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(ended.stdout.contains("GITHUB_ENV"), "{}", ended.stdout);
    assert!(aws.github.exchanges().is_empty());
    assert!(files(aws.temp.path()).is_empty());
}
