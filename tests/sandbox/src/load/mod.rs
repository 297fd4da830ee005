//! A load generator with an open model: requests start at fixed times whatever the answers do,
//! and a slow answer is measured from the time at which its request was due. It counts answers by
//! the version that gave them and keeps every failure with its time.
//!
//! Why not an existing tool: `wrk` is a closed loop; `oha` and `k6` do not count by a response
//! header; `vegeta` keeps the headers of every answer, but measures from the send and cannot be
//! ended from inside a test.
//!
//! It retries nothing and reuses no connection that was closed: what is lost here is lost to a
//! user.

mod connection;
mod report;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header::HOST};
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};

pub use report::{Failure, FailureKind, LatencyMilliseconds, LoadReport, Second};

use crate::error::{Context as _, Result, SandboxError};
use connection::{Answered, Connections};
use report::Tally;

/// Whether connections serve more than one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// Connections are kept and used again.
    On,
    /// Every request opens its own connection and asks the server to close it.
    Off,
}

/// What load to put where.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    uri: Uri,
    headers: HeaderMap,
    rate: u32,
    keep_alive: KeepAlive,
    time_limit: Duration,
    connection_limit: usize,
    version_header: HeaderName,
}

impl LoadPlan {
    /// A plan with keep-alive, a time limit of 10 s for each request and at most 2000 connections.
    /// The rate is in requests per second.
    ///
    /// # Errors
    /// Not an `http://` address, or a rate of 0.
    pub fn new(url: &str, rate: u32) -> Result<Self> {
        let uri: Uri = url
            .parse()
            .context(|| format!("`{url}` is not an address"))?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(SandboxError::new(format!(
                "`{url}` is not an http:// address"
            )));
        }
        if rate == 0 {
            return Err(SandboxError::new("a rate of 0 is no load"));
        }
        Ok(Self {
            uri,
            headers: HeaderMap::new(),
            rate,
            keep_alive: KeepAlive::On,
            time_limit: Duration::from_secs(10),
            connection_limit: 2000,
            version_header: HeaderName::from_static("x-app-version"),
        })
    }

    /// Sets the Host header: it chooses the route behind a front door.
    ///
    /// # Errors
    /// Not a header value.
    pub fn host(mut self, host: &str) -> Result<Self> {
        let value = HeaderValue::from_str(host).context(|| format!("`{host}` is not a host"))?;
        self.headers.insert(HOST, value);
        Ok(self)
    }

    /// Sets whether connections are used again.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Sets how long after its due time a request may be answered; later it counts as lost.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Sets how many connections may be open at once.
    #[must_use]
    pub fn connection_limit(mut self, limit: usize) -> Self {
        self.connection_limit = limit.max(1);
        self
    }

    /// Sets the response header that carries the version.
    ///
    /// # Errors
    /// Not a header name.
    pub fn version_header(mut self, name: &str) -> Result<Self> {
        self.version_header = name
            .parse()
            .context(|| format!("`{name}` is not a header name"))?;
        Ok(self)
    }

    /// Starts the load. It goes on until [`RunningLoad::stop`].
    #[must_use]
    pub fn start(self) -> RunningLoad {
        let (stop, stopped) = watch::channel(());
        let tally = Arc::new(Mutex::new(Tally::default()));
        let began = Instant::now();
        let generator = Generator {
            connections: Arc::new(Connections::new(&self)),
            permits: Arc::new(Semaphore::new(self.connection_limit)),
            tally: tally.clone(),
            plan: Arc::new(self),
            began,
            began_at: Timestamp::now(),
        };
        RunningLoad {
            stop,
            began,
            tally,
            task: tokio::spawn(generator.run(stopped)),
        }
    }

    /// Puts the load on for a time and reports.
    ///
    /// # Errors
    /// The generator failed; answers never are an error.
    pub async fn run_for(self, duration: Duration) -> Result<LoadReport> {
        let running = self.start();
        tokio::time::sleep(duration).await;
        running.stop().await
    }

    /// When a request is due, counted from the start.
    fn due(&self, number: u64) -> Duration {
        // In nanoseconds and from the start, so that rounding does not add up.
        Duration::from_nanos(number.saturating_mul(1_000_000_000) / u64::from(self.rate))
    }
}

