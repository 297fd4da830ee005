//! Every command line on this machine while something runs: what any user of it could have read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks. Programs that are over sooner may be missed.
const PAUSE: Duration = Duration::from_millis(1);

/// Looks again and again until it is ended.
#[derive(Debug)]
pub struct CommandLines {
    is_over: Arc<AtomicBool>,
    seen: JoinHandle<BTreeSet<String>>,
}

impl CommandLines {
    /// Begins to look.
    #[must_use]
    pub fn watch() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let seen = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !flag.load(Ordering::Relaxed) {
                seen.extend(now());
                std::thread::sleep(PAUSE);
            }
            seen
        });
        Self { is_over, seen }
    }

    /// Fails when one of `secrets` stood in a command line, or none was seen that holds `expected`: a watch
    /// that saw nothing proves nothing.
    ///
    /// # Panics
    /// When it fails; it does not show the secret.
    pub fn end(self, expected: &[&str], secrets: &[String]) {
        self.is_over.store(true, Ordering::Relaxed);
        let seen = self.seen.join().expect("a look fails at nothing");
        for expected in expected {
            let is_seen = seen.iter().any(|line| line.contains(expected));
            assert!(is_seen, "`{expected}` was not seen to run");
        }
        for line in &seen {
            let is_open = secrets.iter().any(|secret| line.contains(secret.as_str()));
            let program = line.split(' ').next().unwrap_or_default();
            assert!(!is_open, "a command line of `{program}` holds a secret");
        }
    }
}

/// The command lines of all processes, their arguments separated by blanks.
fn now() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    // A process that ends in between has none any more.
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let texts = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    texts.filter(|text| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs a program with an argument, under a watch that ends like this.
    fn watched(expected: &[&str], secrets: &[String]) {
        let watch = CommandLines::watch();
        let status = Command::new("sleep").args(["0.3", "0.01"]).status();
        assert!(status.expect("start `sleep`").success());
        watch.end(expected, secrets);
    }

    #[test]
    fn what_runs_is_seen_with_its_arguments() {
        watched(&["sleep 0.3 0.01"], &["hunter2".to_owned()]);
    }

    #[test]
    #[should_panic(expected = "a command line of `sleep` holds a secret")]
    fn a_secret_among_the_arguments_is_found() {
        watched(&["sleep"], &["0.3 0.01".to_owned()]);
    }

    #[test]
    #[should_panic(expected = "was not seen to run")]
    fn a_watch_that_saw_nothing_proves_nothing() {
        watched(&["no-such-program"], &[]);
    }
}
