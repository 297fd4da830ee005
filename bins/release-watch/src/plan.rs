//! What is watched: from inputs to checks with their rules, limits and concerns. Pure.

use std::time::Duration;

use switchyard_cluster::rollout::RolloutTarget;
use switchyard_cluster::workloads::{WorkloadKind, WorkloadRef};
use switchyard_health::checks;
use switchyard_record::DeploymentRecord;
use switchyard_runner::{Failure, Kind, values};
use switchyard_verdict::checklist::Window;
use switchyard_verdict::rule::Percentile;
use switchyard_verdict::{Action, Concern, Policies, Rule};

use crate::checklist;
use crate::inputs::{Preset, ReleaseWatch};
use crate::presets::{self, Bounds, Names, Subject};
use crate::written::{Ask, Counters, Written};

/// Whose pods are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// Those of the version that is judged: each of them has to be well.
    Version,
    /// Those of the side that shares its traffic: each workload has to have some.
    Baseline,
}

impl Watched {
    /// Name of the check of these pods.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Version => "pods",
            Self::Baseline => "old side's pods",
        }
    }
}

/// A check that is going to be made.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) concern: Concern,
    pub(crate) is_critical: bool,
    pub(crate) action: Option<Action>,
    pub(crate) rule: Rule,
    pub(crate) consecutive: u32,
    pub(crate) policies: Policies,
    pub(crate) source: Source,
    /// The item of the checklist that it sees, where it names one.
    pub(crate) item: Option<(String, Option<Window>)>,
}

/// Where its measurements come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The pods of watched workloads.
    Pods(Watched),
    /// Requests to a URL or to pods.
    Http(Box<checks::Check>),
    /// The probes of the front door.
    FrontDoor(View),
    /// A query of one number, and the baseline's.
    Value {
        query: String,
        baseline: Option<String>,
    },
    /// Queries of counters, and the baseline's.
    Counts {
        canary: Counters,
        baseline: Option<Counters>,
    },
}

/// Which part of the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Failures among all of them.
    All,
    /// Failures of the new version against the old one's.
    Versions,
    /// Latencies.
    Latency,
}

/// The checks of a watch: pods, the front door, presets, and those of the user.
///
/// # Errors
/// There is nothing to watch, or inputs contradict each other.
pub(crate) fn plan(inputs: &ReleaseWatch, namespace: &str) -> Result<Vec<Planned>, Failure> {
    refuse_nonsense(inputs)?;
    let mut planned = Vec::new();
    if watches_pods(inputs) {
        planned.push(pods_check(inputs, Watched::Version));
    }
    planned.extend(front_door(inputs));
    for preset in inputs.preset.iter() {
        let names = names(inputs, *preset, namespace)?;
        let written = presets::checks(*preset, &names);
        planned.extend(written.into_iter().map(|one| of_written(inputs, one)));
    }
    let written = inputs.checks.0.iter().cloned();
    planned.extend(written.map(|one| of_written(inputs, one)));
    if inputs.checklist {
        let further = checklist::strict(&planned, inputs.min_requests);
        planned.extend(further);
    } else if !inputs.checked.is_empty() {
        return Err(refused(
            "`checked` names items of a checklist, and `checklist` is not `true`",
        ));
    }
    if planned.is_empty() {
        return Err(refused(
            "nothing to watch: none of `workloads`, `selector`, `verify-url`, `preset`, `checks` is given",
        ));
    }
    for (index, one) in planned.iter().enumerate() {
        let is_known = planned[..index].iter().any(|known| known.name == one.name);
        if is_known || one.name == Watched::Baseline.name() {
            let text = format!(
                "input `checks`: `{}` is the name of a check that is there already",
                one.name
            );
            return Err(refused(text));
        }
    }
    let asks = |one: &Planned| matches!(one.source, Source::Value { .. } | Source::Counts { .. });
    if let Some(one) = planned.iter().find(|one| asks(one))
        && inputs.prometheus_url.is_none()
    {
        let text = format!(
            "check `{}` asks Prometheus, and `prometheus-url` is not given",
            one.name
        );
        return Err(refused(text));
    }
    Ok(planned)
}

/// Whether pods are watched at all.
pub(crate) fn watches_pods(inputs: &ReleaseWatch) -> bool {
    !inputs.workloads.is_empty() || inputs.selector.is_some()
}

