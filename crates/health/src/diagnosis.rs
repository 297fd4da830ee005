//! Why did it fail: the pod to blame, its events and its last log lines, gathered once at the end.
//! Everything in it but the titles is untrusted text.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use switchyard_cluster::events::ObjectEvent;
use switchyard_cluster::logs::Run;
use switchyard_cluster::rollout::{Culprit, RolloutWait, Status, is_ready};
use switchyard_cluster::workloads::WorkloadRef;
use switchyard_cluster::{Cluster, Deadline};
use switchyard_runner::Console;

/// Workloads that are looked into; the rest would only repeat it.
const MOST_WORKLOADS: usize = 3;
/// Events shown of one object.
const EVENTS: usize = 6;
/// Pause between two looks for it.
const WARNING_PAUSE: Duration = Duration::from_millis(250);

/// How long a diagnosis may take: the verdict stands already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Nothing waits for it.
    Ample,
    /// Users wait: what follows takes traffic from what is looked into.
    Scarce,
}

impl Patience {
    /// For all of it.
    fn limit(self) -> Duration {
        match self {
            Self::Ample => Duration::from_secs(10),
            Self::Scarce => Duration::from_secs(1),
        }
    }

    /// For a pod's warning to arrive: kubelets report a state and the events that tell why on separate ways.
    fn for_a_warning(self) -> Duration {
        match self {
            Self::Ample => Duration::from_secs(2),
            Self::Scarce => Duration::ZERO,
        }
    }
}

/// What was found about one object.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// The object, such as `pod/web-1`.
    pub object: String,
    /// Its last events, one line each.
    pub events: Vec<String>,
    /// Which log the lines come from.
    pub log_title: String,
    /// Its last log lines.
    pub log: Vec<String>,
}

/// Looks into the workloads that are not done, and into the one that is `blamed` by its pods, whose own status may
/// follow them only in a moment: the pod that is to blame, else one that is not ready, else the objects that should
/// have made pods.
pub async fn diagnose(
    cluster: &Cluster,
    wait: &RolloutWait,
    blamed: Option<&str>,
    log_lines: u16,
    patience: Patience,
) -> Vec<Diagnosis> {
    let deadline = Deadline::after(patience.limit());
    let mut found = Vec::new();
    let troubled = wait.states().filter(|(workload, status)| {
        **status != Status::Done || blamed.is_some_and(|name| workload.to_string() == name)
    });
    for (workload, status) in troubled.take(MOST_WORKLOADS) {
        match culprit(wait, workload, status) {
            Some(culprit) => {
                found.push(of_pod(cluster, &culprit, log_lines, (patience, deadline)).await);
            }
            None => {
                for (object, uid) in wait.related_objects(workload) {
                    let events = events(cluster, &uid, deadline).await;
                    if !events.is_empty() {
                        found.push(Diagnosis {
                            object,
                            events,
                            ..Diagnosis::default()
                        });
                    }
                }
            }
        }
    }
    found
}

fn culprit(wait: &RolloutWait, workload: &WorkloadRef, status: &Status) -> Option<Culprit> {
    if let Status::Failed(failure) = status
        && let Some(culprit) = &failure.culprit
    {
        return Some(culprit.clone());
    }
    let pods = wait.pods_of(workload);
    let pod = pods.iter().find(|pod| !is_ready(pod))?;
    Some(Culprit {
        pod: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        container: unready_container(pod),
        has_previous_log: false,
    })
}

fn unready_container(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let mut unready = containers.filter(|container| !container.ready);
    unready.next().map(|container| container.name.clone())
}

