//! Counts what was served and renders it as Prometheus text. Knows nothing of HTTP or of faults.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// Upper bounds of the latency histogram, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The counters of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    in_flight: AtomicI64,
    served: Mutex<Served>,
}

#[derive(Debug, Default)]
struct Served {
    by_status: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
    count: u64,
}

/// Counts one request as in flight for as long as it lives.
#[derive(Debug)]
pub struct InFlight<'a>(&'a AtomicI64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Marks the start of a request.
    pub fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(&self.in_flight)
    }

    /// Records an answered request.
    pub fn record(&self, status: u16, took: Duration) {
        let mut served = self.served.lock().unwrap_or_else(|e| e.into_inner());
        *served.by_status.entry(status).or_default() += 1;
        served.count += 1;
        let seconds = took.as_secs_f64();
        served.seconds += seconds;
        for (bucket, bound) in served.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// The Prometheus text exposition of all counters.
    #[must_use]
    pub fn render(&self, version: &str, resident_bytes: u64) -> String {
        let served = self.served.lock().unwrap_or_else(|e| e.into_inner());
        let mut text = format!(
            "# TYPE app_info gauge\napp_info{{version=\"{version}\"}} 1\n\
             # TYPE http_requests_in_flight gauge\nhttp_requests_in_flight {}\n\
             # TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {resident_bytes}\n\
             # TYPE http_requests_total counter\n",
            self.in_flight.load(Ordering::Relaxed)
        );
        for (status, count) in &served.by_status {
            let _ = writeln!(
                text,
                "http_requests_total{{code=\"{status}\",version=\"{version}\"}} {count}"
            );
        }
        text.push_str("# TYPE http_request_duration_seconds histogram\n");
        let name = "http_request_duration_seconds";
        for (bound, count) in BUCKETS.iter().zip(served.buckets) {
            let _ = writeln!(
                text,
                "{name}_bucket{{version=\"{version}\",le=\"{bound}\"}} {count}"
            );
        }
        let (count, seconds) = (served.count, served.seconds);
        let _ = writeln!(
            text,
            "{name}_bucket{{version=\"{version}\",le=\"+Inf\"}} {count}\n\
             {name}_sum{{version=\"{version}\"}} {seconds}\n{name}_count{{version=\"{version}\"}} {count}"
        );
        text
    }
}

/// The resident memory of this process in bytes, 0 where the kernel does not tell.
#[must_use]
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
