//! A Slack message as both Slack channels send it: blocks where the text fits into them, plain text
//! where it does not. It knows Slack's limits and nothing of how a message gets there.

use serde_json::{Value, json};
use switchyard_runner::Failure;

use crate::cut::{self, Cut};
use crate::markup::Markup;
use crate::mention;
use crate::plan::Ingredients;

/// Most characters in the text of a section block
/// (<https://docs.slack.dev/reference/block-kit/blocks/section-block>).
const SECTION: usize = 3_000;

/// Most sections. Slack refuses more than some 10,000 characters in all blocks together, whatever
/// their number (slackapi/bolt-js#2509, #2867), so three full ones are the most that is safe.
const SECTIONS: usize = 3;

/// Most characters of a message without blocks (`chat.postMessage`, `text`).
const TEXT: usize = 40_000;

/// Most characters of the line that a notification shows. `chat.update` takes 4,000 bytes, and a
/// character has up to four.
const FALLBACK: usize = 900;

/// How a message reaches Slack, since limits differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A new message.
    Post,
    /// An edited one: its text may have 4,000 bytes only, so a long one stays in blocks.
    Update,
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlackMessage {
    headline: String,
    body: String,
}

impl SlackMessage {
    pub(crate) fn new(ingredients: &Ingredients<'_>) -> Result<Self, Failure> {
        let event = ingredients.inputs.event;
        let title = Markup::Slack.escape(ingredients.title);
        let headline = format!("{} {title}", event.sign());
        let mut body = ingredients.body(Markup::Slack)?;
        if ingredients.is_built_in() {
            body = format!(
                "{} {}\n{body}",
                event.sign(),
                Markup::Slack.bold(ingredients.title)
            );
        }
        let mentions = &ingredients.inputs.slack_mention;
        let line = mention::line(mentions.iter().map(mention::SlackMention::text));
        if let Some(line) = line.filter(|_| event.is_bad()) {
            // In front, where no cut reaches.
            body = format!("{line}\n{body}");
        }
        Ok(Self { headline, body })
    }

    /// The whole text, for a look at it.
    pub(crate) fn text(&self) -> &str {
        &self.body
    }

    /// The arguments of a call, and what was left out.
    pub(crate) fn arguments(&self, way: Way) -> (Value, Vec<Cut>) {
        let pieces = cut::pieces(&self.body, SECTION);
        let (text, blocks, cut) = if pieces.len() <= SECTIONS || way == Way::Update {
            let (body, cut) =
                cut::to_limit(&self.body, SECTION * SECTIONS - 200, "the Slack message");
            let pieces = if cut.is_some() {
                cut::pieces(&body, SECTION)
            } else {
                pieces
            };
            let blocks: Vec<Value> = pieces.iter().map(|piece| section(piece)).collect();
            let (headline, _) = cut::to_limit(&self.headline, FALLBACK, "the Slack headline");
            (headline, blocks, cut)
        } else {
            let (text, cut) = cut::to_limit(&self.body, TEXT, "the Slack message");
            (text, Vec::new(), cut)
        };
        // Nothing in a text turns into a link or a mention by itself: what is meant as one is marked up.
        let arguments = json!({
            "text": text, "blocks": blocks, "parse": "none", "link_names": false,
            "unfurl_links": false, "unfurl_media": false,
        });
        (arguments, cut.into_iter().collect())
    }

    /// The answer in the thread of a message that was edited.
    pub(crate) fn reply(&self) -> Value {
        let (text, _) = cut::to_limit(&self.headline, FALLBACK, "the Slack headline");
        let mut text = text;
        if let Some(mentions) = self
            .body
            .lines()
            .next()
            .filter(|line| line.starts_with("<!") || line.starts_with("<@"))
        {
            text = format!("{mentions} {text}");
        }
        json!({ "text": text, "parse": "none", "link_names": false, "reply_broadcast": true })
    }
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } })
}
