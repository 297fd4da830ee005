//! Reads a kubeconfig or a pod's service account, and refuses what would go wrong later: unknown
//! contexts, users that are not there, programs that nobody allowed.
//! It refuses to build clients.

use std::path::{Path, PathBuf};

use kube::{
    Config,
    config::{
        AuthInfo, ExecInteractiveMode, KubeConfigOptions, Kubeconfig, KubeconfigError,
        NamedAuthInfo,
    },
};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{ConnectOptions, InClusterEnvironment, file};
use crate::{
    error::{Error, Result},
    proxy,
};

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The configuration of the chosen context, and the context's name.
///
/// # Errors
/// The kubeconfig variants of [`Error`].
pub(super) async fn from_kubeconfig(
    path: &Path,
    options: &ConnectOptions,
) -> Result<(Config, String)> {
    let shown = format!("`{}`", path.display());
    let invalid = |problem: String| Error::KubeconfigInvalid {
        path: shown.clone(),
        problem,
    };
    let files = existing_files(path);
    let mut kubeconfig = read_kubeconfig(path, &files)?;
    let context = choose_context(&kubeconfig, options.context.as_deref(), &shown)?;
    let guard = Guard {
        options,
        files: &files,
        shown: &shown,
    };
    guard.credential(&mut kubeconfig, &context)?;
    let cluster_proxy = kubeconfig
        .clusters
        .iter()
        .find(|cluster| cluster.name == context.cluster)
        .and_then(|cluster| cluster.cluster.as_ref()?.proxy_url.clone());
    let selection = KubeConfigOptions {
        context: Some(context.name.clone()),
        ..KubeConfigOptions::default()
    };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &selection)
        .await
        .map_err(|error| invalid(kubeconfig_problem(&error)))?;
    config.proxy_url = proxy::choose(
        &config.cluster_url,
        cluster_proxy.as_deref(),
        &options.proxy,
    )
    .map_err(invalid)?;
    Ok((config, context.name))
}

/// The files of a `KUBECONFIG` list that are there.
fn existing_files(path: &Path) -> Vec<PathBuf> {
    std::env::split_paths(path)
        .filter(|file| !file.as_os_str().is_empty() && file.exists())
        .collect()
}

/// Reads one file, or merges those of a `KUBECONFIG` list as kubectl does: files that are not
/// there are skipped as long as one is.
fn read_kubeconfig(path: &Path, files: &[PathBuf]) -> Result<Kubeconfig> {
    let mut merged: Option<Kubeconfig> = None;
    for file in files {
        let invalid = |problem: String| Error::KubeconfigInvalid {
            path: format!("`{}`", file.display()),
            problem,
        };
        let next = file::read(file).map_err(|error| invalid(error.to_string()))?;
        merged = Some(match merged {
            None => next,
            Some(before) => before
                .merge(next)
                .map_err(|error| invalid(kubeconfig_problem(&error)))?,
        });
    }
    merged.ok_or_else(|| Error::KubeconfigMissing {
        path: Some(path.to_owned()),
    })
}

/// Words for a kubeconfig error. The parser's own text may quote the file, tokens included, so
/// it is not passed on.
fn kubeconfig_problem(error: &KubeconfigError) -> String {
    if let KubeconfigError::Parse(_) = error {
        return "it is not a kubeconfig in YAML".to_owned();
    }
    if let KubeconfigError::LoadClusterOfContext(cluster) = error {
        return format!("its context names cluster `{cluster}`, which it does not have");
    }
    error.to_string()
}

struct ChosenContext {
    name: String,
    cluster: String,
    user: Option<String>,
}

fn choose_context(
    kubeconfig: &Kubeconfig,
    asked: Option<&str>,
    shown: &str,
) -> Result<ChosenContext> {
    let current = kubeconfig
        .current_context
        .as_deref()
        .filter(|name| !name.is_empty());
    let Some(name) = asked.or(current) else {
        return Err(Error::KubeconfigInvalid {
            path: shown.to_owned(),
            problem: "it has no current context and none was asked for".to_owned(),
        });
    };
    let found = kubeconfig
        .contexts
        .iter()
        .find(|context| context.name == name)
        .and_then(|context| context.context.as_ref());
    match found {
        Some(context) => Ok(ChosenContext {
            name: name.to_owned(),
            cluster: context.cluster.clone(),
            user: context.user.clone().filter(|user| !user.is_empty()),
        }),
        None => Err(Error::UnknownContext {
            context: name.to_owned(),
            known: kubeconfig
                .contexts
                .iter()
                .map(|context| context.name.clone())
                .collect(),
        }),
    }
}

