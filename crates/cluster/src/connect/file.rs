//! One kubeconfig file as kubectl reads it: its documents joined, its relative paths made absolute.
//! It refuses to choose a context.

use std::path::{MAIN_SEPARATOR, Path};

use kube::config::{Kubeconfig, KubeconfigError};
use serde_json::Value;

/// What keeps a file from being a kubeconfig. The parser's own words may quote the file, tokens
/// included, so they are not passed on.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The text is no kubeconfig.
    #[error("it is not a kubeconfig in YAML")]
    NotAKubeconfig,
    /// Its documents contradict each other.
    #[error("{0}")]
    Merge(#[from] KubeconfigError),
}

/// Reads a file. An empty one is an empty kubeconfig, as for kubectl.
///
/// The text is parsed into plain JSON first and into kube's types from there, as kubectl does it: a
/// YAML parser for each of those types makes a program 300 kB larger.
pub(super) fn read(path: &Path) -> Result<Kubeconfig, FileError> {
    let bytes = std::fs::read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| FileError::NotAKubeconfig)?;
    let mut merged = None;
    for mut document in documents(text)? {
        if let Some(folder) = path.parent() {
            make_absolute(&mut document, folder);
        }
        merged = Some(match merged {
            None => document,
            Some(before) => Kubeconfig::merge(before, document)?,
        });
    }
    Ok(merged.unwrap_or_default())
}

fn documents(text: &str) -> Result<Vec<Kubeconfig>, FileError> {
    let text = text.trim_start_matches('\u{feff}');
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|_| FileError::NotAKubeconfig)?;
    let values = values.into_iter().filter(|value| !value.is_null());
    values
        .map(|value| serde_json::from_value(value).map_err(|_| FileError::NotAKubeconfig))
        .collect()
}

/// Paths are relative to the file. A plugin without a folder is looked for on PATH.
fn make_absolute(config: &mut Kubeconfig, folder: &Path) {
    let clusters = config.clusters.iter_mut();
    for cluster in clusters.filter_map(|named| named.cluster.as_mut()) {
        absolute(&mut cluster.certificate_authority, folder);
    }
    let users = config.auth_infos.iter_mut();
    for user in users.filter_map(|named| named.auth_info.as_mut()) {
        absolute(&mut user.client_certificate, folder);
        absolute(&mut user.client_key, folder);
        absolute(&mut user.token_file, folder);
        if let Some(exec) = &mut user.exec
            && exec
                .command
                .as_ref()
                .is_some_and(|command| command.contains(MAIN_SEPARATOR))
        {
            absolute(&mut exec.command, folder);
        }
    }
}

fn absolute(path: &mut Option<String>, folder: &Path) {
    if let Some(relative) = path.as_deref().filter(|path| Path::new(path).is_relative()) {
        *path = Some(folder.join(relative).display().to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Kubeconfig, FileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, text).unwrap();
        let config = read(&path);
        let prefix = folder.path().display().to_string();
        config.map(|mut config| {
            for user in &mut config.auth_infos {
                let Some(user) = &mut user.auth_info else {
                    continue;
                };
                let command = user.exec.as_mut().map(|exec| &mut exec.command);
                for path in [Some(&mut user.token_file), command].into_iter().flatten() {
                    *path = path.take().map(|path| path.replace(&prefix, "[folder]"));
                }
            }
            config
        })
    }

    #[test]
    fn paths_are_relative_to_the_file_and_bare_plugins_are_not() {
        let of = |user: &str| {
            let config = read_text(&format!("users: [{{name: dana, user: {user}}}]")).unwrap();
            config.auth_infos[0].auth_info.clone().unwrap()
        };
        let file = |path: &str| of(&format!("{{tokenFile: {path}}}")).token_file;
        assert_eq!(file("token").as_deref(), Some("[folder]/token"));
        assert_eq!(file("/run/token").as_deref(), Some("/run/token"));
        let command = |command: &str| {
            let user = of(&format!(
                "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: {command}}}}}"
            ));
            user.exec.unwrap().command.unwrap()
        };
        assert_eq!(command("aws"), "aws");
        assert_eq!(command("./plugins/login"), "[folder]/./plugins/login");
    }

    #[test]
    fn documents_are_joined_and_the_first_current_context_counts() {
        let config = read_text(
            "\u{feff}current-context: one\nusers: [{name: a, user: {token: t}}]\n---\ncurrent-context: two\nusers: [{name: b, user: {token: t}}]\n",
        )
        .unwrap();
        assert_eq!(config.current_context.as_deref(), Some("one"));
        assert_eq!(config.auth_infos.len(), 2);
        assert!(read_text("").unwrap().contexts.is_empty());
    }

    #[test]
    fn what_is_no_kubeconfig_is_not_quoted() {
        for text in [
            "token: [s3cret",
            "s3cret",
            "users: s3cret",
            "users: [{name: 7, user: {token: {s3cret: 1}}}]",
        ] {
            let error = read_text(text).unwrap_err();
            assert!(matches!(error, FileError::NotAKubeconfig), "{text}");
            assert!(!error.to_string().contains("s3cret"));
        }
    }
}
