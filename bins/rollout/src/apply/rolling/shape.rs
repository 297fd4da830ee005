//! What the inputs of a rolling update change in manifests: the strategy of Deployments, and a sleep before
//! a container is told to end. Pure; what a user has written himself stays.

use anyhow::anyhow;
use serde_json::{Map, Value, json};
use switchyard_manifest::{Kind, Object, pods};
use switchyard_runner::Failure;

use crate::apply::is_sized;
use crate::inputs::PodCount;

/// Kubernetes' grace period where a pod template states none, in seconds.
pub(super) const DEFAULT_GRACE: u64 = 30;

/// Adds the sleep to every container that has no preStop hook. The grace period counts from before the
/// sleep, so it gets as much longer: a container keeps what it had between SIGTERM and SIGKILL.
pub(super) fn add_sleep(object: &mut Object, seconds: u32) -> Option<String> {
    let kind = object.kind();
    let title = object.identity().to_string();
    if !is_sized(kind) {
        return None;
    }
    let template = pods::template_mut(kind, object.value_mut())?;
    let containers = template
        .pointer_mut("/spec/containers")
        .and_then(Value::as_array_mut);
    let mut added = Vec::new();
    for container in containers.into_iter().flatten() {
        let name = container
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let Some(lifecycle) = part_of(container, "lifecycle") else {
            continue;
        };
        if lifecycle.get("preStop").is_some_and(|hook| !hook.is_null()) {
            continue;
        }
        lifecycle.insert("preStop".to_owned(), json!({"sleep": {"seconds": seconds}}));
        added.push(format!("`{name}`"));
    }
    if added.is_empty() {
        return None;
    }
    let grace = grace(template) + u64::from(seconds);
    template["spec"]["terminationGracePeriodSeconds"] = json!(grace);
    Some(format!(
        "{title}: container {} sleeps {seconds}s before it is told to end; the grace period is {grace}s",
        added.join(", ")
    ))
}

/// The map under a key, made where there is none; nothing where something else stands there, which the API
/// server refuses by name.
fn part_of<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    let entry = value.as_object_mut()?.entry(key).or_insert(Value::Null);
    if entry.is_null() {
        *entry = json!({});
    }
    entry.as_object_mut()
}

/// Seconds between the beginning of a pod's end and SIGKILL.
pub(super) fn grace(template: &Value) -> u64 {
    template
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_u64)
        .unwrap_or(DEFAULT_GRACE)
}

/// The sleeps of a workload's containers, by name.
pub(super) fn sleeps(workload: &Value) -> Vec<(String, u64)> {
    let containers = workload.pointer("/spec/template/spec/containers");
    let containers = containers.and_then(Value::as_array).into_iter().flatten();
    containers
        .filter_map(|container| {
            let seconds = container.pointer("/lifecycle/preStop/sleep/seconds")?;
            let name = container.get("name")?.as_str()?;
            Some((name.to_owned(), seconds.as_u64()?))
        })
        .collect()
}

