//! Channel `slack-webhook`: an incoming webhook, whose URL is its only credential. It cannot edit.

use serde_json::Value;
use switchyard_http::{Client, DisplaySafeUrl, Repeat, Request};
use switchyard_runner::Failure;

use super::slack_message::{SlackMessage, Way};
use crate::channel::{Channel, ChannelName, Delivered, Delivery, Receipt, Undelivered};
use crate::cut::Cut;
use crate::plan::{Ingredients, refused};

/// What to know after an end that leaves open whether Slack posted the message.
pub(crate) const NOT_REPEATED: &str = "Slack cannot tell repeats apart, so it was not sent again; look into the channel before running the step again";

/// An incoming webhook with a message for it.
pub(crate) struct SlackWebhook {
    client: Client,
    url: DisplaySafeUrl,
    message: SlackMessage,
    arguments: Value,
    cuts: Vec<Cut>,
}

impl SlackWebhook {
    pub(crate) fn new(ingredients: &Ingredients<'_>) -> Result<Self, Failure> {
        let input = "slack-webhook-url";
        let secret = ingredients.secret(
            ChannelName::SlackWebhook,
            input,
            ingredients.inputs.slack_webhook_url.as_ref(),
        )?;
        let text = if ingredients.inputs.dry_run {
            "https://hooks.slack.com/"
        } else {
            secret.expose()
        };
        let url = DisplaySafeUrl::webhook(text).map_err(|cause| {
            refused(format!("input `{input}` cannot be used: {cause}")).hint("it looks like `https://hooks.slack.com/services/T…/B…/…`; it is not shown here because it is a credential")
        })?;
        let message = SlackMessage::new(ingredients)?;
        let (mut arguments, cuts) = message.arguments(Way::Post);
        drop_empty_blocks(&mut arguments);
        Ok(Self {
            client: ingredients.client()?,
            url,
            message,
            arguments,
            cuts,
        })
    }

    async fn post(&self) -> Result<Delivered, Undelivered> {
        let request =
            Request::post_json(self.url.clone(), &self.arguments).repeat(Repeat::WhenRefused);
        let response = self.client.send(&request).await.map_err(unknown)?;
        // The body of a refusal is one word, such as `invalid_payload`.
        let word = std::str::from_utf8(response.body())
            .unwrap_or_default()
            .trim();
        if let Some(hint) = hint(word).filter(|_| !response.status().is_success()) {
            return Err(Undelivered::Refused {
                service: "Slack",
                answer: format!("{word} ({})", response.status()),
                hint: Some(hint),
            });
        }
        response.require_success()?;
        Ok(Delivered::Sent(Receipt {
            done: format!("posted through the webhook at {}", self.url.host()),
            cuts: self.cuts.clone(),
            ..Receipt::default()
        }))
    }
}

impl Channel for SlackWebhook {
    fn preview(&self) -> String {
        self.message.text().to_owned()
    }

    fn deliver(&self) -> Delivery<'_> {
        Box::pin(self.post())
    }
}

/// A webhook takes no empty list of blocks where the text is to be shown.
fn drop_empty_blocks(arguments: &mut Value) {
    let is_empty = arguments["blocks"].as_array().is_some_and(Vec::is_empty);
    if let Some(object) = arguments.as_object_mut().filter(|_| is_empty) {
        object.remove("blocks");
    }
}

/// An ambiguous end of a post.
pub(crate) fn unknown(error: switchyard_http::Error) -> Undelivered {
    if error.is_ambiguous() {
        Undelivered::Unknown {
            service: "Slack",
            hint: NOT_REPEATED,
            source: error,
        }
    } else {
        error.into()
    }
}

/// What to do about Slack's words.
fn hint(word: &str) -> Option<&'static str> {
    Some(match word {
        "invalid_payload" | "invalid_blocks" | "no_text" | "too_many_attachments" => {
            "Slack does not understand the message; with `dry-run: true` the step shows it"
        }
        "invalid_token" | "no_service" | "no_service_id" | "no_team" | "no_active_hooks"
        | "team_disabled" => {
            "the webhook is gone or its URL is wrong; create a new one in the Slack app and store its URL as the secret"
        }
        "channel_is_archived" | "channel_not_found" => {
            "the webhook's channel is gone; create a webhook for another channel"
        }
        "action_prohibited" | "posting_to_general_channel_denied" | "user_not_found" => {
            "a workspace setting forbids the post; ask its administrator"
        }
        _ => return None,
    })
}
