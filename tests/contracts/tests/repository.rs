//! The contracts of this repository, and the order of steps that a deployment relies on.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on panics"
)]

use std::path::{Path, PathBuf};

use serde_json::Value;
use switchyard_contracts::{Repository, check};

const CALLED: [&str; 5] = [
    "deploy-blue-green.yml",
    "deploy-canary.yml",
    "deploy-dev.yml",
    "migrate.yml",
    "rollback.yml",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn repository() -> Repository {
    let mut repository = Repository::read(&root()).unwrap();
    repository
        .add_callers(&root(), "tests/e2e/consumer/.github/workflows")
        .unwrap();
    repository.add_shown_callers(&root(), "README.md").unwrap();
    repository
}

fn steps(job: &Value) -> &Vec<Value> {
    job["steps"].as_array().unwrap()
}

/// The program of a step that uses one of our actions; the root action is `setup`.
fn program(step: &Value) -> Option<&str> {
    let uses = step["uses"]
        .as_str()?
        .strip_prefix("switchyard-ci/switchyard")?;
    let name = uses.split('@').next()?;
    Some(name.strip_prefix("/actions/").unwrap_or("setup"))
}

/// `program command` of each step that uses one of our actions, in order.
fn order(job: &Value) -> Vec<String> {
    let ours = steps(job).iter().filter_map(|step| {
        let command = step["with"]["command"].as_str().unwrap_or_default();
        Some(format!("{} {command}", program(step)?).trim().to_owned())
    });
    ours.collect()
}

#[test]
fn every_contract_is_kept() {
    let findings: Vec<String> = check(&repository())
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn the_readme_shows_a_workflow_to_paste() {
    let mut shown = Repository::default();
    shown.add_shown_callers(&root(), "README.md").unwrap();
    // Without our workflows beside it, the one that it calls is missing.
    let findings = check(&shown);
    let calls = findings.iter().any(|finding| {
        finding.file.starts_with(".github/README.md#") && finding.message.contains("does not exist")
    });
    assert!(calls, "{findings:?}");
}

#[test]
fn programs_are_prepared_before_anything_is_changed() {
    let repository = repository();
    for workflow in CALLED {
        for (name, job) in repository.jobs(workflow).as_object().unwrap() {
            let used = order(job);
            let Some(first) = used.first() else { continue };
            assert_eq!(first, "setup", "{workflow}, job {name}");
            let prepared = steps(job)
                .iter()
                .find(|step| program(step) == Some("setup"))
                .unwrap();
            let prepared = prepared["with"]["programs"].as_str().unwrap();
            for step in steps(job)
                .iter()
                .filter_map(program)
                .filter(|name| *name != "setup")
            {
                assert!(
                    prepared.split(',').any(|name| name.trim() == step),
                    "{workflow}, job {name}: `{step}` is not among `{prepared}`"
                );
            }
        }
    }
}

#[test]
fn blue_green_goes_through_its_stages_in_order() {
    let repository = repository();
    assert_eq!(
        order(&repository.jobs("deploy-blue-green.yml")["deploy"]),
        [
            "setup",
            "oidc-login azure",
            "oidc-login aws",
            "oidc-login direct",
            "rollout backup",
            "notify",
            "rollout remember",
            "rollout adopt",
            "rollout apply",
            "health-wait rollout",
            "rollout annotate",
            "health-wait forward",
            "traffic-switch switch",
            "release-watch",
            "rollout apply",
            "release-watch",
            "rollout scale",
            "rollout finish",
            "traffic-switch rescue",
        ]
    );
}

#[test]
fn migrations_are_planned_in_one_job_and_applied_in_the_next_behind_their_backup() {
    let repository = repository();
    let jobs = repository.jobs("migrate.yml");
    assert_eq!(
        order(&jobs["plan"]),
        [
            "setup",
            "migrate-gate lint",
            "migrate-gate plan",
            "migrate-gate phases",
            "migrate-gate backup",
            "migrate-gate rehearse",
        ]
    );
    assert_eq!(
        order(&jobs["run"]),
        [
            "setup",
            "oidc-login aws",
            "migrate-gate backup",
            "migrate-gate run"
        ]
    );
}

/// A backup is written by one step and, for `policy: restore`, read by another.
#[test]
fn every_step_that_reaches_the_backup_has_credentials_for_its_place() {
    let repository = repository();
    let steps = steps(&repository.jobs("migrate.yml")["run"]);
    let login = steps
        .iter()
        .find(|step| program(step) == Some("oidc-login"))
        .unwrap();
    assert_eq!(login["with"]["export-credentials"], true);
    for command in ["backup", "run"] {
        let step = steps.iter().find(|step| step["with"]["command"] == command);
        let given = step.unwrap()["env"].as_object().unwrap();
        let names: Vec<&str> = given.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "AZURE_STORAGE_ACCOUNT",
                "AZURE_STORAGE_KEY",
                "AZURE_STORAGE_SAS_TOKEN"
            ],
            "{command}"
        );
    }
}