/// Sets surge and unavailability of every Deployment.
///
/// # Errors
/// Bad input: one is given, and there is no Deployment, or one that is not updated by rolling.
pub(super) fn set_strategies<'a>(
    objects: impl Iterator<Item = &'a mut Object>,
    (surge, unavailable): (Option<PodCount>, Option<PodCount>),
) -> Result<(), Failure> {
    let given = [("maxSurge", surge), ("maxUnavailable", unavailable)];
    let mut deployments = 0_usize;
    for object in objects.filter(|object| object.kind() == Kind::Deployment) {
        deployments += 1;
        if object.value().pointer("/spec/strategy/type") == Some(&json!("Recreate")) {
            return Err(Failure::input(anyhow!(
                "{} has strategy `Recreate`: all of its pods end before the first new one begins",
                object.identity()
            ))
            .hint("take the strategy out of the manifest, or apply it with the command `apply`"));
        }
        for (field, count) in given {
            let Some(count) = count else { continue };
            let spec = part_of(object.value_mut(), "spec");
            let strategy = spec.and_then(|spec| {
                let entry = spec.entry("strategy").or_insert_with(|| json!({}));
                entry.as_object_mut()
            });
            let Some(strategy) = strategy else { continue };
            strategy.insert("type".to_owned(), json!("RollingUpdate"));
            let rolling = strategy.entry("rollingUpdate").or_insert_with(|| json!({}));
            rolling[field] = count.to_value();
        }
    }
    let asked = [("max-surge", surge), ("max-unavailable", unavailable)];
    let asked = asked.iter().find(|(_, count)| count.is_some());
    match asked {
        Some((input, _)) if deployments == 0 => Err(Failure::input(anyhow!(
            "input `{input}` is given, but no Deployment is among the manifests"
        ))),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Object {
        let mut objects = switchyard_manifest::parse::parse("web.yaml", text).expect("a manifest");
        objects.remove(0)
    }

    fn deployment(spec: &str) -> Object {
        parsed(&format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {spec}}}"
        ))
    }

    #[test]
    fn containers_without_a_hook_sleep_and_keep_their_time_to_end() {
        let mut object = deployment(
            "{template: {spec: {terminationGracePeriodSeconds: 10, initContainers: [{name: init}], containers: [{name: web}, {name: own, lifecycle: {preStop: {exec: {command: [drain]}}}}, {name: late, lifecycle: {postStart: {exec: {command: [warm]}}}}]}}}",
        );
        let note = add_sleep(&mut object, 5).expect("something was added");
        assert_eq!(
            note,
            "deployment/web: container `web`, `late` sleeps 5s before it is told to end; the grace period is 15s"
        );
        let pod = &object.value()["spec"]["template"]["spec"];
        assert_eq!(pod["terminationGracePeriodSeconds"], 15);
        assert_eq!(
            pod["containers"][0]["lifecycle"],
            json!({"preStop": {"sleep": {"seconds": 5}}})
        );
        assert_eq!(
            pod["containers"][1]["lifecycle"],
            json!({"preStop": {"exec": {"command": ["drain"]}}})
        );
        assert_eq!(
            pod["containers"][2]["lifecycle"],
            json!({"postStart": {"exec": {"command": ["warm"]}}, "preStop": {"sleep": {"seconds": 5}}})
        );
        assert_eq!(pod["initContainers"], json!([{"name": "init"}]));
        assert_eq!(
            sleeps(object.value()),
            [("web".to_owned(), 5), ("late".to_owned(), 5)]
        );
    }

    #[test]
    fn nothing_changes_where_every_container_has_its_own_hook_or_the_kind_is_no_service() {
        let own = "{template: {spec: {containers: [{name: web, lifecycle: {preStop: {sleep: {seconds: 20}}}}]}}}";
        for text in [
            format!("{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {own}}}"),
            "{apiVersion: batch/v1, kind: Job, metadata: {name: once}, spec: {template: {spec: {containers: [{name: once}]}}}}".to_owned(),
        ] {
            let before = parsed(&text);
            let mut object = before.clone();
            assert_eq!(add_sleep(&mut object, 5), None);
            assert_eq!(object, before);
        }
    }

    #[test]
    fn a_strategy_is_set_beside_what_the_manifest_says() {
        let mut object = deployment("{strategy: {rollingUpdate: {maxSurge: 1}}}");
        let counts = (None, Some(PodCount::Percent(10)));
        set_strategies(std::iter::once(&mut object), counts).expect("it is set");
        assert_eq!(
            object.value()["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "10%"}})
        );
    }

    #[test]
    fn what_cannot_be_rolled_is_refused() {
        let refused = |object: Option<Object>, surge| {
            let mut objects: Vec<Object> = object.into_iter().collect();
            set_strategies(objects.iter_mut(), (surge, None))
                .expect_err("it is refused")
                .to_string()
        };
        assert_eq!(
            refused(Some(deployment("{strategy: {type: Recreate}}")), None),
            "deployment/web has strategy `Recreate`: all of its pods end before the first new one begins"
        );
        assert_eq!(
            refused(None, Some(PodCount::Pods(1))),
            "input `max-surge` is given, but no Deployment is among the manifests"
        );
    }
}
