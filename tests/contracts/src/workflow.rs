//! The contract of a workflow: every input, secret and output leads somewhere, nothing runs that is not
//! pinned, no expression reaches a shell. It knows the actions' declarations; it refuses to know what
//! order of steps a deployment needs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::expression::{Reference, references, references_of_condition};
use crate::repository::{Repository, entries, items, strings, text};
use crate::{Finding, Report, SELF};

pub(crate) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, workflow) in &repository.workflows {
        let mut report = Report::new(path);
        check_permissions(workflow, &mut report);
        check_call(workflow, &mut report);
        for (id, job) in entries(workflow.get("jobs")) {
            let job = Job { id, job, workflow };
            job.check(repository, &mut report);
        }
        findings.extend(report.findings);
    }
    findings.extend(check_one_ref(repository));
    findings
}

fn trigger(workflow: &Value) -> Option<&Value> {
    // YAML 1.1 reads the key `on` as true; the parser used here follows YAML 1.2.
    workflow.get("on").and_then(|on| on.get("workflow_call"))
}

fn is_called(workflow: &Value) -> bool {
    trigger(workflow).is_some()
}

/// A callee that asks for more than its caller grants does not start, and one that asks for nothing
/// cannot check out: only callers state permissions, and they start from none.
fn check_permissions(workflow: &Value, report: &mut Report<'_>) {
    let top = workflow.get("permissions");
    if is_called(workflow) {
        let in_jobs =
            entries(workflow.get("jobs")).any(|(_, job)| job.get("permissions").is_some());
        if top.is_some() || in_jobs {
            report.add("is called by other workflows and must not state permissions");
        }
    } else if top
        .and_then(Value::as_object)
        .is_none_or(|map| !map.is_empty())
    {
        report.add("must state `permissions: {}` at the top and grant per job");
    }
}

fn declared<'a>(workflow: &'a Value, kind: &str) -> BTreeMap<&'a String, &'a Value> {
    entries(trigger(workflow).and_then(|call| call.get(kind))).collect()
}

/// Inputs, secrets and outputs of `workflow_call`: described, used, and leading somewhere.
fn check_call(workflow: &Value, report: &mut Report<'_>) {
    let jobs = workflow.get("jobs").cloned().unwrap_or_default();
    let mut used = everything_referred_to(&jobs);
    for field in ["concurrency", "env", "run-name"] {
        used.extend(everything_referred_to(
            workflow.get(field).unwrap_or(&Value::Null),
        ));
    }
    let uses = |context: &str, name: &str| {
        used.iter()
            .any(|parts| parts[0] == context && parts[1] == name)
    };
    for (context, kind) in [("inputs", "inputs"), ("secrets", "secrets")] {
        let declared = declared(workflow, kind);
        for (name, declaration) in &declared {
            if !uses(context, name) {
                report.add(format!(
                    "{context}.{name} is declared, but nothing reads it"
                ));
            }
            if text(declaration, "description").is_empty() {
                report.add(format!("{context}.{name} has no description"));
            }
            if context == "inputs" && text(declaration, "type").is_empty() {
                report.add(format!("inputs.{name} has no type"));
            }
        }
        if is_called(workflow) {
            for reference in used.iter().filter(|parts| parts[0] == context) {
                let name = &reference[1];
                if !declared.contains_key(name) && name != "GITHUB_TOKEN" {
                    report.add(format!("{context}.{name} is read, but not declared"));
                }
            }
        }
    }
    for (name, output) in declared(workflow, "outputs") {
        if text(output, "description").is_empty() {
            report.add(format!("outputs.{name} has no description"));
        }
        let references = references(&text(output, "value"));
        if references.is_empty() {
            report.add(format!("outputs.{name} leads to no job"));
        }
        for reference in references {
            let is_written = matches!(reference.as_slice(), [context, job, field, output]
                if context == "jobs" && field == "outputs"
                    && jobs.get(job).and_then(|job| job.get("outputs")).and_then(|outputs| outputs.get(output)).is_some());
            if !is_written {
                report.add(format!(
                    "outputs.{name} reads `{}`, which no job puts out",
                    reference.join(".")
                ));
            }
        }
    }
}

