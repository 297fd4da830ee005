//! Slack's rules for blocks, as its API enforces them. Limits are those of the block reference
//! (<https://docs.slack.dev/reference/block-kit/blocks>); the messages are worded as Slack words them.

use serde_json::{Map, Value};

/// Most blocks of a message.
const MOST_BLOCKS: usize = 50;

/// Most text of all blocks together, in characters. Undocumented; by its maintainers 12,000 with a
/// buffer for the containers (slackapi/bolt-js#2509, #2867: 9,597 in 50 blocks is accepted, 11,341 in
/// 45 is not).
const MOST_TEXT: usize = 11_000;

/// Why Slack refuses blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `invalid_blocks` with its explanations.
    Invalid(Vec<String>),
    /// `msg_blocks_too_long`.
    TooLong,
}

/// Checks the `blocks` of a message.
///
/// # Errors
/// When Slack would refuse them.
pub fn check(blocks: &Value) -> Result<(), Refusal> {
    let invalid = |text: String| Refusal::Invalid(vec![text]);
    let Some(blocks) = blocks.as_array() else {
        return Err(invalid(
            "must be an array [json-pointer:/blocks]".to_owned(),
        ));
    };
    if blocks.len() > MOST_BLOCKS {
        return Err(invalid(format!(
            "no more than {MOST_BLOCKS} items allowed [json-pointer:/blocks]"
        )));
    }
    let mut errors = Vec::new();
    let mut identifiers = Vec::new();
    let mut length = 0;
    for (index, block) in blocks.iter().enumerate() {
        let at = format!("/blocks/{index}");
        match block.as_object() {
            Some(block) => check_block(block, &at, &mut errors),
            None => errors.push(format!("must be an object [json-pointer:{at}]")),
        }
        if let Some(identifier) = block["block_id"].as_str() {
            if identifiers.contains(&identifier) {
                errors.push(format!(
                    "block_id already exists [json-pointer:{at}/block_id]"
                ));
            }
            identifiers.push(identifier);
        }
        length += text_length(block);
    }
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    if length > MOST_TEXT {
        return Err(Refusal::TooLong);
    }
    Ok(())
}

fn check_block(block: &Map<String, Value>, at: &str, errors: &mut Vec<String>) {
    let kind = block
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let allowed: &[&str] = match kind {
        "section" => &["text", "fields", "accessory", "expand"],
        "header" => &["text", "level"],
        "context" | "actions" => &["elements"],
        "divider" => &[],
        "image" => &["image_url", "slack_file", "alt_text", "title"],
        "markdown" => &["text"],
        _ => {
            errors.push(format!("unsupported type: {kind} [json-pointer:{at}/type]"));
            return;
        }
    };
    for key in block
        .keys()
        .filter(|key| !["type", "block_id"].contains(&key.as_str()))
    {
        if !allowed.contains(&key.as_str()) {
            errors.push(format!(
                "invalid additional property: {key} [json-pointer:{at}]"
            ));
        }
    }
    check_length(
        block.get("block_id"),
        255,
        &format!("{at}/block_id"),
        errors,
    );
    match kind {
        "section" => check_section(block, at, errors),
        "header" => check_text(
            block.get("text"),
            Allowed::Plain,
            150,
            &format!("{at}/text"),
            errors,
        ),
        "context" => check_elements(block, at, 10, errors),
        "actions" => check_elements(block, at, 25, errors),
        "markdown" => check_length(block.get("text"), 12_000, &format!("{at}/text"), errors),
        _ => {}
    }
}

fn check_section(block: &Map<String, Value>, at: &str, errors: &mut Vec<String>) {
    let (text, fields) = (block.get("text"), block.get("fields"));
    if text.is_none() && fields.is_none() {
        errors.push(format!("missing required field: text [json-pointer:{at}]"));
    }
    if text.is_some() {
        check_text(text, Allowed::Any, 3_000, &format!("{at}/text"), errors);
    }
    let Some(fields) = fields else { return };
    let fields = fields.as_array().map(Vec::as_slice).unwrap_or_default();
    if fields.is_empty() || fields.len() > 10 {
        errors.push(format!(
            "must have 1 to 10 items [json-pointer:{at}/fields]"
        ));
    }
    for (index, field) in fields.iter().enumerate() {
        check_text(
            Some(field),
            Allowed::Any,
            2_000,
            &format!("{at}/fields/{index}"),
            errors,
        );
    }
}