async fn of_pod(
    cluster: &Cluster,
    culprit: &Culprit,
    log_lines: u16,
    (patience, deadline): (Patience, Deadline),
) -> Diagnosis {
    let warned = Deadline::after(patience.for_a_warning());
    let events = events_with_warning(cluster, &culprit.uid, (warned, deadline)).await;
    let mut diagnosis = Diagnosis {
        object: format!("pod/{}", culprit.pod),
        events,
        ..Diagnosis::default()
    };
    if log_lines == 0 {
        return diagnosis;
    }
    // The log of the run that ended tells why it did; where the kubelet has dropped it, the
    // current one is better than nothing.
    let runs: &[Run] = if culprit.has_previous_log {
        &[Run::Previous, Run::Current]
    } else {
        &[Run::Current]
    };
    for run in runs {
        let container = culprit.container.as_deref();
        let lines = cluster.log_tail(&culprit.pod, container, *run, log_lines, deadline);
        if let Ok(lines) = lines.await
            && !lines.is_empty()
        {
            let of = container.map_or(String::new(), |name| format!(", container {name}"));
            let which = match run {
                Run::Previous => "log of the previous run",
                Run::Current => "log",
            };
            diagnosis.log_title = format!("pod/{}{of}: {which}", culprit.pod);
            diagnosis.log = lines;
            break;
        }
    }
    diagnosis
}

async fn events(cluster: &Cluster, uid: &str, deadline: Deadline) -> Vec<String> {
    let events = cluster.events_of(uid, EVENTS, deadline).await;
    lines(events)
}

/// The events of a pod that is in trouble, looked for again where none of them is a warning yet.
async fn events_with_warning(
    cluster: &Cluster,
    uid: &str,
    (warned, deadline): (Deadline, Deadline),
) -> Vec<String> {
    loop {
        let events = cluster.events_of(uid, EVENTS, deadline).await;
        let is_told = match &events {
            Ok(events) => events.iter().any(|event| event.kind == "Warning"),
            Err(_) => true,
        };
        if is_told || warned.remaining() < WARNING_PAUSE {
            return lines(events);
        }
        tokio::time::sleep(WARNING_PAUSE).await;
    }
}

fn lines(events: switchyard_cluster::Result<Vec<ObjectEvent>>) -> Vec<String> {
    match events {
        Ok(events) => events.iter().map(line).collect(),
        Err(error) => vec![format!("(events cannot be read: {error})")],
    }
}

fn line(event: &ObjectEvent) -> String {
    let at = event.at.map_or_else(String::new, clock);
    let mut line = format!("{at} {} {}: {}", event.kind, event.reason, event.message);
    if event.count > 1 {
        let _ = write!(line, " (×{})", event.count);
    }
    line.trim().replace(['\n', '\r'], " ")
}

/// The time of day in UTC; the day is today's.
fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

impl Diagnosis {
    /// Shows it in the log, fenced.
    pub fn print(&self, console: &Console) {
        if !self.events.is_empty() {
            console.untrusted(
                format_args!("{}: last events", self.object),
                &self.events.join("\n"),
            );
        }
        if !self.log.is_empty() {
            console.untrusted(&self.log_title, &self.log.join("\n"));
        }
    }

    /// Shows it in the summary, fenced.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (title, lines) in [
            (format!("{}: last events", self.object), &self.events),
            (self.log_title.clone(), &self.log),
        ] {
            if !lines.is_empty() {
                let _ = write!(
                    text,
                    "<details><summary>{}</summary>\n\n{}\n</details>\n\n",
                    switchyard_runner::summary::cell(&title),
                    code_block(&lines.join("\n"))
                );
            }
        }
        text
    }
}

/// A code block whose fence is longer than any in its text.
fn code_block(text: &str) -> String {
    let longest = text
        .split(|character| character != '`')
        .map(str::len)
        .max()
        .unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{text}\n{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_code_block() {
        let block = code_block("a\n````\n# title");
        assert!(block.starts_with("`````text\n"), "{block}");
        assert!(code_block("plain").starts_with("```text\n"));
    }

    #[test]
    fn an_event_is_one_line() {
        let event = ObjectEvent {
            at: Some("2026-01-01T10:20:30Z".parse().unwrap()),
            kind: "Warning".to_owned(),
            reason: "BackOff".to_owned(),
            message: "back-off\nrestarting".to_owned(),
            count: 4,
        };
        assert_eq!(
            line(&event),
            "10:20:30Z Warning BackOff: back-off restarting (×4)"
        );
    }
}
