//! A working copy of the consumer repository with the few values changed that a stranger would change.
//! It knows the fixture; it starts nothing but git.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::act::Run;
use crate::{Doing as _, Project, Result};

/// What a stranger fills in, in place of the fixture's examples.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespace, for `shop`.
    pub namespace: String,
    /// The host of the front door, for `shop.example.com`.
    pub host: String,
    /// The address of the node that is to answer for the host.
    pub address: String,
    /// The port of the front door there.
    pub port: u16,
    /// The address of Traefik's API, for `https://traefik.example.com`.
    pub traefik_api: String,
    /// The address of Traefik's metrics, for `https://traefik-metrics.example.com`.
    pub traefik_metrics: String,
    /// The registry of the images, for `registry.example.com/shop`.
    pub registry: String,
    /// How long the switch is watched, for `2m`.
    pub watch: String,
    /// How long a canary is watched at each stage, for all of its times.
    pub canary_watch: String,
    /// How often the watch looks, for `5s`.
    pub watch_interval: String,
    /// The longest request, for `30s`.
    pub longest_request: String,
    /// The safety period, for `10m`.
    pub safety_period: String,
    /// The kubeconfig of the deployer, for workflows that do not log in.
    pub kubeconfig: PathBuf,
    /// The inputs of the logins, by name; none where the cluster trusts no stand-ins.
    pub login: BTreeMap<&'static str, String>,
    /// What the jobs' environment holds for the logins.
    pub environment: BTreeMap<&'static str, String>,
    /// What a job of each environment asks GitHub's token service with.
    pub request_tokens: BTreeMap<&'static str, String>,
    /// The webhook of the shop's Slack channel.
    pub slack_webhook_url: String,
    /// The token of the shop's Slack bot.
    pub slack_token: String,
    /// The URL of the shop's database; empty where no workflow migrates one.
    pub database_url: String,
    /// Where backups of the database go, for `s3://shop-backups/production`.
    pub backup_to: String,
    /// What installs Prisma, for `npm ci`: the cluster's network has no registry.
    pub install: String,
}

/// The consumer's repository, checked out.
#[derive(Debug)]
pub struct Consumer {
    /// The folder of everything about this consumer.
    pub(crate) folder: PathBuf,
    /// The checkout.
    pub(crate) checkout: PathBuf,
    pub(crate) project: Project,
    pub(crate) settings: Settings,
}

impl Consumer {
    /// Checks the consumer out into `folder`.
    ///
    /// # Errors
    /// The fixture cannot be copied, or git fails.
    pub fn check_out(folder: &Path, project: &Project, settings: Settings) -> Result<Self> {
        let consumer = Self {
            checkout: folder.join("shop"),
            folder: folder.to_owned(),
            project: project.clone(),
            settings,
        };
        let fixture = project.root.join("tests/e2e/consumer");
        consumer.copy(&fixture, &consumer.checkout)?;
        consumer.commit("the shop")?;
        Ok(consumer)
    }

    /// Changes a file of the checkout and commits it, as the consumer's developers do.
    ///
    /// # Errors
    /// `from` is not in the file, or git fails.
    pub fn change(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.checkout.join(file);
        let text = std::fs::read_to_string(&path).doing(|| format!("read {file}"))?;
        if !text.contains(from) {
            return Err(format!("`{from}` is not in {file}"));
        }
        std::fs::write(&path, text.replace(from, to)).doing(|| format!("write {file}"))?;
        self.commit(file)
    }

    /// Writes a file of the checkout and commits it.
    ///
    /// # Errors
    /// It cannot be written, or git fails.
    pub fn add(&self, file: &str, text: &str) -> Result<()> {
        let path = self.checkout.join(file);
        let folder = path.parent().unwrap_or(&self.checkout);
        std::fs::create_dir_all(folder).doing(|| format!("make the folder of {file}"))?;
        std::fs::write(&path, text).doing(|| format!("write {file}"))?;
        self.commit(file)
    }