fn everything_referred_to(value: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    strings(value, "", &mut found);
    found
        .into_iter()
        .flat_map(|(key, text)| {
            if key == "if" {
                references_of_condition(text)
            } else {
                references(text)
            }
        })
        .collect()
}

/// A job with what surrounds it.
struct Job<'a> {
    id: &'a str,
    job: &'a Value,
    workflow: &'a Value,
}

impl Job<'_> {
    fn check(&self, repository: &Repository, report: &mut Report<'_>) {
        if self.job.get("uses").is_some() {
            self.check_call(repository, report);
        } else if self.job.get("timeout-minutes").is_none() {
            report.add(format!("job `{}` has no timeout-minutes", self.id));
        }
        for step in items(self.job.get("steps")) {
            self.check_step(step, repository, report);
        }
        for reference in everything_referred_to(self.job) {
            self.check_reference(&reference, repository, report);
        }
    }

    /// A job that calls a workflow of ours gives it only what it declares, and all that it requires.
    fn check_call(&self, repository: &Repository, report: &mut Report<'_>) {
        if text(self.job, "secrets") == "inherit" {
            report.add(format!(
                "job `{}` inherits secrets, which does not cross owners: name each",
                self.id
            ));
        }
        let uses = text(self.job, "uses");
        let Some(path) = own_workflow(&uses) else {
            check_pin(&uses, report);
            return;
        };
        let Some(called) = repository.workflows.get(&path) else {
            report.add(format!(
                "job `{}` calls `{uses}`, which does not exist",
                self.id
            ));
            return;
        };
        for (given, kind) in [("with", "inputs"), ("secrets", "secrets")] {
            let what = format!("job `{}`", self.id);
            check_given(self.job.get(given), &declared(called, kind), &what, report);
        }
    }

    fn check_step(&self, step: &Value, repository: &Repository, report: &mut Report<'_>) {
        let name = [text(step, "name"), text(step, "id"), text(step, "uses")]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_else(|| "(nameless)".to_owned());
        let what = format!("job `{}`, step `{name}`", self.id);
        let uses = text(step, "uses");
        if uses.is_empty() {
            if text(step, "run").contains("${{") {
                report.add(format!("{what} has an expression inside `run`"));
            }
            let shell = self
                .workflow
                .get("defaults")
                .and_then(|defaults| defaults.get("run"));
            if text(step, "shell").is_empty()
                && shell.is_none_or(|run| text(run, "shell").is_empty())
            {
                report.add(format!("{what} names no shell, so a failing pipe passes"));
            }
            return;
        }
        if let Some((path, _)) = own_action(&uses) {
            match repository.actions.get(&path) {
                None => report.add(format!("{what} uses `{uses}`, which does not exist")),
                Some(action) => {
                    let declared = entries(action.get("inputs")).collect();
                    check_given(step.get("with"), &declared, &what, report);
                }
            }
            return;
        }
        check_pin(&uses, report);
        if uses.starts_with("actions/checkout@") {
            let persists = step
                .get("with")
                .and_then(|with| with.get("persist-credentials"));
            if persists != Some(&Value::Bool(false)) {
                report.add(format!(
                    "{what} leaves the token in .git: persist-credentials: false"
                ));
            }
        }
    }

    /// `needs.…` names a job that is waited for, `steps.…` a step of this job that writes the output.
    fn check_reference(
        &self,
        reference: &Reference,
        repository: &Repository,
        report: &mut Report<'_>,
    ) {
        let at = format!("job `{}` reads `{}`", self.id, reference.join("."));
        match reference
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .as_slice()
        {
            ["needs", job, rest @ ..] => {
                if !self.needs().contains(*job) {
                    report.add(format!("{at}, but does not need `{job}`"));
                }
                if let ["outputs", output] = rest {
                    let needed = self.workflow.get("jobs").and_then(|jobs| jobs.get(job));
                    if !needed.is_some_and(|needed| puts_out(needed, output, repository)) {
                        report.add(format!("{at}, which job `{job}` does not put out"));
                    }
                }
            }
            ["steps", id, rest @ ..] => {
                let step = items(self.job.get("steps")).find(|step| text(step, "id") == *id);
                let Some(step) = step else {
                    report.add(format!("{at}, but has no step `{id}`"));
                    return;
                };
                if let ["outputs", output] = rest
                    && !writes(step, output, repository)
                {
                    report.add(format!("{at}, which step `{id}` does not write"));
                }
            }
            _ => {}
        }
    }

    fn needs(&self) -> BTreeSet<String> {
        match self.job.get("needs") {
            Some(Value::String(job)) => BTreeSet::from([job.clone()]),
            other => items(other)
                .filter_map(|job| job.as_str().map(str::to_owned))
                .collect(),
        }
    }
}

