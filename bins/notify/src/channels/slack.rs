//! Channel `slack`: a bot of the workspace. Posts a message, and brings the same message up to date
//! at later events of the same deployment.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Value, json};
use switchyard_http::{Client, DisplaySafeUrl, Repeat, Request, Response};
use switchyard_runner::{Failure, Secret};

use super::slack_message::{SlackMessage, Way};
use super::slack_webhook::unknown;
use crate::channel::{Channel, ChannelName, Delivered, Delivery, Receipt, Undelivered};
use crate::plan::{Ingredients, refused};

/// A message that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MessageAddress {
    /// Identifier of its channel, where the address says it.
    channel: Option<String>,
    ts: String,
}

impl FromStr for MessageAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (channel, ts) = match text.split_once('/') {
            Some((channel, ts)) => (Some(channel), ts),
            None => (None, text),
        };
        let is_number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        let is_ts = ts
            .split_once('.')
            .is_some_and(|(seconds, rest)| is_number(seconds) && is_number(rest));
        let is_id = |id: &str| {
            id.len() > 1
                && id
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        };
        if !is_ts || !channel.is_none_or(is_id) {
            return Err(
                "it looks like `C012AB3CD/1790000000.000100`, or the part behind the slash",
            );
        }
        Ok(Self {
            channel: channel.map(str::to_owned),
            ts: ts.to_owned(),
        })
    }
}

/// A bot with a message to post or to bring up to date.
pub(crate) struct Slack {
    client: Client,
    api: DisplaySafeUrl,
    token: Secret,
    channel: String,
    earlier: Option<MessageAddress>,
    answers_in_thread: bool,
    message: SlackMessage,
}

/// The answer of a Web API method, as far as it is used.
#[derive(Debug, Deserialize)]
struct ApiAnswer {
    ok: bool,
    error: Option<String>,
    channel: Option<String>,
    ts: Option<String>,
    #[serde(default)]
    response_metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    messages: Vec<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

impl Slack {
    pub(crate) fn new(ingredients: &Ingredients<'_>) -> Result<Self, Failure> {
        let inputs = ingredients.inputs;
        let earlier = inputs
            .slack_ts
            .as_deref()
            .map(str::parse::<MessageAddress>)
            .transpose();
        let earlier = earlier.map_err(|cause| {
            refused(format!(
                "input `slack-ts` is `{}`",
                inputs.slack_ts.as_deref().unwrap_or_default()
            ))
            .hint(cause)
        })?;
        let channel = inputs
            .slack_channel
            .clone()
            .or(earlier.as_ref().and_then(|earlier| earlier.channel.clone()));
        let channel = channel.ok_or_else(|| {
            refused("channel `slack` needs input `slack-channel`")
                .hint("its identifier (in the channel's details, at the end) or its name")
        })?;
        Ok(Self {
            client: ingredients.client()?,
            api: ingredients.base_url("slack-api-url", &inputs.slack_api_url)?,
            token: ingredients.secret(
                ChannelName::Slack,
                "slack-token",
                inputs.slack_token.as_ref(),
            )?,
            channel,
            earlier,
            answers_in_thread: inputs.slack_reply && inputs.event.is_bad(),
            message: SlackMessage::new(ingredients)?,
        })
    }

    async fn post_or_update(&self) -> Result<Delivered, Undelivered> {
        let Some(earlier) = &self.earlier else {
            return self.post(Vec::new()).await.map(Delivered::Sent);
        };
        let channel = earlier.channel.as_ref().unwrap_or(&self.channel);
        let (mut arguments, cuts) = self.message.arguments(Way::Update);
        arguments["channel"] = json!(channel);
        arguments["ts"] = json!(earlier.ts);
        let answer = self
            .call("chat.update", &arguments, Repeat::Idempotent)
            .await;
        match answer {
            Ok(answer) => {
                let mut receipt = receipt("updated", &answer);
                receipt.cuts = cuts;
                if self.answers_in_thread {
                    self.answer(channel, &earlier.ts, &mut receipt).await?;
                }
                Ok(Delivered::Sent(receipt))
            }
            // The notice matters more than the place: post it anew where the old message is gone.
            Err(Undelivered::Refused { answer, .. }) if is_gone(&answer) => {
                let remark = format!(
                    "the message {channel}/{} could not be updated ({answer}), so a new one was posted",
                    earlier.ts
                );
                self.post(vec![remark]).await.map(Delivered::Sent)
            }
            Err(error) => Err(error),
        }
    }

