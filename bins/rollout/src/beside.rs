//! Workloads behind the main Ingress of a canary one. ingress-nginx asks for the endpoints of the main
//! Ingress's Service before it looks at the canary: without any it answers 503, whatever the weight is.
//! Refuses to know why a workload is to be without pods.

use serde_json::Value;
use switchyard_manifest::{Kind, LabelSelector, ObjectName, front, pods};
use switchyard_runner::{Failure, Kind as FailureKind};

use crate::plan::bounds::bounds;
use crate::plan::traffic::{canaries_beside, name_of};
use crate::sides;
use crate::survey::Survey;

/// Why a workload has to keep a pod although it may take no traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    /// The main Ingress that names its Service, `ingress/web`.
    pub main: String,
    /// The canary that stands beside it.
    pub canary: String,
}

impl Beside {
    /// Whether this workload has to keep a pod, and why.
    pub(crate) fn of(survey: &Survey, workload: &ObjectName) -> Option<Self> {
        let kind = sides::kind_of(workload);
        let labels = pods::labels(kind, survey.workload(kind, &workload.name)?);
        let selects = |service: &&Value| {
            LabelSelector::of_service(service).is_some_and(|selector| selector.matches(&labels))
        };
        let services: Vec<&str> = survey
            .selectors
            .services
            .iter()
            .filter(selects)
            .map(name_of)
            .collect();
        survey.routes.iter().find_map(|route| {
            let backends = front::backends(route.kind, &route.value);
            let own = backends
                .iter()
                .find(|backend| services.contains(&backend.service.as_str()))?;
            let (canary, _) = canaries_beside(route, &own.service, &survey.routes).next()?;
            Some(Self {
                main: route.title.clone(),
                canary: canary.title.clone(),
            })
        })
    }

    /// In one line, to go on after what was to be done.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} sends to it beside the canary {}, and without an endpoint there ingress-nginx answers 503, whatever the weight is",
            self.main, self.canary
        )
    }
}

/// Refuses an update during which a workload behind a main Ingress may be without a pod.
///
/// # Errors
/// A gate failure that names the workload and both Ingresses.
pub(crate) fn refuse_gap<'a>(
    survey: &Survey,
    updates: impl IntoIterator<Item = (ObjectName, &'a Value)>,
) -> Result<(), Failure> {
    for (name, updated) in updates {
        let gap = gap(sides::kind_of(&name), updated);
        let (Some(gap), Some(beside)) = (gap, Beside::of(survey, &name)) else {
            continue;
        };
        return Err(Failure::message(
            FailureKind::Gate,
            format!(
                "{name} may be without a pod during its update ({gap}): {}",
                beside.describe()
            ),
        )
        .hint("give it `strategy: RollingUpdate` with `maxUnavailable: 0`, or a second pod"));
    }
    Ok(())
}

/// What of a workload may leave it without a pod while it is updated. Pure.
fn gap(kind: Kind, workload: &Value) -> Option<String> {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Value::as_u64);
    let replicas = number("/spec/replicas").unwrap_or(1);
    let strategy = workload
        .pointer("/spec/strategy/type")
        .and_then(Value::as_str);
    if kind == Kind::Deployment && strategy == Some("Recreate") {
        return Some("strategy Recreate".to_owned());
    }
    let has_no_other = if kind == Kind::Deployment {
        bounds(workload, replicas).unavailable >= replicas
    } else {
        // A pod's successor has its name, so it comes after it.
        kind == Kind::StatefulSet && replicas <= 1
    };
    has_no_other.then(|| format!("replicas {replicas}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::selectors::LiveSelectors;
    use crate::plan::traffic::tests::{ingress, service};

    fn survey(canary: Option<&str>) -> Survey {
        let workload = json!({"metadata": {"name": "web"},
            "spec": {"template": {"metadata": {"labels": {"app": "web"}}}}});
        let mut routes = vec![ingress("shop", "web", None)];
        routes.extend(canary.map(|weight| ingress("shop-next", "web-canary", Some(weight))));
        Survey {
            selectors: LiveSelectors {
                services: vec![service("web", &json!({}), &json!({"app": "web"}))],
                workloads: vec![(Kind::Deployment, workload)],
                ..LiveSelectors::default()
            },
            routes,
            ..Survey::default()
        }
    }

    fn web() -> ObjectName {
        "deployment/web".parse().unwrap()
    }

    #[test]
    fn what_stands_behind_a_main_ingress_keeps_a_pod_whatever_its_canary_takes() {
        for weight in ["0", "50", "100"] {
            let beside = Beside::of(&survey(Some(weight)), &web()).unwrap();
            assert_eq!(
                (beside.main.as_str(), beside.canary.as_str()),
                ("ingress/shop", "ingress/shop-next")
            );
        }
        assert_eq!(Beside::of(&survey(None), &web()), None);
    }

    #[test]
    fn an_update_that_leaves_no_pod_is_told_from_one_that_does() {
        let deployment = |replicas: u64, strategy: Value| {
            gap(
                Kind::Deployment,
                &json!({"spec": {"replicas": replicas, "strategy": strategy}}),
            )
            .is_some()
        };
        let rolling = |missing: Value, surge: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": missing, "maxSurge": surge}});
        assert!(!deployment(1, Value::Null));
        assert!(!deployment(1, rolling(json!("25%"), json!("25%"))));
        assert!(deployment(3, json!({"type": "Recreate"})));
        assert!(deployment(3, rolling(json!("100%"), json!(1))));
        assert!(deployment(1, rolling(json!(0), json!(0))));
        assert!(!deployment(2, rolling(json!(0), json!(0))));
        assert!(gap(Kind::StatefulSet, &json!({"spec": {"replicas": 1}})).is_some());
        assert!(gap(Kind::StatefulSet, &json!({"spec": {"replicas": 2}})).is_none());
    }

    #[test]
    fn an_update_with_a_gap_is_refused_where_a_canary_stands_beside() {
        let recreate = json!({"spec": {"replicas": 2, "strategy": {"type": "Recreate"}}});
        let refused = refuse_gap(&survey(Some("100")), [(web(), &recreate)]).unwrap_err();
        assert!(
            refused.to_string().contains("strategy Recreate"),
            "{refused}"
        );
        assert!(refuse_gap(&survey(None), [(web(), &recreate)]).is_ok());
    }
}
