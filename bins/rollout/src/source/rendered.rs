//! Manifests that another program renders: `kustomize` or `kubectl kustomize`, and `helm template`.
//! The program gets an allow-listed environment: no inputs, no tokens, no kubeconfig.

use std::path::PathBuf;

use switchyard_runner::child::{Child, ChildResult, Ended};
use switchyard_runner::{Context, Environment, Failure};

use super::{Target, input_failure};
use crate::inputs::ManifestArgs;

/// Renders the kustomization or the chart. Gives a name for messages, and the text.
pub(super) async fn render(
    context: &Context,
    args: &ManifestArgs,
    target: &Target<'_>,
) -> Result<(String, String), Failure> {
    let program = match (&args.kustomization, &args.chart) {
        (Some(folder), _) => kustomize(&context.environment, folder)?,
        (None, Some(chart)) => helm(&context.environment, chart, args, target)?,
        (None, None) => return Err(input_failure("no manifests are named")),
    };
    let name = program.join(" ");
    context.console.progress(format!("rendering: {name}"));
    let child = Child::program(program, target.time_limit);
    let (ended, text) = child.capture(&context.environment, &context.cancel).await?;
    if ended.result.is_success() {
        return Ok((name, text));
    }
    Err(failed(context, &name, &ended))
}

fn failed(context: &Context, name: &str, ended: &Ended) -> Failure {
    context
        .console
        .untrusted(format!("output of {name}"), &ended.last_lines.join("\n"));
    let how = match ended.result {
        ChildResult::Exited(code) => format!("ended with exit code {code}"),
        ChildResult::Killed => "was killed".to_owned(),
        ChildResult::TimedOut(limit) => format!("did not end within {}s", limit.as_secs()),
    };
    let last = ended
        .last_lines
        .iter()
        .rev()
        .find(|line| !line.trim().is_empty());
    input_failure(format!("`{name}` {how}"))
        .maybe_hint(last.map(|line| format!("its last line: {line}")))
}

fn kustomize(environment: &Environment, folder: &std::path::Path) -> Result<Vec<String>, Failure> {
    if !folder.is_dir() {
        return Err(input_failure(format!(
            "input `kustomization`: `{}` is no folder",
            folder.display()
        )));
    }
    let folder = folder.display().to_string();
    if find_program(environment, "kustomize").is_some() {
        return Ok(vec!["kustomize".to_owned(), "build".to_owned(), folder]);
    }
    if find_program(environment, "kubectl").is_some() {
        return Ok(vec!["kubectl".to_owned(), "kustomize".to_owned(), folder]);
    }
    Err(
        input_failure("a kustomization needs `kustomize` or `kubectl`, and neither is on PATH")
            .hint("install one of them in a step before this one, or render to files"),
    )
}

fn helm(
    environment: &Environment,
    chart: &str,
    args: &ManifestArgs,
    target: &Target<'_>,
) -> Result<Vec<String>, Failure> {
    if find_program(environment, "helm").is_none() {
        return Err(input_failure("a chart needs `helm`, and it is not on PATH")
            .hint("install it in a step before this one, or render to files"));
    }
    let release = args
        .release
        .as_deref()
        .or(target.application)
        .ok_or_else(|| {
            input_failure("input `release` is required with a chart, as no `application` is given")
        })?;
    // An argument that begins with `-` would be read as an option.
    let given = [("chart", chart), ("release", release)];
    if let Some((input, value)) = given.iter().find(|(_, value)| value.starts_with('-')) {
        return Err(input_failure(format!(
            "input `{input}` is `{value}`: it must not begin with `-`"
        )));
    }
    let mut program: Vec<String> = [
        "helm",
        "template",
        release,
        chart,
        "--namespace",
        target.namespace,
    ]
    .map(str::to_owned)
    .to_vec();
    // Hooks are the business of `helm install`; applying them as plain objects would run them always.
    program.push("--no-hooks".to_owned());
    for file in args.values.iter() {
        if !std::path::Path::new(file).is_file() {
            return Err(input_failure(format!(
                "input `values`: `{file}` does not exist"
            )));
        }
        program.push(format!("--values={file}"));
    }
    Ok(program)
}

fn find_program(environment: &Environment, name: &str) -> Option<PathBuf> {
    std::env::split_paths(environment.get("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
