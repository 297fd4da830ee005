//! A sandbox known by its command line only.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

/// A sandbox known by its command line only.
pub struct Subject {
    name: String,
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

impl Subject {
    /// A sandbox of this name that is down, whatever an earlier run left.
    pub fn fresh(name: &str) -> Self {
        let subject = Self {
            name: name.to_owned(),
        };
        subject.run(&["down"]);
        subject
    }

    pub fn run(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sandbox"))
            .args(["--name", &self.name])
            .args(words)
            .output()
            .expect("the program runs")
    }

    pub fn succeed(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn variable(&self, name: &str) -> String {
        let lines = self.succeed(&["env"]);
        let prefix = format!("{name}=");
        let value = lines.lines().find_map(|line| line.strip_prefix(&prefix));
        value
            .unwrap_or_else(|| panic!("no {name} in {lines}"))
            .to_owned()
    }

    pub fn state(&self) -> PathBuf {
        self.variable("SWITCHYARD_SANDBOX_STATE").into()
    }

    /// The process ids of the components that run, by name.
    pub fn components(&self) -> BTreeMap<String, i32> {
        let output = self.run(&["status"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().filter_map(|line| {
            let (name, pid) = line.split_once(" runs as ")?;
            Some((name.trim().to_owned(), pid.parse().ok()?))
        });
        lines.collect()
    }

    pub fn kill(&self, component: &str) {
        let pid = self.components()[component];
        let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(status.expect("kill runs").success());
        wait_until("the component is gone", || {
            !self.components().contains_key(component)
        });
    }

    /// Runs a command in its network.
    pub fn inside(&self, words: &[&str]) -> String {
        self.succeed(&[&["exec", "--"][..], words].concat())
    }

    pub fn kubectl(&self, words: &[&str]) -> String {
        let kubectl = self.variable("SWITCHYARD_SANDBOX_KUBECTL");
        self.inside(&[&[kubectl.as_str()][..], words].concat())
    }
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
