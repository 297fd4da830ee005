//! Names of objects as PostgreSQL compares them.

use std::borrow::Borrow;
use std::cmp::Ordering;
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

/// A name by its parts: what is looked for by them needs no name of its own.
pub(crate) trait Parts {
    /// Schema and name, as [`Name`] orders them.
    fn parts(&self) -> (Option<&str>, &str);
}

impl Parts for Name {
    fn parts(&self) -> (Option<&str>, &str) {
        (self.schema.as_deref(), &self.name)
    }
}

/// A schema, and a name in it.
impl Parts for (&str, &str) {
    fn parts(&self) -> (Option<&str>, &str) {
        (Some(self.0), self.1)
    }
}

impl<'a> Borrow<dyn Parts + 'a> for Name {
    fn borrow(&self) -> &(dyn Parts + 'a) {
        self
    }
}

impl PartialEq for dyn Parts + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Parts + '_ {}

impl PartialOrd for dyn Parts + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Parts + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}
