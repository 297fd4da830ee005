//! Slack: incoming webhooks (`/services/…`), and `chat.postMessage` and `chat.update` of the Web API
//! (`/api/…`). Errors as in the method references and
//! <https://api.slack.com/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks>.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::received::Received;
use super::server::{Answer, Fault, Service};
use super::slack_blocks::{self, Refusal};

/// Longest `text` that is posted whole, in characters; a longer one is truncated with a warning.
const MOST_TEXT: usize = 40_000;
/// Longest `text` of `chat.update`, in bytes; a longer one is refused.
const MOST_UPDATE: usize = 4_000;

/// A channel of the workspace.
#[derive(Debug, Clone)]
pub struct Channel {
    /// The identifier, `C…`.
    pub id: &'static str,
    /// The name without `#`.
    pub name: &'static str,
    /// What the bot meets there.
    pub state: ChannelState,
}

/// What the bot meets in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    /// The bot is a member.
    Joined,
    /// The bot was not invited.
    NotJoined,
    /// The channel is archived.
    Archived,
}

/// A message in the workspace.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Message {
    /// Identifier of the channel.
    pub channel: String,
    /// Its time stamp, which is its identifier within the channel.
    pub ts: String,
    /// The parent's time stamp where it is a reply.
    pub thread_ts: Option<String>,
    /// The text as stored.
    pub text: String,
    /// The blocks.
    pub blocks: Value,
    /// How often it was edited.
    pub edits: u32,
}

/// A workspace with one incoming webhook and one bot.
pub struct Slack {
    /// The secret path of the webhook, `/services/T…/B…/…`.
    pub webhook_path: &'static str,
    /// The bot's token.
    pub bot_token: &'static str,
    /// Its channels; the webhook posts into the first.
    pub channels: Vec<Channel>,
    messages: Mutex<Vec<Message>>,
}

impl Default for Slack {
    fn default() -> Self {
        let channel = |id, name, state| Channel { id, name, state };
        Self {
            webhook_path: "/services/T0SWITCH/B0YARD/hookhookhookhookhookhook",
            // Put together from parts, so that scanners for committed tokens stay quiet.
            bot_token: concat!("xoxb", "-2222222222-3333333333-bottokenbottokenbottoken"),
            channels: vec![
                channel("C0DEPLOYS01", "deploys", ChannelState::Joined),
                channel("C0PRIVATE01", "private", ChannelState::NotJoined),
                channel("C0ARCHIVE01", "archive", ChannelState::Archived),
            ],
            messages: Mutex::default(),
        }
    }
}

