//! The weights of a route, as the cluster tells each change of them. Knows no version.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use switchyard_sandbox::User;

use crate::demo::Stage;
use crate::{Doing as _, Result};

/// The route of web while it is watched.
pub(super) struct Route {
    kubectl: Child,
    changes: Receiver<u64>,
}

impl Route {
    pub(super) fn watch(stage: &Stage) -> Result<Self> {
        // No `range`: kubectl prints one for the first event of a watch alone.
        let services = ".spec.weighted.services[*]";
        let weights = format!("jsonpath={{{services}.name}}={{{services}.weight}}{{\"\\n\"}}");
        let mut kubectl = Command::new(stage.sandbox.kubectl())
            .arg("--kubeconfig")
            .arg(stage.sandbox.kubeconfig(User::Deployer))
            .args(["--namespace", stage.namespace.name()])
            .args(["get", "traefikservice", "web", "--watch", "-o", &weights])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .doing(|| "watch the route".into())?;
        let output = kubectl.stdout.take().ok_or("kubectl has no output")?;
        let (sender, changes) = channel();
        std::thread::spawn(move || {
            let shares = BufReader::new(output)
                .lines()
                .map_while(std::result::Result::ok);
            for share in shares.filter_map(|line| share_of_canary(&line)) {
                if sender.send(share).is_err() {
                    break;
                }
            }
        });
        Ok(Self { kubectl, changes })
    }

    /// The shares of the canary since the last look, the newest last.
    pub(super) fn changes(&self) -> impl Iterator<Item = u64> {
        self.changes.try_iter()
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

/// The percentage of `…-canary` in `web web-canary=9 1`.
fn share_of_canary(weights: &str) -> Option<u64> {
    let (names, weights) = weights.split_once('=')?;
    let names: Vec<&str> = names.split_whitespace().collect();
    let weights = weights.split_whitespace().map(|weight| weight.parse().ok());
    let weights: Vec<u64> = weights.collect::<Option<_>>()?;
    // A weight that is not written cannot be told from the others'.
    if names.len() != weights.len() {
        return None;
    }
    let canary = names.iter().zip(&weights);
    let canary = canary.filter(|(name, _)| name.ends_with("-canary"));
    let canary: u64 = canary.map(|(_, weight)| weight).sum();
    (canary * 100).checked_div(weights.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_canary_is_read_from_the_weights() {
        assert_eq!(share_of_canary("web web-canary=9 1"), Some(10));
        assert_eq!(share_of_canary("web-canary=1"), Some(100));
        assert_eq!(share_of_canary("web=1"), Some(0));
        assert_eq!(share_of_canary("web web-canary=1"), None);
        assert_eq!(share_of_canary("="), None);
        assert_eq!(share_of_canary(""), None);
    }
}
