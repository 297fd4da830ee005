//! How many pods a workload gets: what the manifest says, never what an autoscaler decides, and for a
//! new side at least what the live side has, so that it can take all of its traffic.

use serde_json::{Value, json};
use switchyard_manifest::{Kind, Object, names};

/// What decides over the size of one workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sizing {
    /// The workload as it is live under the same name.
    pub live: Option<Value>,
    /// Whether an autoscaler, planned or live, sizes it.
    pub is_autoscaled: bool,
    /// Whether the workload is of a side that is to take traffic later.
    pub is_new_side: bool,
    /// Ready pods of the live side's workload, for a workload of a new side.
    pub old_ready: Option<u64>,
}

/// Sets or leaves out `spec.replicas` of a workload. Gives a line for people when the size is not the
/// manifest's.
pub(crate) fn size(workload: &mut Object, sizing: &Sizing) -> Option<String> {
    if !workload.kind().has_replicas() {
        return None;
    }
    let replicas = workload.value().pointer("/spec/replicas").cloned();
    let stated = replicas.as_ref().and_then(Value::as_u64);
    if replicas.is_some_and(|replicas| !replicas.is_null()) && stated.is_none() {
        // No number: the API server refuses it by name, and its words must not be taken from it.
        return None;
    }
    let live = sizing.live.as_ref().map(|live| {
        live.pointer("/spec/replicas")
            .and_then(Value::as_u64)
            .unwrap_or(1)
    });
    let floor = sizing.old_ready.unwrap_or(0);
    let wanted = stated.unwrap_or(1).max(floor);
    let decided = match (live, stated) {
        // Nobody has a say yet; an autoscaler takes over from here.
        (None, Some(_)) => Some(wanted),
        (None, None) => (wanted > 1).then_some(wanted),
        // A retired slot stands at zero, where an autoscaler sleeps too: it has to be woken. A live
        // workload at zero was put there by somebody.
        (Some(0), _) if sizing.is_new_side => Some(wanted),
        (Some(live), _) if sizing.is_autoscaled => keep(sizing, live.max(floor), live),
        (Some(live), None) => keep(sizing, live.max(floor), live),
        (Some(_), Some(_)) => Some(wanted),
    };
    set(workload, decided);
    let title = workload.identity();
    match decided {
        Some(decided) if stated.is_none_or(|stated| stated != decided) && floor == decided => {
            Some(format!(
                "{title} gets {decided} replicas, as many as the live side has ready{}",
                stated.map_or_else(String::new, |stated| format!(" (manifest: {stated})"))
            ))
        }
        None if stated.is_some() => Some(format!(
            "{title}: `replicas` is left to its autoscaler (now {})",
            live.unwrap_or(1)
        )),
        Some(_) | None => None,
    }
}

/// A size that is somebody else's is left out of the apply. But server-side apply takes a field away
/// that its own manager stated before and no longer states, and the size would fall to 1: what we own
/// is stated again as it is.
fn keep(sizing: &Sizing, wanted: u64, live: u64) -> Option<u64> {
    let owned = sizing.live.as_ref().is_some_and(owns_replicas);
    (owned || wanted != live).then_some(wanted)
}

fn owns_replicas(live: &Value) -> bool {
    let entries = live
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        text("manager") == Some(switchyard_cluster::FIELD_MANAGER)
            && text("operation") == Some("Apply")
            && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some()
    })
}

/// Writes, or leaves out, `spec.replicas`.
pub(crate) fn set(workload: &mut Object, replicas: Option<u64>) {
    let Some(spec) = workload
        .value_mut()
        .get_mut("spec")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    match replicas {
        Some(replicas) => spec.insert("replicas".to_owned(), json!(replicas)),
        None => spec.remove("replicas"),
    };
}