    /// A run of one of the consumer's workflows.
    #[must_use]
    pub fn workflow<'a>(&'a self, name: &str) -> Run<'a> {
        Run::new(self, name)
    }

    /// The checkout.
    #[must_use]
    pub fn checkout(&self) -> &Path {
        &self.checkout
    }

    /// The file that the summaries of all runs are appended to.
    #[must_use]
    pub fn summary(&self) -> PathBuf {
        self.folder.join("summary.md")
    }

    /// The folder of uploaded artifacts.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.folder.join("artifacts")
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to).doing(|| format!("make {}", to.display()))?;
        for entry in std::fs::read_dir(from).doing(|| format!("read {}", from.display()))? {
            let entry = entry.doing(|| format!("read {}", from.display()))?;
            let target = to.join(entry.file_name());
            let path = entry.path();
            if path.is_dir() {
                self.copy(&path, &target)?;
                continue;
            }
            let text =
                std::fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
            // Copied first for its mode: scripts stay executable.
            std::fs::copy(&path, &target).doing(|| format!("copy {}", path.display()))?;
            std::fs::write(&target, self.filled_in(&text))
                .doing(|| format!("write {}", target.display()))?;
        }
        Ok(())
    }

    fn filled_in(&self, text: &str) -> String {
        let settings = &self.settings;
        let front_door = format!("http://{}:{}", settings.host, settings.port);
        let replacements = [
            ("https://shop.example.com", &front_door),
            ("https://traefik.example.com", &settings.traefik_api),
            (
                "https://traefik-metrics.example.com",
                &settings.traefik_metrics,
            ),
            ("shop.example.com", &settings.host),
            ("registry.example.com/shop", &settings.registry),
            ("s3://shop-backups/production", &settings.backup_to),
        ];
        let text = replacements
            .iter()
            .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        let text = self.with_login(&text);
        text.lines()
            .map(|line| match line.trim_start().split_once(": ") {
                Some(("namespace", "shop")) => line.replace("shop", &settings.namespace),
                Some(("watch", "2m")) => line.replace("2m", &settings.watch),
                Some(("stages", _)) => line
                    .replace("15m", &settings.canary_watch)
                    .replace("30m", &settings.canary_watch),
                Some(("watch-full", "1m")) => line.replace("1m", &settings.canary_watch),
                Some(("watch-main", "2m")) => line.replace("2m", &settings.canary_watch),
                Some(("interval", "60s")) => line.replace("60s", "1s"),
                Some(("verify-rate", "5")) => line.replace('5', "50"),
                // Two cores that run everything at once answer slowly, whatever the version.
                Some(("max-p95", "500ms")) => line.replace("500ms", "1m"),
                Some(("min-requests", "100")) => line.replace("100", "5"),
                Some(("watch-interval", "5s")) => line.replace("5s", &settings.watch_interval),
                Some(("install", "npm ci")) => line.replace("npm ci", &settings.install),
                Some(("longest-request", "30s")) => line.replace("30s", &settings.longest_request),
                Some(("safety-period", "10m")) => line.replace("10m", &settings.safety_period),
                _ => line.to_owned(),
            })
            .fold(String::new(), |all, line| all + &line + "\n")
    }

    /// Fills the inputs of the login in. On a cluster that trusts no stand-ins the workflows are given the
    /// deployer's kubeconfig instead.
    fn with_login(&self, text: &str) -> String {
        let login = &self.settings.login;
        let is_of_login = |name: &str| {
            let beginnings = ["azure-", "aws-", "eks-", "direct-"];
            beginnings
                .iter()
                .any(|beginning| name.starts_with(beginning))
        };
        let logs_in = text.lines().any(|line| is_of_login(line.trim_start()));
        let is_given_kubeconfig = logs_in && login.is_empty();
        let has_secrets = text.lines().any(|line| line.trim() == "secrets:");
        let lines = text.lines().filter_map(|line| {
            let name = line.trim_start().split(':').next().unwrap_or_default();
            let indent = &line[..line.len() - line.trim_start().len()];
            let kubeconfig = format!("{indent}  kubeconfig: ${{{{ secrets.KUBECONFIG }}}}");
            match (name, login.get(name)) {
                // JSON is YAML, whatever is in a value.
                (_, Some(value)) => {
                    let value = serde_json::Value::String(value.clone());
                    Some(format!("{indent}{name}: {value}"))
                }
                (name, None) if is_of_login(name) => None,
                ("secrets", None) if is_given_kubeconfig => Some(format!("{line}\n{kubeconfig}")),
                ("with", None) if is_given_kubeconfig && !has_secrets => {
                    Some(format!("{indent}secrets:\n{kubeconfig}\n{line}"))
                }
                _ => Some(line.to_owned()),
            }
        });
        lines.fold(String::new(), |all, line| all + &line + "\n")
    }

    fn commit(&self, message: &str) -> Result<()> {
        if !self.checkout.join(".git").exists() {
            self.git(&["init", "--quiet", "--initial-branch=main"])?;
            self.git(&[
                "remote",
                "add",
                "origin",
                "https://github.com/example/shop.git",
            ])?;
        }
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message])
    }

    fn git(&self, arguments: &[&str]) -> Result<()> {
        let status = Command::new("git")
            .args(["-c", "user.name=Dana", "-c", "user.email=dana@example.com"])
            .args(arguments)
            .current_dir(&self.checkout)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .status()
            .doing(|| "start git".into())?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("git {}: {status}", arguments.join(" ")))
        }
    }
}
