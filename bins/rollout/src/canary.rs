//! Who takes the traffic of a canary deployment: its main workload, its canary, or both. Read from the
//! routes of the namespace; refuses to move any of it.

use std::collections::BTreeMap;

use switchyard_manifest::{Kind, LabelSelector, front, names, object, pods};
use switchyard_record::{DeploymentRecord, Promotion, Side};
use switchyard_runner::{Failure, Kind as FailureKind};

use crate::plan::traffic::{LiveObject, name_of};
use crate::sides;
use crate::survey::Survey;

/// Routes that send traffic to each side, with the Service through which they do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Takers {
    /// To the main workload, `traefikservice/shop to service/web`.
    pub main: Vec<String>,
    /// To the canary.
    pub canary: Vec<String>,
}

impl Takers {
    /// Those of the routes that the deployment's switch moves.
    pub(crate) fn of(record: &DeploymentRecord, survey: &Survey) -> Self {
        let targets: Vec<String> = record
            .targets
            .iter()
            .map(|target| {
                let kind = target.object.kind.to_lowercase();
                format!("{kind}/{}", target.object.name)
            })
            .collect();
        let main = record
            .sides
            .from
            .as_ref()
            .map(sides::names_of)
            .unwrap_or_default();
        let labels: Vec<BTreeMap<String, String>> = main
            .iter()
            .filter_map(|name| {
                let kind = sides::kind_of(name);
                Some(pods::labels(kind, survey.workload(kind, &name.name)?))
            })
            .collect();
        let of_switch = survey
            .routes
            .iter()
            .filter(|route| targets.contains(&route.title));
        takers(of_switch, &survey.selectors.services, &labels)
    }

    /// Those of every route of the namespace, as far as canaries are concerned.
    pub(crate) fn of_any_canary(survey: &Survey) -> Self {
        takers(survey.routes.iter(), &survey.selectors.services, &[])
    }
}

fn takers<'a>(
    routes: impl Iterator<Item = &'a LiveObject>,
    services: &[serde_json::Value],
    main: &[BTreeMap<String, String>],
) -> Takers {
    let mut takers = Takers::default();
    for route in routes {
        if let Some(shares) = front::CanaryIngress::of(route.kind, &route.value)
            && shares.main > 0
        {
            let whole = shares.main + shares.canary;
            let text = format!(
                "{} leaves {} of {whole} to the Ingress beside it",
                route.title, shares.main
            );
            takers.main.push(text);
        }
        for backend in front::backends(route.kind, &route.value) {
            let service = services
                .iter()
                .find(|service| name_of(service) == backend.service);
            let (true, Some(service)) = (backend.takes_traffic(), service) else {
                continue;
            };
            let text = format!("{} to service/{}", route.title, backend.service);
            if is_of_canary(service) {
                takers.canary.push(text);
            } else if LabelSelector::of_service(service)
                .is_some_and(|selector| main.iter().any(|labels| selector.matches(labels)))
            {
                takers.main.push(text);
            }
        }
    }
    takers
}

/// Whether an object was made for a canary.
pub(crate) fn is_of_canary(live: &serde_json::Value) -> bool {
    object::metadata_entry(live, "labels", names::SLOT) == Some(Side::Canary.as_str())
}

/// Refuses to touch the main workload while traffic reaches it, or while nothing else takes it.
///
/// # Errors
/// A gate failure that names the route.
pub(crate) fn refuse_main_in_traffic(takers: &Takers) -> Result<(), Failure> {
    let hint = "give the canary all of the traffic first: `traffic-switch switch` with `to: canary` and `weight: 100`";
    if let Some(route) = takers.main.first() {
        let text = format!(
            "the main workload still takes traffic ({route}); it is changed while it is idle"
        );
        return Err(Failure::message(FailureKind::Gate, text).hint(hint));
    }
    if takers.canary.is_empty() {
        let text = "no route of this deployment sends traffic to its canary, so nothing would take it while the main workload is changed";
        return Err(Failure::message(FailureKind::Gate, text).hint(hint));
    }
    Ok(())
}