/// Raises the floor of a new side's autoscaler to the live side's size for the time of the switch; the
/// manifest's floor is kept in an annotation for later. Gives a line for people when it did.
pub(crate) fn raise_floor(autoscaler: &mut Object, old_ready: u64) -> Option<String> {
    if autoscaler.kind() != Kind::HorizontalPodAutoscaler {
        return None;
    }
    let number = |pointer: &str| autoscaler.value().pointer(pointer).and_then(Value::as_u64);
    let stated = number("/spec/minReplicas").unwrap_or(1);
    let ceiling = number("/spec/maxReplicas").unwrap_or(u64::MAX);
    let floor = old_ready.min(ceiling);
    if floor <= stated {
        return None;
    }
    autoscaler.set_annotation(names::MIN_REPLICAS, &stated.to_string());
    if let Some(spec) = autoscaler
        .value_mut()
        .get_mut("spec")
        .and_then(Value::as_object_mut)
    {
        spec.insert("minReplicas".to_owned(), json!(floor));
    }
    let short = if floor < old_ready {
        format!(" (the live side has {old_ready}, but maxReplicas is {ceiling})")
    } else {
        String::new()
    };
    Some(format!(
        "{} gets minReplicas {floor} instead of {stated} until the deployment is finished{short}",
        autoscaler.identity()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_manifest::parse::parse;

    fn workload(replicas: Option<u64>) -> Object {
        let spec = replicas.map_or_else(String::new, |replicas| format!("replicas: {replicas}"));
        parse(
            "web.yaml",
            &format!("{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{{spec}}}}}"),
        )
        .expect("valid")
        .remove(0)
    }

    fn live(replicas: u64) -> Value {
        json!({"spec": {"replicas": replicas}})
    }

    fn ours(replicas: u64) -> Value {
        json!({
            "metadata": {"managedFields": [{"manager": "switchyard", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]},
            "spec": {"replicas": replicas}
        })
    }

    fn decided(stated: Option<u64>, sizing: &Sizing) -> Option<u64> {
        let mut workload = workload(stated);
        size(&mut workload, sizing);
        workload.value()["spec"]
            .get("replicas")
            .and_then(Value::as_u64)
    }

    #[test]
    fn without_autoscaler_and_old_side_the_manifest_decides() {
        assert_eq!(decided(Some(3), &Sizing::default()), Some(3));
        assert_eq!(decided(None, &Sizing::default()), None);
        let at_five = Sizing {
            live: Some(live(5)),
            ..Sizing::default()
        };
        assert_eq!(decided(Some(3), &at_five), Some(3));
        assert_eq!(decided(None, &at_five), None);
    }

    #[test]
    fn nonsense_is_left_for_the_api_server_to_refuse() {
        let mut workload = workload(None);
        workload.value_mut()["spec"]["replicas"] = json!("two");
        size(&mut workload, &Sizing::default());
        assert_eq!(workload.value()["spec"]["replicas"], "two");
    }

    #[test]
    fn an_autoscaled_workload_is_left_alone_once_it_is_there() {
        let autoscaled = |live: Option<Value>| Sizing {
            live,
            is_autoscaled: true,
            ..Sizing::default()
        };
        assert_eq!(decided(Some(3), &autoscaled(Some(live(7)))), None);
        assert_eq!(
            decided(Some(3), &autoscaled(None)),
            Some(3),
            "it begins with the manifest's"
        );
        assert_eq!(
            decided(Some(3), &autoscaled(Some(live(0)))),
            None,
            "somebody put it there"
        );
        let retired = Sizing {
            is_new_side: true,
            ..autoscaled(Some(live(0)))
        };
        assert_eq!(decided(Some(3), &retired), Some(3), "a retired slot wakes");
    }

    #[test]
    fn a_size_that_we_stated_before_is_stated_again_so_that_it_does_not_fall_to_one() {
        let sizing = Sizing {
            live: Some(ours(7)),
            is_autoscaled: true,
            ..Sizing::default()
        };
        assert_eq!(decided(Some(3), &sizing), Some(7));
        let sizing = Sizing {
            live: Some(ours(7)),
            ..Sizing::default()
        };
        assert_eq!(decided(None, &sizing), Some(7));
    }

    #[test]
    fn a_new_side_is_at_least_as_large_as_the_live_one() {
        let beside = |live: Option<Value>, is_autoscaled| Sizing {
            live,
            is_autoscaled,
            is_new_side: true,
            old_ready: Some(6),
        };
        assert_eq!(decided(Some(3), &beside(None, false)), Some(6));
        assert_eq!(decided(Some(9), &beside(None, false)), Some(9));
        assert_eq!(decided(None, &beside(None, false)), Some(6));
        assert_eq!(
            decided(None, &beside(Some(live(0)), false)),
            Some(6),
            "a retired slot wakes"
        );
        assert_eq!(decided(Some(2), &beside(Some(live(4)), true)), Some(6));
        assert_eq!(decided(Some(2), &beside(Some(live(8)), true)), None);
    }

    #[test]
    fn a_size_that_is_not_the_manifests_is_said() {
        let note = size(
            &mut workload(Some(3)),
            &Sizing {
                old_ready: Some(6),
                ..Sizing::default()
            },
        );
        assert_eq!(
            note.as_deref(),
            Some(
                "deployment/web gets 6 replicas, as many as the live side has ready (manifest: 3)"
            )
        );
        let note = size(
            &mut workload(Some(3)),
            &Sizing {
                live: Some(live(5)),
                is_autoscaled: true,
                ..Sizing::default()
            },
        );
        assert_eq!(
            note.as_deref(),
            Some("deployment/web: `replicas` is left to its autoscaler (now 5)")
        );
        assert_eq!(size(&mut workload(Some(3)), &Sizing::default()), None);
    }

    fn autoscaler(min: &str, max: u64) -> Object {
        parse(
            "web.yaml",
            &format!("{{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {{name: web}}, spec: {{{min} maxReplicas: {max}}}}}"),
        )
        .expect("valid")
        .remove(0)
    }

    #[test]
    fn an_autoscalers_floor_is_raised_to_the_live_size_and_remembered() {
        let mut scaler = autoscaler("minReplicas: 2,", 9);
        assert!(raise_floor(&mut scaler, 6).is_some());
        assert_eq!(scaler.value()["spec"]["minReplicas"], 6);
        assert_eq!(scaler.annotation(names::MIN_REPLICAS), Some("2"));
        let mut scaler = autoscaler("", 4);
        let note = raise_floor(&mut scaler, 6).expect("raised as far as it goes");
        assert!(
            note.ends_with("(the live side has 6, but maxReplicas is 4)"),
            "{note}"
        );
        assert_eq!(raise_floor(&mut autoscaler("minReplicas: 7,", 9), 6), None);
    }
}
