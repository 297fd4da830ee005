//! Channel `pagerduty`: an event of PagerDuty's Events API v2. The deduplication key makes every
//! repeat harmless, so this channel tries until its time is over.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use switchyard_http::{Client, DisplaySafeUrl, Repeat, Request};
use switchyard_runner::{Failure, Secret};

use crate::channel::{Channel, ChannelName, Delivered, Delivery, Receipt, Undelivered};
use crate::cut::{self, Cut};
use crate::event::Event;
use crate::inputs::{Notify, PagerdutyAction, Region, Severity};
use crate::markup::Markup;
use crate::plan::{Ingredients, refused};

/// Most characters of a summary, and of a deduplication key
/// (<https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>).
const SUMMARY: usize = 1_024;
const DEDUP_KEY: usize = 255;
/// Largest event, in bytes: 512 KB, less what frames it.
const EVENT: usize = 500 * 1024;
const ROUTING_KEY: usize = 32;

/// What is done with the alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventAction {
    Trigger,
    Acknowledge,
    Resolve,
}

impl EventAction {
    fn name(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Acknowledge => "acknowledge",
            Self::Resolve => "resolve",
        }
    }

    /// `None` where the event asks for nothing: a deployment that starts pages nobody. After a
    /// rollback the users are served again, so nobody has to be woken; other channels tell the rest.
    fn chosen(inputs: &Notify) -> Option<Self> {
        match (inputs.pagerduty_action, inputs.event) {
            (PagerdutyAction::Trigger, _) | (PagerdutyAction::Auto, Event::Failure) => {
                Some(Self::Trigger)
            }
            (PagerdutyAction::Acknowledge, _) => Some(Self::Acknowledge),
            (PagerdutyAction::Resolve, _)
            | (PagerdutyAction::Auto, Event::Success | Event::RolledBack) => Some(Self::Resolve),
            (PagerdutyAction::Auto, Event::Started) => None,
        }
    }
}

/// An integration with an event for it.
pub(crate) struct PagerDuty {
    client: Client,
    url: DisplaySafeUrl,
    routing_key: Secret,
    action: Option<EventAction>,
    dedup_key: String,
    /// The event without the routing key.
    event: Value,
    cuts: Vec<Cut>,
    attempt: std::time::Duration,
}

#[derive(Debug, Deserialize)]
struct Accepted {
    dedup_key: Option<String>,
}

impl PagerDuty {
    pub(crate) fn new(ingredients: &Ingredients<'_>) -> Result<Self, Failure> {
        let inputs = ingredients.inputs;
        let routing_key = ingredients.secret(
            ChannelName::Pagerduty,
            "pagerduty-routing-key",
            inputs.pagerduty_routing_key.as_ref(),
        )?;
        let is_key = |text: &str| {
            text.len() == ROUTING_KEY && text.chars().all(|c| c.is_ascii_alphanumeric())
        };
        if !inputs.dry_run && !is_key(routing_key.expose()) {
            return Err(refused(format!("input `pagerduty-routing-key` is not an integration key: those have {ROUTING_KEY} letters and digits"))
                .hint("it is the Integration Key of an Events API v2 integration of the service, not a REST API key"));
        }
        let base = match (&inputs.pagerduty_url, inputs.pagerduty_region) {
            (Some(url), _) => url.as_str(),
            (None, Region::Us) => "https://events.pagerduty.com",
            (None, Region::Eu) => "https://events.eu.pagerduty.com",
        };
        let dedup_key = dedup_key(ingredients)?;
        let action = EventAction::chosen(inputs);
        let (event, cuts) = event(ingredients, action, &dedup_key)?;
        Ok(Self {
            client: ingredients.client()?,
            url: ingredients
                .base_url("pagerduty-url", base)?
                .join_segments(["v2", "enqueue"]),
            routing_key,
            action,
            dedup_key,
            event,
            cuts,
            // A third of the time for one attempt leaves time for others after one that hangs.
            attempt: inputs.timeout / 3,
        })
    }

    async fn enqueue(&self) -> Result<Delivered, Undelivered> {
        let Some(action) = self.action else {
            return Ok(Delivered::Skipped("a deployment that starts pages nobody"));
        };
        let mut event = self.event.clone();
        event["routing_key"] = json!(self.routing_key.expose());
        let request = Request::post_json(self.url.clone(), &event)
            .redact(self.routing_key.expose())
            // The documentation asks for repeats after 429, any 5xx and network errors.
            .repeat(Repeat::IdempotentAfterAnyServerError)
            .attempt_within(self.attempt);
        let response = self.client.send(&request).await?;
        if response.status() == 400 {
            return Err(Undelivered::Refused {
                service: "PagerDuty",
                answer: response.excerpt(),
                hint: Some(
                    "is `pagerduty-routing-key` the Integration Key of an Events API v2 integration, and `pagerduty-region` right?",
                ),
            });
        }
        let response = response.require_success()?;
        let accepted: Accepted = response.json()?;
        let dedup_key = accepted.dedup_key.unwrap_or_else(|| self.dedup_key.clone());
        Ok(Delivered::Sent(Receipt {
            done: format!(
                "{} accepted for `{}`",
                action.name(),
                response.displayable(&dedup_key)
            ),
            outputs: vec![("dedup-key", dedup_key)],
            cuts: self.cuts.clone(),
            ..Receipt::default()
        }))
    }
}

impl Channel for PagerDuty {
    fn preview(&self) -> String {
        match self.action {
            Some(_) => format!("{:#}", self.event),
            None => "nothing: a deployment that starts pages nobody".to_owned(),
        }
    }

