//! Starts, recognises and ends the sandbox's processes. A process is known by its id *and* its
//! start time, so that a recycled id is never killed, and carries a marker in its environment, so
//! that one whose record was lost in a crash is still found.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Context as _, Result, SandboxError, create_dir, read, write},
    instance::Layout,
};

/// The variable that marks our processes; its value is the state folder.
const MARKER: &str = "SWITCHYARD_SANDBOX_OWNER";
/// What components find on their way: no proxy, no token, nothing of the caller's environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How to start a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// A digest of all that should make a running component be replaced: configuration files and
    /// the command line.
    pub(crate) digest: String,
}

/// A process that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    pid: i32,
    /// Clock ticks after boot, from `/proc/PID/stat`.
    start_time: u64,
    digest: String,
}

/// What `/proc/PID/stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: i32,
    start_time: u64,
    is_zombie: bool,
}

impl ProcessRecord {
    /// The record of a component, if there is a readable one.
    pub(crate) fn load(layout: &Layout, component: &str) -> Option<Self> {
        serde_json::from_str(&read(&layout.process_record(component)).ok()?).ok()
    }

    pub(crate) fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start_time == self.start_time && !stat.is_zombie)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

/// Starts a component in a session of its own, its output in its own log file, and records it.
/// It runs in the network namespace of the calling thread.
pub(crate) fn start(layout: &Layout, launch: &Launch) -> Result<ProcessRecord> {
    let log_path = layout.log(&launch.name);
    let mut open = fs::OpenOptions::new();
    let log = open.create(true).append(true).open(&log_path);
    let log = log.context(|| format!("cannot open {}", log_path.display()))?;
    let errors = log.try_clone().context(|| "cannot share the log file")?;
    // `setsid` and not a process group: the end of the caller's terminal must not reach it. It
    // replaces itself by the program, the id stays the same.
    let mut command = Command::new("setsid");
    command
        .arg(&launch.program)
        .args(&launch.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", &layout.state)
        .env(MARKER, &layout.state)
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&layout.state)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    let child = command
        .spawn()
        .context(|| format!("cannot start {}", launch.program.display()))?;
    let pid = i32::try_from(child.id()).context(|| "process id out of range")?;
    let start_time = stat(pid).map(|stat| stat.start_time).ok_or_else(|| {
        SandboxError::new(format!("{} ended as soon as it started", launch.name))
            .with_hint(format!("read {}", log_path.display()))
    })?;
    let record = ProcessRecord {
        pid,
        start_time,
        digest: launch.digest.clone(),
    };
    create_dir(&layout.state.join("processes"))?;
    let json = serde_json::to_vec(&record).context(|| "cannot encode a process record")?;
    write(&layout.process_record(&launch.name), json)?;
    Ok(record)
}

/// What [`ensure`] found or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ensured {
    AlreadyRunning,
    Started,
    /// It ran with another configuration and was replaced.
    Replaced,
}

/// Starts a component unless it already runs as described.
pub(crate) fn ensure(layout: &Layout, launch: &Launch) -> Result<Ensured> {
    match ProcessRecord::load(layout, &launch.name).filter(ProcessRecord::is_alive) {
        Some(record) if record.digest == launch.digest => Ok(Ensured::AlreadyRunning),
        Some(record) => {
            stop(&record, Signal::SIGTERM, Duration::from_secs(10))?;
            start(layout, launch).map(|_| Ensured::Replaced)
        }
        None => start(layout, launch).map(|_| Ensured::Started),
    }
}

/// Signals a process and waits for its end; kills it when the time is over.
pub(crate) fn stop(record: &ProcessRecord, signal: Signal, patience: Duration) -> Result<()> {
    for (signal, patience) in [
        (signal, patience),
        (Signal::SIGKILL, Duration::from_secs(10)),
    ] {
        if !record.is_alive() {
            return Ok(());
        }
        let _ = kill(Pid::from_raw(record.pid), signal);
        let deadline = Instant::now() + patience;
        while record.is_alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    if record.is_alive() {
        return Err(SandboxError::new(format!(
            "process {} does not end",
            record.pid
        )));
    }
    Ok(())
}

/// Every process that carries this sandbox's marker (components, and containerd's shims, which
/// inherit it), with its command line.
pub(crate) fn owned(layout: &Layout) -> Vec<(ProcessRecord, Vec<String>)> {
    let marker = format!("{MARKER}={}", layout.state.display());
    all_ids()
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == marker.as_bytes())
        })
        .filter_map(|pid| Some((identify(pid)?, command_line(pid))))
        .collect()
}

/// The direct children of a process.
pub(crate) fn children(parent: i32) -> Vec<ProcessRecord> {
    all_ids()
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == parent))
        .filter_map(identify)
        .collect()
}

fn identify(pid: i32) -> Option<ProcessRecord> {
    let stat = stat(pid).filter(|stat| !stat.is_zombie)?;
    Some(ProcessRecord {
        pid,
        start_time: stat.start_time,
        digest: String::new(),
    })
}

fn all_ids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn command_line(pid: i32) -> Vec<String> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = raw.split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads fields 3 (state), 4 (parent), 20 (threads) and 22 (start time); the second field is a name in
/// brackets that may itself hold spaces and brackets.
///
/// The first thread of a program may have ended while others still hold its sockets: only with the
/// last one it is gone.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let threads: u32 = fields.get(17)?.parse().ok()?;
    Some(Stat {
        is_zombie: matches!(*fields.first()?, "Z" | "X") && threads <= 1,
        parent: fields.get(1)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

/// Replaces this process by a command. Returns only on failure.
pub(crate) fn replace_by(mut command: Command) -> SandboxError {
    let error = command.exec();
    let program = command.get_program().to_string_lossy().into_owned();
    let failed: Result<()> = Err(error).context(|| format!("cannot run {program}"));
    failed
        .err()
        .unwrap_or_else(|| SandboxError::new("exec returned"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_a_name_with_brackets_and_spaces() {
        let text = "42 (a) b) (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        let expected = Stat {
            parent: 7,
            start_time: 987_654,
            is_zombie: false,
        };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("42 (short) S 7"), None);
        let zombie = |threads: &str| {
            let text = text
                .replace(") S ", ") Z ")
                .replace("20 0 1 0", &format!("20 0 {threads} 0"));
            parse_stat(&text).is_some_and(|stat| stat.is_zombie)
        };
        assert!(zombie("1"));
        assert!(!zombie("7"), "other threads still end");
    }

    #[test]
    fn a_recycled_id_is_not_alive() {
        let pid = i32::try_from(std::process::id()).expect("fits");
        let own = identify(pid).expect("this process runs");
        assert!(own.is_alive());
        let predecessor = ProcessRecord {
            start_time: own.start_time - 1,
            ..own
        };
        assert!(!predecessor.is_alive());
    }
}
