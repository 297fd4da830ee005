//! The checker against a small repository that keeps every contract, broken in one place at a time: a
//! check that never fails would let the mistake into a release.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on panics"
)]

use std::collections::BTreeMap;

use switchyard_contracts::{Repository, check};

const ROOT: &str = r#"
name: switchyard
description: Puts programs on PATH.
inputs:
  programs:
    description: Which.
outputs:
  directory:
    description: Where.
    value: ${{ steps.run.outputs.directory }}
runs:
  using: composite
  steps:
    - id: run
      shell: bash --noprofile --norc -p -e -o pipefail {0}
      env:
        INPUT_PROGRAMS: ${{ inputs.programs }}
      run: exec "$GITHUB_ACTION_PATH/scripts/launch" setup
"#;

const ACTION: &str = r#"
name: switchyard rollout
description: Applies.
inputs:
  min-ready:
    description: How many.
    required: true
  slot:
    description: Which side.
outputs:
  slot:
    description: The side.
    value: ${{ steps.run.outputs.slot }}
runs:
  using: composite
  steps:
    - id: run
      shell: bash --noprofile --norc -p -e -o pipefail {0}
      env:
        INPUT_MIN_READY: ${{ inputs.min-ready }}
        INPUT_SLOT: ${{ inputs.slot }}
      run: exec "$GITHUB_ACTION_PATH/../../scripts/launch" rollout
"#;

const PAGE: &str = "# rollout\n\n`min-ready` `slot`\n";

const CALLED: &str = r#"
name: deploy
on:
  workflow_call:
    inputs:
      environment:
        description: Where to.
        type: string
        required: true
    secrets:
      kubeconfig:
        description: Access.
        required: true
    outputs:
      slot:
        description: The side.
        value: ${{ jobs.deploy.outputs.slot }}
defaults:
  run:
    shell: bash
jobs:
  deploy:
    runs-on: ubuntu-latest
    timeout-minutes: 10
    environment: ${{ inputs.environment }}
    outputs:
      slot: ${{ steps.apply.outputs.slot }}
    steps:
      - uses: actions/checkout@0123456789012345678901234567890123456789
        with:
          persist-credentials: false
      - id: kubeconfig
        env:
          DATA: ${{ secrets.kubeconfig }}
        run: echo "path=$RUNNER_TEMP" >>"$GITHUB_OUTPUT"
      - id: apply
        uses: switchyard-ci/switchyard/actions/rollout@v1
        with:
          min-ready: "2"
          slot: ${{ steps.kubeconfig.outputs.path }}
  report:
    needs: deploy
    if: always() && needs.deploy.result != 'success'
    runs-on: ubuntu-latest
    timeout-minutes: 4
    steps:
      - env:
          SLOT: ${{ needs.deploy.outputs.slot }}
        run: echo "$SLOT"
"#;

const CALLER: &str = r#"
name: release
on: push
permissions: {}
jobs:
  production:
    uses: switchyard-ci/switchyard/.github/workflows/deploy.yml@v1
    permissions:
      contents: read
    with:
      environment: production
    secrets:
      kubeconfig: ${{ secrets.KUBECONFIG }}
"#;

const CALLED_PATH: &str = ".github/workflows/deploy.yml";
const CALLER_PATH: &str = ".github/workflows/release.yml";
const ACTION_PATH: &str = "actions/rollout/action.yml";

