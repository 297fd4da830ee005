//! Asks Prometheus, and what speaks its API (Thanos, Mimir, VictoriaMetrics), for numbers. It owns the shapes of
//! answers, each read strictly, and the counting of counters; it refuses to know what any number means, when to ask,
//! and what to do about an answer.

mod answer;
mod client;
mod counters;
mod error;
mod selector;

pub use answer::{Answer, Sample, Series, Value, parse};
pub use client::{Credentials, Prometheus};
pub use counters::Counter;
pub use error::Error;
pub use selector::is_plain_selector;