    async fn post(&self, remarks: Vec<String>) -> Result<Receipt, Undelivered> {
        let (mut arguments, cuts) = self.message.arguments(Way::Post);
        arguments["channel"] = json!(self.channel);
        let answer = self
            .call("chat.postMessage", &arguments, Repeat::WhenRefused)
            .await?;
        let mut receipt = receipt("posted into", &answer);
        receipt.cuts = cuts;
        receipt.remarks = remarks;
        if answer
            .response_metadata
            .warnings
            .iter()
            .any(|warning| warning == "message_truncated")
        {
            receipt
                .remarks
                .push("Slack itself cut the message".to_owned());
        }
        Ok(receipt)
    }

    /// Answers in the thread of a message that was edited, so that somebody is notified.
    async fn answer(
        &self,
        channel: &str,
        ts: &str,
        receipt: &mut Receipt,
    ) -> Result<(), Undelivered> {
        let mut arguments = self.message.reply();
        arguments["channel"] = json!(channel);
        arguments["thread_ts"] = json!(ts);
        self.call("chat.postMessage", &arguments, Repeat::WhenRefused)
            .await?;
        receipt.done.push_str(", and answered in its thread");
        Ok(())
    }

    async fn call(
        &self,
        method: &str,
        arguments: &Value,
        repeat: Repeat,
    ) -> Result<ApiAnswer, Undelivered> {
        let url = self.api.join_segments([method]);
        let request = Request::post_json(url, arguments)
            .bearer(self.token.expose())
            .repeat(repeat);
        let response = self.client.send(&request).await;
        let response = response.map_err(|error| {
            if repeat == Repeat::Idempotent {
                error.into()
            } else {
                unknown(error)
            }
        })?;
        let response = response.require_success()?;
        let answer: ApiAnswer = response.json()?;
        if answer.ok {
            Ok(answer)
        } else {
            Err(refusal(&response, &answer))
        }
    }
}

impl Channel for Slack {
    fn preview(&self) -> String {
        self.message.text().to_owned()
    }

    fn deliver(&self) -> Delivery<'_> {
        Box::pin(self.post_or_update())
    }
}

fn receipt(done: &str, answer: &ApiAnswer) -> Receipt {
    let channel = answer.channel.as_deref().unwrap_or_default();
    let ts = answer.ts.as_deref().unwrap_or_default();
    Receipt {
        done: format!("{done} {channel}"),
        outputs: vec![("slack-ts", format!("{channel}/{ts}"))],
        ..Receipt::default()
    }
}

fn refusal(response: &Response, answer: &ApiAnswer) -> Undelivered {
    let code = answer.error.as_deref().unwrap_or("no reason");
    let mut words = response.displayable(code);
    if let Some(message) = answer.response_metadata.messages.first() {
        words = format!("{words}: {}", response.displayable(message));
    }
    Undelivered::Refused {
        service: "Slack",
        answer: words,
        hint: hint(code),
    }
}

/// Whether an answer of `chat.update` means that the message cannot be edited any more.
fn is_gone(answer: &str) -> bool {
    let code = answer.split(':').next().unwrap_or(answer);
    matches!(
        code,
        "message_not_found" | "cant_update_message" | "edit_window_closed" | "channel_not_found"
    )
}

/// What to do about an error of the Web API
/// (<https://docs.slack.dev/reference/methods/chat.postMessage#errors>).
fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "not_authed" | "invalid_auth" | "token_expired" | "token_revoked" | "account_inactive" => {
            "input `slack-token` is not a token of this workspace any more; reinstall the app and store its `xoxb-` token"
        }
        "missing_scope" | "not_allowed_token_type" => {
            "the bot needs the scope `chat:write`; add it and reinstall the app"
        }
        "channel_not_found" => {
            "input `slack-channel` names no channel that the bot can see; private ones only once it is invited"
        }
        "not_in_channel" => "invite the bot into the channel",
        "is_archived" => "the channel is archived; choose another one",
        "ratelimited" | "rate_limited" => {
            "Slack limits a bot to about one message a second and channel"
        }
        "internal_error" | "fatal_error" | "service_unavailable" => {
            "Slack failed and may have posted the message all the same; it was not sent again"
        }
        "invalid_blocks"
        | "invalid_blocks_format"
        | "msg_blocks_too_long"
        | "msg_too_long"
        | "no_text" => "Slack does not take the message; with `dry-run: true` the step shows it",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_message_is_the_output_of_the_notice_before() {
        let address: MessageAddress = "C012AB3CD/1790000000.000100".parse().unwrap();
        assert_eq!(
            (address.channel.as_deref(), address.ts.as_str()),
            (Some("C012AB3CD"), "1790000000.000100")
        );
        assert_eq!(
            "1790000000.000100"
                .parse::<MessageAddress>()
                .unwrap()
                .channel,
            None
        );
        for nonsense in ["", "1790000000", "deploys/1.1", "C0/", "C0/x.y", "/1.1"] {
            assert!(nonsense.parse::<MessageAddress>().is_err(), "{nonsense}");
        }
    }
}
