//! Manifests in files: paths, folders and glob patterns.

use std::path::{Path, PathBuf};

use switchyard_runner::Failure;

use super::input_failure;

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads every file that the patterns name, once, in the order of the patterns and then by name.
pub(super) fn read(patterns: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for pattern in patterns {
        for path in expand(pattern)? {
            // `./web.yaml` and `web.yaml` are one file.
            if seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                paths.push(path);
            }
        }
    }
    paths
        .iter()
        .map(|path| {
            let name = path.display().to_string();
            std::fs::read_to_string(path)
                .map(|text| (name.clone(), text))
                .map_err(|cause| {
                    Failure::input(anyhow::Error::new(cause).context(format!("read `{name}`")))
                })
        })
        .collect()
}

fn expand(pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    let path = Path::new(pattern);
    if path.is_dir() {
        return folder(path);
    }
    // A file whose name holds `[` or `*` is that file.
    if path.exists() {
        return Ok(vec![path.to_owned()]);
    }
    let is_pattern = pattern.contains(['*', '?', '[']);
    let found = glob::glob(pattern).map_err(|cause| {
        Failure::input(anyhow::Error::new(cause).context(format!("`{pattern}` is no pattern")))
    })?;
    let mut files = Vec::new();
    for entry in found {
        let path = entry.map_err(Failure::input)?;
        if path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        let problem = if is_pattern {
            "matches no file"
        } else {
            "does not exist"
        };
        return Err(input_failure(format!("input `files`: `{pattern}` {problem}")).hint(
            "paths are relative to the step's working directory; was the repository checked out?",
        ));
    }
    Ok(files)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let read = |cause: std::io::Error| {
        Failure::input(anyhow::Error::new(cause).context(format!("read `{}`", path.display())))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let file = entry.map_err(read)?.path();
        let is_manifest = file
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| EXTENSIONS.contains(&extension));
        if is_manifest && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(input_failure(format!(
            "input `files`: folder `{}` has no .yaml, .yml or .json file",
            path.display()
        )));
    }
    if let Some(kustomization) = files.iter().find(|file| is_kustomization(file)) {
        return Err(input_failure(format!(
            "input `files`: `{}` is a kustomization",
            kustomization.display()
        ))
        .hint(format!(
            "give the folder as `kustomization: {}`",
            path.display()
        )));
    }
    files.sort();
    Ok(files)
}

fn is_kustomization(file: &Path) -> bool {
    file.file_stem().and_then(|stem| stem.to_str()) == Some("kustomization")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, patterns: &[&str]) -> Result<Vec<String>, String> {
        let patterns: Vec<String> = patterns
            .iter()
            .map(|pattern| folder.join(pattern).display().to_string())
            .collect();
        let shown = folder.display().to_string();
        read(&patterns)
            .map(|files| {
                files
                    .into_iter()
                    .map(|(name, _)| name.replace(&format!("{shown}/"), ""))
                    .collect()
            })
            .map_err(|failure| failure.to_string().replace(&shown, "FOLDER"))
    }

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            std::fs::write(path, "").expect("written");
        }
        folder
    }

    #[test]
    fn files_folders_and_patterns_are_read_once_each() {
        let folder = folder(&[
            "b.yaml",
            "a.yml",
            "deep/c.yaml",
            "notes.txt",
            "deep/er/d.yaml",
        ]);
        let path = folder.path();
        assert_eq!(names(path, &["b.yaml", "."]).expect("there").len(), 2);
        assert_eq!(
            names(path, &["**/*.yaml"]),
            Ok(vec![
                "b.yaml".into(),
                "deep/c.yaml".into(),
                "deep/er/d.yaml".into()
            ])
        );
        assert_eq!(
            names(path, &["b.yaml", "*.y*ml"]),
            Ok(vec!["b.yaml".into(), "a.yml".into()])
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        let folder = folder(&["text/notes.txt", "k/kustomization.yaml"]);
        let path = folder.path();
        let refused = |pattern: &str| names(path, &[pattern]).expect_err(pattern);
        assert_eq!(
            refused("web.yaml"),
            "input `files`: `FOLDER/web.yaml` does not exist"
        );
        assert_eq!(
            refused("*.yaml"),
            "input `files`: `FOLDER/*.yaml` matches no file"
        );
        assert_eq!(
            refused("text"),
            "input `files`: folder `FOLDER/text` has no .yaml, .yml or .json file"
        );
        assert!(refused("k").ends_with("is a kustomization"));
        assert!(refused("a[.yaml").contains("is no pattern"));
    }
}
