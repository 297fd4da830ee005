//! A Kubernetes namespace for one test: created with the rights of the sandbox's users, deleted
//! with its owner.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    definitions::{DEPLOYER_ROLE, Identities, documents, subject},
    error::{Context as _, Result, SandboxError},
    instance::User,
    kubectl::Kubectl,
    sandbox::{KEEP_VARIABLE, Sandbox, client_of},
};

/// How long a new namespace may take to be usable.
const NAMESPACE_LIMIT: Duration = Duration::from_secs(30);

/// A namespace of one test. Deleted when it is dropped.
#[derive(Debug)]
pub struct TestNamespace {
    name: String,
    kubectl: Kubectl,
    is_deleted: bool,
}

impl TestNamespace {
    pub(crate) async fn create(sandbox: &Sandbox, prefix: &str) -> Result<Self> {
        let client = client_of(&sandbox.kubeconfig(User::Admin)).await?;
        let name = format!("{prefix}-{:08x}", rand::random::<u32>());
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"switchyard-sandbox/test": "true"}},
        }))
        .context(|| "cannot build a namespace")?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let created = namespaces.create(&PostParams::default(), &namespace).await;
        created.context(|| format!("cannot create namespace `{name}`"))?;
        let guard = Self {
            name,
            kubectl: sandbox.admin_kubectl(),
            is_deleted: false,
        };
        grant(sandbox, &client, &guard.name).await?;
        wait_for_service_account(&client, &guard.name).await?;
        Ok(guard)
    }

    /// The namespace's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs kubectl in this namespace as admin and returns what it printed.
    ///
    /// # Errors
    /// kubectl failed; its message is in the error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl.run(&self.inside(arguments), "")
    }

    /// Applies manifests (YAML or JSON) as admin.
    ///
    /// # Errors
    /// As for [`TestNamespace::kubectl`].
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.kubectl.run(
            &self.inside(&["apply", "--server-side", "-f", "-"]),
            manifests,
        )
    }

    /// Gives a user of any name the role of `docs/rbac/deployer.yaml` in this namespace.
    ///
    /// # Errors
    /// As for [`TestNamespace::kubectl`].
    pub fn grant_deployer(&self, user: &str) -> Result<String> {
        self.bind_deployer(&subject(user, Identities::Users))
    }

    /// Gives a group of any name the role of `docs/rbac/deployer.yaml` in this namespace.
    ///
    /// # Errors
    /// As for [`TestNamespace::kubectl`].
    pub fn grant_deployer_group(&self, group: &str) -> Result<String> {
        let group =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group});
        self.bind_deployer(&group)
    }

    fn bind_deployer(&self, subject: &Value) -> Result<String> {
        let name = format!("granted-{:08x}", rand::random::<u32>());
        self.apply(&binding(&name, "Role", "switchyard-deployer", subject).to_string())
    }

    fn inside<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut words = vec!["--namespace", &self.name];
        words.extend(arguments);
        words
    }

    /// Deletes the namespace without waiting for the last object in it.
    ///
    /// # Errors
    /// The cluster refuses.
    pub fn delete(mut self) -> Result<()> {
        self.is_deleted = true;
        self.order_deletion()
    }

    fn order_deletion(&self) -> Result<()> {
        let words = [
            "delete",
            "namespace",
            &self.name,
            "--wait=false",
            "--ignore-not-found",
        ];
        self.kubectl.run(&words, "").map(drop)
    }

    /// What a person needs to understand a failed test.
    fn diagnosis(&self) -> String {
        let show = |words: &[&str]| self.kubectl(words).unwrap_or_else(|error| error.chain());
        format!(
            "namespace {}:\n{}\n{}",
            self.name,
            show(&["get", "all,endpointslices,leases,configmaps", "-o", "wide"]),
            show(&["get", "events", "--sort-by=.lastTimestamp"]),
        )
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        use std::io::Write as _;
        if self.is_deleted {
            return;
        }
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "{}", self.diagnosis());
            if std::env::var_os(KEEP_VARIABLE).is_some() {
                return;
            }
        }
        // Nothing is waited for: the test is over, the cluster does the rest.
        if let Err(error) = self.order_deletion() {
            let _ = writeln!(std::io::stderr(), "{}", error.chain());
        }
    }
}

async fn grant(sandbox: &Sandbox, client: &Client, namespace: &str) -> Result<()> {
    let bound = |role_kind: &str, role: &str, user: User| {
        let subject = subject(user.name(), sandbox.identities());
        binding(
            &format!("sandbox-{}", user.name()),
            role_kind,
            role,
            &subject,
        )
    };
    let mut objects = documents(DEPLOYER_ROLE)?;
    objects.push(bound("Role", "switchyard-deployer", User::Deployer));
    objects.push(bound("ClusterRole", "view", User::Reader));
    for object in objects {
        apply(client, namespace, &object).await?;
    }
    Ok(())
}

fn binding(name: &str, role_kind: &str, role: &str, subject: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
        "subjects": [subject],
    })
}

async fn apply(client: &Client, namespace: &str, object: &Value) -> Result<()> {
    use kube::core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
    let types = TypeMeta {
        api_version: object["apiVersion"].as_str().unwrap_or_default().to_owned(),
        kind: object["kind"].as_str().unwrap_or_default().to_owned(),
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let kind = GroupVersionKind::try_from(&types).context(|| "not a kind")?;
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let parameters = PatchParams::apply("switchyard-sandbox").force();
    let applied = api.patch(name, &parameters, &Patch::Apply(object)).await;
    applied.context(|| format!("cannot apply {} `{namespace}/{name}`", types.kind))?;
    Ok(())
}

/// Pods are refused until the controllers have made the account that they run as.
async fn wait_for_service_account(client: &Client, namespace: &str) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let deadline = Instant::now() + NAMESPACE_LIMIT;
    loop {
        let account = accounts.get_opt("default").await;
        if account
            .context(|| "cannot read the service account")?
            .is_some()
        {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(SandboxError::new(format!(
                "namespace `{namespace}` got no service account within {} s",
                NAMESPACE_LIMIT.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
