//! Label selectors: read, shown and matched as Kubernetes does. Pure.
//! It refuses to know what is selected.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use thiserror::Error;

use super::is_object_name;

/// Whether `labels` satisfy `selector`. An empty selector matches everything, as in Kubernetes.
pub fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value_of = |key: &str| labels.and_then(|labels| labels.get(key));
    let exact = selector.match_labels.iter().flatten();
    exact
        .into_iter()
        .all(|(key, value)| value_of(key) == Some(value))
        && selector
            .match_expressions
            .iter()
            .flatten()
            .all(|requirement| satisfies(requirement, value_of(&requirement.key)))
}

fn satisfies(requirement: &LabelSelectorRequirement, value: Option<&String>) -> bool {
    let is_listed = |value: &String| requirement.values.iter().flatten().any(|one| one == value);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(is_listed),
        "NotIn" => !value.is_some_and(is_listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // An operator we do not know selects nothing: claiming pods wrongly would be worse.
        _ => false,
    }
}

/// Reads a label selector as kubectl does: `app=web,slot in (blue,green),!canary`.
///
/// # Errors
/// Words for the first part that is none.
pub fn parse_selector(text: &str) -> Result<LabelSelector, SelectorError> {
    let mut requirements = Vec::new();
    for part in split_outside_parentheses(text) {
        let requirement =
            parse_requirement(part.trim()).ok_or_else(|| SelectorError(part.trim().to_owned()))?;
        requirements.push(requirement);
    }
    Ok(LabelSelector {
        match_labels: None,
        match_expressions: Some(requirements),
    })
}

/// A part of a text that is no label selector.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no label selector: write `key=value`, `key!=value`, `key in (a,b)`, `key` or `!key`"
)]
pub struct SelectorError(String);

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(move |character| {
        depth += match character {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        character == ',' && depth == 0
    })
    .collect()
}

fn parse_requirement(part: &str) -> Option<LabelSelectorRequirement> {
    let requirement = |key: &str, operator: &str, values: Vec<&str>| {
        let key = key.trim();
        let values: Vec<String> = values.iter().map(|value| value.trim().to_owned()).collect();
        let is_valid = is_label_key(key) && values.iter().all(|value| is_label_value(value));
        is_valid.then(|| LabelSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: (!values.is_empty()).then_some(values),
        })
    };
    if let Some(listed) = part.strip_suffix(')') {
        let (head, values) = listed.split_once('(')?;
        let (key, operator) = head.trim_end().rsplit_once(char::is_whitespace)?;
        let operator = match operator {
            "in" => "In",
            "notin" => "NotIn",
            _ => return None,
        };
        return requirement(key, operator, values.split(',').collect());
    }
    if let Some((key, value)) = part.split_once("!=") {
        return requirement(key, "NotIn", vec![value]);
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return requirement(key, "In", vec![value]);
    }
    match part.strip_prefix('!') {
        Some(key) => requirement(key, "DoesNotExist", Vec::new()),
        None => requirement(part, "Exists", Vec::new()),
    }
}

/// `name` or `prefix.example/name`.
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_object_name(prefix) && !name.is_empty() && is_label_value(name),
        None => !key.is_empty() && is_label_value(key),
    }
}

fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    value.is_empty()
        || (value.len() <= 63
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)))
}

/// The selector in the form that list and watch requests take.
pub fn selector_text(selector: &LabelSelector) -> String {
    let exact = selector.match_labels.iter().flatten();
    let exact = exact.map(|(key, value)| format!("{key}={value}"));
    let requirements = selector.match_expressions.iter().flatten();
    let requirements = requirements.map(|requirement| {
        let key = &requirement.key;
        let values = requirement.values.as_deref().unwrap_or_default().join(",");
        match requirement.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        }
    });
    exact.chain(requirements).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_read_as_kubectl_reads_it() {
        let text = "app=web,tier==front,slot in (blue, green),env!=dev,!canary,example.org/owned";
        assert_eq!(
            selector_text(&parse_selector(text).unwrap()),
            "app in (web),tier in (front),slot in (blue,green),env notin (dev),!canary,example.org/owned"
        );
        for nonsense in [
            "",
            "a b",
            "app=we b",
            "app in blue",
            "app is (a)",
            "=x",
            "a,,b",
            "-a=b",
        ] {
            assert!(parse_selector(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn label_selectors_match_as_in_kubernetes() {
        let selector: LabelSelector = serde_json::from_value(serde_json::json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "slot", "operator": "In", "values": ["blue", "green"]},
                {"key": "canary", "operator": "DoesNotExist"}
            ]
        }))
        .unwrap();
        let labels = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        assert!(selects(
            &selector,
            Some(&labels(&[("app", "web"), ("slot", "blue")]))
        ));
        assert!(!selects(&selector, Some(&labels(&[("app", "web")]))));
        assert!(!selects(
            &selector,
            Some(&labels(&[("app", "web"), ("slot", "blue"), ("canary", "")]))
        ));
        assert!(!selects(&selector, None));
        assert_eq!(
            selector_text(&selector),
            "app=web,slot in (blue,green),!canary"
        );
    }
}
