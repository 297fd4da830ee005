//! Fields that an apply wants and another field manager owns.

use kube::core::Status;

/// One field of one object that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldConflict {
    /// The object, `kind/name`.
    pub object: String,
    /// The field as the API server spells it: `.spec.replicas`.
    pub field: String,
    /// The field manager.
    pub manager: String,
}

impl FieldConflict {
    /// Whether the other manager is this project itself, through another way of writing: taking a
    /// field over from oneself takes nothing from anybody.
    pub(crate) fn is_with_ourselves(&self) -> bool {
        self.manager == switchyard_cluster::FIELD_MANAGER
            || self
                .manager
                .strip_prefix(switchyard_cluster::FIELD_MANAGER)
                .is_some_and(|rest| rest.starts_with('-'))
    }
}

impl std::fmt::Display for FieldConflict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{}: `{}` is owned by `{}`",
            self.object, self.field, self.manager
        )
    }
}

/// Reads the API server's answer to a server-side apply. Empty when it is another kind of conflict.
pub(crate) fn of_status(object: &str, status: &Status) -> Vec<FieldConflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| FieldConflict {
            object: object.to_owned(),
            field: cause.field.clone(),
            // `conflict with "kubectl-edit" using apps/v1`
            manager: cause
                .message
                .split('"')
                .nth(1)
                .unwrap_or(&cause.message)
                .to_owned(),
        })
        .collect()
}

/// The refusal over all conflicts: its text and its hint.
pub(crate) fn refusal(conflicts: &[FieldConflict]) -> (String, String) {
    let lines: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
    let managers: std::collections::BTreeSet<&str> = conflicts
        .iter()
        .map(|conflict| conflict.manager.as_str())
        .collect();
    let managers: Vec<&str> = managers.into_iter().collect();
    (
        format!(
            "fields of the manifests belong to another writer: {}",
            lines.join("; ")
        ),
        format!(
            "take the fields out of the manifests, or set `force-conflicts: true` to take them over from {}",
            managers.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        serde_json::from_value(serde_json::json!({
            "status": "Failure", "code": 409, "reason": "Conflict",
            "message": "Apply failed with 2 conflicts",
            "details": {"causes": [
                {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using apps/v1", "field": ".spec.replicas"},
                {"reason": "FieldManagerConflict", "message": "conflict with \"switchyard\" using apps/v1", "field": ".spec.template.spec.containers[name=\"web\"].image"}
            ]}
        }))
        .expect("a status")
    }

    #[test]
    fn a_conflict_names_field_and_manager() {
        let conflicts = of_status("deployment/web", &status());
        assert_eq!(
            conflicts[0].to_string(),
            "deployment/web: `.spec.replicas` is owned by `kubectl-edit`"
        );
        assert!(!conflicts[0].is_with_ourselves());
        assert!(conflicts[1].is_with_ourselves());
        let (text, hint) = refusal(&conflicts[..1]);
        insta::assert_snapshot!(format!("{text}\nhint: {hint}"));
    }
}
