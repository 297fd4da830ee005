//! What a rolling update will do to a workload, in words, before it begins: how many pods come and go, what
//! holds them, how old ones end. Pure.

use std::time::Duration;

use serde_json::Value;
use switchyard_manifest::selector::LabelSelector;
use switchyard_manifest::{Kind, pods};
use switchyard_runner::values::show_duration;

use super::shape::grace;
use crate::plan::bounds::{Bounds, DEFAULT_SHARE, Rounding, bounds, resolved};
use crate::plan::traffic::name_of;

/// Kubernetes' own progress deadline, in seconds.
const DEFAULT_PROGRESS: u64 = 600;

/// A workload that is about to be updated.
pub(super) struct Update<'a> {
    /// As people name it: `deployment/web`.
    pub title: String,
    /// Its kind.
    pub kind: Kind,
    /// What is there now.
    pub live: Option<&'a Value>,
    /// What will be, with Kubernetes' defaults.
    pub after: &'a Value,
    /// The PodDisruptionBudgets of the namespace.
    pub budgets: &'a [Value],
}

/// What is said of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    /// What will be done.
    pub lines: Vec<String>,
    /// What is dangerous about it.
    pub warnings: Vec<String>,
}

/// Says what the update will do.
pub(super) fn of(update: &Update<'_>) -> Statement {
    let mut statement = Statement::default();
    let title = &update.title;
    let Some(live) = update.live else {
        let size = size(update.after);
        statement.lines.push(format!("{title}: new, {size} pods"));
        statement.state_hooks(update, None);
        return statement;
    };
    if live.pointer("/spec/template") == update.after.pointer("/spec/template") {
        statement
            .lines
            .push(format!("{title}: its template is what it is to be already"));
        return statement;
    }
    if update.kind == Kind::Deployment {
        statement.state_deployment(update, live);
    } else if update.kind == Kind::StatefulSet {
        statement.lines.push(format!(
            "{title}: {} pods, one after the other from the highest number, each gone before its new one comes{}",
            size(update.after),
            partition(update.after)
        ));
    } else {
        let field = |name: &str, default| {
            let value = update
                .after
                .pointer(&format!("/spec/updateStrategy/rollingUpdate/{name}"));
            shown(value, default)
        };
        statement.lines.push(format!(
            "{title}: a pod on every node, maxUnavailable {}, maxSurge {}",
            field("maxUnavailable", "1"),
            field("maxSurge", "0"),
        ));
    }
    statement.state_hooks(update, Some(live));
    statement
}

/// What a budget asks of so many pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Budget {
    /// Pods that have to be there.
    needed: u64,
    /// Pods that may be missing.
    spare: u64,
}

/// As the disruption controller resolves it: both fields are rounded up.
fn budget(value: &Value, size: u64) -> Budget {
    let field = |name: &str| value.pointer(&format!("/spec/{name}"));
    let needed = match (field("minAvailable"), field("maxUnavailable")) {
        (Some(least), _) => resolved(Some(least), "0%", size, Rounding::Up),
        (None, Some(most)) => size.saturating_sub(resolved(Some(most), "0%", size, Rounding::Up)),
        // Kubernetes keeps one pod where neither is given.
        (None, None) => 1,
    };
    Budget {
        needed,
        spare: size.saturating_sub(needed),
    }
}

impl Statement {
    fn state_deployment(&mut self, update: &Update<'_>, live: &Value) {
        let size = size(live);
        let bounds = bounds(update.after, size);
        let number = |pointer: &str, default: u64| {
            let value = update.after.pointer(pointer).and_then(Value::as_u64);
            show_duration(Duration::from_secs(value.unwrap_or(default)))
        };
        let field = |name: &str| {
            let value = update
                .after
                .pointer(&format!("/spec/strategy/rollingUpdate/{name}"));
            shown(value, DEFAULT_SHARE)
        };
        self.lines.push(format!(
            "{}: {size} pods, at most {} at once (maxSurge {}), at least {} available (maxUnavailable {})",
            update.title,
            size + bounds.surge,
            field("maxSurge"),
            size - bounds.unavailable,
            field("maxUnavailable"),
        ));
        self.lines.push(format!(
            "  a new pod counts once it is ready for {} (minReadySeconds); Kubernetes itself would give up after {} (progressDeadlineSeconds)",
            number("/spec/minReadySeconds", 0),
            number("/spec/progressDeadlineSeconds", DEFAULT_PROGRESS),
        ));
        if bounds.unavailable > 0 {
            self.warnings.push(format!(
                "{}: {} of {size} pods may be missing while it is updated; `max-unavailable: 0` keeps all of them",
                update.title, bounds.unavailable
            ));
        }
        self.state_budgets(update, size, bounds);
    }