/// The version whose answers at the front door are held against those of the others.
pub(crate) fn told_apart(inputs: &ReleaseWatch) -> Option<&str> {
    let version = inputs.expect_version.as_deref();
    version.filter(|_| !inputs.all_traffic)
}

/// The workloads as they are called on the side that is meant.
pub(crate) fn target(inputs: &ReleaseWatch) -> RolloutTarget {
    let named = inputs.workloads.iter();
    RolloutTarget {
        workloads: named.map(|workload| on_side(inputs, workload)).collect(),
        selector: inputs.selector.as_ref().map(|selector| selector.0.clone()),
        max_restarts: inputs.max_restarts,
    }
}

/// The workloads of the old side, where the record says that it shares the traffic with the new one. Pure.
pub(crate) fn baseline_target(record: &DeploymentRecord) -> Option<RolloutTarget> {
    let (from, to) = (record.sides.from.as_ref()?, record.sides.to.as_ref()?);
    let weights = &record.weights.last()?.weights;
    let has_share = |side| weights.get(side).is_some_and(|percent| *percent > 0);
    let objects = from.workloads.iter().map(|one| &one.workload);
    let workloads: Vec<_> = objects
        .filter_map(|object| {
            let kind = WorkloadKind::parse(&object.kind)?;
            let name = object.name.clone();
            (kind != WorkloadKind::Job).then_some(WorkloadRef { kind, name })
        })
        .collect();
    let is_shared = has_share(&from.side) && has_share(&to.side) && !workloads.is_empty();
    is_shared.then(|| RolloutTarget {
        workloads,
        ..RolloutTarget::default()
    })
}

/// The check of the pods of a side.
pub(crate) fn pods_check(inputs: &ReleaseWatch, watched: Watched) -> Planned {
    let source = Source::Pods(watched);
    of_inputs(
        inputs,
        watched.name(),
        Concern::Health,
        Rule::Health,
        source,
    )
}

/// A workload as it is called on the side that is meant.
pub(crate) fn on_side(inputs: &ReleaseWatch, workload: &WorkloadRef) -> WorkloadRef {
    WorkloadRef {
        kind: workload.kind,
        name: match inputs.side {
            // Who writes the side's own name already means it.
            Some(side) if !workload.name.ends_with(&format!("-{side}")) => {
                side.object_name(&workload.name)
            }
            Some(_) | None => workload.name.clone(),
        },
    }
}

fn refuse_scaling(inputs: &ReleaseWatch) -> Result<(), Failure> {
    match (&inputs.scale_up, inputs.max_replicas) {
        (None, None) => return Ok(()),
        (Some(_), None) => {
            return Err(refused(
                "`scale-up` needs `max-replicas`: how far it may go",
            ));
        }
        (None, Some(_)) => {
            return Err(refused(
                "`max-replicas` bounds `scale-up`, which is not given",
            ));
        }
        (Some(_), Some(_)) => {}
    }
    if inputs.scale_up_run.is_some() {
        return Err(refused("give `scale-up` or `scale-up-run`, not both"));
    }
    let mut scaled = inputs.scale_up.iter();
    match scaled.find(|one| match one.kind {
        WorkloadKind::Deployment | WorkloadKind::StatefulSet => false,
        WorkloadKind::DaemonSet | WorkloadKind::Job => true,
    }) {
        Some(one) => Err(refused(format!("input `scale-up`: `{one}` has no size"))),
        None => Ok(()),
    }
}