/// Whether a job puts an output out: by itself, or by the workflow of ours that it calls.
fn puts_out(job: &Value, output: &str, repository: &Repository) -> bool {
    let called = own_workflow(&text(job, "uses"));
    match called.and_then(|path| repository.workflows.get(&path)) {
        Some(called) => declared(called, "outputs")
            .keys()
            .any(|name| *name == output),
        None => job
            .get("outputs")
            .is_some_and(|outputs| outputs.get(output).is_some()),
    }
}

/// Whether a step writes an output: an action of ours declares it, a script appends `name=` to the file.
/// What a third party's action puts out is not known here.
fn writes(step: &Value, output: &str, repository: &Repository) -> bool {
    let uses = text(step, "uses");
    if uses.is_empty() {
        let run = text(step, "run");
        return run.contains("GITHUB_OUTPUT")
            && (run.contains(&format!("{output}=")) || run.contains(&format!("{output}<<")));
    }
    match own_action(&uses) {
        Some((path, _)) => repository
            .actions
            .get(&path)
            .and_then(|action| action.get("outputs"))
            .is_some_and(|outputs| outputs.get(output).is_some()),
        None => true,
    }
}

/// The path of a workflow of this repository that a job calls.
fn own_workflow(uses: &str) -> Option<String> {
    let path = match uses.strip_prefix("./") {
        Some(path) => path,
        None => uses.strip_prefix(SELF)?.strip_prefix('/')?,
    };
    path.split('@').next().map(str::to_owned)
}

/// The `action.yml` and the ref of an action of this repository.
fn own_action(uses: &str) -> Option<(String, String)> {
    let (path, reference) = match uses.strip_prefix("./") {
        Some(path) => (path, ""),
        None => {
            let rest = uses.strip_prefix(SELF)?;
            let (path, reference) = rest.split_once('@')?;
            (path.trim_start_matches('/'), reference)
        }
    };
    let path = path.trim_end_matches('/');
    let file = if path.is_empty() {
        "action.yml".to_owned()
    } else {
        format!("{path}/action.yml")
    };
    Some((file, reference.to_owned()))
}

fn check_pin(uses: &str, report: &mut Report<'_>) {
    let reference = uses.split_once('@').map_or("", |(_, reference)| reference);
    let is_commit = reference.len() == 40 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_commit {
        report.add(format!("`{uses}` is not pinned to a commit"));
    }
}

fn check_given(
    given: Option<&Value>,
    declared: &BTreeMap<&String, &Value>,
    what: &str,
    report: &mut Report<'_>,
) {
    let given: BTreeSet<&String> = entries(given).map(|(name, _)| name).collect();
    for name in &given {
        if !declared.contains_key(name) {
            report.add(format!("{what} gives `{name}`, which is not declared"));
        }
    }
    for (name, declaration) in declared {
        if declaration.get("required") == Some(&Value::Bool(true)) && !given.contains(name) {
            report.add(format!("{what} does not give `{name}`, which is required"));
        }
    }
}

/// One workflow that mixes refs of our actions would run two versions in one deployment.
fn check_one_ref(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, workflow) in &repository.workflows {
        let mut first: Option<String> = None;
        let mut found = Vec::new();
        strings(workflow, "", &mut found);
        let refs = found
            .iter()
            .filter(|(key, _)| *key == "uses")
            .filter_map(|(_, uses)| own_action(uses))
            .map(|(_, reference)| reference)
            .filter(|reference| !reference.is_empty());
        for reference in refs {
            let expected = first.get_or_insert_with(|| reference.clone());
            if *expected != reference {
                findings.push(Finding {
                    file: path.clone(),
                    message: format!("uses `@{reference}` of {SELF} beside `@{expected}`"),
                });
            }
        }
    }
    findings
}