    fn state_budgets(&mut self, update: &Update<'_>, size: u64, bounds: Bounds) {
        let labels = pods::labels(update.kind, update.after);
        let selecting = update.budgets.iter().filter(|budget| {
            let selector = budget.pointer("/spec/selector");
            selector
                .and_then(LabelSelector::parse)
                .is_some_and(|selector| selector.matches(&labels))
        });
        let mut is_any = false;
        for value in selecting {
            is_any = true;
            let name = name_of(value);
            let budget = budget(value, size);
            let now = value
                .pointer("/status/disruptionsAllowed")
                .and_then(Value::as_u64)
                .map_or_else(String::new, |now| format!(", {now} at this moment"));
            self.lines.push(format!(
                "  poddisruptionbudget/{name}: {} of {size} pods have to be there, {} may be evicted{now}",
                budget.needed, budget.spare
            ));
            if bounds.unavailable > budget.spare {
                self.warnings.push(format!(
                    "{}: the update may take {} pods away, poddisruptionbudget/{name} allows {}; Kubernetes asks no budget when it updates: lower `max-unavailable`",
                    update.title, bounds.unavailable, budget.spare
                ));
            }
        }
        if !is_any {
            self.lines
                .push("  no PodDisruptionBudget selects its pods".to_owned());
        }
    }

    /// How pods end: the live ones in this update, those of the new template in its way back and the next one.
    fn state_hooks(&mut self, update: &Update<'_>, live: Option<&Value>) {
        let title = &update.title;
        let template = |workload: &Value| pods::template(update.kind, workload).cloned();
        let after = template(update.after).unwrap_or_default();
        let without_hook = containers(&after, Hook::Missing);
        if let Some(live) = live.and_then(template) {
            let hooks = containers(&live, Hook::Present);
            self.lines.push(format!(
                "  an old pod is killed {} after it is told to end (terminationGracePeriodSeconds); preStop: {}",
                show_duration(Duration::from_secs(grace(&live))),
                if hooks.is_empty() { "none".to_owned() } else { hooks.join(", ") },
            ));
            let missing = containers(&live, Hook::Missing);
            if !missing.is_empty() && without_hook.is_empty() {
                self.warnings.push(format!(
                    "{title}: container {} of the pods that are live has no preStop hook yet: where it does not serve on after SIGTERM, requests can be lost in this update, and no more from the next one on",
                    missing.join(", ")
                ));
            }
        }
        if !without_hook.is_empty() {
            self.warnings.push(format!(
                "{title}: container {} has no preStop hook: it gets SIGTERM while proxies still send to it. Give input `pre-stop-sleep: 5s`, or write into each of these containers `lifecycle: {{preStop: {{sleep: {{seconds: 5}}}}}}`",
                without_hook.join(", ")
            ));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hook {
    Present,
    Missing,
}

/// Names of the containers with, or without, a preStop hook.
fn containers(template: &Value, wanted: Hook) -> Vec<String> {
    let list = template
        .pointer("/spec/containers")
        .and_then(Value::as_array);
    let list = list.into_iter().flatten().filter_map(|container| {
        let hook = container.pointer("/lifecycle/preStop");
        let hook = hook.filter(|hook| !hook.is_null());
        let name = container.get("name")?.as_str()?;
        match (hook, wanted) {
            (Some(hook), Hook::Present) => {
                let sleep = hook.pointer("/sleep/seconds").and_then(Value::as_u64);
                let what = sleep.map_or_else(
                    || "has its own".to_owned(),
                    |seconds| format!("sleeps {seconds}s"),
                );
                Some(format!("`{name}` {what}"))
            }
            (None, Hook::Missing) => Some(format!("`{name}`")),
            (Some(_), Hook::Missing) | (None, Hook::Present) => None,
        }
    });
    list.collect()
}

fn size(workload: &Value) -> u64 {
    workload
        .pointer("/spec/replicas")
        .and_then(Value::as_u64)
        .unwrap_or(1)
}

fn shown(value: Option<&Value>, default: &str) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => default.to_owned(),
    }
}

fn partition(stateful_set: &Value) -> String {
    let partition = stateful_set
        .pointer("/spec/updateStrategy/rollingUpdate/partition")
        .and_then(Value::as_u64)
        .filter(|partition| *partition > 0);
    partition.map_or_else(String::new, |partition| {
        format!(", those below number {partition} stay (partition)")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(image: &str, hook: &Value, strategy: &Value) -> Value {
        json!({
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 3, "minReadySeconds": 5, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": strategy},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "terminationGracePeriodSeconds": 35,
                        "containers": [{"name": "web", "image": image, "lifecycle": hook}],
                    },
                },
            },
        })
    }

    fn stated(live: Option<&Value>, after: &Value, budgets: &[Value]) -> Statement {
        of(&Update {
            title: "deployment/web".to_owned(),
            kind: Kind::Deployment,
            live,
            after,
            budgets,
        })
    }

    fn kept(spec: &Value) -> Value {
        let mut spec = spec.clone();
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
        json!({"metadata": {"name": "web"}, "spec": spec, "status": {"disruptionsAllowed": 1}})
    }

