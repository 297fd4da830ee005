//! The input `schemas`: a YAML list, parsed into values that cannot hold nonsense.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The tool that runs migrations, and so their layout and their ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tool {
    /// Prisma Migrate: `migrations/NAME/migration.sql`
    Prisma,
    /// Any other tool: the `.sql` files of a folder, in the order of the numbers in their names
    Command,
}

/// Whether the tool runs a file inside of a transaction of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TransactionMode {
    /// One transaction around each file.
    File,
    /// None: each statement is its own, as with `psql -f`.
    None,
}

/// The name of a schema in reports and outputs: letters, digits, `.`, `_`, `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SchemaName(String);

/// The name of a key that holds a URL; see `url-env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VariableName(String);

/// What the inputs say about one schema.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Schema {
    /// Its name in reports and outputs.
    pub(crate) name: SchemaName,
    /// Its folder, as it was given.
    pub(crate) path: PathBuf,
    /// What runs its migrations.
    #[serde(default = "prisma")]
    pub(crate) tool: Tool,
    /// Whether a `command` wraps a file in a transaction.
    pub(crate) transaction: Option<TransactionMode>,
    /// Configuration of Prisma, such as `prisma.config.ts`; then `path` only finds the migrations.
    pub(crate) config: Option<PathBuf>,
    /// Script that runs everything pending, where the tool is `command`.
    pub(crate) command: Option<String>,
    /// Folder in which the tool is started: where its `node_modules` are. Other paths are not relative to it.
    pub(crate) directory: Option<PathBuf>,
    /// Key of the database's URL.
    pub(crate) url_env: Option<VariableName>,
}

/// The schemas of a project: at least one, each name once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schemas(Vec<Schema>);

fn prisma() -> Tool {
    Tool::Prisma
}

impl Tool {
    /// Its name in inputs and reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prisma => "prisma",
            Self::Command => "command",
        }
    }
}

impl Schema {
    /// The one schema of a project that names a folder alone.
    pub(crate) fn alone(path: &Path, tool: Tool) -> Self {
        Self {
            name: SchemaName("schema".to_owned()),
            path: path.to_owned(),
            tool,
            transaction: None,
            config: None,
            command: None,
            directory: None,
            url_env: None,
        }
    }
}

impl Schema {
    /// Whether its tool can be made to run one migration and no more: Prisma by a copy of the schema, unless
    /// a configuration says where everything is.
    pub(crate) fn runs_one_by_one(&self) -> bool {
        match self.tool {
            Tool::Prisma => self.config.is_none(),
            Tool::Command => false,
        }
    }

    fn refuse_keys_of_other_tools(&self) -> Result<(), String> {
        let name = &self.name;
        match self.tool {
            Tool::Prisma if self.transaction.is_some() => Err(format!(
                "schema `{name}` has `transaction`, which tool `prisma` decides itself"
            )),
            Tool::Prisma if self.command.is_some() => Err(format!(
                "schema `{name}` has `command`, which belongs to tool `command`"
            )),
            Tool::Command if self.config.is_some() => Err(format!(
                "schema `{name}` has `config`, which belongs to tool `prisma`"
            )),
            Tool::Prisma | Tool::Command => Ok(()),
        }
    }
}

impl Deref for Schemas {
    type Target = [Schema];

    fn deref(&self) -> &[Schema] {
        &self.0
    }
}

impl FromStr for Schemas {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let schemas: Vec<Schema> = serde_saphyr::from_str(text).map_err(|cause| {
            let cause = cause.to_string();
            let first = cause.lines().next().unwrap_or_default();
            format!("not a YAML list of schemas: {first}")
        })?;
        if schemas.is_empty() {
            return Err("the list names no schema".to_owned());
        }
        let mut names = BTreeSet::new();
        for schema in &schemas {
            if !names.insert(&schema.name) {
                return Err(format!("schema `{}` is named twice", schema.name));
            }
            schema.refuse_keys_of_other_tools()?;
        }
        Ok(Self(schemas))
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl VariableName {
    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for SchemaName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > 63 || !text.chars().all(is_allowed) {
            return Err(serde::de::Error::custom(format!(
                "name `{text}`: 1 to 63 letters, digits, `.`, `_` and `-` are allowed"
            )));
        }
        Ok(Self(text))
    }
}

impl<'de> Deserialize<'de> for VariableName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let begins_well = !text.starts_with(|c: char| c.is_ascii_digit());
        if text.is_empty() || !begins_well || !text.chars().all(is_allowed) {
            return Err(serde::de::Error::custom(format!(
                "url-env `{text}`: letters, digits and `_` are allowed, no digit first"
            )));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_needs_no_more_than_a_name_and_a_path() {
        let schemas: Schemas = "[{name: main, path: prisma/schema}]".parse().unwrap();
        assert_eq!(schemas[0].tool, Tool::Prisma);
        assert_eq!(schemas[0].path, Path::new("prisma/schema"));
    }

    #[test]
    fn nonsense_is_refused_with_its_name() {
        for (text, reason) in [
            ("[]", "no schema"),
            ("{}", "not a YAML list"),
            (
                "[{name: a, path: p}, {name: a, path: q}]",
                "`a` is named twice",
            ),
            ("[{name: 'a b', path: p}]", "name `a b`"),
            ("[{name: a, path: p, tool: liquid}]", "liquid"),
            ("[{name: a, path: p, pth: q}]", "pth"),
            ("[{name: a, path: p, transaction: none}]", "decides itself"),
            ("[{name: a, path: p, url-env: 1A}]", "url-env `1A`"),
        ] {
            let error = text.parse::<Schemas>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