fn refuse_nonsense(inputs: &ReleaseWatch) -> Result<(), Failure> {
    refuse_scaling(inputs)?;
    if inputs.interval > inputs.duration {
        return Err(refused(format!(
            "input `interval` is {}, longer than `duration` ({})",
            values::show_duration(inputs.interval),
            values::show_duration(inputs.duration)
        )));
    }
    let deployment = &inputs.deployment;
    if inputs.leave_at_once
        && deployment.application.is_none()
        && deployment.deployment_id.is_none()
    {
        return Err(refused(
            "`leave-at-once` needs the deployment's record: give `application`",
        ));
    }
    let mut jobs = inputs.workloads.iter();
    if let Some(job) = jobs.find(|one| one.kind == WorkloadKind::Job) {
        return Err(refused(format!(
            "input `workloads`: `{job}` ends by itself and cannot be watched"
        )));
    }
    let has_user = inputs.prometheus_user.is_some();
    if has_user != inputs.prometheus_password.is_some() {
        return Err(refused(
            "`prometheus-user` and `prometheus-password` go together",
        ));
    }
    if has_user && inputs.prometheus_token.is_some() {
        return Err(refused(
            "give `prometheus-token`, or `prometheus-user` and `prometheus-password`, not both",
        ));
    }
    if inputs.baseline_version.is_some() && inputs.expect_version.is_none() {
        return Err(refused("`baseline-version` needs `expect-version`"));
    }
    if inputs.all_traffic && inputs.expect_version.is_none() {
        return Err(refused("`all-traffic` needs `expect-version`"));
    }
    if inputs.all_traffic && inputs.baseline_version.is_some() {
        return Err(refused(
            "`baseline-version` has no part of the traffic where `all-traffic` is `true`",
        ));
    }
    if inputs.baseline_version.is_some() && inputs.baseline_version == inputs.expect_version {
        return Err(refused(
            "`baseline-version` and `expect-version` are the same",
        ));
    }
    Ok(())
}

fn refused(text: impl std::fmt::Display) -> Failure {
    Failure::message(Kind::Input, text)
}

fn policies(inputs: &ReleaseWatch) -> Policies {
    Policies {
        no_data: inputs.no_data.into(),
        error: inputs.on_error.into(),
    }
}

fn of_inputs(
    inputs: &ReleaseWatch,
    name: &str,
    concern: Concern,
    rule: Rule,
    source: Source,
) -> Planned {
    Planned {
        name: name.to_owned(),
        concern,
        is_critical: false,
        action: None,
        rule,
        consecutive: 1,
        policies: policies(inputs),
        source,
        item: None,
    }
}

fn front_door(inputs: &ReleaseWatch) -> Vec<Planned> {
    if inputs.verify_url.is_none() {
        return Vec::new();
    }
    let has_versions = told_apart(inputs).is_some();
    let rate = |tolerance| Rule::Rate {
        limit: Some(inputs.max_error_rate.0),
        tolerance,
        min_requests: inputs.min_requests,
    };
    let latency = Rule::Latency {
        limit: Some((Percentile::P95, inputs.max_p95.as_secs_f64())),
        tolerance: has_versions.then_some(inputs.latency_tolerance),
        min_requests: inputs.min_requests,
    };
    let mut planned = vec![of_inputs(
        inputs,
        "front-door errors",
        Concern::Errors,
        rate(None),
        Source::FrontDoor(View::All),
    )];
    if has_versions {
        planned.push(of_inputs(
            inputs,
            "front-door errors by version",
            Concern::Errors,
            rate(Some(inputs.error_tolerance)),
            Source::FrontDoor(View::Versions),
        ));
    }
    planned.push(of_inputs(
        inputs,
        "front-door p95",
        Concern::Performance,
        latency,
        Source::FrontDoor(View::Latency),
    ));
    planned
}

fn names(inputs: &ReleaseWatch, preset: Preset, namespace: &str) -> Result<Names, Failure> {
    let version = |text: &Option<String>| {
        let text = text.as_ref().filter(|_| preset == Preset::Application)?;
        Some(text.parse::<Subject>())
    };
    let of_version = |given: &Option<Subject>, text| match (given, version(text)) {
        (Some(given), _) => Ok(Some(given.clone())),
        (None, None) => Ok(None),
        (None, Some(read)) => read.map(Some).map_err(refused),
    };
    let sided = inputs.deployment.application.as_ref().zip(inputs.side);
    let sided = sided.map(|(application, side)| Subject(side.object_name(application)));
    let sided = sided.filter(|_| preset != Preset::Application);
    let canary = of_version(&inputs.canary, &inputs.expect_version)?.or(sided);
    let Some(canary) = canary else {
        return Err(
            refused("the presets do not know what to watch: `canary` is not given").hint(
                "give `canary` as the metrics call it, or `application` and `side`, or `expect-version` for the \
                 preset `application`",
            ),
        );
    };
    Ok(Names {
        canary,
        baseline: of_version(&inputs.baseline, &inputs.baseline_version)?,
        namespace: namespace.to_owned(),
        matchers: inputs.matchers.clone().unwrap_or_default(),
        queue_metric: inputs.queue_metric.clone(),
        window: inputs.interval.as_secs().max(1),
        bounds: Bounds {
            error_rate: inputs.max_error_rate.0,
            p95: inputs.max_p95.as_secs_f64(),
            cpu: inputs.max_cpu.0,
            memory: inputs.max_memory.0,
            queue: inputs.max_queue,
            error_tolerance: inputs.error_tolerance,
            latency_tolerance: inputs.latency_tolerance,
        },
    })
}