fn check_elements(block: &Map<String, Value>, at: &str, most: usize, errors: &mut Vec<String>) {
    let elements = block
        .get("elements")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if elements.is_empty() || elements.len() > most {
        errors.push(format!(
            "must have 1 to {most} items [json-pointer:{at}/elements]"
        ));
    }
    for (index, element) in elements.iter().enumerate() {
        let at = format!("{at}/elements/{index}");
        match element["type"].as_str().unwrap_or_default() {
            "mrkdwn" | "plain_text" => check_text(Some(element), Allowed::Any, 3_000, &at, errors),
            "image" => {}
            "button" => {
                check_text(
                    element.get("text"),
                    Allowed::Plain,
                    75,
                    &format!("{at}/text"),
                    errors,
                );
                check_length(element.get("url"), 3_000, &format!("{at}/url"), errors);
            }
            other => errors.push(format!(
                "unsupported type: {other} [json-pointer:{at}/type]"
            )),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    Plain,
    Any,
}

fn check_text(
    text: Option<&Value>,
    allowed: Allowed,
    most: usize,
    at: &str,
    errors: &mut Vec<String>,
) {
    let Some(object) = text.and_then(Value::as_object) else {
        errors.push(format!("missing required field: text [json-pointer:{at}]"));
        return;
    };
    let keys: &[&str] = match object.get("type").and_then(Value::as_str) {
        Some("plain_text") => &["type", "text", "emoji"],
        Some("mrkdwn") if allowed == Allowed::Any => &["type", "text", "verbatim"],
        _ => {
            errors.push(format!(
                "must be a valid enum value [json-pointer:{at}/type]"
            ));
            return;
        }
    };
    if let Some(key) = object.keys().find(|key| !keys.contains(&key.as_str())) {
        errors.push(format!(
            "invalid additional property: {key} [json-pointer:{at}]"
        ));
    }
    match object.get("text").and_then(Value::as_str) {
        Some("") => errors.push(format!(
            "must be more than 0 characters [json-pointer:{at}/text]"
        )),
        Some(_) => check_length(object.get("text"), most, &format!("{at}/text"), errors),
        None => errors.push(format!("must be a string [json-pointer:{at}/text]")),
    }
}

fn check_length(text: Option<&Value>, most: usize, at: &str, errors: &mut Vec<String>) {
    let length = text
        .and_then(Value::as_str)
        .map_or(0, |text| text.chars().count());
    if length > most {
        errors.push(format!(
            "must be less than {} characters [json-pointer:{at}]",
            most + 1
        ));
    }
}

/// Characters of every `text` below a block.
fn text_length(value: &Value) -> usize {
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| match value.as_str() {
                Some(text) if key == "text" => text.chars().count(),
                _ => text_length(value),
            })
            .sum(),
        Value::Array(items) => items.iter().map(text_length).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn section(text: &str) -> Value {
        json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
    }

    #[test]
    fn accepts_what_the_reference_allows() {
        let blocks = json!([
            { "type": "header", "text": { "type": "plain_text", "text": "Deployed" } },
            section("*v1*"),
            { "type": "divider" },
            { "type": "context", "elements": [{ "type": "mrkdwn", "text": "by ann" }] },
        ]);
        assert_eq!(check(&blocks), Ok(()));
    }

    #[test]
    fn refuses_each_limit_at_one_too_many() {
        assert_eq!(check(&json!([section(&"x".repeat(3_000))])), Ok(()));
        for (blocks, words) in [
            (
                json!([section(&"x".repeat(3_001))]),
                "must be less than 3001 characters [json-pointer:/blocks/0/text/text]",
            ),
            (json!([section("")]), "must be more than 0 characters"),
            (
                json!(vec![json!({ "type": "divider" }); 51]),
                "no more than 50 items allowed",
            ),
            (
                json!([{ "type": "header", "text": { "type": "mrkdwn", "text": "x" } }]),
                "must be a valid enum value",
            ),
            (
                json!([{ "type": "section", "txt": "x" }]),
                "invalid additional property: txt",
            ),
            (json!([{ "type": "sektion" }]), "unsupported type: sektion"),
            (json!("text"), "must be an array"),
        ] {
            let Err(Refusal::Invalid(errors)) = check(&blocks) else {
                panic!("accepted {blocks}")
            };
            assert!(
                errors.iter().any(|error| error.contains(words)),
                "{errors:?}"
            );
        }
        let long = json!(vec![section(&"x".repeat(3_000)); 4]);
        assert_eq!(check(&long), Err(Refusal::TooLong));
    }
}
