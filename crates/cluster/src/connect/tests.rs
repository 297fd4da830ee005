//! Kubeconfigs that work and that do not.

use std::path::PathBuf;

use super::{kubeconfig::is_allowed, *};

const KUBECONFIG: &str = r"
apiVersion: v1
kind: Config
current-context: staging
clusters:
- {name: one, cluster: {server: 'https://127.0.0.1:6443'}}
contexts:
- {name: staging, context: {cluster: one, user: token, namespace: shop}}
- {name: plugin, context: {cluster: one, user: plugin}}
- {name: legacy-plugin, context: {cluster: one, user: legacy-plugin}}
- {name: nobody, context: {cluster: one, user: nobody}}
- {name: nowhere, context: {cluster: two, user: token}}
users:
- {name: token, user: {token: secret-token}}
- {name: plugin, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/false, interactiveMode: Always}}}
- {name: legacy-plugin, user: {auth-provider: {name: gcp, config: {cmd-path: /bin/false}}}}
";

struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new(content: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config"), content).unwrap();
        Self { folder }
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions {
            kubeconfig: Some(self.folder.path().join("config")),
            ..ConnectOptions::default()
        }
    }

    async fn context(&self, context: &str) -> Result<Cluster> {
        let context = Some(context.to_owned());
        Cluster::connect(&ConnectOptions {
            context,
            ..self.options()
        })
        .await
    }
}

#[tokio::test]
async fn the_current_context_decides_unless_another_is_asked_for() {
    let case = Case::new(KUBECONFIG);
    let cluster = Cluster::connect(&case.options()).await.unwrap();
    assert_eq!(cluster.namespace(), "shop");
    assert_eq!(cluster.server(), "https://127.0.0.1:6443/");
    assert_eq!(cluster.context(), Some("staging"));
    let cluster = Cluster::connect(&ConnectOptions {
        namespace: Some("other".to_owned()),
        ..case.options()
    })
    .await
    .unwrap();
    assert_eq!(cluster.namespace(), "other");
}

#[tokio::test]
async fn an_unknown_context_is_refused_and_the_known_ones_are_named() {
    let error = Case::new(KUBECONFIG).context("prod").await.unwrap_err();
    assert_eq!(error.to_string(), "kubeconfig has no context `prod`");
    assert_eq!(
        error.hint().unwrap(),
        "it has: staging, plugin, legacy-plugin, nobody, nowhere"
    );
    assert!(error.is_bad_input());
}

#[tokio::test]
async fn a_plugin_of_the_way_before_exec_is_refused_whoever_allows_it() {
    let case = Case::new(KUBECONFIG);
    let allowed = ConnectOptions {
        context: Some("legacy-plugin".to_owned()),
        allow_exec: vec!["/bin/false".to_owned()],
        ..case.options()
    };
    let error = Cluster::connect(&allowed).await.unwrap_err();
    assert!(matches!(error, Error::KubeconfigInvalid { .. }), "{error}");
    assert!(error.to_string().contains("`exec` plugin"), "{error}");
}

#[tokio::test]
async fn a_credential_plugin_runs_only_when_it_is_named() {
    let case = Case::new(KUBECONFIG);
    let error = case.context("plugin").await.unwrap_err();
    assert!(matches!(error, Error::ExecNotAllowed { .. }), "{error}");
    assert!(error.to_string().contains("/bin/false"), "{error}");
    let allowed = ConnectOptions {
        context: Some("plugin".to_owned()),
        allow_exec: vec!["/bin/false".to_owned()],
        ..case.options()
    };
    let error = Cluster::connect(&allowed).await.unwrap_err();
    assert!(matches!(error, Error::Credential { .. }), "{error:?}");
    let named = |entry: &str| vec![entry.to_owned()];
    assert!(is_allowed("/usr/bin/aws", &named("aws")));
    assert!(!is_allowed("/tmp/aws", &named("/usr/bin/aws")));
    assert!(!is_allowed("aws-evil", &named("aws")));
    assert!(!is_allowed("", &named("")));
}

#[tokio::test]
async fn a_context_without_its_user_or_cluster_is_refused() {
    let case = Case::new(KUBECONFIG);
    let error = case.context("nobody").await.unwrap_err();
    assert!(error.to_string().contains("user `nobody`"), "{error}");
    let error = case.context("nowhere").await.unwrap_err();
    assert!(error.to_string().contains("cluster `two`"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_not_a_kubeconfig_is_refused_without_quoting_it() {
    let case = Case::new("token: [secret-token\n  - {");
    let error = Cluster::connect(&case.options()).await.unwrap_err();
    assert!(
        matches!(error, Error::KubeconfigInvalid { .. }),
        "{error:?}"
    );
    assert!(!format!("{error} {error:?}").contains("secret-token"));
}

#[tokio::test]
async fn a_missing_kubeconfig_is_named() {
    let missing = ConnectOptions {
        kubeconfig: Some(PathBuf::from("/nowhere/config")),
        ..ConnectOptions::default()
    };
    let error = Cluster::connect(&missing).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no kubeconfig: `/nowhere/config` does not exist"
    );
    let error = Cluster::connect(&ConnectOptions::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not a pod"), "{error}");
}

#[tokio::test]
async fn a_kubeconfig_list_skips_files_that_are_not_there() {
    let case = Case::new(KUBECONFIG);
    let list = std::env::join_paths([
        PathBuf::from("/nowhere/config"),
        case.folder.path().join("config"),
    ])
    .unwrap();
    let options = ConnectOptions {
        kubeconfig: Some(PathBuf::from(list)),
        ..ConnectOptions::default()
    };
    assert_eq!(
        Cluster::connect(&options).await.unwrap().namespace(),
        "shop"
    );
}