/// Refuses to change a canary that takes traffic already: one that an earlier deployment left.
///
/// # Errors
/// A gate failure that names the route.
pub(crate) fn refuse_canary_in_traffic(survey: &Survey) -> Result<(), Failure> {
    match Takers::of_any_canary(survey).canary.first() {
        None => Ok(()),
        Some(route) => Err(Failure::message(
            FailureKind::Gate,
            format!("a canary of an earlier deployment still takes traffic ({route}); applying would change what users see"),
        )
        .hint("take that deployment back first: `traffic-switch rollback`, where it says so with `rollout undo`")),
    }
}

/// What `rollout undo` has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToUndo {
    /// The main workload was never touched, or was brought back already.
    Nothing,
    /// The main workload may run the new version.
    Main,
}

/// What a record leaves to be undone.
pub(crate) fn to_undo(promotion: Option<Promotion>) -> ToUndo {
    match promotion {
        None | Some(Promotion::Undone) => ToUndo::Nothing,
        Some(Promotion::Begun | Promotion::Done) => ToUndo::Main,
    }
}

/// Names of the ConfigMaps and Secrets that a canary's workload reads, as the record names kinds.
pub(crate) fn own_configs(kind: Kind, workload: &serde_json::Value) -> Vec<(&'static str, String)> {
    use switchyard_manifest::references::{ConfigKind, configs};
    configs(kind, workload)
        .into_iter()
        .map(|(config, name)| match config {
            ConfigKind::ConfigMap => ("ConfigMap", name),
            ConfigKind::Secret => ("Secret", name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::traffic::tests::{ingress, service, traefik};

    fn found(backends: &[(&str, u64)]) -> Takers {
        let services = [
            service("web", &json!({}), &json!({"app": "web"})),
            service(
                "web-canary",
                &json!({"switchyard.dev/slot": "canary"}),
                &json!({"app": "web-canary"}),
            ),
            service("other", &json!({}), &json!({"app": "other"})),
        ];
        let main = [BTreeMap::from([("app".to_owned(), "web".to_owned())])];
        takers([traefik("shop", backends)].iter(), &services, &main)
    }

    #[test]
    fn a_share_of_none_is_no_traffic_and_other_services_are_nobodys_side() {
        let both = found(&[("web", 90), ("web-canary", 10), ("other", 5)]);
        assert_eq!(both.main, ["traefikservice/shop to service/web"]);
        assert_eq!(both.canary, ["traefikservice/shop to service/web-canary"]);
        let canary = found(&[("web", 0), ("web-canary", 100)]);
        assert!(canary.main.is_empty());
        assert!(refuse_main_in_traffic(&canary).is_ok());
    }

    #[test]
    fn a_canary_ingress_leaves_the_main_workload_what_its_weight_does_not_take() {
        let found = |weight: &str| {
            let canary = service(
                "web-canary",
                &json!({"switchyard.dev/slot": "canary"}),
                &json!({"app": "web-canary"}),
            );
            let route = ingress("shop-next", "web-canary", Some(weight));
            takers([route].iter(), &[canary], &[])
        };
        let half = found("50");
        assert_eq!(half.canary, ["ingress/shop-next to service/web-canary"]);
        assert_eq!(
            refuse_main_in_traffic(&half).unwrap_err().to_string(),
            "the main workload still takes traffic (ingress/shop-next leaves 50 of 100 to the Ingress beside it); it is changed while it is idle"
        );
        assert!(refuse_main_in_traffic(&found("100")).is_ok());
        assert!(found("0").canary.is_empty());
    }

    #[test]
    fn the_main_workload_is_left_alone_while_it_takes_traffic_or_nobody_else_does() {
        let refused = |backends: &[(&str, u64)]| {
            refuse_main_in_traffic(&found(backends))
                .map_err(|failure| failure.to_string())
                .unwrap_err()
        };
        assert_eq!(
            refused(&[("web", 1), ("web-canary", 99)]),
            "the main workload still takes traffic (traefikservice/shop to service/web); it is changed while it is idle"
        );
        assert!(refused(&[("other", 100)]).starts_with("no route of this deployment"));
    }

    #[test]
    fn only_a_main_workload_that_may_be_new_is_undone() {
        assert_eq!(to_undo(None), ToUndo::Nothing);
        assert_eq!(to_undo(Some(Promotion::Begun)), ToUndo::Main);
        assert_eq!(to_undo(Some(Promotion::Done)), ToUndo::Main);
        assert_eq!(to_undo(Some(Promotion::Undone)), ToUndo::Nothing);
    }
}
