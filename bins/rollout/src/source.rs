//! Reads the manifests that the inputs name: files, a kustomization or a chart. Hands back objects
//! with their images replaced and their namespaces checked; refuses to know the cluster.

mod files;
mod rendered;

use std::time::Duration;

use switchyard_manifest::images::{ImageError, override_images};
use switchyard_manifest::parse::{self, ParseError};
use switchyard_manifest::{Kind, Object};
use switchyard_runner::{Context, Failure};

use crate::inputs::{ManifestArgs, refuse_alone};

/// What rendering needs to know besides the inputs.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// Namespace that all objects go to.
    pub namespace: &'a str,
    /// The application, where one is named; the default release name.
    pub application: Option<&'a str>,
    /// Longest time for a rendering program.
    pub time_limit: Duration,
}

/// Reads, renders, parses and checks all manifests.
///
/// # Errors
/// A failure of kind input: nothing is named, more than one source is named, a file cannot be read, a
/// program fails, an object is not one, an image or a namespace does not fit.
pub(crate) async fn load(
    context: &Context,
    args: &ManifestArgs,
    target: &Target<'_>,
) -> Result<Vec<Object>, Failure> {
    let chart = ("chart", args.chart.is_some());
    refuse_alone(("values", !args.values.is_empty()), chart)?;
    refuse_alone(("release", args.release.is_some()), chart)?;
    let mut objects = Vec::new();
    for (name, text) in texts(context, args, target).await? {
        objects.extend(parse::parse(&name, &text).map_err(parse_failure)?);
    }
    if objects.is_empty() {
        return Err(input_failure("the manifests hold no objects"));
    }
    parse::refuse_duplicates(&objects).map_err(parse_failure)?;
    override_images(&mut objects, &args.images).map_err(image_failure)?;
    check_namespaces(&objects, target.namespace)?;
    Ok(objects)
}

async fn texts(
    context: &Context,
    args: &ManifestArgs,
    target: &Target<'_>,
) -> Result<Vec<(String, String)>, Failure> {
    let sources = [
        !args.files.is_empty(),
        args.kustomization.is_some(),
        args.chart.is_some(),
    ];
    match sources.iter().filter(|is_given| **is_given).count() {
        0 => Err(input_failure("no manifests are named")
            .hint("give one of `files`, `kustomization` and `chart`")),
        1 if !args.files.is_empty() => files::read(&args.files),
        1 => rendered::render(context, args, target)
            .await
            .map(|text| vec![text]),
        _ => Err(
            input_failure("`files`, `kustomization` and `chart` are given together")
                .hint("give one of them; a kustomization can name files and charts"),
        ),
    }
}

/// All objects go to one namespace: the one that the inputs name. An object that states another one
/// would be written where nobody looked for conflicts and permissions.
fn check_namespaces(objects: &[Object], namespace: &str) -> Result<(), Failure> {
    let others: Vec<String> = objects
        .iter()
        .filter_map(|object| {
            let identity = object.identity();
            let stated = identity
                .namespace
                .clone()
                .filter(|stated| stated != namespace)?;
            Some(format!(
                "{identity} states namespace `{stated}` ({})",
                object.origin()
            ))
        })
        .collect();
    if !others.is_empty() {
        return Err(input_failure(format!(
            "objects belong to another namespace than `{namespace}`: {}",
            others.join("; ")
        ))
        .hint("deploy each namespace by a step of its own, or take the namespace out of the manifests"));
    }
    let foreign = objects
        .iter()
        .find(|object| object.kind() == Kind::Namespace && object.name() != namespace);
    match foreign {
        Some(object) => Err(input_failure(format!(
            "the manifests declare {}, but objects go to namespace `{namespace}`",
            object.identity()
        ))),
        None => Ok(()),
    }
}

fn parse_failure(error: ParseError) -> Failure {
    let hint = error.hint();
    Failure::input(error).maybe_hint(hint)
}

fn image_failure(error: ImageError) -> Failure {
    let hint = match &error {
        ImageError::Unknown { suggestion, .. } => suggestion
            .as_ref()
            .map(|name| format!("did you mean `{name}`?")),
        ImageError::NotAnOverride { .. } | ImageError::Twice { .. } => None,
    };
    Failure::input(error).maybe_hint(hint)
}

fn input_failure(text: impl std::fmt::Display) -> Failure {
    Failure::message(switchyard_runner::Kind::Input, text)
}
