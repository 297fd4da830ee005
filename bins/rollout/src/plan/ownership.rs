//! Whose the objects are that an apply would write: another application's, or a GitOps controller's.

use serde_json::Value;
use switchyard_manifest::{Identity, gitops, names, object};
use switchyard_runner::{Failure, Kind};

/// An object that is not ours to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotOurs {
    /// It carries the label of another application.
    OtherApplication {
        /// The object.
        object: Identity,
        /// Whose it is.
        application: String,
    },
    /// Argo CD or Flux keep it in step with a repository.
    Tracked {
        /// The object.
        object: Identity,
        /// Who keeps it.
        tracker: gitops::Tracker,
    },
}

/// Whether a live object is somebody else's.
pub(crate) fn check(
    identity: &Identity,
    live: &Value,
    application: Option<&str>,
) -> Option<NotOurs> {
    if let Some(tracker) = gitops::tracker(live) {
        return Some(NotOurs::Tracked {
            object: identity.clone(),
            tracker,
        });
    }
    let labelled = object::metadata_entry(live, "labels", names::APPLICATION)?;
    (application.is_some_and(|application| application != labelled)).then(|| {
        NotOurs::OtherApplication {
            object: identity.clone(),
            application: labelled.to_owned(),
        }
    })
}

/// The refusal over all objects that are not ours: its text and its hint.
fn refusal(found: &[NotOurs], what_to_commit: &str) -> Option<(String, String)> {
    if found.is_empty() {
        return None;
    }
    let lines: Vec<String> = found
        .iter()
        .map(|found| match found {
            NotOurs::OtherApplication {
                object,
                application,
            } => format!("{object} belongs to application `{application}`"),
            NotOurs::Tracked { object, tracker } => {
                format!(
                    "{object} is kept by {} ({})",
                    tracker.controller, tracker.source
                )
            }
        })
        .collect();
    let source = found.iter().find_map(|found| match found {
        NotOurs::Tracked { tracker, .. } => Some(tracker.source.clone()),
        NotOurs::OtherApplication { .. } => None,
    });
    let hint = match source {
        Some(source) => format!(
            "what is written here would be reverted: commit {what_to_commit} to the repository of {source} instead"
        ),
        None => format!(
            "rename the object, or deploy it as that application; the label is `{}`",
            names::APPLICATION
        ),
    };
    Some((
        format!("objects that are not ours to write: {}", lines.join("; ")),
        hint,
    ))
}

/// The refusal as a failure of the gate.
///
/// # Errors
/// When anything was found.
pub(crate) fn refuse(found: &[NotOurs], what_to_commit: &str) -> Result<(), Failure> {
    match refusal(found, what_to_commit) {
        Some((text, hint)) => Err(Failure::message(Kind::Gate, text).hint(hint)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn identity(name: &str) -> Identity {
        Identity {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: None,
            name: name.to_owned(),
        }
    }

    #[test]
    fn tracked_and_foreign_objects_are_refused_in_one_report() {
        let tracked = json!({"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:prod/web"}}});
        let foreign = json!({"metadata": {"labels": {"switchyard.dev/application": "other"}}});
        let found: Vec<NotOurs> = [("web", &tracked), ("api", &foreign)]
            .into_iter()
            .filter_map(|(name, live)| check(&identity(name), live, Some("shop")))
            .collect();
        let (text, hint) = refusal(&found, "the images web=web:v2").expect("refused");
        insta::assert_snapshot!(format!("{text}\nhint: {hint}"));
    }

    #[test]
    fn our_own_and_unlabelled_objects_are_ours() {
        let own = json!({"metadata": {"labels": {"switchyard.dev/application": "shop"}}});
        assert_eq!(check(&identity("web"), &own, Some("shop")), None);
        assert_eq!(check(&identity("web"), &own, None), None);
        assert_eq!(check(&identity("web"), &json!({}), Some("shop")), None);
        assert_eq!(refusal(&[], ""), None);
    }
}
