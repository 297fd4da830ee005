//! Nothing that a job is given can be read by anybody else: not in the command line of any process, not in
//! what the runner hands to later steps, not in a file that is open to others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::path::PathBuf;

use support::aws::Aws;
use support::{World, cache_file, kubeconfig};
use switchyard_harness::{CommandLines, Ended, Step};

/// The files by which a runner hands something to later steps.
struct LaterSteps {
    folder: tempfile::TempDir,
}

impl LaterSteps {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["env", "path", "state"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, step: Step) -> Ended {
        let variables = [
            ("GITHUB_ENV", "env"),
            ("GITHUB_PATH", "path"),
            ("GITHUB_STATE", "state"),
        ];
        let step = variables.into_iter().fold(step, |step, (name, file)| {
            step.variable(name, self.file(file).display().to_string())
        });
        let ended = step.run();
        assert_eq!(ended.code, Some(0), "{}", ended.log());
        ended
    }

    fn assert_given_nothing(&self) {
        for name in ["env", "path", "state"] {
            let text = std::fs::read_to_string(self.file(name)).unwrap();
            assert_eq!(text, "", "{name}");
        }
    }
}

#[test]
fn a_login_to_azure_and_its_plugin_show_nothing_to_anybody() {
    let world = World::new();
    let later = LaterSteps::new();
    let watch = CommandLines::watch();
    let login = later.run(world.azure());
    let config = kubeconfig(&login);
    // The second call gets a token of its own, and takes as long as that takes.
    let first = later.run(world.plugin(&config));
    std::fs::remove_file(cache_file(&world)).unwrap();
    let second = later.run(world.plugin(&config));
    watch.end(&["oidc-login credential azure"], &world.tokens());
    later.assert_given_nothing();
    world.assert_no_secret_in(&login);
    for call in [first, second] {
        for token in world.tokens() {
            assert!(!call.stderr.contains(&token), "on standard error");
        }
    }
}

#[test]
fn a_login_to_aws_and_what_asks_it_show_nothing_to_anybody() {
    let aws = Aws::new();
    let later = LaterSteps::new();
    let watch = CommandLines::watch();
    let login = later.run(aws.login().input("profile", "deploy"));
    let config = kubeconfig(&login);
    for kind in ["token", "session"] {
        std::fs::remove_file(aws.kept(kind)).unwrap();
    }
    let token = later.run(aws.plugin(&config));
    std::fs::remove_file(aws.kept("session")).unwrap();
    let process = std::fs::read_to_string(&login.outputs["aws-config"]).unwrap();
    let command = process
        .lines()
        .find_map(|line| line.strip_prefix("credential_process = "));
    let mut words = command.unwrap().split(' ');
    let program = aws.step_of(words.next().unwrap());
    let keys = later.run(words.fold(program, Step::argument));
    watch.end(
        &["oidc-login credential aws", "oidc-login credential-process"],
        &aws.secrets(),
    );
    later.assert_given_nothing();
    aws.assert_no_secret_in(&login);
    for call in [token, keys] {
        for secret in aws.secrets() {
            assert!(!call.stderr.contains(&secret), "on standard error");
        }
    }
}
