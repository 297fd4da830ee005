//! Every program of a chain must come to the same identity from the same inputs.

use std::path::PathBuf;

use switchyard_deployment::{connect, deployment_id};
use switchyard_runner::{DeploymentArgs, Environment, Failure, Kind};

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: main\nclusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\ncontexts:\n- {name: main, context: {cluster: a, user: u, namespace: shop}}\n- {name: second, context: {cluster: a, user: u}}\n";

async fn identity(
    variables: &[(&str, &str)],
    change: impl FnOnce(&mut DeploymentArgs),
) -> Result<String, Failure> {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig: PathBuf = folder.path().join("config");
    std::fs::write(&kubeconfig, KUBECONFIG).expect("written");
    let mut args = DeploymentArgs {
        kubeconfig: Some(kubeconfig),
        application: Some("web".to_owned()),
        ..DeploymentArgs::default()
    };
    change(&mut args);
    let environment: Environment = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let connection = connect(&args, &environment).await?;
    deployment_id(&args, &environment, &connection).map(|id| id.to_string())
}

const RUN: [(&str, &str); 2] = [("GITHUB_REPOSITORY", "acme/shop"), ("GITHUB_RUN_ID", "7")];

#[tokio::test]
async fn run_context_and_namespace_make_the_identity() {
    assert_eq!(
        identity(&RUN, |_| {}).await.expect("valid"),
        "acme/shop/7/default/main/shop/web"
    );
    assert_eq!(
        identity(&[], |_| {}).await.expect("valid"),
        "local/local/default/main/shop/web"
    );
}

#[tokio::test]
async fn inputs_come_before_what_is_computed() {
    let id = identity(&RUN, |args| {
        args.environment = Some("production".to_owned());
        args.context = Some("second".to_owned());
        args.namespace = Some("other".to_owned());
    });
    assert_eq!(
        id.await.expect("valid"),
        "acme/shop/7/production/second/other/web"
    );
}

#[tokio::test]
async fn a_given_identity_brings_its_namespace_along() {
    let given = "acme/shop/6/production/eu/far/web";
    let id = identity(&RUN, |args| {
        args.application = None;
        args.deployment_id = Some(given.to_owned());
    });
    assert_eq!(id.await.expect("valid"), given);
}

#[tokio::test]
async fn an_identity_that_contradicts_the_inputs_is_refused() {
    let failure = identity(&RUN, |args| {
        args.application = Some("api".to_owned());
        args.deployment_id = Some("acme/shop/6/production/eu/shop/web".to_owned());
    });
    let failure = failure.await.expect_err("a contradiction");
    assert_eq!(failure.kind(), Kind::Input);
    assert_eq!(
        failure.to_string(),
        "input `application` is `api`, but deployment `acme/shop/6/production/eu/shop/web` has `web`"
    );
}

#[tokio::test]
async fn an_application_is_required() {
    let failure = identity(&RUN, |args| args.application = None);
    let failure = failure.await.expect_err("nothing to go by");
    assert_eq!(failure.to_string(), "input `application` is required");
}
