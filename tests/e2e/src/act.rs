//! One run of a workflow under act, in an environment of its own. It knows act's command line; it
//! refuses to know what the workflow does.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::composite_step::{DEAD, DEATH, Death, PROGRAMS, REQUEST_TOKENS, SUMMARY};
use crate::{Consumer, Doing as _, Result, environments};

/// What the consumer's steps may find on PATH: no compiler, no cargo, no kubectl.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A workflow run that can be started.
#[derive(Debug)]
pub struct Run<'a> {
    consumer: &'a Consumer,
    workflow: String,
    inputs: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    run_id: String,
    death: Option<Death>,
}

/// A run that is going on.
#[derive(Debug)]
pub struct Running {
    act: Child,
    log: PathBuf,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How act ended: a success only when every job was one.
    pub status: ExitStatus,
    /// Everything that was logged.
    pub log: String,
    /// The file of the log.
    pub log_file: PathBuf,
}

impl<'a> Run<'a> {
    pub(crate) fn new(consumer: &'a Consumer, workflow: &str) -> Self {
        Self {
            consumer,
            workflow: workflow.to_owned(),
            inputs: BTreeMap::new(),
            variables: BTreeMap::new(),
            run_id: unique_run_id(),
            death: None,
        }
    }

    /// Gives an input of the consumer's workflow.
    #[must_use]
    pub fn input(mut self, name: &str, value: &str) -> Self {
        self.inputs.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets a variable of the jobs' environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Runs under the id of an earlier run: a re-run.
    #[must_use]
    pub fn again(mut self, run_id: &str) -> Self {
        run_id.clone_into(&mut self.run_id);
        self
    }

    /// The runner of a job dies at a point.
    #[must_use]
    pub fn dies(mut self, death: Death) -> Self {
        self.death = Some(death);
        self
    }

    /// The run's id.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Starts the run and waits for its end.
    ///
    /// # Errors
    /// act cannot be started.
    pub fn wait(self) -> Result<Ended> {
        self.start()?.wait()
    }

    /// Starts the run.
    ///
    /// # Errors
    /// act cannot be started.
    pub fn start(self) -> Result<Running> {
        let folder = self.consumer.folder.join(format!("run-{}", self.run_id));
        let home = folder.join("home");
        std::fs::create_dir_all(&home).doing(|| "make the run's folder".into())?;
        let log = folder.join("log");
        let file = File::create(&log).doing(|| "make the log".into())?;
        let mut act = self.with_hosts(&folder)?;
        act.args(self.arguments(&folder)?)
            .current_dir(&self.consumer.checkout)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", &home)
            .stdin(Stdio::null())
            .stderr(file.try_clone().doing(|| "share the log".into())?)
            .stdout(file);
        let act = act.spawn().doing(|| "start act".into())?;
        Ok(Running { act, log })
    }

    /// act with a `/etc/hosts` of its own: the cluster's network has no name server, and the steps know
    /// the front door by its host.
    fn with_hosts(&self, folder: &Path) -> Result<Command> {
        let settings = &self.consumer.settings;
        let hosts = folder.join("hosts");
        let text = format!(
            "127.0.0.1 localhost\n{} {}\n",
            settings.address, settings.host
        );
        std::fs::write(&hosts, text).doing(|| "write the hosts".into())?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
            .arg(hosts)
            .arg(self.consumer.project.tools.join("act"));
        Ok(command)
    }

    fn arguments(&self, folder: &Path) -> Result<Vec<String>> {
        let project = &self.consumer.project;
        let shown = |path: &Path| path.display().to_string();
        let mut arguments = vec![
            "workflow_dispatch".to_owned(),
            "--workflows".into(),
            format!(".github/workflows/{}", self.workflow),
            "--platform".into(),
            "ubuntu-latest=-self-hosted".into(),
            "--no-cache-server".into(),
            "--action-offline-mode".into(),
            "--actor".into(),
            "dana".into(),
            "--secret-file".into(),
            shown(&self.secret_file(folder)?),
            "--env-file".into(),
            shown(&self.variable_file(folder)?),
        ];
        let mut repositories = vec![format!(
            "switchyard-ci/switchyard@v1={}",
            shown(&project.archive)
        )];
        for (reference, stand_in) in artifact_actions(&project.archive)? {
            let folder = project.archive.join("tests/e2e/stand-ins").join(stand_in);
            repositories.push(format!("{reference}={}", shown(&folder)));
        }
        for repository in repositories {
            arguments.extend(["--local-repository".into(), repository]);
        }
        for (name, value) in &self.inputs {
            arguments.extend(["--input".into(), format!("{name}={value}")]);
        }
        Ok(arguments)
    }

    /// The variables of the jobs' environment. A file, because some are secret and arguments can be read by
    /// every process.
    fn variable_file(&self, folder: &Path) -> Result<PathBuf> {
        let project = &self.consumer.project;
        let shown = |path: &Path| path.display().to_string();
        let mut variables = BTreeMap::from([
            ("GITHUB_RUN_ID".to_owned(), self.run_id.clone()),
            ("SWITCHYARD_BIN_DIR".into(), shown(&project.steps)),
            (
                "SWITCHYARD_E2E_ARTIFACTS".into(),
                shown(&self.consumer.artifacts()),
            ),
            (PROGRAMS.into(), shown(&project.programs)),
            (SUMMARY.into(), shown(&self.consumer.summary())),
        ]);
        if let Some(death) = &self.death {
            variables.insert(DEATH.into(), death.as_variable());
            variables.insert(DEAD.into(), shown(&folder.join("dead")));
        }
        let login = self.consumer.settings.environment.iter();
        variables.extend(login.map(|(name, value)| ((*name).to_owned(), value.clone())));
        variables.insert(REQUEST_TOKENS.into(), self.request_tokens()?);
        variables.extend(self.variables.clone());
        write_variables(&folder.join("variables"), &variables)
    }

    /// What each job asks GitHub for a token with, as JSON: at GitHub's the jobs of one run differ in it.
    fn request_tokens(&self) -> Result<String> {
        let Consumer {
            checkout,
            project,
            settings,
            ..
        } = self.consumer;
        if settings.request_tokens.is_empty() {
            return Ok("{}".to_owned());
        }
        let caller = checkout.join(".github/workflows").join(&self.workflow);
        let environments = environments::of_jobs(&caller, &project.archive)?;
        let tokens: serde_json::Map<_, _> = environments
            .into_iter()
            .filter_map(|(job, environment)| {
                let token = settings.request_tokens.get(environment.as_str())?;
                Some((job, token.clone().into()))
            })
            .collect();
        Ok(serde_json::Value::Object(tokens).to_string())
    }

    /// Secrets go through a file: arguments can be read by every process.
    fn secret_file(&self, folder: &Path) -> Result<PathBuf> {
        let kubeconfig = &self.consumer.settings.kubeconfig;
        let text = std::fs::read_to_string(kubeconfig)
            .doing(|| format!("read {}", kubeconfig.display()))?;
        // One line, because act's file of secrets is one of variables.
        let value: serde_json::Value =
            serde_saphyr::from_str(&text).doing(|| "parse the kubeconfig".into())?;
        let kubeconfig = value.to_string();
        let settings = &self.consumer.settings;
        let secrets = BTreeMap::from([
            ("KUBECONFIG".to_owned(), kubeconfig),
            (
                "SLACK_WEBHOOK_URL".to_owned(),
                settings.slack_webhook_url.clone(),
            ),
            ("SLACK_TOKEN".to_owned(), settings.slack_token.clone()),
            ("DATABASE_URL".to_owned(), settings.database_url.clone()),
        ]);
        write_variables(&folder.join("secrets"), &secrets)
    }
}

/// Writes `NAME='value'` lines, in which act takes values as they are.
fn write_variables(path: &Path, variables: &BTreeMap<String, String>) -> Result<PathBuf> {
    let mut text = String::new();
    for (name, value) in variables {
        if value.contains('\'') {
            return Err(format!("the value of {name} has a quote"));
        }
        text += &format!("{name}='{value}'\n");
    }
    std::fs::write(path, text).doing(|| format!("write {}", path.display()))?;
    Ok(path.to_owned())
}

impl Running {
    /// What was logged so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).doing(|| "read the log".into())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The top-level steps that have ended, in order: job, outcome, name and time.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn ended_steps(&self) -> Result<Vec<String>> {
        Ok(self.log()?.lines().filter_map(ended_step).collect())
    }