fn files() -> BTreeMap<String, String> {
    [
        ("action.yml", ROOT),
        (ACTION_PATH, ACTION),
        ("docs/reference/rollout.md", PAGE),
        (CALLED_PATH, CALLED),
        (CALLER_PATH, CALLER),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into()
}

fn findings(files: &BTreeMap<String, String>) -> Vec<String> {
    let findings = check(&Repository::from_files(files));
    findings.iter().map(ToString::to_string).collect()
}

/// Replaces one text in one file and expects exactly this to be found.
#[track_caller]
fn breaks(path: &str, from: &str, to: &str, expected: &[&str]) {
    let mut files = files();
    let text = files.get_mut(path).unwrap();
    assert!(text.contains(from), "`{from}` is not in {path}");
    *text = text.replacen(from, to, 1);
    let expected: Vec<String> = expected
        .iter()
        .map(|message| format!("{path}: {message}"))
        .collect();
    assert_eq!(findings(&files), expected);
}

#[test]
fn a_repository_that_keeps_every_contract_has_no_findings() {
    assert_eq!(findings(&files()), Vec::<String>::new());
}

#[test]
fn an_input_that_the_step_does_not_map_is_found() {
    breaks(
        ACTION_PATH,
        "        INPUT_MIN_READY: ${{ inputs.min-ready }}\n",
        "",
        &["input `min-ready` is not mapped to INPUT_MIN_READY"],
    );
    breaks(
        "action.yml",
        "INPUT_PROGRAMS: ${{ inputs.programs }}",
        "OTHER: x",
        &["input `programs` is not mapped to INPUT_PROGRAMS"],
    );
}

#[test]
fn an_input_that_is_mapped_to_another_is_found() {
    breaks(
        ACTION_PATH,
        "INPUT_SLOT: ${{ inputs.slot }}",
        "INPUT_SLOT: ${{ inputs.min-ready }}",
        &["INPUT_SLOT is `${{ inputs.min-ready }}`, must be `${{ inputs.slot }}`"],
    );
    breaks(
        ACTION_PATH,
        "INPUT_MIN_READY:",
        "INPUT_MIN-READY:",
        &[
            "INPUT_MIN-READY is mapped, but no such input is declared",
            "input `min-ready` is not mapped to INPUT_MIN_READY",
        ],
    );
}

#[test]
fn a_mapped_input_that_is_not_declared_is_found() {
    breaks(
        ACTION_PATH,
        "        INPUT_SLOT:",
        "        INPUT_EXTRA: ${{ inputs.extra }}\n        INPUT_SLOT:",
        &[
            "INPUT_EXTRA is mapped, but no such input is declared",
            "`inputs.extra` is not declared",
        ],
    );
}

#[test]
fn an_output_that_no_step_writes_is_found() {
    breaks(
        ACTION_PATH,
        "steps.run.outputs.slot",
        "steps.apply.outputs.slot",
        &["output `slot` is `${{ steps.apply.outputs.slot }}`, which no step of the action writes"],
    );
    breaks(
        ACTION_PATH,
        "steps.run.outputs.slot",
        "steps.run.outputs.side",
        &["output `slot` is `${{ steps.run.outputs.side }}`, which no step of the action writes"],
    );
}

#[test]
fn an_action_that_does_more_than_exec_the_launcher_is_found() {
    breaks(
        ACTION_PATH,
        "run: exec \"$GITHUB_ACTION_PATH/../../scripts/launch\" rollout",
        "run: ./scripts/launch ${{ inputs.slot }}",
        &[
            "has an expression inside `run`",
            "runs `./scripts/launch ${{ inputs.slot }}`, must run `exec \"$GITHUB_ACTION_PATH/../../scripts/launch\" rollout`",
        ],
    );
    breaks(
        ACTION_PATH,
        " -p ",
        " ",
        &["its shell lacks `-p`: BASH_ENV of the caller's job would run first"],
    );
}

#[test]
fn an_input_missing_from_the_reference_page_is_found() {
    let mut files = files();
    files.insert("docs/reference/rollout.md".into(), "`slot`".into());
    assert_eq!(
        findings(&files),
        [format!(
            "{ACTION_PATH}: input `min-ready` is not on `docs/reference/rollout.md`"
        )]
    );
    files.remove("docs/reference/rollout.md");
    assert_eq!(
        findings(&files),
        [
            "actions: action `rollout` has no program",
            "actions/rollout/action.yml: has no reference page `docs/reference/rollout.md`",
        ]
        .map(str::to_owned)
    );
}

#[test]
fn a_program_without_an_action_and_a_missing_root_action_are_found() {
    let mut files = files();
    files.remove("action.yml");
    files.insert("docs/reference/notify.md".into(), String::new());
    assert_eq!(
        findings(&files),
        [
            "actions: program `notify` has no action",
            "actions: there is no root action"
        ]
        .map(str::to_owned)
    );
}

#[test]
fn a_file_that_is_not_yaml_is_found() {
    let mut files = files();
    files.insert(CALLER_PATH.into(), "a: [".into());
    assert!(findings(&files)[0].starts_with(&format!("{CALLER_PATH}: not YAML")));
}

#[test]
fn an_input_or_secret_that_nothing_reads_is_found() {
    breaks(
        CALLED_PATH,
        "    environment: ${{ inputs.environment }}\n",
        "",
        &["inputs.environment is declared, but nothing reads it"],
    );
    breaks(
        CALLED_PATH,
        "DATA: ${{ secrets.kubeconfig }}",
        "DATA: x",
        &["secrets.kubeconfig is declared, but nothing reads it"],
    );
}

#[test]
fn an_input_or_secret_that_is_not_declared_is_found() {
    breaks(
        CALLED_PATH,
        "min-ready: \"2\"",
        "min-ready: ${{ inputs.min-ready }}",
        &["inputs.min-ready is read, but not declared"],
    );
    breaks(
        CALLED_PATH,
        "${{ secrets.kubeconfig }}",
        "${{ secrets.kubeconfig }}${{ secrets.SLACK }}",
        &["secrets.SLACK is read, but not declared"],
    );
}

#[test]
fn an_output_that_the_called_workflow_does_not_have_is_found() {
    let report = |output: &str| {
        format!(
            "jobs:\n  report:\n    needs: production\n    if: needs.production.outputs.{output} != ''\n    runs-on: ubuntu-latest\n    timeout-minutes: 4\n    steps: []\n"
        )
    };
    breaks(CALLER_PATH, "jobs:\n", &report("slot"), &[]);
    breaks(
        CALLER_PATH,
        "jobs:\n",
        &report("side"),
        &[
            "job `report` reads `needs.production.outputs.side`, which job `production` does not put out",
        ],
    );
}

#[test]
fn an_output_lost_at_the_workflow_the_job_or_the_step_is_found() {
    breaks(
        CALLED_PATH,
        "jobs.deploy.outputs.slot",
        "jobs.deploy.outputs.side",
        &["outputs.slot reads `jobs.deploy.outputs.side`, which no job puts out"],
    );
    breaks(
        CALLED_PATH,
        "slot: ${{ steps.apply.outputs.slot }}",
        "slot: ${{ steps.apply.outputs.side }}",
        &["job `deploy` reads `steps.apply.outputs.side`, which step `apply` does not write"],
    );
    breaks(
        CALLED_PATH,
        "slot: ${{ steps.apply.outputs.slot }}",
        "slot: ${{ steps.aply.outputs.slot }}",
        &["job `deploy` reads `steps.aply.outputs.slot`, but has no step `aply`"],
    );
    breaks(
        CALLED_PATH,
        "path=$RUNNER_TEMP",
        "file=$RUNNER_TEMP",
        &[
            "job `deploy` reads `steps.kubeconfig.outputs.path`, which step `kubeconfig` does not write",
        ],
    );
    breaks(
        CALLED_PATH,
        "needs.deploy.outputs.slot",
        "needs.deploy.outputs.side",
        &["job `report` reads `needs.deploy.outputs.side`, which job `deploy` does not put out"],
    );
}

#[test]
fn a_job_that_reads_a_job_it_does_not_wait_for_is_found() {
    breaks(
        CALLED_PATH,
        "    needs: deploy\n",
        "",
        &[
            "job `report` reads `needs.deploy.outputs.slot`, but does not need `deploy`",
            "job `report` reads `needs.deploy.result`, but does not need `deploy`",
        ],
    );
}

#[test]
fn an_expression_inside_a_script_is_found() {
    breaks(
        CALLED_PATH,
        "run: echo \"$SLOT\"",
        "run: echo ${{ needs.deploy.outputs.slot }}",
        &["job `report`, step `(nameless)` has an expression inside `run`"],
    );
}

#[test]
fn an_input_that_the_action_does_not_declare_is_found() {
    breaks(
        CALLED_PATH,
        "min-ready: \"2\"",
        "min-ready: \"2\"\n          minready: \"2\"",
        &["job `deploy`, step `apply` gives `minready`, which is not declared"],
    );
    breaks(
        CALLED_PATH,
        "          min-ready: \"2\"\n",
        "",
        &["job `deploy`, step `apply` does not give `min-ready`, which is required"],
    );
    breaks(
        CALLED_PATH,
        "actions/rollout@v1",
        "actions/roll-out@v1",
        &[
            "job `deploy` reads `steps.apply.outputs.slot`, which step `apply` does not write",
            "job `deploy`, step `apply` uses `switchyard-ci/switchyard/actions/roll-out@v1`, which does not exist",
        ],
    );
}

#[test]
fn a_caller_that_gives_what_the_workflow_does_not_declare_is_found() {
    breaks(
        CALLER_PATH,
        "environment: production",
        "enviroment: production",
        &[
            "job `production` does not give `environment`, which is required",
            "job `production` gives `enviroment`, which is not declared",
        ],
    );
    breaks(
        CALLER_PATH,
        "secrets:\n      kubeconfig: ${{ secrets.KUBECONFIG }}",
        "secrets: inherit",
        &[
            "job `production` does not give `kubeconfig`, which is required",
            "job `production` inherits secrets, which does not cross owners: name each",
        ],
    );
    breaks(
        CALLER_PATH,
        "workflows/deploy.yml@v1",
        "workflows/deploi.yml@v1",
        &[
            "job `production` calls `switchyard-ci/switchyard/.github/workflows/deploi.yml@v1`, which does not exist",
        ],
    );
}

#[test]
fn an_action_of_others_that_is_not_pinned_is_found() {
    breaks(
        CALLED_PATH,
        "actions/checkout@0123456789012345678901234567890123456789",
        "actions/checkout@v6",
        &["`actions/checkout@v6` is not pinned to a commit"],
    );
}

#[test]
fn a_checkout_that_keeps_the_token_is_found() {
    breaks(
        CALLED_PATH,
        "persist-credentials: false",
        "fetch-depth: 1",
        &[
            "job `deploy`, step `actions/checkout@0123456789012345678901234567890123456789` leaves the token in .git: persist-credentials: false",
        ],
    );
}

#[test]
fn permissions_are_the_callers_alone() {
    breaks(
        CALLER_PATH,
        "permissions: {}\n",
        "",
        &["must state `permissions: {}` at the top and grant per job"],
    );
    breaks(
        CALLER_PATH,
        "permissions: {}",
        "permissions: write-all",
        &["must state `permissions: {}` at the top and grant per job"],
    );
    breaks(
        CALLED_PATH,
        "jobs:\n",
        "permissions: {}\njobs:\n",
        &["is called by other workflows and must not state permissions"],
    );
    breaks(
        CALLED_PATH,
        "    timeout-minutes: 4\n",
        "    timeout-minutes: 4\n    permissions:\n      issues: write\n",
        &["is called by other workflows and must not state permissions"],
    );
}

#[test]
fn a_job_without_a_time_limit_is_found() {
    breaks(
        CALLED_PATH,
        "    timeout-minutes: 4\n",
        "",
        &["job `report` has no timeout-minutes"],
    );
}

#[test]
fn a_script_whose_failing_pipe_would_pass_is_found() {
    breaks(
        CALLED_PATH,
        "defaults:\n  run:\n    shell: bash\n",
        "",
        &[
            "job `deploy`, step `kubeconfig` names no shell, so a failing pipe passes",
            "job `report`, step `(nameless)` names no shell, so a failing pipe passes",
        ],
    );
}

#[test]
fn two_refs_of_our_own_actions_are_found() {
    breaks(
        CALLED_PATH,
        "jobs:\n",
        "jobs:\n  other:\n    runs-on: ubuntu-latest\n    timeout-minutes: 1\n    steps:\n      - uses: switchyard-ci/switchyard@v2\n",
        &["uses `@v1` of switchyard-ci/switchyard beside `@v2`"],
    );
}

#[test]
fn undescribed_inputs_and_outputs_are_found() {
    breaks(
        CALLED_PATH,
        "        description: Where to.\n        type: string\n",
        "",
        &[
            "inputs.environment has no description",
            "inputs.environment has no type",
        ],
    );
    breaks(
        ACTION_PATH,
        "    description: How many.\n",
        "",
        &["input `min-ready` has no description"],
    );
}