    fn deliver(&self) -> Delivery<'_> {
        Box::pin(self.enqueue())
    }
}

fn dedup_key(ingredients: &Ingredients<'_>) -> Result<String, Failure> {
    let own = ingredients.facts.deployment_id.clone();
    let key = ingredients
        .inputs
        .dedup_key
        .clone()
        .or(own)
        .ok_or_else(|| {
            refused("channel `pagerduty` needs input `dedup-key` or `deployment-id`")
                .hint("without one an alert could never be resolved")
        })?;
    Ok(short_enough(&key))
}

/// A key of at most 255 characters; a longer one ends in its own hash, so that it stays unique.
fn short_enough(key: &str) -> String {
    if key.chars().count() <= DEDUP_KEY {
        return key.to_owned();
    }
    let digest = Sha256::digest(key.as_bytes());
    let hash: String = digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let kept: String = key.chars().take(DEDUP_KEY - hash.len() - 1).collect();
    format!("{kept}-{hash}")
}

fn event(
    ingredients: &Ingredients<'_>,
    action: Option<EventAction>,
    dedup_key: &str,
) -> Result<(Value, Vec<Cut>), Failure> {
    let facts = ingredients.facts;
    let mut event =
        json!({ "event_action": action.map(EventAction::name), "dedup_key": dedup_key });
    if action != Some(EventAction::Trigger) {
        return Ok((event, Vec::new()));
    }
    let title = ingredients.redaction.apply(ingredients.title);
    let (summary, cut) = cut::to_limit(&title, SUMMARY, "the PagerDuty summary");
    let mut cuts: Vec<Cut> = cut.into_iter().collect();
    let source = [&facts.environment, &facts.application]
        .into_iter()
        .flatten()
        .cloned()
        .collect::<Vec<_>>()
        .join("/");
    let source = if source.is_empty() {
        facts
            .repository
            .clone()
            .unwrap_or_else(|| "switchyard".to_owned())
    } else {
        source
    };
    let mut payload = json!({
        "summary": summary, "source": source, "severity": severity(ingredients.inputs.pagerduty_severity),
        "class": "deployment", "custom_details": details(ingredients)?,
    });
    for (field, fact) in [
        ("component", &facts.application),
        ("group", &facts.environment),
    ] {
        if let Some(fact) = fact {
            payload[field] = json!(fact);
        }
    }
    event["payload"] = payload;
    event["client"] = json!("switchyard");
    let mut links = Vec::new();
    if let Some(url) = &facts.workflow_url {
        event["client_url"] = json!(url);
        links.push(json!({ "href": url, "text": "Workflow run" }));
    }
    if let Some(url) = &facts.url {
        links.push(json!({ "href": url, "text": "Application" }));
    }
    event["links"] = Value::Array(links);
    cuts.extend(shrink(&mut event));
    Ok((event, cuts))
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

/// What the alert's page shows besides: the facts, the error, and the user's own message.
fn details(ingredients: &Ingredients<'_>) -> Result<Map<String, Value>, Failure> {
    let rows = ingredients.facts.rows(ingredients.inputs.event);
    let mut details: Map<String, Value> = rows
        .into_iter()
        .map(|row| (row.label.to_owned(), json!(row.text)))
        .collect();
    if let Some(url) = &ingredients.facts.workflow_url {
        details.insert("Workflow run".to_owned(), json!(url));
    }
    for (label, fact) in [
        ("Error", &ingredients.facts.error),
        ("Details", &ingredients.facts.details),
    ] {
        if let Some(fact) = fact {
            details.insert(label.to_owned(), json!(fact));
        }
    }
    if !ingredients.is_built_in() {
        details.insert(
            "Message".to_owned(),
            json!(ingredients.body(Markup::Plain)?),
        );
    }
    Ok(details)
}

/// Halves the longest detail until the event fits; what it took is told.
fn shrink(event: &mut Value) -> Option<Cut> {
    let mut dropped = 0;
    while event.to_string().len() > EVENT {
        let details = event["payload"]["custom_details"].as_object_mut()?;
        let longest = details
            .values_mut()
            .max_by_key(|value| value.as_str().map_or(0, str::len))?;
        let text = longest.as_str()?.to_owned();
        let (kept, cut) = cut::to_limit(&text, text.chars().count() / 2, "the PagerDuty event");
        dropped += cut?.dropped;
        *longest = json!(kept);
    }
    (dropped > 0).then_some(Cut {
        what: "the PagerDuty event",
        limit: EVENT,
        dropped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_keeps_its_identity_within_the_limit() {
        let (one, other) = (
            format!("{}1", "k".repeat(300)),
            format!("{}2", "k".repeat(300)),
        );
        assert_eq!(short_enough(&one).chars().count(), DEDUP_KEY);
        assert_ne!(short_enough(&one), short_enough(&other));
        assert_eq!(
            short_enough("acme/shop/1/production"),
            "acme/shop/1/production"
        );
    }

    #[test]
    fn an_event_that_is_too_large_is_cut_and_said() {
        let mut event = json!({ "payload": { "custom_details": { "Details": "x\n".repeat(400_000), "Error": "short" } } });
        let cut = shrink(&mut event).unwrap();
        assert!(event.to_string().len() <= EVENT);
        assert!(cut.dropped > 0);
        assert_eq!(event["payload"]["custom_details"]["Error"], "short");
        assert_eq!(shrink(&mut event), None);
    }
}
