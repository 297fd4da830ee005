//! Shows what an apply would change, as a unified difference of YAML, and says whether it changes
//! anything. Values of secrets never appear: each is replaced by a salted digest, which shows that
//! it changes without giving away what it is.

use serde_json::Value;
use sha2::{Digest, Sha256};
use similar::TextDiff;

use crate::clean;
use crate::config_digest::hex;
use crate::kind::Kind;
use crate::pods;

/// Replaces values of secrets. The salt must be random and must not outlive the run: without it a
/// digest of a short secret could be found by trying.
#[derive(Clone, Debug)]
pub struct Redaction {
    salt: [u8; 16],
}

impl Redaction {
    /// Redacts with this salt.
    #[must_use]
    pub const fn with_salt(salt: [u8; 16]) -> Self {
        Self { salt }
    }

    fn digest(&self, value: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        hash.update(value.as_bytes());
        format!("(redacted, digest {})", hex(&hash.finalize()[..6]))
    }

    /// The object with the values of secrets replaced: all data of a Secret, and the values of
    /// environment variables whose name speaks of a secret.
    #[must_use]
    pub fn apply(&self, kind: Kind, value: &Value) -> Value {
        let mut value = value.clone();
        if kind == Kind::Secret {
            for part in ["data", "stringData"] {
                if let Some(data) = value.get_mut(part).and_then(Value::as_object_mut) {
                    for entry in data.values_mut() {
                        let text = entry
                            .as_str()
                            .map_or_else(|| entry.to_string(), str::to_owned);
                        *entry = Value::String(self.digest(&text));
                    }
                }
            }
        }
        if let Some(template) = pods::template_mut(kind, &mut value) {
            pods::each_container_mut(template, &mut |container| {
                for variable in secret_variables(container) {
                    *variable = self.digest(variable);
                }
            });
        }
        value
    }
}

/// The object with the values of secrets blanked, for hashes that are kept: a hash over a short secret
/// and otherwise known text would give it away.
#[must_use]
pub fn without_secrets(kind: Kind, value: &Value) -> Value {
    let mut value = value.clone();
    if kind == Kind::Secret {
        for part in ["data", "stringData"] {
            if let Some(data) = value.get_mut(part).and_then(Value::as_object_mut) {
                data.values_mut().for_each(|entry| *entry = Value::Null);
            }
        }
    }
    if let Some(template) = pods::template_mut(kind, &mut value) {
        pods::each_container_mut(template, &mut |container| {
            for variable in secret_variables(container) {
                *variable = String::new();
            }
        });
    }
    value
}

/// Whether a workload has environment variables that look like secrets, in plain text.
#[must_use]
pub fn has_plain_secrets(kind: Kind, value: &Value) -> bool {
    let mut value = value.clone();
    let mut found = false;
    if let Some(template) = pods::template_mut(kind, &mut value) {
        pods::each_container_mut(template, &mut |container| {
            found |= secret_variables(container).next().is_some();
        });
    }
    found
}

/// The values of environment variables whose name speaks of a secret.
fn secret_variables(container: &mut Value) -> impl Iterator<Item = &mut String> {
    let variables = container.get_mut("env").and_then(Value::as_array_mut);
    variables.into_iter().flatten().filter_map(|variable| {
        let speaks = variable
            .get("name")
            .and_then(Value::as_str)
            .is_some_and(speaks_of_a_secret);
        match variable.get_mut("value") {
            Some(Value::String(text)) if speaks && !text.is_empty() => Some(text),
            Some(_) | None => None,
        }
    })
}

/// Names under which people put secrets into plain environment variables.
fn speaks_of_a_secret(name: &str) -> bool {
    let name = name.to_uppercase();
    [
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "SECRET",
        "TOKEN",
        "API_KEY",
        "APIKEY",
        "ACCESS_KEY",
        "PRIVATE_KEY",
        "CREDENTIAL",
        "DATABASE_URL",
        "CONNECTION_STRING",
        "DSN",
    ]
    .iter()
    .any(|word| name.contains(word))
}

/// Whether an object differs from another in something that a writer wanted.
#[must_use]
pub fn differs(live: &Value, planned: &Value) -> bool {
    clean::intent(live) != clean::intent(planned)
}

/// The unified difference between what is live and what is planned; empty when they agree. Both
/// values are cleaned and redacted first; an absent one is an object that is not there.
#[must_use]
pub fn render(
    title: &str,
    kind: Kind,
    live: Option<&Value>,
    planned: Option<&Value>,
    redaction: &Redaction,
) -> String {
    let text = |value: Option<&Value>| {
        value.map_or_else(String::new, |value| {
            // A dry run hands out addresses that the real write will not get.
            let shown = if live.is_none() {
                clean::for_backup(kind, value)
            } else {
                clean::intent(value)
            };
            yaml(&redaction.apply(kind, &shown))
        })
    };
    let (before, after) = (text(live), text(planned));
    let name = |value: Option<&Value>, side: &str| match value {
        Some(_) => format!("{title} ({side})"),
        None => "(not there)".to_owned(),
    };
    TextDiff::from_lines(&before, &after)
        .unified_diff()
        .context_radius(3)
        .header(&name(live, "live"), &name(planned, "planned"))
        .to_string()
}

/// An object as YAML. JSON values are always representable; should that ever fail, JSON is YAML.
#[must_use]
pub fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_| format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const REDACTION: Redaction = Redaction::with_salt([7; 16]);

    #[test]
    fn a_difference_shows_what_changes_and_nothing_that_the_server_keeps() {
        let live = json!({"kind": "Deployment", "metadata": {"name": "web", "resourceVersion": "1"}, "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "web", "image": "web:v1"}]}}}, "status": {"replicas": 3}});
        let mut planned = live.clone();
        planned["metadata"]["resourceVersion"] = json!("2");
        assert!(!differs(&live, &planned));
        planned["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:v2");
        assert!(differs(&live, &planned));
        insta::assert_snapshot!(render(
            "deployment/web",
            Kind::Deployment,
            Some(&live),
            Some(&planned),
            &REDACTION
        ));
    }

    #[test]
    fn values_of_secrets_are_replaced_by_digests_that_still_show_a_change() {
        let secret = |value: &str| json!({"kind": "Secret", "metadata": {"name": "web"}, "data": {"same": "c2FtZQ==", "password": value}});
        let shown = render(
            "secret/web",
            Kind::Secret,
            Some(&secret("aHVudGVyMg==")),
            Some(&secret("aHVudGVyMw==")),
            &REDACTION,
        );
        assert!(
            !shown.contains("aHVudGVy") && !shown.contains("c2FtZQ"),
            "{shown}"
        );
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn plain_environment_variables_that_speak_of_secrets_are_redacted() {
        let pods = json!({"spec": {"template": {"spec": {"containers": [{"env": [
            {"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "PORT", "value": "80"}
        ]}]}}}});
        let redacted = REDACTION.apply(Kind::Deployment, &pods).to_string();
        assert!(!redacted.contains("hunter2") && redacted.contains("\"80\""));
    }

    #[test]
    fn another_salt_gives_another_digest() {
        let secret = json!({"data": {"a": "x"}});
        assert_ne!(
            REDACTION.apply(Kind::Secret, &secret),
            Redaction::with_salt([8; 16]).apply(Kind::Secret, &secret)
        );
    }
}
