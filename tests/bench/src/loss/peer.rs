//! Moving the traffic as scripts do: patch the route and scale the old side to 0 in the same breath.

use std::process::Command;

use crate::loss::application::{Application, Provider};
use crate::measure;

pub(crate) fn there_and_back(application: &Application) -> anyhow::Result<()> {
    flip(application, "green", "blue")?;
    kubectl(
        application,
        &["scale", "deployment/api-blue", "--replicas=3"],
    )?;
    kubectl(
        application,
        &["rollout", "status", "deployment/api-blue", "--timeout=2m"],
    )?;
    flip(application, "blue", "green")
}

fn flip(application: &Application, to: &str, from: &str) -> anyhow::Result<()> {
    let (object, patch) = match application.provider() {
        Provider::Service => (
            "service/api",
            format!(r#"{{"spec":{{"selector":{{"switchyard.dev/slot":"{to}"}}}}}}"#),
        ),
        Provider::Traefik => (
            "traefikservice/api",
            format!(
                r#"{{"spec":{{"weighted":{{"services":[{{"name":"api-{to}","port":80,"weight":1}}]}}}}}}"#
            ),
        ),
        Provider::Gateway => (
            "httproute/api",
            format!(
                r#"{{"spec":{{"rules":[{{"backendRefs":[{{"name":"api-{to}","port":80,"weight":1}}]}}]}}}}"#
            ),
        ),
    };
    kubectl(
        application,
        &["patch", object, "--type=merge", "-p", &patch],
    )?;
    kubectl(
        application,
        &["scale", &format!("deployment/api-{from}"), "--replicas=0"],
    )
}

fn kubectl(application: &Application, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(&application.kubectl);
    command
        .env("KUBECONFIG", &application.kubeconfig)
        .env("HOME", std::env::temp_dir());
    command
        .args(["-n", application.namespace()])
        .args(arguments);
    measure::run(&mut command)?;
    Ok(())
}
