//! PagerDuty's Events API v2, `POST /v2/enqueue`. Shapes and answers as in
//! <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/> and its OpenAPI description.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::received::Received;
use super::server::{Answer, Fault, Service};

/// Largest event, in bytes.
const MOST_BYTES: usize = 512 * 1024;
const MOST_SUMMARY: usize = 1_024;
const MOST_DEDUP_KEY: usize = 255;
const ROUTING_KEY: usize = 32;

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// It pages.
    Triggered,
    /// Somebody works on it.
    Acknowledged,
    /// It is over.
    Resolved,
}

/// An alert with every event that was about it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Alert {
    /// Where it stands.
    pub state: AlertState,
    /// The events, oldest first.
    pub events: Vec<Value>,
}

/// A PagerDuty service with one integration.
pub struct PagerDuty {
    /// The integration's key.
    pub routing_key: &'static str,
    alerts: Mutex<BTreeMap<String, Alert>>,
}

impl Default for PagerDuty {
    fn default() -> Self {
        Self {
            routing_key: "5w17chyardr0ut1ngkey0123456789ab",
            alerts: Mutex::default(),
        }
    }
}

impl PagerDuty {
    /// The alerts by their deduplication key.
    #[must_use]
    pub fn alerts(&self) -> BTreeMap<String, Alert> {
        self.lock().clone()
    }

    /// What the service answers when its limit is reached. It names no wait.
    #[must_use]
    pub fn rate_limited() -> Fault {
        Fault::Answer(Answer::json(
            429,
            &json!({ "status": "throttle exceeded", "message": "Too many requests" }),
        ))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Alert>> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, event: Value) -> Answer {
        let mut errors = event_errors(&event);
        if errors.is_empty() && event["routing_key"] != self.routing_key {
            errors.push("Invalid routing key".to_owned());
        }
        if !errors.is_empty() {
            return invalid("invalid event", "Event object is invalid", &errors);
        }
        let mut alerts = self.lock();
        let key = event["dedup_key"]
            .as_str()
            .map_or_else(|| format!("generated-{}", alerts.len()), str::to_owned);
        match event["event_action"].as_str() {
            Some("trigger") => {
                let alert = alerts.entry(key.clone()).or_insert(Alert {
                    state: AlertState::Triggered,
                    events: Vec::new(),
                });
                // A trigger for an open alert only adds to its log; a resolved one opens anew.
                if alert.state == AlertState::Resolved {
                    alert.state = AlertState::Triggered;
                }
                alert.events.push(event);
            }
            action => {
                // Without an open alert of that key the event is accepted and dropped.
                if let Some(alert) = alerts
                    .get_mut(&key)
                    .filter(|alert| alert.state != AlertState::Resolved)
                {
                    alert.state = if action == Some("resolve") {
                        AlertState::Resolved
                    } else {
                        AlertState::Acknowledged
                    };
                    alert.events.push(event);
                }
            }
        }
        let accepted =
            json!({ "status": "success", "message": "Event processed", "dedup_key": key });
        Answer::json(202, &accepted)
    }
}

impl Service for PagerDuty {
    fn answer(&self, request: &Received) -> Answer {
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/v2/enqueue") => {}
            (_, "/v2/enqueue") => {
                return Answer::json(405, &json!({ "status": "method not allowed" }));
            }
            _ => return Answer::json(404, &json!({ "status": "not found" })),
        }
        if request.body.len() > MOST_BYTES {
            return Answer::json(
                413,
                &json!({ "status": "payload too large", "message": "Event exceeds 512 KB" }),
            );
        }
        let json_type = request.media_type().as_deref() == Some("application/json");
        match serde_json::from_slice::<Value>(&request.body) {
            Ok(event) if event.is_object() && json_type => self.enqueue(event),
            _ => invalid(
                "Unrecognized object",
                "Event object format is unrecognized",
                &["JSON parse error".to_owned()],
            ),
        }
    }

    fn state(&self) -> Value {
        json!({ "alerts": *self.lock() })
    }
}

fn invalid(status: &str, message: &str, errors: &[String]) -> Answer {
    Answer::json(
        400,
        &json!({ "status": status, "message": message, "errors": errors }),
    )
}

