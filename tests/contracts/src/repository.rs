//! The files that the contracts are about, read once. It knows where they lie; it refuses to judge them.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde_json::Value;

use crate::Finding;

/// The actions, workflows, reference pages and programs of a repository.
#[derive(Debug, Default)]
pub struct Repository {
    /// Parsed `action.yml` files by path; the root action is `action.yml`.
    pub(crate) actions: BTreeMap<String, Value>,
    /// Parsed workflows by path.
    pub(crate) workflows: BTreeMap<String, Value>,
    /// Reference pages by path.
    pub(crate) pages: BTreeMap<String, String>,
    /// The names of the programs: the folders of `bins/`.
    pub(crate) programs: Vec<String>,
    /// Files that are not YAML.
    pub(crate) unreadable: Vec<Finding>,
}

impl Repository {
    /// Reads the repository at `root`.
    ///
    /// # Errors
    /// When a folder or file cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        if root.join("action.yml").exists() {
            add(&mut files, root, "action.yml")?;
        }
        for folder in names(&root.join("actions"))? {
            add(&mut files, root, &format!("actions/{folder}/action.yml"))?;
        }
        for (folder, extension) in [(".github/workflows", ".yml"), ("docs/reference", ".md")] {
            for name in names(&root.join(folder))? {
                if name.ends_with(extension) {
                    add(&mut files, root, &format!("{folder}/{name}"))?;
                }
            }
        }
        let mut repository = Self::from_files(&files);
        repository.programs = names(&root.join("bins"))?;
        Ok(repository)
    }

    /// Adds the workflows of a folder, as those of another repository that calls ours.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn add_callers(&mut self, root: &Path, folder: &str) -> io::Result<()> {
        let mut files = BTreeMap::new();
        for name in names(&root.join(folder))? {
            let path = format!("{folder}/{name}");
            let text = fs::read_to_string(root.join(&path))?;
            // Under `.github/`, which is what makes a file a workflow here.
            files.insert(format!(".github/{path}"), text);
        }
        let callers = Self::from_files(&files);
        self.workflows.extend(callers.workflows);
        self.unreadable.extend(callers.unreadable);
        Ok(())
    }

    /// Adds the workflows that a page shows: what readers paste has to keep the contracts too.
    ///
    /// # Errors
    /// When the page cannot be read.
    pub fn add_shown_callers(&mut self, root: &Path, page: &str) -> io::Result<()> {
        let text = fs::read_to_string(root.join(page))?;
        let blocks = text.split("```yaml\n").skip(1);
        let blocks = blocks.filter_map(|rest| rest.split("```").next());
        let files = blocks
            .filter(|block| block.contains("\njobs:"))
            .enumerate()
            .map(|(index, block)| (format!(".github/{page}#{}", index + 1), block.to_owned()));
        let callers = Self::from_files(&files.collect());
        self.workflows.extend(callers.workflows);
        self.unreadable.extend(callers.unreadable);
        Ok(())
    }

    /// The jobs of one of our workflows.
    ///
    /// # Panics
    /// When there is no such workflow.
    #[must_use]
    pub fn jobs(&self, workflow: &str) -> &Value {
        &self.workflow(workflow)["jobs"]
    }

    /// One of our workflows.
    ///
    /// # Panics
    /// When there is no such workflow.
    #[must_use]
    pub fn workflow(&self, name: &str) -> &Value {
        let path = format!(".github/workflows/{name}");
        let found = self.workflows.get(&path);
        found.unwrap_or_else(|| panic!("there is no {path}"))
    }

    /// Takes files by path, as a test writes them down. A page tells that a program exists.
    #[must_use]
    pub fn from_files(files: &BTreeMap<String, String>) -> Self {
        let mut repository = Self::default();
        for (path, text) in files {
            if let Some(page) = path.strip_prefix("docs/reference/") {
                repository.programs.push(page.replace(".md", ""));
                repository.pages.insert(path.clone(), text.clone());
                continue;
            }
            match serde_saphyr::from_str::<Value>(text) {
                Ok(value) if path.starts_with(".github/") => {
                    repository.workflows.insert(path.clone(), value);
                }
                Ok(value) => {
                    repository.actions.insert(path.clone(), value);
                }
                Err(error) => repository.unreadable.push(Finding {
                    file: path.clone(),
                    message: format!("not YAML: {error}"),
                }),
            }
        }
        repository
    }
}

fn add(files: &mut BTreeMap<String, String>, root: &Path, path: &str) -> io::Result<()> {
    let text = fs::read_to_string(root.join(path))
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    files.insert(path.to_owned(), text);
    Ok(())
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The entries of a mapping; none when it is absent or not a mapping.
pub(crate) fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

/// The items of a sequence; none when it is absent or not a sequence.
pub(crate) fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// The text of a field; empty when it is absent. Numbers and booleans as they are written.
pub(crate) fn text(value: &Value, field: &str) -> String {
    match value.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Every string inside a value, with the key it stands under.
pub(crate) fn strings<'a>(value: &'a Value, key: &'a str, found: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Value::String(text) => found.push((key, text)),
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, found)),
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, field)| strings(field, name, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
