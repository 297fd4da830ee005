//! Requests through the front door at a fixed rate, counted by the version that answered.
//! Refuses to judge: it counts, and says what was counted in which window.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use switchyard_http::{Client, DisplaySafeUrl, HeaderName, HeaderValue, Repeat, Request, header};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::share::Percent;
use crate::statistic::{self, ShareVerdict};

/// A probe that takes longer is lost.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// Probes under way at once; a front door that hangs must not pile them up without end.
const MOST_UNDER_WAY: u32 = 256;

/// What is probed.
#[derive(Clone, Debug)]
pub struct ProbePlan {
    /// The URL behind the front door.
    pub url: DisplaySafeUrl,
    /// The Host header, where it is not the host of the URL.
    pub host: Option<HeaderValue>,
    /// Probes a second, started at a fixed rate whatever the answers do.
    pub rate: u32,
    /// The response header that names the version.
    pub version_header: Option<HeaderName>,
}

/// Probes counted over some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered probes by version; the empty text stands for answers without the header.
    pub by_version: BTreeMap<String, u64>,
    /// Probes without a good answer, by what was seen instead.
    pub lost: BTreeMap<String, u64>,
}

impl Counts {
    /// Probes in all.
    pub fn probes(&self) -> u64 {
        self.answered() + self.lost_total()
    }

    /// Probes with a good answer.
    pub fn answered(&self) -> u64 {
        self.by_version.values().sum()
    }

    /// Probes without one.
    pub fn lost_total(&self) -> u64 {
        self.lost.values().sum()
    }

    /// Upper bound of the loss rate at 95 %, 0 to 1.
    pub fn loss_bound(&self) -> f64 {
        statistic::loss_bound(self.probes(), self.lost_total())
    }

    /// How the share of `version` among the answers fits the one that was set.
    pub fn share_of(&self, version: &str, set: Percent) -> ShareVerdict {
        let hits = self.by_version.get(version).copied().unwrap_or(0);
        statistic::share_verdict(hits, self.answered(), set)
    }

    /// `v1.1.0 54, v1.0.0 6, lost 0`.
    pub fn describe(&self) -> String {
        let name = |version: &String| {
            if version.is_empty() {
                "no version".to_owned()
            } else {
                version.clone()
            }
        };
        let mut parts: Vec<_> = self
            .by_version
            .iter()
            .map(|(version, count)| format!("{} {count}", name(version)))
            .collect();
        parts.push(format!("lost {}", self.lost_total()));
        if let Some((what, _)) = self.lost.iter().max_by_key(|(_, count)| **count) {
            parts.push(format!("mostly {what}"));
        }
        parts.join(", ")
    }
}

#[derive(Debug)]
struct Finished {
    started: Instant,
    /// The version, or what was seen instead of a good answer.
    answer: Result<String, String>,
}

/// Probes that have ended, and the starts of those that have not.
#[derive(Debug, Default)]
struct Log {
    finished: Vec<Finished>,
    under_way: BTreeMap<u64, Instant>,
    sent: u64,
}

impl Log {
    fn begin(&mut self, started: Instant) -> u64 {
        self.sent += 1;
        self.under_way.insert(self.sent, started);
        self.sent
    }

    fn end(&mut self, number: u64, answer: Result<String, String>) {
        if let Some(started) = self.under_way.remove(&number) {
            self.finished.push(Finished { started, answer });
        }
    }

    /// What was counted of the probes started in a window.
    fn counts(&self, is_in: impl Fn(Instant) -> bool) -> Counts {
        let mut counts = Counts::default();
        for probe in self.finished.iter().filter(|probe| is_in(probe.started)) {
            let (map, key) = match &probe.answer {
                Ok(version) => (&mut counts.by_version, version),
                Err(seen) => (&mut counts.lost, seen),
            };
            *map.entry(key.clone()).or_insert(0) += 1;
        }
        counts
    }

    /// Of the probes started at `since` or later, those before the oldest that is under way: all
    /// that were started by then have ended, so that a probe that hangs hides no loss.
    fn settled_since(&self, since: Instant) -> Counts {
        let horizon = self.under_way.values().min().copied();
        self.counts(|started| started >= since && horizon.is_none_or(|horizon| started < horizon))
    }
}

/// A running series of probes. Dropping it stops them.
#[derive(Debug)]
pub struct Prober {
    log: Arc<Mutex<Log>>,
    stop: CancellationToken,
    places: Arc<Semaphore>,
    plan: ProbePlan,
}

