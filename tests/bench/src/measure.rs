//! Running a command and measuring it: wall time, processor time of it and all it started, peak memory.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::resource::{UsageWho, getrusage};

/// What a command took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// From start to exit.
    pub(crate) wall: Duration,
    /// User and system time of the command and of every child that it waited for.
    pub(crate) processor: Duration,
    /// Largest resident set of the command itself, in bytes, as sampled every few milliseconds; 0 where it
    /// was left alone.
    pub(crate) peak_memory: u64,
}

/// Whether the memory of a command is looked at while it runs. Looking disturbs one that is over within
/// milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Sampled,
    LeftAlone,
}

/// Runs a command that must succeed, and measures it. One at a time: processor time is read from what
/// this process's children used.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<(Cost, Output)> {
    measured(command, Memory::Sampled, 0)
}

/// The same for a command of milliseconds; its memory is not looked at.
pub(crate) fn run_short(command: &mut Command) -> anyhow::Result<(Cost, Output)> {
    measured(command, Memory::LeftAlone, 0)
}

/// As [`run_short`], for a command that must end with another code than 0.
pub(crate) fn run_short_to_exit(
    command: &mut Command,
    code: i32,
) -> anyhow::Result<(Cost, Output)> {
    measured(command, Memory::LeftAlone, code)
}

fn measured(command: &mut Command, memory: Memory, code: i32) -> anyhow::Result<(Cost, Output)> {
    let name = format!("{command:?}");
    let before = processor_of_children()?;
    let start = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let (peak, is_over) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let sampler = match memory {
        Memory::Sampled => Some(sample_memory(
            child.id(),
            Arc::clone(&peak),
            Arc::clone(&is_over),
        )),
        Memory::LeftAlone => None,
    };
    let output = child.wait_with_output()?;
    let wall = start.elapsed();
    is_over.store(true, Ordering::Relaxed);
    // The sampler only reads files; it cannot panic with anything worth telling.
    let _ = sampler.map(std::thread::JoinHandle::join);
    let processor = processor_of_children()?.saturating_sub(before);
    if output.status.code() != Some(code) {
        let error = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8_lossy(&output.stdout);
        bail!("{name} ended with {}:\n{text}{error}", output.status);
    }
    let peak_memory = peak.load(Ordering::Relaxed);
    Ok((
        Cost {
            wall,
            processor,
            peak_memory,
        },
        output,
    ))
}

/// The middle of several measurements by wall time.
pub(crate) fn median(mut costs: Vec<Cost>) -> anyhow::Result<Cost> {
    costs.sort_by_key(|cost| cost.wall);
    costs
        .get(costs.len() / 2)
        .copied()
        .context("nothing was measured")
}

/// The least of several measurements by wall time: what a program takes by itself. Whatever else goes on
/// on the machine only adds to it, and adds to short programs most.
pub(crate) fn least(costs: &[Cost]) -> anyhow::Result<Cost> {
    let least = costs.iter().min_by_key(|cost| cost.wall);
    least.copied().context("nothing was measured")
}

fn processor_of_children() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0));
    Ok(Duration::from_micros(micros.iter().sum()))
}

fn sample_memory(
    process: u32,
    peak: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            if let Some(bytes) = peak_memory(process) {
                peak.fetch_max(bytes, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}

fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes * 1024)
}