    #[test]
    fn an_update_is_stated_in_pods() {
        let sleep = json!({"preStop": {"sleep": {"seconds": 5}}});
        let strategy = json!({"maxSurge": "25%", "maxUnavailable": "25%"});
        let live = deployment("web:1", &sleep, &strategy);
        let after = deployment("web:2", &sleep, &strategy);
        let said = stated(Some(&live), &after, &[kept(&json!({"maxUnavailable": 1}))]);
        assert_eq!(
            said.lines,
            [
                "deployment/web: 3 pods, at most 4 at once (maxSurge 25%), at least 3 available (maxUnavailable 25%)",
                "  a new pod counts once it is ready for 5s (minReadySeconds); Kubernetes itself would give up after 10m (progressDeadlineSeconds)",
                "  poddisruptionbudget/web: 2 of 3 pods have to be there, 1 may be evicted, 1 at this moment",
                "  an old pod is killed 35s after it is told to end (terminationGracePeriodSeconds); preStop: `web` sleeps 5s",
            ]
        );
        assert_eq!(said.warnings, Vec::<String>::new());
    }

    #[test]
    fn what_takes_more_pods_than_a_budget_allows_is_warned_of() {
        let sleep = json!({"preStop": {"exec": {"command": ["drain"]}}});
        let strategy = json!({"maxSurge": 0, "maxUnavailable": 2});
        let live = deployment("web:1", &sleep, &strategy);
        let after = deployment("web:2", &sleep, &strategy);
        let said = stated(
            Some(&live),
            &after,
            &[
                kept(&json!({"minAvailable": "50%"})),
                json!({"metadata": {"name": "of-another"}, "spec": {"selector": {"matchLabels": {"app": "api"}}}}),
            ],
        );
        assert_eq!(
            said.warnings,
            [
                "deployment/web: 2 of 3 pods may be missing while it is updated; `max-unavailable: 0` keeps all of them",
                "deployment/web: the update may take 2 pods away, poddisruptionbudget/web allows 1; Kubernetes asks no budget when it updates: lower `max-unavailable`",
            ]
        );
        assert!(
            said.lines[3].ends_with("preStop: `web` has its own"),
            "{said:?}"
        );
    }

    #[test]
    fn a_missing_hook_is_named_with_what_to_write() {
        let strategy = json!({"maxSurge": 1, "maxUnavailable": 0});
        let sleep = json!({"preStop": {"sleep": {"seconds": 5}}});
        let live = deployment("web:1", &json!(null), &strategy);
        let said = stated(
            Some(&live),
            &deployment("web:2", &json!(null), &strategy),
            &[],
        );
        assert_eq!(said.warnings.len(), 1);
        assert!(
            said.warnings[0].ends_with(
                "write into each of these containers `lifecycle: {preStop: {sleep: {seconds: 5}}}`"
            ),
            "{said:?}"
        );
        let first = stated(Some(&live), &deployment("web:2", &sleep, &strategy), &[]);
        assert_eq!(first.warnings.len(), 1);
        assert!(
            first.warnings[0].contains("of the pods that are live has no preStop hook yet"),
            "{first:?}"
        );
    }

    #[test]
    fn a_workload_that_keeps_its_template_replaces_no_pod_and_a_new_one_none_either() {
        let strategy = json!({});
        let same = deployment("web:1", &json!(null), &strategy);
        let said = stated(Some(&same), &same, &[]);
        assert_eq!(
            said.lines,
            ["deployment/web: its template is what it is to be already"]
        );
        assert_eq!(said.warnings, Vec::<String>::new());
        assert_eq!(
            stated(None, &same, &[]).lines,
            ["deployment/web: new, 3 pods"]
        );
    }

    #[test]
    fn shares_resolve_as_kubernetes_resolves_them() {
        let of_size =
            |size, strategy: &Value| bounds(&deployment("", &json!(null), strategy), size);
        for (size, strategy, surge, unavailable) in [
            (
                10,
                json!({"maxSurge": "25%", "maxUnavailable": "25%"}),
                3,
                2,
            ),
            (1, json!({}), 1, 0),
            (4, json!({"maxSurge": 0, "maxUnavailable": "10%"}), 0, 1),
            (2, json!({"maxSurge": 0, "maxUnavailable": 5}), 0, 2),
        ] {
            let expected = Bounds { surge, unavailable };
            assert_eq!(of_size(size, &strategy), expected, "{size} {strategy}");
        }
        let resolved = |spec: &Value, size| budget(&kept(spec), size);
        let both = |needed, spare| Budget { needed, spare };
        assert_eq!(resolved(&json!({"minAvailable": "50%"}), 3), both(2, 1));
        assert_eq!(resolved(&json!({"maxUnavailable": "50%"}), 3), both(1, 2));
        assert_eq!(resolved(&json!({"minAvailable": 5}), 3), both(5, 0));
        assert_eq!(resolved(&json!({}), 3), both(1, 2));
    }
}
