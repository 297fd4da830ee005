//! Recognises objects that a GitOps controller keeps in step with a repository: whatever is
//! written to them by hand is reverted. Refuses to know the controllers' own objects.

use serde_json::Value;

use crate::object::metadata_entry;

/// Who keeps an object, and by what name the user knows the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    /// `Argo CD` or `Flux`.
    pub controller: &'static str,
    /// The controller's object: `Application shop`, `Kustomization flux-system/shop`.
    pub source: String,
}

/// Tells whether Argo CD or Flux track a live object, from the marks that they leave on it:
/// Argo CD's tracking annotation or instance label, Flux's owner labels. Flux can be told to leave
/// an object alone (`reconcile: disabled`); then it is not tracked.
///
/// `app.kubernetes.io/instance` alone is no mark: Helm and people set it too.
#[must_use]
pub fn tracker(live: &Value) -> Option<Tracker> {
    argo_cd(live).or_else(|| flux(live))
}

fn argo_cd(live: &Value) -> Option<Tracker> {
    // `APPLICATION:GROUP/KIND:NAMESPACE/NAME`
    let from_annotation = metadata_entry(live, "annotations", "argocd.argoproj.io/tracking-id")
        .map(|id| id.split(':').next().unwrap_or(id));
    let application = from_annotation
        .or_else(|| metadata_entry(live, "labels", "argocd.argoproj.io/instance"))
        .filter(|application| !application.is_empty())?;
    Some(Tracker {
        controller: "Argo CD",
        source: format!("Application {application}"),
    })
}

fn flux(live: &Value) -> Option<Tracker> {
    let reconcile = "kustomize.toolkit.fluxcd.io/reconcile";
    if metadata_entry(live, "annotations", reconcile) == Some("disabled") {
        return None;
    }
    [
        ("kustomize.toolkit.fluxcd.io", "Kustomization"),
        ("helm.toolkit.fluxcd.io", "HelmRelease"),
    ]
    .into_iter()
    .find_map(|(group, kind)| {
        let name = metadata_entry(live, "labels", &format!("{group}/name"))?;
        let source = match metadata_entry(live, "labels", &format!("{group}/namespace")) {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        };
        Some(Tracker {
            controller: "Flux",
            source,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source(metadata: &Value) -> Option<String> {
        tracker(&json!({"metadata": metadata}))
            .map(|tracker| format!("{}: {}", tracker.controller, tracker.source))
    }

    #[test]
    fn the_marks_of_argo_cd_and_flux_are_recognised() {
        let tracked = [
            json!({"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:prod/web"}}),
            json!({"labels": {"argocd.argoproj.io/instance": "shop"}}),
            json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}),
            json!({"labels": {"helm.toolkit.fluxcd.io/name": "shop"}}),
        ];
        assert_eq!(
            tracked.map(|metadata| source(&metadata).unwrap_or_default()),
            [
                "Argo CD: Application shop",
                "Argo CD: Application shop",
                "Flux: Kustomization flux-system/shop",
                "Flux: HelmRelease shop",
            ]
        );
    }

    #[test]
    fn what_helm_sets_or_flux_leaves_alone_is_not_tracked() {
        for metadata in [
            json!({"labels": {"app.kubernetes.io/instance": "shop"}}),
            json!({
                "labels": {"kustomize.toolkit.fluxcd.io/name": "shop"},
                "annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
            }),
            json!({}),
        ] {
            assert_eq!(source(&metadata), None);
        }
    }
}