/// Load that is being put on.
#[derive(Debug)]
pub struct RunningLoad {
    stop: watch::Sender<()>,
    began: Instant,
    tally: Arc<Mutex<Tally>>,
    task: JoinHandle<LoadReport>,
}

impl RunningLoad {
    /// Requests answered with 2xx and requests lost, so far.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let tally = locked(&self.tally);
        (tally.succeeded(), tally.lost())
    }

    /// Answers so far from one version.
    #[must_use]
    pub fn answers_of(&self, version: &str) -> u64 {
        locked(&self.tally).answers_of(version)
    }

    /// Of these, the ones outside of 200 to 299: failures that the version itself answered with.
    #[must_use]
    pub fn failures_of(&self, version: &str) -> u64 {
        locked(&self.tally).failures_of(version)
    }

    /// How long the load has been on.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Starts no more requests, waits for those under way, and reports.
    ///
    /// # Errors
    /// The generator failed; answers never are an error.
    pub async fn stop(self) -> Result<LoadReport> {
        drop(self.stop);
        self.task.await.context(|| "the load generator failed")
    }
}

fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Generator {
    plan: Arc<LoadPlan>,
    connections: Arc<Connections>,
    permits: Arc<Semaphore>,
    tally: Arc<Mutex<Tally>>,
    began: Instant,
    began_at: Timestamp,
}

impl Generator {
    async fn run(self, mut stopped: watch::Receiver<()>) -> LoadReport {
        let mut under_way = JoinSet::new();
        let mut scheduled = 0;
        let mut most_late = Duration::ZERO;
        loop {
            let due = self.began + self.plan.due(scheduled);
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                () = sleep_until(due) => {}
            }
            // Timers fire in whole milliseconds; everything due by now starts together.
            let now = Instant::now();
            while self.began + self.plan.due(scheduled) <= now {
                let due = self.plan.due(scheduled);
                most_late = most_late.max(now.duration_since(self.began + due));
                under_way.spawn(self.one(due));
                scheduled += 1;
            }
            while under_way.try_join_next().is_some() {}
        }
        let duration = self.began.elapsed();
        while under_way.join_next().await.is_some() {}
        let tally = std::mem::take(&mut *locked(&self.tally));
        tally.into_report(&self.plan, self.began_at, duration, scheduled, most_late)
    }

    /// One request, from its due time to its place in the tally.
    fn one(&self, due: Duration) -> impl Future<Output = ()> + Send + 'static {
        let (plan, connections) = (self.plan.clone(), self.connections.clone());
        let (permits, tally) = (self.permits.clone(), self.tally.clone());
        let (began, at) = (self.began, self.began_at + due);
        async move {
            let deadline = began + due + plan.time_limit;
            let outcome = match timeout_at(deadline, permits.acquire()).await {
                Ok(Ok(_permit)) => {
                    let waited = (began + due).elapsed();
                    let exchange = timeout_at(deadline, connections.exchange()).await;
                    exchange.unwrap_or_else(|_| Err(too_late(plan.time_limit, waited)))
                }
                Ok(Err(_)) | Err(_) => Err(too_late(plan.time_limit, plan.time_limit)),
            };
            let took = (began + due).elapsed();
            let mut tally = locked(&tally);
            match outcome {
                Ok(Answered { status, version }) => tally.answered(status, version, took, due, at),
                Err((kind, detail)) => tally.failed(kind, detail, took, due, at),
            }
        }
    }
}

/// Names the reason of a time-out: a request that waited longer for a connection than the server
/// then had for its answer is the generator's own loss.
fn too_late(limit: Duration, waited: Duration) -> (FailureKind, String) {
    let (limit_ms, waited_ms) = (limit.as_millis(), waited.as_millis());
    if waited > limit / 2 {
        let detail = format!("waited {waited_ms} of {limit_ms} ms for a connection");
        (FailureKind::ConnectionLimit, detail)
    } else {
        (
            FailureKind::Timeout,
            format!("no answer within {limit_ms} ms"),
        )
    }
}