fn of_written(inputs: &ReleaseWatch, written: Written) -> Planned {
    let Written { name, common, ask } = written;
    let (concern, consecutive, rule, source) = match ask {
        Ask::Http(check) => (Concern::Health, 1, Rule::Health, Source::Http(check)),
        Ask::Value {
            query,
            baseline,
            limit,
            unit,
            tolerance,
        } => {
            let concern = match unit {
                switchyard_verdict::rule::Unit::Seconds => Concern::Performance,
                switchyard_verdict::rule::Unit::Plain | switchyard_verdict::rule::Unit::Share => {
                    Concern::Business
                }
            };
            let rule = Rule::Value {
                limit,
                tolerance,
                unit,
            };
            let source = Source::Value { query, baseline };
            (concern, inputs.consecutive, rule, source)
        }
        Ask::Counts {
            canary,
            baseline,
            limit,
            tolerance,
            min_requests,
        } => {
            let rule = Rule::Rate {
                limit,
                tolerance,
                min_requests: min_requests.unwrap_or(inputs.min_requests),
            };
            let source = Source::Counts { canary, baseline };
            (Concern::Errors, 1, rule, source)
        }
    };
    let policies = policies(inputs);
    Planned {
        name,
        concern: common.concern.unwrap_or(concern),
        is_critical: common.critical,
        action: common.action,
        rule,
        consecutive: common.consecutive.unwrap_or(consecutive),
        policies: Policies {
            no_data: common.no_data.unwrap_or(policies.no_data),
            error: common.on_error.unwrap_or(policies.error),
        },
        item: common.item.map(|item| (item, common.window)),
        source,
    }
}