impl Prober {
    /// Begins to probe.
    pub fn start(client: Client, plan: ProbePlan) -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        let stop = CancellationToken::new();
        let places = Arc::new(Semaphore::new(MOST_UNDER_WAY as usize));
        let running = Running {
            client,
            plan: plan.clone(),
            log: Arc::clone(&log),
            places: Arc::clone(&places),
        };
        tokio::spawn(running.run(stop.clone()));
        Self {
            log,
            stop,
            places,
            plan,
        }
    }

    /// What is probed.
    pub fn plan(&self) -> &ProbePlan {
        &self.plan
    }

    /// Everything counted so far.
    pub fn total(&self) -> Counts {
        locked(&self.log).counts(|_| true)
    }

    /// What was counted of the probes started at `since` or later, up to the oldest one that has
    /// no answer yet.
    pub fn since(&self, since: Instant) -> Counts {
        locked(&self.log).settled_since(since)
    }

    /// Starts no more probes, and waits until those under way have ended and are counted.
    pub async fn finish(&self) {
        self.stop.cancel();
        let all = self.places.acquire_many(MOST_UNDER_WAY);
        // Probes end by their own limit; whatever does not is not counted.
        let _ = tokio::time::timeout(PROBE_LIMIT + Duration::from_secs(1), all).await;
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Running {
    client: Client,
    plan: ProbePlan,
    log: Arc<Mutex<Log>>,
    places: Arc<Semaphore>,
}

impl Running {
    async fn run(self, stop: CancellationToken) {
        let slot = Duration::from_secs(1) / self.plan.rate.max(1);
        let mut tick = tokio::time::interval(slot);
        // After a stall the missed probes are not sent in one burst: that would be another load.
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            // Somewhere in its slot, by chance: proxies share traffic out in turn, and a fixed beat
            // beside other regular traffic would always meet the same side.
            tokio::time::sleep(slot.mul_f64(rand::random::<f64>())).await;
            self.send();
        }
    }

    fn send(&self) {
        let number = locked(&self.log).begin(Instant::now());
        let log = Arc::clone(&self.log);
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            locked(&log).end(number, Err("no answer, too many waiting".to_owned()));
            return;
        };
        let (client, plan) = (self.client.clone(), self.plan.clone());
        tokio::spawn(async move {
            let answer = probe(&client, &plan).await;
            locked(&log).end(number, answer);
            drop(place);
        });
    }
}

fn locked(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn probe(client: &Client, plan: &ProbePlan) -> Result<String, String> {
    // Sent once: a probe that is repeated hides the loss it is there to find.
    let request = Request::get(plan.url.clone())
        .repeat(Repeat::Never)
        .within(PROBE_LIMIT);
    let request = match &plan.host {
        Some(host) => request.header(header::HOST, host.clone()),
        None => request,
    };
    let response = client.send(&request).await.map_err(|error| brief(&error))?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("status {}", status.as_u16()));
    }
    let version = plan
        .version_header
        .as_ref()
        .and_then(|name| response.headers().get(name));
    Ok(version
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned())
}

/// What was seen, short enough to be counted by.
fn brief(error: &switchyard_http::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_that_hang_are_not_judged_by_those_that_overtook_them() {
        let mut log = Log::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = log.begin(at(0));
        let hanging = log.begin(at(1));
        let late = log.begin(at(2));
        log.end(first, Ok("v1".to_owned()));
        log.end(late, Ok("v1".to_owned()));
        assert_eq!(log.settled_since(at(0)).probes(), 1);
        log.end(hanging, Err("timed out".to_owned()));
        let settled = log.settled_since(at(0));
        assert_eq!((settled.probes(), settled.lost_total()), (3, 1));
        assert_eq!(log.settled_since(at(2)).probes(), 1);
    }

    #[test]
    fn counts_are_told_in_one_line() {
        let mut counts = Counts::default();
        counts.by_version.insert("1.1.0".to_owned(), 54);
        counts.by_version.insert(String::new(), 1);
        counts.lost.insert("status 502".to_owned(), 2);
        assert_eq!(
            counts.describe(),
            "no version 1, 1.1.0 54, lost 2, mostly status 502"
        );
        assert_eq!(
            (counts.probes(), counts.answered(), counts.lost_total()),
            (57, 55, 2)
        );
    }
}