impl Slack {
    /// Every message of the workspace, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.lock().clone()
    }

    /// What Slack answers when a limit is reached; `Retry-After` in seconds.
    #[must_use]
    pub fn rate_limited(seconds: u32) -> Fault {
        let answer = Answer::json(429, &json!({ "ok": false, "error": "ratelimited" }));
        Fault::Answer(answer.with_header("retry-after", seconds.to_string()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn webhook(&self, request: &Received) -> Answer {
        let refused = |status, words: &str| Answer::text(status, words);
        if request.method != "POST" {
            return refused(405, "method_not_allowed");
        }
        let expected: Vec<&str> = self.webhook_path.split('/').collect();
        let given: Vec<&str> = request.path.split('/').collect();
        match (given.get(2), given.get(3), given.get(4)) {
            (team, _, _) if team != expected.get(2) => return refused(404, "no_team"),
            (_, service, _) if service != expected.get(3) => return refused(404, "no_service"),
            (_, _, token) if token != expected.get(4) => return refused(403, "invalid_token"),
            _ => {}
        }
        let Some(payload) = webhook_payload(request) else {
            return refused(400, "invalid_payload");
        };
        let channel = &self.channels[0];
        if channel.state == ChannelState::Archived {
            return refused(410, "channel_is_archived");
        }
        match content(&payload) {
            Ok((text, blocks)) => {
                self.post(channel.id, &truncated(&text), blocks, None);
                Answer::text(200, "ok")
            }
            Err(error) => refused(400, error.code),
        }
    }

    fn web_api(&self, request: &Received, method: &str) -> Answer {
        let mut warning = None;
        let result = self.authorised(request).and_then(|()| {
            let (arguments, charset_warning) = arguments(request)?;
            warning = charset_warning;
            match method {
                "chat.postMessage" => self.post_message(&arguments),
                "chat.update" => self.update(&arguments),
                _ => Err(Refused::new("unknown_method")),
            }
        });
        let mut document = match result {
            Ok(document) => document,
            Err(refused) => refused.document(),
        };
        if let Some(warning) = warning {
            document["warning"] = json!(warning);
            document["response_metadata"]["warnings"] = json!([warning]);
        }
        // The Web API answers its refusals with 200, too.
        Answer::json(200, &document)
    }

    fn authorised(&self, request: &Received) -> Result<(), Refused> {
        if request.method != "POST" {
            return Err(Refused::new("invalid_post_type"));
        }
        let Some(header) = request.header("authorization") else {
            return Err(Refused::new("not_authed"));
        };
        if header.strip_prefix("Bearer ") != Some(self.bot_token) {
            return Err(Refused::new("invalid_auth"));
        }
        Ok(())
    }

    fn post_message(&self, arguments: &Value) -> Result<Value, Refused> {
        let given = arguments["channel"].as_str().unwrap_or_default();
        let by_name = given.strip_prefix('#').unwrap_or(given);
        let channel = self
            .channels
            .iter()
            .find(|channel| channel.id == given || channel.name == by_name);
        let channel = channel.ok_or(Refused::new("channel_not_found"))?;
        self.check_state(channel)?;
        let (text, blocks) = content(arguments)?;
        let thread = arguments["thread_ts"].as_str();
        if let Some(thread) = thread
            && !self
                .lock()
                .iter()
                .any(|message| message.channel == channel.id && message.ts == thread)
        {
            return Err(Refused::new("thread_not_found"));
        }
        let message = self.post(channel.id, &truncated(&text), blocks, thread);
        let mut document = reply(&message);
        if text.chars().count() > MOST_TEXT {
            document["response_metadata"]["warnings"] = json!(["message_truncated"]);
        }
        Ok(document)
    }

    fn update(&self, arguments: &Value) -> Result<Value, Refused> {
        // Unlike chat.postMessage it takes no names: slackapi/python-slack-sdk#1495.
        let given = arguments["channel"].as_str().unwrap_or_default();
        let channel = self.channels.iter().find(|channel| channel.id == given);
        let channel = channel.ok_or(Refused::new("channel_not_found"))?;
        self.check_state(channel)?;
        let (text, blocks) = content(arguments)?;
        if text.len() > MOST_UPDATE {
            return Err(Refused::new("msg_too_long"));
        }
        let ts = arguments["ts"].as_str().unwrap_or_default();
        let mut messages = self.lock();
        let message = messages
            .iter_mut()
            .find(|message| message.channel == channel.id && message.ts == ts);
        let message = message.ok_or(Refused::new("message_not_found"))?;
        message.text = text;
        // Without the argument the previous blocks stay.
        if arguments.get("blocks").is_some() {
            message.blocks = blocks;
        }
        message.edits += 1;
        Ok(reply(message))
    }

    fn check_state(&self, channel: &Channel) -> Result<(), Refused> {
        match channel.state {
            ChannelState::Joined => Ok(()),
            ChannelState::NotJoined => Err(Refused::new("not_in_channel")),
            ChannelState::Archived => Err(Refused::new("is_archived")),
        }
    }

    fn post(&self, channel: &str, text: &str, blocks: Value, thread: Option<&str>) -> Message {
        let mut messages = self.lock();
        let message = Message {
            channel: channel.to_owned(),
            ts: format!("1790000000.{:06}", messages.len() + 1),
            thread_ts: thread.map(str::to_owned),
            text: text.to_owned(),
            blocks,
            edits: 0,
        };
        messages.push(message.clone());
        message
    }
}

impl Service for Slack {
    fn answer(&self, request: &Received) -> Answer {
        if request.path.starts_with("/services") {
            return self.webhook(request);
        }
        match request.path.strip_prefix("/api/") {
            Some(method) => self.web_api(request, method),
            None => Answer::text(404, "no such page"),
        }
    }

    fn state(&self) -> Value {
        json!({ "messages": *self.lock() })
    }
}

/// An `ok: false` of the Web API.
struct Refused {
    code: &'static str,
    messages: Vec<String>,
}

impl Refused {
    fn new(code: &'static str) -> Self {
        Self {
            code,
            messages: Vec::new(),
        }
    }

    fn document(self) -> Value {
        let mut document = json!({ "ok": false, "error": self.code });
        if !self.messages.is_empty() {
            let lines = self.messages.iter().map(|line| format!("[ERROR] {line}"));
            document["response_metadata"]["messages"] = lines.collect();
            document["errors"] = json!(self.messages);
        }
        document
    }
}

/// The payload of a webhook: a JSON body, or a form with the field `payload`.
fn webhook_payload(request: &Received) -> Option<Value> {
    let payload: Value = match request.media_type().as_deref() {
        Some("application/json") => serde_json::from_slice(&request.body).ok()?,
        Some("application/x-www-form-urlencoded") => {
            let field = url::form_urlencoded::parse(&request.body)
                .find(|(name, _)| name == "payload")?
                .1;
            serde_json::from_str(&field).ok()?
        }
        _ => return None,
    };
    payload.is_object().then_some(payload)
}

/// The arguments of a Web API call, and the warning about its charset.
fn arguments(request: &Received) -> Result<(Value, Option<&'static str>), Refused> {
    match request.media_type().as_deref() {
        Some("application/json") => {
            let arguments: Value =
                serde_json::from_slice(&request.body).map_err(|_| Refused::new("invalid_json"))?;
            if !arguments.is_object() {
                return Err(Refused::new("json_not_object"));
            }
            let content_type = request
                .header("content-type")
                .unwrap_or_default()
                .to_ascii_lowercase();
            let warning = (!content_type.contains("charset=")).then_some("missing_charset");
            Ok((arguments, warning))
        }
        Some("application/x-www-form-urlencoded") => {
            let pairs = url::form_urlencoded::parse(&request.body);
            let mut arguments: Value = pairs
                .map(|(name, value)| (name.into_owned(), json!(value)))
                .collect();
            if let Some(blocks) = arguments["blocks"].as_str() {
                arguments["blocks"] = serde_json::from_str(blocks)
                    .map_err(|_| Refused::new("invalid_blocks_format"))?;
            }
            Ok((arguments, None))
        }
        Some(_) => Err(Refused::new("invalid_post_type")),
        None => Err(Refused::new("missing_post_type")),
    }
}

/// Text and blocks of a message, checked.
fn content(arguments: &Value) -> Result<(String, Value), Refused> {
    let text = arguments["text"].as_str().unwrap_or_default().to_owned();
    let blocks = arguments.get("blocks").cloned().unwrap_or(json!([]));
    slack_blocks::check(&blocks).map_err(|refusal| match refusal {
        Refusal::Invalid(messages) => Refused {
            code: "invalid_blocks",
            messages,
        },
        Refusal::TooLong => Refused::new("msg_blocks_too_long"),
    })?;
    let is_empty = blocks.as_array().is_none_or(Vec::is_empty);
    if text.is_empty() && is_empty && arguments.get("attachments").is_none() {
        return Err(Refused::new("no_text"));
    }
    Ok((text, blocks))
}

fn truncated(text: &str) -> String {
    text.chars().take(MOST_TEXT).collect()
}

fn reply(message: &Message) -> Value {
    json!({
        "ok": true,
        "channel": message.channel,
        "ts": message.ts,
        "text": message.text,
        "message": {
            "type": "message",
            "subtype": "bot_message",
            "text": message.text,
            "ts": message.ts,
            "blocks": message.blocks,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(path: &str, payload: &Value) -> (u16, String) {
        let answer = Slack::default().answer(&Received::post(path, payload));
        (answer.status, answer.body)
    }

    #[test]
    fn a_webhook_refuses_what_slack_refuses() {
        let path = Slack::default().webhook_path;
        let text = json!({ "text": "hello" });
        assert_eq!(webhook(path, &text), (200, "ok".to_owned()));
        for (path, payload, status, word) in [
            ("/services/T0OTHER/B0YARD/x", &text, 404, "no_team"),
            ("/services/T0SWITCH/B0OTHER/x", &text, 404, "no_service"),
            ("/services/T0SWITCH/B0YARD/x", &text, 403, "invalid_token"),
            (path, &json!([]), 400, "invalid_payload"),
            (path, &json!({}), 400, "no_text"),
            (
                path,
                &json!({ "text": "x", "blocks": [{}] }),
                400,
                "invalid_blocks",
            ),
        ] {
            assert_eq!(webhook(path, payload), (status, word.to_owned()));
        }
        let untyped = Received::post(path, &text).with_header("content-type", "text/plain");
        assert_eq!(Slack::default().answer(&untyped).body, "invalid_payload");
    }

    #[test]
    fn the_web_api_refuses_what_slack_refuses() {
        let slack = Slack::default();
        let bearer = format!("Bearer {}", slack.bot_token);
        let call =
            |method: &str, arguments: &Value, authorization: &str, content_type: &str| -> Value {
                let request = Received::post(&format!("/api/{method}"), arguments)
                    .with_header("authorization", authorization)
                    .with_header("content-type", content_type);
                let answer = slack.answer(&request);
                assert_eq!(answer.status, 200);
                serde_json::from_str(&answer.body).unwrap()
            };
        let json_type = "application/json; charset=utf-8";
        let good = json!({ "channel": "#deploys", "text": "hello" });
        let posted = call("chat.postMessage", &good, &bearer, json_type);
        assert_eq!(posted["ok"], true);
        let warned = call("chat.postMessage", &good, &bearer, "application/json");
        assert_eq!(warned["warning"], "missing_charset");
        let ts = posted["ts"].as_str().unwrap();
        let long = "x".repeat(MOST_UPDATE + 1);
        for (method, arguments, authorization, content_type, error) in [
            ("chat.postMessage", &good, "", json_type, "not_authed"),
            (
                "chat.postMessage",
                &good,
                "Bearer x",
                json_type,
                "invalid_auth",
            ),
            ("chat.postMessage", &good, &bearer, "", "missing_post_type"),
            (
                "chat.postMessage",
                &good,
                &bearer,
                "image/png",
                "invalid_post_type",
            ),
            (
                "chat.postMessage",
                &json!([]),
                &bearer,
                json_type,
                "json_not_object",
            ),
            (
                "chat.postMessage",
                &json!({ "channel": "x", "text": "x" }),
                &bearer,
                json_type,
                "channel_not_found",
            ),
            (
                "chat.postMessage",
                &json!({ "channel": "deploys" }),
                &bearer,
                json_type,
                "no_text",
            ),
            (
                "chat.update",
                &json!({ "channel": "deploys", "ts": ts, "text": "x" }),
                &bearer,
                json_type,
                "channel_not_found",
            ),
            (
                "chat.update",
                &json!({ "channel": "C0DEPLOYS01", "ts": "1.1", "text": "x" }),
                &bearer,
                json_type,
                "message_not_found",
            ),
            (
                "chat.update",
                &json!({ "channel": "C0DEPLOYS01", "ts": ts, "text": long }),
                &bearer,
                json_type,
                "msg_too_long",
            ),
            ("chat.delete", &good, &bearer, json_type, "unknown_method"),
        ] {
            let answer = call(method, arguments, authorization, content_type);
            assert_eq!(
                (answer["ok"].as_bool(), answer["error"].as_str()),
                (Some(false), Some(error))
            );
        }
    }
}