/// The longest a look's measurements may take beyond its own time.
pub(crate) fn measuring_limit(inputs: &ReleaseWatch) -> Duration {
    inputs.query_timeout.max(inputs.request_timeout) + Duration::from_secs(20)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn inputs(arguments: &[&str]) -> ReleaseWatch {
        let arguments = ["release-watch"].iter().chain(arguments);
        ReleaseWatch::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    fn names_of(arguments: &[&str]) -> Vec<String> {
        let planned = plan(&inputs(arguments), "shop").unwrap_or_else(|error| panic!("{error}"));
        planned.into_iter().map(|one| one.name).collect()
    }

    fn refusal(arguments: &[&str]) -> String {
        plan(&inputs(arguments), "shop").unwrap_err().chain()
    }

    #[test]
    fn pods_front_door_presets_and_own_checks_are_watched() {
        let names = names_of(&[
            "--workloads=deployment/api",
            "--verify-url=http://shop.example/",
            "--expect-version=v2",
            "--preset=application,queue",
            "--canary=v2",
            "--prometheus-url=http://prometheus.example",
            "--checks=[{name: own, query: up, min: 1}]",
        ]);
        assert_eq!(
            names,
            [
                "pods",
                "front-door errors",
                "front-door errors by version",
                "front-door p95",
                "application errors",
                "application p95",
                "application rate",
                "application p50",
                "application p99",
                "queue",
                "own",
            ]
        );
    }

    #[test]
    fn workloads_are_called_as_on_their_side() {
        let named = |arguments: &[&str]| {
            let target = target(&inputs(arguments));
            let names = target.workloads.iter().map(ToString::to_string);
            names.collect::<Vec<_>>()
        };
        let workloads = "--workloads=deployment/web,deployment/api-canary";
        assert_eq!(
            named(&[workloads, "--side=canary"]),
            ["deployment/web-canary", "deployment/api-canary"]
        );
        assert_eq!(
            named(&[workloads, "--side=stable"]),
            ["deployment/web", "deployment/api-canary"]
        );
        assert_eq!(named(&["--workloads=deployment/web"]), ["deployment/web"]);
    }

    #[test]
    fn the_old_side_is_watched_only_while_it_shares_the_traffic() {
        let record = |weights: serde_json::Value| -> DeploymentRecord {
            let id = switchyard_record::DeploymentIdParts {
                repository: "example/shop".to_owned(),
                run_id: "1".to_owned(),
                environment: "production".to_owned(),
                cluster: "main".to_owned(),
                namespace: "shop".to_owned(),
                application: "web".to_owned(),
            };
            let side = |side: &str, name: &str| {
                let object = serde_json::json!({
                    "api_version": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": name,
                });
                serde_json::json!({"side": side, "workloads": [{"workload": object, "replicas": 3}]})
            };
            let target = serde_json::json!({
                "api_version": "v1", "kind": "Service", "namespace": "shop", "name": "web",
            });
            let record = serde_json::json!({
                "schema": 1, "id": switchyard_record::DeploymentId::new(id).unwrap(), "kind": "deploy",
                "chain": "canary", "run": {"repository": "example/shop", "run_id": "1", "attempts": []},
                "actor": "dana", "phase": "holding(1)", "phases": [],
                "sides": {"from": side("stable", "web"), "to": side("canary", "web-canary")},
                "weights": [{"at": "2026-01-01T00:00:00Z", "target": target, "weights": weights}],
            });
            serde_json::from_value(record).unwrap()
        };
        let watched = |weights| baseline_target(&record(weights));
        let shared = watched(serde_json::json!({"stable": 90, "canary": 10})).unwrap();
        assert_eq!(shared.workloads, ["deployment/web".parse().unwrap()]);
        assert_eq!(
            watched(serde_json::json!({"stable": 0, "canary": 100})),
            None
        );
        assert_eq!(watched(serde_json::json!({"stable": 100})), None);
    }

    #[test]
    fn contradictions_are_refused() {
        for (arguments, part) in [
            (&[][..], "nothing to watch"),
            (&["--workloads=job/a"], "ends by itself"),
            (
                &["--workloads=deployment/a", "--interval=2m", "--duration=1m"],
                "longer than `duration`",
            ),
            (&["--preset=traefik"], "`canary` is not given"),
            (
                &["--preset=traefik", "--canary=api"],
                "`prometheus-url` is not given",
            ),
            (
                &["--workloads=deployment/a", "--prometheus-user=a"],
                "go together",
            ),
            (
                &["--workloads=deployment/a", "--baseline-version=v1"],
                "needs `expect-version`",
            ),
            (
                &["--workloads=deployment/a", "--all-traffic=true"],
                "needs `expect-version`",
            ),
            (&["--scale-up=deployment/a"], "needs `max-replicas`"),
            (&["--max-replicas=3"], "which is not given"),
            (
                &["--scale-up=daemonset/a", "--max-replicas=3"],
                "has no size",
            ),
            (
                &[
                    "--scale-up=deployment/a",
                    "--max-replicas=3",
                    "--scale-up-run=true",
                ],
                "not both",
            ),
            (
                &[
                    "--workloads=deployment/a",
                    "--all-traffic=true",
                    "--expect-version=v2",
                    "--baseline-version=v1",
                ],
                "no part of the traffic",
            ),
            (
                &["--workloads=deployment/a", "--checked=complaints"],
                "`checklist` is not `true`",
            ),
            (
                &[
                    "--workloads=deployment/a",
                    "--prometheus-url=http://a",
                    "--checks=[{name: pods, query: up, min: 1}]",
                ],
                "is there already",
            ),
        ] {
            let refused = refusal(arguments);
            assert!(refused.contains(part), "{arguments:?}: {refused}");
        }
    }

    #[test]
    fn a_preset_watches_the_applications_side_unless_told_otherwise() {
        let queries = |arguments: &[&str]| {
            let planned = plan(&inputs(arguments), "shop").unwrap();
            format!("{planned:?}")
        };
        let common = [
            "--prometheus-url=http://a",
            "--application=shop",
            "--side=canary",
        ];
        let of = |more: &[&str]| queries(&[&common[..], more].concat());
        assert!(of(&["--preset=traefik"]).contains("shop-shop-canary-"));
        assert!(of(&["--preset=traefik", "--canary=api"]).contains("shop-api-["));
        assert!(of(&["--preset=application", "--expect-version=v2"]).contains("version=\\\"v2"));
    }
}
