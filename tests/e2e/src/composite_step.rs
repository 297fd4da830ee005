//! What GitHub's runner does and act does not, put between the launcher and a program.
//!
//! act sets `INPUT_` variables for composite steps by itself, so a mapping that is missing in an
//! `action.yml` would go unnoticed: here only what the action maps gets through. act gives all jobs one
//! token to ask GitHub's token service with; here each job has its own. It also plays a runner that dies:
//! the program is killed at a fault point, and nothing of that job runs afterwards. It knows the contract of
//! composite actions; it refuses to know what any program does.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::Value;

/// The folder of the real programs.
pub const PROGRAMS: &str = "SWITCHYARD_E2E_PROGRAMS";
/// The file that all step summaries of a run are appended to.
pub const SUMMARY: &str = "SWITCHYARD_E2E_SUMMARY";
/// Where the runner dies, see [`Death`].
pub const DEATH: &str = "SWITCHYARD_E2E_DEATH";
/// The file that says that the runner of the job is dead.
pub const DEAD: &str = "SWITCHYARD_E2E_DEAD";
/// What each job asks GitHub's token service with: a JSON object by the jobs' ids.
pub const REQUEST_TOKENS: &str = "SWITCHYARD_E2E_REQUEST_TOKENS";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// The fault point that the programs read.
const FAULT: &str = "SWITCHYARD_FAULT_ABORT_AFTER";
/// What a shell reports for a killed child.
const KILLED: u8 = 137;

/// A runner that dies: in this job, when this program runs this command, at this fault point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// The job whose runner dies.
    pub job: String,
    /// The program.
    pub program: String,
    /// Its command.
    pub command: String,
    /// The fault point, as the record crate names it.
    pub point: String,
}

impl Death {
    /// As one variable: `job program command point`.
    #[must_use]
    pub fn as_variable(&self) -> String {
        let Self {
            job,
            program,
            command,
            point,
        } = self;
        format!("{job} {program} {command} {point}")
    }

    fn from_variable(text: &str) -> Option<Self> {
        let mut words = text.split(' ').map(str::to_owned);
        Some(Self {
            job: words.next()?,
            program: words.next()?,
            command: words.next()?,
            point: words.next()?,
        })
    }
}

/// Runs the program whose name this process was started by.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "composite-step: {message}");
            ExitCode::from(70)
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let mut arguments = std::env::args_os();
    let name = PathBuf::from(arguments.next().unwrap_or_default());
    let name = name.file_name().unwrap_or_default().to_owned();
    let program = PathBuf::from(variable(PROGRAMS)?).join(&name);
    let dead = std::env::var(DEAD).map(PathBuf::from).ok();
    let job = std::env::var("GITHUB_JOB").unwrap_or_default();
    let death = std::env::var(DEATH)
        .ok()
        .and_then(|text| Death::from_variable(&text));
    if let (Some(dead), Some(death)) = (&dead, &death)
        && death.job == job
        && dead.exists()
    {
        return Ok(ExitCode::from(KILLED));
    }
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment()?);
    let chosen = std::env::var("INPUT_COMMAND").unwrap_or_default();
    let dies_here = death.filter(|death| {
        death.job == job && name.to_str() == Some(&death.program) && death.command == chosen
    });
    match (dies_here, dead) {
        (Some(death), Some(dead)) => die_in(command.env(FAULT, death.point), &dead),
        _ => Err(format!(
            "cannot start {}: {}",
            name.display(),
            command.exec()
        )),
    }
}

/// Runs a program that is expected to be killed; from then on the job's runner is dead.
fn die_in(command: &mut Command, dead: &Path) -> Result<ExitCode, String> {
    let status = command.status().map_err(|error| error.to_string())?;
    if status.signal().is_some() {
        std::fs::write(dead, "dead\n").map_err(|error| error.to_string())?;
        return Ok(ExitCode::from(KILLED));
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(KILLED)))
}

/// This process's environment without what GitHub would not have set.
fn environment() -> Result<Vec<(OsString, OsString)>, String> {
    let action = Path::new(&variable("GITHUB_ACTION_PATH")?).join("action.yml");
    let text = std::fs::read_to_string(&action)
        .map_err(|error| format!("cannot read {}: {error}", action.display()))?;
    let mapped = mapped_variables(&text)?;
    let own = [PROGRAMS, SUMMARY, DEATH, DEAD, FAULT, REQUEST_TOKENS];
    let mut kept: Vec<_> = std::env::vars_os()
        .filter(|(name, _)| match name.to_str() {
            Some(name) if name.starts_with("INPUT_") => mapped.contains(name),
            Some(name) => !own.contains(&name) && name != "GITHUB_STEP_SUMMARY",
            None => true,
        })
        .collect();
    let summary = std::env::var_os(SUMMARY).or_else(|| std::env::var_os("GITHUB_STEP_SUMMARY"));
    kept.extend(summary.map(|path| ("GITHUB_STEP_SUMMARY".into(), path)));
    if let Some(token) = request_token()? {
        kept.retain(|(name, _)| name != REQUEST_TOKEN);
        kept.push((REQUEST_TOKEN.into(), token.into()));
    }
    Ok(kept)
}

/// What this job asks GitHub's token service with, where it has something of its own.
fn request_token() -> Result<Option<String>, String> {
    let tokens: Value = serde_json::from_str(&variable(REQUEST_TOKENS)?)
        .map_err(|error| format!("{REQUEST_TOKENS}: {error}"))?;
    let own = &tokens[std::env::var("GITHUB_JOB").unwrap_or_default()];
    Ok(own.as_str().map(str::to_owned))
}

/// The `INPUT_` variables that the steps of an action map themselves.
fn mapped_variables(action: &str) -> Result<BTreeSet<String>, String> {
    let action: Value = serde_saphyr::from_str(action).map_err(|error| error.to_string())?;
    let steps = action.pointer("/runs/steps").and_then(Value::as_array);
    let steps = steps.ok_or("the action has no steps")?;
    Ok(steps
        .iter()
        .filter_map(|step| step.get("env").and_then(Value::as_object))
        .flat_map(|env| env.keys().cloned())
        .collect())
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_action_maps_counts_as_mapped() {
        let action = "inputs: {to: {}, unmapped: {}}\nruns:\n  steps:\n    - env: {INPUT_TO: \"${{ inputs.to }}\"}\n";
        let mapped = mapped_variables(action).unwrap();
        assert_eq!(mapped.into_iter().collect::<Vec<_>>(), ["INPUT_TO"]);
    }

    #[test]
    fn a_death_survives_its_variable() {
        let death = Death {
            job: "deploy".into(),
            program: "traffic-switch".into(),
            command: "switch".into(),
            point: "phase:switching(1)".into(),
        };
        assert_eq!(Death::from_variable(&death.as_variable()), Some(death));
        assert_eq!(Death::from_variable("deploy"), None);
    }
}