fn event_errors(event: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    let routing_key = event["routing_key"].as_str().unwrap_or_default();
    if routing_key.is_empty() {
        errors.push("'routing_key' is missing or blank".to_owned());
    } else if routing_key.len() != ROUTING_KEY {
        errors.push(format!(
            "Length of 'routing_key' is incorrect (should be {ROUTING_KEY} characters)"
        ));
    }
    if !routing_key
        .chars()
        .all(|character| character.is_ascii_alphanumeric())
    {
        errors.push("'routing_key' cannot contain non-alphanumeric characters.".to_owned());
    }
    let action = event["event_action"].as_str().unwrap_or_default();
    if !["trigger", "acknowledge", "resolve"].contains(&action) {
        errors.push("'event_action' must be one of trigger, acknowledge, resolve".to_owned());
    }
    let dedup_key = event["dedup_key"].as_str().unwrap_or_default();
    if dedup_key.is_empty() && action != "trigger" {
        errors.push("'dedup_key' is missing or blank".to_owned());
    }
    if dedup_key.chars().count() > MOST_DEDUP_KEY {
        errors.push(format!(
            "'dedup_key' is too long (maximum is {MOST_DEDUP_KEY} characters)"
        ));
    }
    if action == "trigger" {
        payload_errors(&event["payload"], &mut errors);
    }
    for link in event["links"].as_array().into_iter().flatten() {
        if !link["href"].is_string() {
            errors.push("'links.href' is missing or blank".to_owned());
        }
    }
    errors
}

fn payload_errors(payload: &Value, errors: &mut Vec<String>) {
    for field in ["summary", "source"] {
        if payload[field]
            .as_str()
            .unwrap_or_default()
            .trim()
            .is_empty()
        {
            errors.push(format!("'payload.{field}' is missing or blank"));
        }
    }
    if payload["summary"]
        .as_str()
        .unwrap_or_default()
        .chars()
        .count()
        > MOST_SUMMARY
    {
        errors.push(format!(
            "'payload.summary' is too long (maximum is {MOST_SUMMARY} characters)"
        ));
    }
    let severity = payload["severity"].as_str().unwrap_or_default();
    if !["critical", "error", "warning", "info"].contains(&severity) {
        errors.push("'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')".to_owned());
    }
    if !matches!(payload.get("custom_details"), None | Some(Value::Object(_))) {
        errors.push("'payload.custom_details' must be an object".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Value {
        json!({
            "routing_key": PagerDuty::default().routing_key, "event_action": "trigger", "dedup_key": "k",
            "payload": { "summary": "it fails", "source": "shop", "severity": "error" },
        })
    }

    #[test]
    fn an_event_is_refused_for_what_pagerduty_refuses() {
        let send =
            |event: &Value| PagerDuty::default().answer(&Received::post("/v2/enqueue", event));
        assert_eq!(send(&event()).status, 202);
        let changed = |pointer: &str, value: Value| {
            let mut event = event();
            *event.pointer_mut(pointer).unwrap() = value;
            event
        };
        for (event, words) in [
            (
                changed("/routing_key", json!("short")),
                "Length of 'routing_key' is incorrect (should be 32 characters)",
            ),
            (
                changed("/routing_key", json!("x".repeat(32))),
                "Invalid routing key",
            ),
            (
                changed("/event_action", json!("open")),
                "'event_action' must be one of",
            ),
            (
                changed("/dedup_key", json!("k".repeat(256))),
                "'dedup_key' is too long",
            ),
            (
                changed("/payload/severity", json!("fatal")),
                "'payload.severity' is invalid",
            ),
            (
                changed("/payload/summary", json!("x".repeat(1_025))),
                "'payload.summary' is too long",
            ),
            (
                changed("/payload/source", json!(" ")),
                "'payload.source' is missing or blank",
            ),
        ] {
            let answer = send(&event);
            assert_eq!(answer.status, 400);
            assert!(answer.body.contains(words), "{}", answer.body);
        }
        assert_eq!(
            send(&changed("/payload/summary", json!("x".repeat(MOST_BYTES)))).status,
            413
        );
    }

    #[test]
    fn an_alert_opens_once_and_a_resolved_one_opens_anew() {
        let service = PagerDuty::default();
        for (action, state) in [
            ("resolve", None),
            ("trigger", Some(AlertState::Triggered)),
            ("trigger", Some(AlertState::Triggered)),
            ("acknowledge", Some(AlertState::Acknowledged)),
            ("resolve", Some(AlertState::Resolved)),
            ("trigger", Some(AlertState::Triggered)),
        ] {
            let mut event = event();
            event["event_action"] = json!(action);
            assert_eq!(
                service
                    .answer(&Received::post("/v2/enqueue", &event))
                    .status,
                202
            );
            assert_eq!(service.alerts().get("k").map(|alert| alert.state), state);
        }
    }
}
