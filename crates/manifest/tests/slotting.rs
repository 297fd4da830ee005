//! Slotting of whole manifests, one fixture folder a state.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use switchyard_manifest::slotting::{Slotted, SlottingError, SlottingOptions, slot};
use switchyard_manifest::{
    Kind, LabelSelector, Object, ObjectName, Place, Slot, diff, parse, pods, references,
};

fn options(folder: &Path) -> SlottingOptions {
    let text = std::fs::read_to_string(folder.join("options.yaml")).unwrap_or("{}".into());
    let value: serde_json::Value = serde_saphyr::from_str(&text).expect("options are YAML");
    let names = |key: &str| -> BTreeSet<ObjectName> {
        let list = value.get(key).and_then(serde_json::Value::as_array);
        list.into_iter()
            .flatten()
            .map(|name| {
                name.as_str()
                    .and_then(|name| name.parse().ok())
                    .expect("a name")
            })
            .collect()
    };
    let is_canary = value.get("place") == Some(&"canary".into());
    SlottingOptions {
        place: if is_canary {
            Place::Canary
        } else {
            Place::Slot(Slot::Blue)
        },
        application: Some("shop".to_owned()),
        front: names("front"),
        after_switch: names("after-switch"),
        per_slot: names("per-slot"),
    }
}

fn manifest(folder: &Path) -> Vec<Object> {
    let text = std::fs::read_to_string(folder.join("manifest.yaml")).expect("a manifest");
    parse::parse("manifest.yaml", &text).expect("valid YAML")
}

fn fixtures() -> Vec<std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut folders: Vec<_> = std::fs::read_dir(root)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    folders.sort();
    assert!(folders.len() > 10, "fixtures are found");
    folders
}

fn shown(result: &Result<Slotted, SlottingError>) -> String {
    let yaml = |objects: &[Object]| {
        objects
            .iter()
            .map(|object| format!("---\n{}", diff::yaml(object.value())))
            .collect::<String>()
    };
    match result {
        Err(error) => {
            let cause = std::error::Error::source(error)
                .map_or_else(String::new, |cause| format!(": {cause}"));
            let hint = error
                .hint()
                .map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            format!("refused: {error}{cause}{hint}")
        }
        Ok(slotted) => format!(
            "fronts: {:?}\nservices in slots: {:?}\nmade for the slot: {:?}\n{}==== after the switch\n{}",
            slotted
                .fronts
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            slotted.slotted_services,
            slotted.derived_services,
            yaml(&slotted.objects),
            yaml(&slotted.after_switch),
        ),
    }
}

#[test]
fn every_fixture_is_slotted_or_refused_as_recorded() {
    for folder in fixtures() {
        let name = folder
            .file_name()
            .and_then(|name| name.to_str())
            .expect("UTF-8");
        let result = slot(&manifest(&folder), &options(&folder));
        insta::assert_snapshot!(name, shown(&result));
    }
}

#[test]
fn slotting_what_is_slotted_changes_nothing() {
    for folder in fixtures() {
        let options = options(&folder);
        let Ok(once) = slot(&manifest(&folder), &options) else {
            continue;
        };
        let twice = slot(
            &once.objects,
            &SlottingOptions {
                after_switch: BTreeSet::new(),
                ..options
            },
        )
        .expect("what was slotted can be slotted");
        assert_eq!(once.objects, twice.objects, "{}", folder.display());
    }
}

