//! What an application does wrong, as plain data: read from the environment at start and merged
//! with what the control endpoint receives. Knows neither HTTP nor the clock.

use serde::{Deserialize, Serialize};

/// The switches of one running application. Unknown fields are refused, so that a misspelt one
/// does not silently leave a test without its fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// Milliseconds between the start of the process and its first open port. Only read at start.
    pub start_delay_ms: u64,
    /// Ends the process with code 1 before any port is opened. Only read at start.
    pub crash_at_start: bool,
    /// What the readiness check (`/api/health/ready`) answers: 200 or 503.
    pub ready: bool,
    /// What the liveness check (`/api/health/live`) answers: 200 or 503.
    pub live: bool,
    /// Milliseconds added to every answer, except health, version and metrics.
    pub latency_ms: u64,
    /// Share of requests answered with `error_status`, 0.0 to 1.0, spread evenly and without
    /// chance: 0.1 fails exactly every tenth request.
    pub error_rate: f64,
    /// The status of a failed request.
    pub error_status: u16,
    /// Serves this many requests and dies at the next one without answering it.
    pub exit_after_requests: Option<u64>,
    /// The exit code of that death.
    pub exit_code: u8,
    /// MiB of memory taken (and touched) every second.
    pub memory_growth_mib: u64,
    /// What SIGTERM does. `null`: exit at once, requests in flight are lost. A number: answer
    /// readiness with 503 and go on serving for so many milliseconds, then finish what is in
    /// flight.
    pub drain_ms: Option<u64>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            start_delay_ms: 0,
            crash_at_start: false,
            ready: true,
            live: true,
            latency_ms: 0,
            error_rate: 0.0,
            error_status: 500,
            exit_after_requests: None,
            exit_code: 1,
            memory_growth_mib: 0,
            drain_ms: None,
        }
    }
}

/// Why a behaviour was refused.
#[derive(Debug, thiserror::Error)]
pub enum BehaviourError {
    /// A field is unknown or has the wrong type.
    #[error("not a behaviour: {0}")]
    Shape(#[from] serde_json::Error),
    /// An array, a text or a number where fields are wanted.
    #[error("not a behaviour: a JSON object is wanted")]
    NotAnObject,
    /// A rate outside 0.0 to 1.0.
    #[error("`error_rate` is {0}, allowed is 0.0 to 1.0")]
    ErrorRate(f64),
    /// A status that HTTP does not have.
    #[error("`error_status` is {0}, allowed is 400 to 599")]
    ErrorStatus(u16),
}

impl Behaviour {
    /// Reads the behaviour from variables named like the fields in capitals (`LATENCY_MS=200`,
    /// `READY=false`). `lookup` stands for the environment.
    ///
    /// # Errors
    /// A value that does not fit its field.
    pub fn from_environment(
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BehaviourError> {
        let defaults = serde_json::to_value(Self::default())?;
        let mut given = serde_json::Map::new();
        for name in defaults.as_object().into_iter().flat_map(|o| o.keys()) {
            if let Some(text) = lookup(&name.to_uppercase()).filter(|text| !text.is_empty()) {
                let value = serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text));
                given.insert(name.clone(), value);
            }
        }
        Self::default().merged(serde_json::Value::Object(given))
    }

    /// The behaviour with the given fields replaced; the others stay as they are.
    ///
    /// # Errors
    /// An unknown field, a wrong type, or a number out of its range.
    pub fn merged(&self, change: serde_json::Value) -> Result<Self, BehaviourError> {
        let serde_json::Value::Object(change) = change else {
            return Err(BehaviourError::NotAnObject);
        };
        let mut whole = serde_json::to_value(self)?;
        if let Some(fields) = whole.as_object_mut() {
            fields.extend(change);
        }
        let merged: Self = serde_json::from_value(whole)?;
        if !(0.0..=1.0).contains(&merged.error_rate) {
            return Err(BehaviourError::ErrorRate(merged.error_rate));
        }
        if !(400..=599).contains(&merged.error_status) {
            return Err(BehaviourError::ErrorStatus(merged.error_status));
        }
        Ok(merged)
    }

    /// Whether the request with this running number (from 1) fails.
    #[must_use]
    pub fn fails(&self, number: u64) -> bool {
        // Floating point is exact enough here: the small term keeps 0.1 × 10 from being 0.999….
        #[expect(
            clippy::cast_precision_loss,
            reason = "request counts stay far below 2^52"
        )]
        let failures_up_to = |n: u64| (n as f64 * self.error_rate + 1e-9).floor();
        number > 0 && failures_up_to(number) > failures_up_to(number - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn error_rate_fails_exactly_its_share() {
        let every_tenth = Behaviour {
            error_rate: 0.1,
            ..Behaviour::default()
        };
        let failed: Vec<u64> = (1..=30).filter(|n| every_tenth.fails(*n)).collect();
        assert_eq!(failed, [10, 20, 30]);
        let never = Behaviour::default();
        assert_eq!((1..=1000).filter(|n| never.fails(*n)).count(), 0);
        let always = Behaviour {
            error_rate: 1.0,
            ..Behaviour::default()
        };
        assert_eq!((1..=1000).filter(|n| always.fails(*n)).count(), 1000);
    }

    #[test]
    fn environment_sets_named_fields_and_empty_means_not_given() {
        let behaviour = Behaviour::from_environment(|name| match name {
            "LATENCY_MS" => Some("20".into()),
            "READY" => Some("false".into()),
            "EXIT_AFTER_REQUESTS" => Some(String::new()),
            "DRAIN_MS" => Some("2000".into()),
            _ => None,
        })
        .expect("all values fit");
        let expected = Behaviour {
            latency_ms: 20,
            ready: false,
            drain_ms: Some(2000),
            ..Behaviour::default()
        };
        assert_eq!(behaviour, expected);
    }

    #[test]
    fn a_change_keeps_the_other_fields_and_null_takes_a_limit_away() {
        let before = Behaviour {
            latency_ms: 7,
            exit_after_requests: Some(3),
            ..Behaviour::default()
        };
        let after = before
            .merged(json!({"exit_after_requests": null}))
            .expect("known field");
        assert_eq!((after.latency_ms, after.exit_after_requests), (7, None));
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = [
            json!({"latencyms": 1}),
            json!({"error_rate": 1.5}),
            json!({"error_rate": "high"}),
            json!({"error_status": 200}),
            json!([]),
            json!("slow"),
        ];
        for change in refused {
            assert!(
                Behaviour::default().merged(change.clone()).is_err(),
                "{change}"
            );
        }
    }
}
