//! Names of objects as PostgreSQL compares them.

use std::fmt;

/// A name, with its schema where one is written. Folded to lower case unless it was quoted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Schema, where one is written.
    pub schema: Option<String>,
    /// The object's own name.
    pub name: String,
}

impl Name {
    /// A name without a schema.
    #[must_use]
    pub fn plain(name: impl Into<String>) -> Self {
        Self {
            schema: None,
            name: name.into(),
        }
    }

    /// The same name with `schema` where none is written.
    #[must_use]
    pub fn or_in(&self, schema: &str) -> Self {
        Self {
            schema: Some(self.schema.clone().unwrap_or_else(|| schema.to_owned())),
            name: self.name.clone(),
        }
    }

    /// Another object's name in the same schema.
    #[must_use]
    pub fn beside(&self, name: impl Into<String>) -> Self {
        Self {
            schema: self.schema.clone(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Name {
    /// As a person would write it; `public` is not said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.schema.as_deref() {
            None | Some("public") => f.write_str(&self.name),
            Some(schema) => write!(f, "{schema}.{}", self.name),
        }
    }
}