/// Its packages bring scripts of strangers, in a job that may prove to a cloud who it is.
#[test]
fn what_installs_a_tool_can_prove_to_nobody_who_it_is() {
    let repository = repository();
    let jobs = repository.jobs("migrate.yml");
    for name in ["plan", "run"] {
        let steps = steps(&jobs[name]);
        let place = |of: &dyn Fn(&Value) -> bool| steps.iter().position(of);
        let install = place(&|step| step["name"] == "Install the tool").unwrap();
        let script = steps[install]["run"].as_str().unwrap();
        let unset = "unset ACTIONS_ID_TOKEN_REQUEST_URL ACTIONS_ID_TOKEN_REQUEST_TOKEN\n";
        assert!(script.starts_with(unset), "{name}: {script}");
        let login = place(&|step| program(step) == Some("oidc-login"));
        assert!(login.is_none_or(|login| install < login), "{name}");
    }
}

/// Failed jobs that are run again alone are another attempt than the job whose rehearsal they fetch.
#[test]
fn the_rehearsal_is_fetched_by_the_name_under_which_it_was_kept() {
    let repository = repository();
    let jobs = repository.jobs("migrate.yml");
    let name = |job: &str, action: &str| {
        let uses = |step: &&Value| {
            let uses = step["uses"].as_str().unwrap_or_default();
            uses.starts_with(&format!("actions/{action}@"))
        };
        let step = steps(&jobs[job]).iter().find(uses).unwrap();
        step["with"]["name"].as_str().unwrap()
    };
    assert_eq!(
        name("plan", "upload-artifact"),
        "${{ steps.artifact.outputs.name }}"
    );
    assert_eq!(
        jobs["plan"]["outputs"]["rehearsal"],
        "${{ steps.artifact.outputs.name }}"
    );
    assert_eq!(
        name("run", "download-artifact"),
        "${{ needs.plan.outputs.rehearsal }}"
    );
}

/// `failure()` is false for what was cancelled, and for what took longer than its job may.
#[test]
fn migrations_that_were_cancelled_or_took_too_long_are_told() {
    let repository = repository();
    let notify = &repository.jobs("migrate.yml")["notify"];
    assert_eq!(
        notify["if"],
        "always() && (needs.plan.result != 'success' || needs.run.result == 'failure' || needs.run.result == 'cancelled')"
    );
    // A cancelled run is given five minutes.
    assert_eq!(notify["timeout-minutes"], 4);
}

/// A caller that deploys what is verified must not wait for a job that has nothing to do.
#[test]
fn where_nothing_is_pending_the_outputs_say_so() {
    let repository = repository();
    let outputs = &repository.workflow("migrate.yml")["on"]["workflow_call"]["outputs"];
    for (name, then) in [("applied", "0"), ("verified", "true")] {
        assert_eq!(
            outputs[name]["value"],
            format!(
                "${{{{ jobs.plan.outputs.pending == '0' && '{then}' || jobs.run.outputs.{name} }}}}"
            )
        );
    }
}

#[test]
fn a_canary_takes_all_before_the_main_workload_is_touched_and_goes_last() {
    let repository = repository();
    let jobs = repository.jobs("deploy-canary.yml");
    let mut expected = vec![
        "setup",
        "oidc-login azure",
        "oidc-login aws",
        "oidc-login direct",
        "rollout backup",
        "notify",
        "rollout remember",
        "rollout canary",
        "health-wait rollout",
        "rollout annotate",
        "health-wait forward",
    ];
    let stage = ["rollout scale", "traffic-switch switch", "release-watch"];
    for _ in 0..4 {
        expected.extend(stage);
        expected.push("notify");
    }
    expected.extend(stage);
    expected.extend([
        "rollout promote",
        "health-wait rollout",
        "traffic-switch switch",
        "release-watch",
        "health-wait forward",
        "rollout retire",
        "rollout finish",
    ]);
    let back = [
        "traffic-switch rescue",
        "rollout undo",
        "traffic-switch rescue",
        "rollout retire",
    ];
    expected.extend(back);
    assert_eq!(order(&jobs["deploy"]), expected);
    assert_eq!(order(&jobs["rescue"])[4..], back);
    // What is taken back was not proved yet; what was proved stays.
    let undo = steps(&jobs["deploy"])
        .iter()
        .find(|step| step["with"]["command"] == "rescue");
    assert_eq!(
        undo.unwrap()["if"],
        "(failure() || cancelled()) && steps.main.outcome != 'success'"
    );
}

