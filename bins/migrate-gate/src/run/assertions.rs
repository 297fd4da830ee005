//! What the user says has to hold after the migrations: SQL that answers with one true.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::str::FromStr;

use serde::Deserialize;

/// One assertion.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Assertion {
    /// Its name in the report.
    pub(crate) name: String,
    /// The schema in whose database it is asked; the only one when it is not given.
    pub(crate) schema: Option<String>,
    /// A query with one row of one boolean column.
    pub(crate) sql: String,
}

/// The input `assertions`: a YAML list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Assertions(Vec<Assertion>);

impl Deref for Assertions {
    type Target = [Assertion];

    fn deref(&self) -> &[Assertion] {
        &self.0
    }
}

impl FromStr for Assertions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let assertions: Vec<Assertion> = serde_saphyr::from_str(text).map_err(|cause| {
            let cause = cause.to_string();
            let first = cause.lines().next().unwrap_or_default();
            format!("not a YAML list of assertions with `name` and `sql`: {first}")
        })?;
        let mut names = BTreeSet::new();
        for assertion in &assertions {
            if assertion.name.trim().is_empty() {
                return Err("an assertion has no name".to_owned());
            }
            if assertion.sql.trim().is_empty() {
                return Err(format!("assertion `{}` has no SQL", assertion.name));
            }
            if !names.insert(&assertion.name) {
                return Err(format!("assertion `{}` is named twice", assertion.name));
            }
        }
        Ok(Self(assertions))
    }
}

impl Assertions {
    /// Refuses assertions about schemas that are not there, and those that name none among several.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn check(&self, schemas: &[String]) -> Result<(), String> {
        for assertion in &self.0 {
            match &assertion.schema {
                Some(schema) if !schemas.contains(schema) => {
                    return Err(format!(
                        "assertion `{}` is about schema `{schema}`, which is not among {}",
                        assertion.name,
                        schemas.join(", ")
                    ));
                }
                None if schemas.len() > 1 => {
                    return Err(format!(
                        "assertion `{}` names no `schema`, and there are {}",
                        assertion.name,
                        schemas.len()
                    ));
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// Those of a schema.
    pub(crate) fn of<'a>(&'a self, schema: &'a str) -> impl Iterator<Item = &'a Assertion> {
        let is_of = move |assertion: &&Assertion| {
            let named = assertion.schema.as_deref();
            named.is_none_or(|named| named == schema)
        };
        self.0.iter().filter(is_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
- {name: orders are kept, schema: shop, sql: 'SELECT count(*) > 0 FROM orders'}
- {name: none is free, sql: 'SELECT bool_and(total > 0) FROM orders'}
";

    #[test]
    fn assertions_belong_to_their_schema_or_to_the_only_one() {
        let assertions: Assertions = TWO.parse().unwrap();
        let shop = ["shop".to_owned()];
        assertions.check(&shop).unwrap();
        assert_eq!(assertions.of("shop").count(), 2);
        let both = ["shop".to_owned(), "privacy".to_owned()];
        let error = assertions.check(&both).unwrap_err();
        assert!(
            error.starts_with("assertion `none is free` names no"),
            "{error}"
        );
        let error = assertions.check(&["privacy".to_owned()]).unwrap_err();
        assert!(error.contains("not among privacy"), "{error}");
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, reason) in [
            ("{}", "not a YAML list"),
            ("[{name: a, sql: ''}]", "`a` has no SQL"),
            ("[{name: '', sql: x}]", "no name"),
            ("[{name: a, sql: x}, {name: a, sql: y}]", "named twice"),
            ("[{name: a, query: x}]", "query"),
        ] {
            let error = text.parse::<Assertions>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