/// What decides whether a user of a kubeconfig is taken.
struct Guard<'a> {
    options: &'a ConnectOptions,
    files: &'a [PathBuf],
    shown: &'a str,
}

impl Guard<'_> {
    /// Refuses credential plugins that nobody allowed, and a context whose user is not there (the
    /// client library would go on as `system:anonymous`).
    fn credential(&self, kubeconfig: &mut Kubeconfig, context: &ChosenContext) -> Result<()> {
        let Some(user) = &context.user else {
            return Ok(());
        };
        let Some(entry) = kubeconfig
            .auth_infos
            .iter_mut()
            .find(|entry| entry.name == *user)
        else {
            return Err(Error::KubeconfigInvalid {
                path: self.shown.to_owned(),
                problem: format!(
                    "context `{}` names user `{user}`, which it does not have",
                    context.name
                ),
            });
        };
        if entry.auth_info.as_ref().is_some_and(runs_legacy_plugin) {
            return Err(Error::KubeconfigInvalid {
                path: self.shown.to_owned(),
                problem: format!(
                    "user `{user}` has an `auth-provider` with a command, which Kubernetes runs no more since 1.26; it takes an `exec` plugin in its place"
                ),
            });
        }
        if let Some(command) = plugin_command(entry)
            && !is_allowed(&command, &self.options.allow_exec)
            && !self.is_own_plugin(entry)
        {
            return Err(Error::ExecNotAllowed {
                user: user.clone(),
                command,
            });
        }
        if let Some(exec) = entry.auth_info.as_mut().and_then(|info| info.exec.as_mut()) {
            // No person sits at a runner's terminal.
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
        }
        Ok(())
    }

    fn is_own_plugin(&self, entry: &NamedAuthInfo) -> bool {
        let exec = entry.auth_info.as_ref().and_then(|info| info.exec.as_ref());
        let own = self.options.own_plugin.as_ref();
        exec.zip(own)
            .is_some_and(|(exec, own)| own.is_called_by(exec, self.files))
    }
}

/// Whether somebody allowed this plugin by name.
pub(super) fn is_allowed(command: &str, allowed: &[String]) -> bool {
    let file_name = command.rsplit('/').next().unwrap_or(command);
    allowed
        .iter()
        .any(|entry| !entry.is_empty() && (entry == command || entry == file_name))
}

/// The program a kubeconfig user would start.
fn plugin_command(entry: &NamedAuthInfo) -> Option<String> {
    let exec = entry.auth_info.as_ref()?.exec.as_ref()?;
    Some(exec.command.clone().unwrap_or_default())
}

/// Whether a program would be started in the way of before `exec`.
fn runs_legacy_plugin(info: &AuthInfo) -> bool {
    let provider = info.auth_provider.as_ref();
    provider.is_some_and(|provider| provider.config.contains_key("cmd-path"))
}

/// The configuration of the service account of the pod we run in.
///
/// # Errors
/// [`Error::KubeconfigInvalid`] when its files cannot be read.
pub(super) fn from_service_account(environment: &InClusterEnvironment) -> Result<Config> {
    let invalid = |problem: String| Error::KubeconfigInvalid {
        path: format!("of the pod's service account (`{SERVICE_ACCOUNT}`)"),
        problem,
    };
    let host = match environment.host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(address)) => format!("[{address}]"),
        Ok(std::net::IpAddr::V4(_)) | Err(_) => environment.host.clone(),
    };
    let url = format!("https://{host}:{}", environment.port);
    let mut config = Config::new(
        url.parse()
            .map_err(|error| invalid(format!("{url}: {error}")))?,
    );
    let namespace = Path::new(SERVICE_ACCOUNT).join("namespace");
    config.default_namespace = std::fs::read_to_string(&namespace)
        .map_err(|error| invalid(format!("{}: {error}", namespace.display())))?
        .trim()
        .to_owned();
    let authority = Path::new(SERVICE_ACCOUNT).join("ca.crt");
    config.root_cert = Some(certificates(&authority).map_err(invalid)?);
    // Read again from time to time: the cluster's authority may be renewed.
    config.root_cert_file = Some(authority);
    config.auth_info = AuthInfo {
        token_file: Some(format!("{SERVICE_ACCOUNT}/token")),
        ..AuthInfo::default()
    };
    Ok(config)
}

fn certificates(path: &Path) -> std::result::Result<Vec<Vec<u8>>, String> {
    let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let pem = std::fs::read(path).map_err(|error| problem(&error))?;
    CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| problem(&error))
}