#[test]
fn what_fails_after_the_safety_period_sends_no_traffic_back() {
    let repository = repository();
    let undo = steps(&repository.jobs("deploy-blue-green.yml")["deploy"])
        .iter()
        .find(|step| step["with"]["command"] == "rescue");
    assert_eq!(
        undo.unwrap()["if"],
        "(failure() || cancelled()) && steps.safety.outcome != 'success'"
    );
}

#[test]
fn the_rescue_job_outlives_the_runner_of_the_deployment() {
    let repository = repository();
    for (workflow, program) in [
        ("deploy-blue-green.yml", "traffic-switch rescue"),
        ("deploy-canary.yml", "traffic-switch rescue"),
        ("deploy-dev.yml", "rollout restore"),
    ] {
        let rescue = &repository.jobs(workflow)["rescue"];
        assert_eq!(rescue["needs"], "deploy", "{workflow}");
        assert_eq!(
            rescue["if"], "always() && needs.deploy.result != 'success'",
            "{workflow}"
        );
        // A cancelled run is given five minutes.
        assert_eq!(rescue["timeout-minutes"], 4, "{workflow}");
        assert_eq!(
            rescue["environment"],
            "${{ inputs.rescue-environment || format('{0}-rollback', inputs.environment) }}",
            "{workflow}"
        );
        assert_eq!(
            order(rescue)[..5],
            [
                "setup",
                "oidc-login azure",
                "oidc-login aws",
                "oidc-login direct",
                program
            ],
            "{workflow}"
        );
        // It relies on nothing that the other job put out.
        let steps = serde_json::to_string(&rescue["steps"]).unwrap();
        assert!(!steps.contains("needs."), "{workflow}");
    }
}

#[test]
fn a_rollback_waits_for_no_deployment_and_nothing_cancels_either() {
    let repository = repository();
    let group = |workflow: &str| {
        let concurrency = &repository.workflow(workflow)["concurrency"];
        assert_eq!(concurrency["cancel-in-progress"], false, "{workflow}");
        concurrency["group"].as_str().unwrap().to_owned()
    };
    assert_ne!(group("rollback.yml"), group("deploy-blue-green.yml"));
    assert_eq!(group("deploy-dev.yml"), group("deploy-blue-green.yml"));
    assert_eq!(group("deploy-canary.yml"), group("deploy-blue-green.yml"));
}

/// What a login needs is the same in every job that logs in, whichever way it is.
#[test]
fn every_job_that_reaches_the_cluster_logs_in_alike() {
    let repository = repository();
    let mut known: Option<(String, Vec<&Value>)> = None;
    let mut count = 0;
    // The migrations reach a database and what keeps its backup, and no cluster.
    for workflow in CALLED.into_iter().filter(|name| *name != "migrate.yml") {
        for (name, job) in repository.jobs(workflow).as_object().unwrap() {
            let is_login =
                |step: &&Value| program(step) == Some("oidc-login") || step["id"] == "login";
            let logins: Vec<&Value> = steps(job).iter().filter(is_login).collect();
            if logins.is_empty() {
                continue;
            }
            count += 1;
            assert_eq!(logins.len(), 4, "{workflow} {name}");
            let place = format!("{workflow} {name}");
            let (first, expected) = known.get_or_insert_with(|| (place.clone(), logins.clone()));
            assert_eq!(&logins, expected, "{place} differs from {first}");
        }
    }
    assert_eq!(count, 7);
}

#[test]
fn the_kubeconfig_is_written_for_its_owner_alone_and_removed() {
    let repository = repository();
    for workflow in CALLED {
        for (name, job) in repository.jobs(workflow).as_object().unwrap() {
            let Some(login) = steps(job).iter().find(|step| step["id"] == "login") else {
                continue;
            };
            assert!(
                login["run"].as_str().unwrap().starts_with("umask 077\n"),
                "{workflow} {name}"
            );
            let last = steps(job).last().unwrap();
            assert_eq!(
                last["run"], "rm -f -- \"$KUBECONFIG_FILE\"",
                "{workflow} {name}"
            );
            assert!(
                last["if"].as_str().unwrap().starts_with("always()"),
                "{workflow} {name}"
            );
        }
    }
}

/// GitHub and act evaluate descriptions, and refuse the whole action for an expression in one.
#[test]
fn no_description_of_an_action_holds_an_expression() {
    for entry in std::fs::read_dir(root().join("actions")).unwrap() {
        let path = entry.unwrap().path().join("action.yml");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut descriptions = text
            .lines()
            .filter(|line| line.trim_start().starts_with("description:"));
        let wrong = descriptions.find(|line| line.contains("${{"));
        assert_eq!(wrong, None, "{}", path.display());
    }
}
