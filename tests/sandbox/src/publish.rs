//! Brings images of the demo applications, and of programs under test, into the sandbox's registry.
//! Builds no program.

use std::path::Path;

use crate::{
    components::Component,
    error::{Result, read},
    http_client::HttpClient,
    images::{ImageSource, Layer, Pushed, Registry, catalogue},
    instance::Layout,
    readiness,
    steps::Steps,
    up::UpOptions,
};

/// Pushes every image whose tag does not name it yet.
pub(crate) async fn push_images(options: &UpOptions, steps: Steps) -> Result<()> {
    let ca = read(&options.layout.ca_certificate())?;
    let registry = Registry::new(HttpClient::trusting(&ca)?);
    readiness::wait(&options.layout, Component::Registry, async || {
        registry.is_ready().await
    })
    .await?;
    let images = catalogue();
    let mut layers: Vec<(&str, Layer)> = Vec::new();
    let mut moved = Vec::new();
    for image in &images {
        if !layers.iter().any(|(program, _)| *program == image.program) {
            layers.push((
                image.program,
                Layer::of_program(&options.apps.join(image.program))?,
            ));
        }
        let Some((_, layer)) = layers.iter().find(|(program, _)| *program == image.program) else {
            continue;
        };
        match registry.push(image, layer).await? {
            Pushed::Moved => moved.push(image.to_string()),
            Pushed::New | Pushed::AlreadyThere => {}
        }
    }
    forget_pulled(&options.layout, &moved).await;
    steps.done(format!("{} images in the registry", images.len()));
    Ok(())
}

/// Makes an image of one program and pushes it, unless the registry has it. Returns its reference.
pub(crate) async fn push_program(
    layout: &Layout,
    repository: &'static str,
    program: &Path,
) -> Result<String> {
    let registry = Registry::new(HttpClient::trusting(&read(&layout.ca_certificate())?)?);
    let image = ImageSource {
        repository,
        tag: "test",
        program: "app",
        environment: Vec::new(),
    };
    if registry.push(&image, &Layer::of_program(program)?).await? == Pushed::Moved {
        forget_pulled(layout, &[image.to_string()]).await;
    }
    Ok(image.to_string())
}

/// Removes images from containerd whose tag has moved: a pod with `IfNotPresent` would go on with
/// the old program.
async fn forget_pulled(layout: &Layout, references: &[String]) {
    if references.is_empty() {
        return;
    }
    let mut command = tokio::process::Command::new("ctr");
    command.arg("--address").arg(layout.containerd_socket());
    command
        .args(["--namespace", "k8s.io", "images", "rm"])
        .args(references);
    // Images that nobody pulled are not there: that is the wanted state too.
    let _ = command.output().await;
}
