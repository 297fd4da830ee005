//! The contract of an `action.yml`: one step that execs the launcher, every input mapped, every output
//! written. It refuses to know workflows.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::expression::references;
use crate::repository::{Repository, entries, items, strings, text};
use crate::{Finding, Report};

pub(crate) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, action) in &repository.actions {
        let mut report = Report::new(path);
        let program = path
            .strip_prefix("actions/")
            .and_then(|rest| rest.strip_suffix("/action.yml"));
        check_launch(action, program, &mut report);
        check_inputs(action, &mut report);
        check_outputs(action, &mut report);
        if let Some(program) = program {
            check_page(repository, action, program, &mut report);
        }
        findings.extend(report.findings);
    }
    findings.extend(check_completeness(repository));
    findings
}

/// The variable that an input must be mapped to: a shell cannot name one with a hyphen.
pub(crate) fn variable(input: &str) -> String {
    format!("INPUT_{}", input.to_uppercase().replace([' ', '-'], "_"))
}

fn steps(action: &Value) -> Vec<&Value> {
    items(action.get("runs").and_then(|runs| runs.get("steps"))).collect()
}

/// Nested `uses:` would resolve in the caller's workspace, and only `exec` hands signals on.
fn check_launch(action: &Value, program: Option<&str>, report: &mut Report<'_>) {
    let launch = match program {
        Some(program) => {
            format!("exec \"$GITHUB_ACTION_PATH/../../scripts/launch\" {program}")
        }
        None => "exec \"$GITHUB_ACTION_PATH/scripts/launch\" setup".to_owned(),
    };
    let steps = steps(action);
    let [step] = steps.as_slice() else {
        report.add(format!("has {} steps, must have one", steps.len()));
        return;
    };
    let run = text(step, "run");
    if run.trim() != launch {
        report.add(format!("runs `{}`, must run `{launch}`", run.trim()));
    }
    if run.contains("${{") {
        report.add("has an expression inside `run`");
    }
    if step.get("uses").is_some() {
        report.add("uses another action");
    }
    let shell = text(step, "shell");
    if !shell.split(' ').any(|word| word == "-p") {
        report.add("its shell lacks `-p`: BASH_ENV of the caller's job would run first");
    }
    if text(action, "description").is_empty() {
        report.add("has no description");
    }
}

/// A composite step gets no `INPUT_` variable that it does not map itself.
fn check_inputs(action: &Value, report: &mut Report<'_>) {
    let declared: BTreeSet<&String> = entries(action.get("inputs"))
        .map(|(name, _)| name)
        .collect();
    let steps = steps(action);
    let mapped: Vec<(&String, &Value)> = steps
        .iter()
        .flat_map(|step| entries(step.get("env")))
        .collect();
    for (name, input) in entries(action.get("inputs")) {
        let expected = format!("${{{{ inputs.{name} }}}}");
        let value = mapped
            .iter()
            .find(|(key, _)| **key == variable(name))
            .map(|(_, value)| value.as_str().unwrap_or_default());
        match value {
            None => report.add(format!(
                "input `{name}` is not mapped to {}",
                variable(name)
            )),
            Some(value) if value != expected => report.add(format!(
                "{} is `{value}`, must be `{expected}`",
                variable(name)
            )),
            Some(_) => {}
        }
        if text(input, "description").is_empty() {
            report.add(format!("input `{name}` has no description"));
        }
    }
    for (key, _) in &mapped {
        if key.starts_with("INPUT_") && !declared.iter().any(|name| variable(name) == **key) {
            report.add(format!("{key} is mapped, but no such input is declared"));
        }
    }
    let mut found = Vec::new();
    strings(action, "", &mut found);
    for reference in found.iter().flat_map(|(_, text)| references(text)) {
        if reference[0] == "inputs" && !declared.contains(&reference[1]) {
            report.add(format!("`inputs.{}` is not declared", reference[1]));
        }
    }
}

/// Programs write outputs under the declared names, so the names must be the same on both sides. That
/// the program declares them is compared by each program's own test of the generated file.
fn check_outputs(action: &Value, report: &mut Report<'_>) {
    let ids: Vec<String> = steps(action).iter().map(|step| text(step, "id")).collect();
    for (name, output) in entries(action.get("outputs")) {
        let value = text(output, "value");
        let is_mapped = ids
            .iter()
            .any(|id| !id.is_empty() && value == format!("${{{{ steps.{id}.outputs.{name} }}}}"));
        if !is_mapped {
            report.add(format!(
                "output `{name}` is `{value}`, which no step of the action writes"
            ));
        }
        if text(output, "description").is_empty() {
            report.add(format!("output `{name}` has no description"));
        }
    }
}

fn check_page(repository: &Repository, action: &Value, program: &str, report: &mut Report<'_>) {
    let path = format!("docs/reference/{program}.md");
    let Some(page) = repository.pages.get(&path) else {
        report.add(format!("has no reference page `{path}`"));
        return;
    };
    for (name, _) in entries(action.get("inputs")) {
        if name != "command" && !page.contains(&format!("`{name}`")) {
            report.add(format!("input `{name}` is not on `{path}`"));
        }
    }
    for (name, _) in entries(action.get("outputs")) {
        if !page.contains(&format!("`{name}`")) {
            report.add(format!("output `{name}` is not on `{path}`"));
        }
    }
}

fn check_completeness(repository: &Repository) -> Vec<Finding> {
    let mut report = Report::new("actions");
    if !repository.actions.contains_key("action.yml") {
        report.add("there is no root action");
    }
    for program in &repository.programs {
        if !repository
            .actions
            .contains_key(&format!("actions/{program}/action.yml"))
        {
            report.add(format!("program `{program}` has no action"));
        }
    }
    for path in repository
        .actions
        .keys()
        .filter(|path| *path != "action.yml")
    {
        let name = path.split('/').nth(1).unwrap_or_default();
        if !repository.programs.iter().any(|program| program == name) {
            report.add(format!("action `{name}` has no program"));
        }
    }
    report.findings
}