/// A manifest of arbitrary workloads with names that collide, nest and end in slot names.
fn any_manifest() -> impl Strategy<Value = Vec<Object>> {
    let name = prop::sample::select(vec!["web", "web-api", "api", "blue", "a-green-b", "x1"]);
    let config = prop::sample::select(vec!["config", "web", "settings-blue-x", "s"]);
    let workload = (
        name,
        prop::collection::vec((config, any::<bool>()), 0..4),
        any::<bool>(),
    );
    prop::collection::vec(workload, 1..5).prop_map(|workloads| {
        let mut seen = BTreeSet::new();
        let mut text = String::new();
        for (name, configs, has_autoscaler) in workloads {
            if !seen.insert(format!("deployment/{name}")) {
                continue;
            }
            let mut references = String::new();
            for (config, is_secret) in configs {
                let (kind, key) = if is_secret { ("Secret", "secretRef") } else { ("ConfigMap", "configMapRef") };
                references.push_str(&format!("{{{key}: {{name: {config}}}}}, "));
                if seen.insert(format!("{kind}/{config}")) {
                    text.push_str(&format!("---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: {config}}}\n"));
                }
            }
            text.push_str(&format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}}}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec: {{selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: a, image: 'a:1', envFrom: [{references}{{configMapRef: {{name: elsewhere}}}}]}}]}}}}}}\n"));
            if has_autoscaler {
                text.push_str(&format!("---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: {name}}}\nspec: {{scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}}}\n"));
            }
        }
        parse::parse("any.yaml", &text).expect("valid YAML")
    })
}

fn for_slot(slot: Slot) -> SlottingOptions {
    SlottingOptions {
        place: Place::Slot(slot),
        application: None,
        front: BTreeSet::new(),
        after_switch: BTreeSet::new(),
        per_slot: BTreeSet::new(),
    }
}

proptest! {
    #[test]
    fn base_names_of_a_slot_are_the_names_of_the_manifest(objects in any_manifest(), is_blue: bool) {
        let wanted = if is_blue { Slot::Blue } else { Slot::Green };
        let slotted = slot(&objects, &for_slot(wanted)).expect("slottable");
        let names = |objects: &[Object], name: fn(&Object) -> &str| -> Vec<String> {
            objects.iter().map(|object| format!("{:?}/{}", object.kind(), name(object))).collect()
        };
        prop_assert_eq!(
            names(&slotted.objects, Object::base_name),
            names(&objects, Object::name)
        );
        for object in &slotted.objects {
            prop_assert_eq!(Slot::split(object.name()), Some((object.base_name(), wanted)));
        }
    }

    #[test]
    fn the_two_slots_have_no_object_in_common(objects in any_manifest()) {
        let names = |slot_of: Slot| -> BTreeSet<String> {
            let slotted = slot(&objects, &for_slot(slot_of)).expect("slottable");
            slotted.objects.iter().map(|object| object.identity().to_string()).collect()
        };
        prop_assert!(names(Slot::Blue).is_disjoint(&names(Slot::Green)));
    }

    #[test]
    fn no_reference_of_a_slot_dangles_or_leaves_the_slot(objects in any_manifest()) {
        let slotted = slot(&objects, &for_slot(Slot::Green)).expect("slottable").objects;
        let in_manifest = |kind: Kind, name: &str| objects.iter().any(|object| object.kind() == kind && object.name() == name);
        let in_slot = |kind: Kind, name: &str| slotted.iter().any(|object| object.kind() == kind && object.name() == name);
        for object in &slotted {
            for (config, name) in references::configs(object.kind(), object.value()) {
                let kind = match config {
                    references::ConfigKind::ConfigMap => Kind::ConfigMap,
                    references::ConfigKind::Secret => Kind::Secret,
                };
                prop_assert!(in_slot(kind, &name) || !in_manifest(kind, &name), "{name}");
            }
            if let Some((kind, name)) = references::scale_target(object.kind(), object.value()) {
                prop_assert!(in_slot(kind, &name), "{name}");
            }
            if let Some(selector) = LabelSelector::of_service(object.value()) {
                prop_assert!(slotted.iter().any(|workload| selector.matches(&pods::labels(workload.kind(), workload.value()))));
            }
        }
    }

    #[test]
    fn slotting_twice_is_slotting_once(objects in any_manifest()) {
        let once = slot(&objects, &for_slot(Slot::Blue)).expect("slottable").objects;
        let twice = slot(&once, &for_slot(Slot::Blue)).expect("slottable").objects;
        prop_assert_eq!(once, twice);
    }
}