    /// Whether the run goes on.
    ///
    /// # Errors
    /// act cannot be waited for.
    pub fn is_running(&mut self) -> Result<bool> {
        let status = self.act.try_wait().doing(|| "wait for act".into())?;
        Ok(status.is_none())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// act cannot be waited for.
    pub fn wait(mut self) -> Result<Ended> {
        let status = self.act.wait().doing(|| "wait for act".into())?;
        Ok(Ended {
            status,
            log: self.log()?,
            log_file: self.log.clone(),
        })
    }
}

impl Ended {
    /// The lines that a job logged.
    #[must_use]
    pub fn job(&self, name: &str) -> String {
        let lines = self.log.lines().filter(|line| {
            line.strip_prefix('[')
                .and_then(|rest| rest.split_once(']'))
                .is_some_and(|(title, _)| title.split('/').any(|part| part.trim() == name))
        });
        lines.fold(String::new(), |all, line| all + line + "\n")
    }
}

/// `job  outcome  name [time]` of act's line about a step that ended. The inner step of a composite
/// action has its script for a name and is left out.
fn ended_step(line: &str) -> Option<String> {
    let (title, rest) = line.strip_prefix('[')?.split_once(']')?;
    let job = title.split('/').next_back()?.trim();
    let rest = rest.trim();
    let (outcome, name) = [("ok", "Success - Main "), ("FAILED", "Failure - Main ")]
        .into_iter()
        .find_map(|(outcome, mark)| Some((outcome, rest.split_once(mark)?.1)))?;
    let is_inner = name.starts_with("exec ");
    (!is_inner).then(|| format!("{job:8} {outcome:6} {name}"))
}

/// The references under which our workflows use the actions that need GitHub's artifact service, with
/// the stand-in for each.
fn artifact_actions(archive: &Path) -> Result<BTreeMap<String, &'static str>> {
    let folder = archive.join(".github/workflows");
    let mut references = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).doing(|| "read the workflows".into())? {
        let path = entry.doing(|| "read the workflows".into())?.path();
        let text = std::fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
        for word in text.split_whitespace() {
            for action in ["upload-artifact", "download-artifact"] {
                if word.starts_with(&format!("actions/{action}@")) {
                    references.insert(word.to_owned(), action);
                }
            }
        }
    }
    Ok(references)
}

fn unique_run_id() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(
        "{}{:02}",
        now.as_millis() * 100 + u128::from(std::process::id() % 100),
        count
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_steps_are_told_without_the_inner_ones() {
        let told =
            ended_step("[production/Deploy ]   ✅  Success - Main Back up what is live [15.3ms]");
        assert_eq!(
            told.as_deref(),
            Some("Deploy   ok     Back up what is live [15.3ms]")
        );
        let failed = ended_step("[production/Deploy ]   ❌  Failure - Main Test [1s]");
        assert_eq!(failed.as_deref(), Some("Deploy   FAILED Test [1s]"));
        for line in [
            "[production/Deploy ]   ✅  Success - Main exec \"$GITHUB\" [1s]",
            "| text",
            "[x] y",
        ] {
            assert_eq!(ended_step(line), None);
        }
    }
}
