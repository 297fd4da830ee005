//! Label selectors as Kubernetes evaluates them. Refuses to know what is selected for what.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::pods::text_map;

/// A selector over labels. An empty one selects everything, as in Kubernetes; that a Service or
/// an absent selector selects nothing is the caller's reading ([`LabelSelector::of_service`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    match_labels: BTreeMap<String, String>,
    expressions: Vec<Expression>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Expression {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// The selector of a Service (a plain map). `None` when the Service selects no pods.
    #[must_use]
    pub fn of_service(service: &Value) -> Option<Self> {
        let match_labels = text_map(service.pointer("/spec/selector")?);
        (!match_labels.is_empty()).then_some(Self {
            match_labels,
            expressions: Vec::new(),
        })
    }

    /// A `metav1.LabelSelector`. `None` when it is absent (selects nothing) or when it holds an
    /// operator that Kubernetes does not have.
    #[must_use]
    pub fn parse(selector: &Value) -> Option<Self> {
        let map = selector.as_object()?;
        let expressions = match map.get("matchExpressions") {
            None | Some(Value::Null) => Vec::new(),
            Some(list) => list
                .as_array()?
                .iter()
                .map(Expression::parse)
                .collect::<Option<_>>()?,
        };
        Some(Self {
            match_labels: map.get("matchLabels").map(text_map).unwrap_or_default(),
            expressions,
        })
    }

    /// A selector by equality alone.
    #[must_use]
    pub fn equal_to(match_labels: BTreeMap<String, String>) -> Self {
        Self {
            match_labels,
            expressions: Vec::new(),
        }
    }

    /// Whether these labels are selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self
                .expressions
                .iter()
                .all(|expression| expression.matches(labels))
    }

    /// The selector without what it asks of one label.
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        let mut selector = self.clone();
        selector.match_labels.remove(key);
        selector
            .expressions
            .retain(|expression| expression.key != key);
        selector
    }

    /// Whether the selector asks for a value of this label.
    #[must_use]
    pub fn names_label(&self, key: &str) -> bool {
        self.match_labels.contains_key(key)
            || self
                .expressions
                .iter()
                .any(|expression| expression.key == key)
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let equal = self
            .match_labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let others = self.expressions.iter().map(|expression| {
            let key = &expression.key;
            match &expression.operator {
                Operator::In(values) => format!("{key} in ({})", values.join(",")),
                Operator::NotIn(values) => format!("{key} notin ({})", values.join(",")),
                Operator::Exists => key.clone(),
                Operator::DoesNotExist => format!("!{key}"),
            }
        });
        formatter.write_str(&equal.chain(others).collect::<Vec<_>>().join(","))
    }
}

impl Expression {
    fn parse(value: &Value) -> Option<Self> {
        let values = || -> Option<Vec<String>> {
            value
                .get("values")?
                .as_array()?
                .iter()
                .map(|entry| entry.as_str().map(str::to_owned))
                .collect()
        };
        let operator = match value.get("operator")?.as_str()? {
            "In" => Operator::In(values()?),
            "NotIn" => Operator::NotIn(values()?),
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        Some(Self {
            key: value.get("key")?.as_str()?.to_owned(),
            operator,
        })
    }

    /// `NotIn` selects objects without the label too (apimachinery, `labels.Requirement.Matches`).
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn an_empty_selector_selects_everything_but_not_in_a_service() {
        assert!(LabelSelector::parse(&json!({})).is_some_and(|all| all.matches(&labels(&[]))));
        assert_eq!(
            LabelSelector::of_service(&json!({"spec": {"selector": {}}})),
            None
        );
        assert_eq!(LabelSelector::of_service(&json!({"spec": {}})), None);
        assert_eq!(LabelSelector::parse(&Value::Null), None);
    }

    #[test]
    fn expressions_select_as_kubernetes_does() {
        let selector = LabelSelector::parse(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "slot", "operator": "NotIn", "values": ["blue"]},
                {"key": "zone", "operator": "Exists"},
                {"key": "old", "operator": "DoesNotExist"},
            ]
        }))
        .expect("valid");
        let fits = [("app", "web"), ("tier", "b"), ("zone", "x")];
        assert!(
            selector.matches(&labels(&fits)),
            "NotIn selects an absent label"
        );
        for extra in [("slot", "blue"), ("old", "")] {
            let mut pairs = fits.to_vec();
            pairs.push(extra);
            assert!(!selector.matches(&labels(&pairs)), "{extra:?}");
        }
        assert!(!selector.matches(&labels(&[("app", "web"), ("tier", "b")])));
        assert_eq!(
            selector.to_string(),
            "app=web,tier in (a,b),slot notin (blue),zone,!old"
        );
    }

    #[test]
    fn an_operator_that_kubernetes_does_not_have_is_no_selector() {
        assert_eq!(
            LabelSelector::parse(&json!({"matchExpressions": [{"key": "a", "operator": "Gt"}]})),
            None
        );
    }
}
