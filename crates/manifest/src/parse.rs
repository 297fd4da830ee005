//! Reads YAML streams into objects, with file, document and line in every complaint. Scalars mean
//! what they mean to kubectl (YAML 1.1: `yes` is a boolean, `0644` is octal), so that a manifest
//! that works there works here. Refuses to know files: it is handed their text.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_saphyr::Spanned;

use crate::identity::{Identity, is_object_name};
use crate::object::{Object, Origin};

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The text is no YAML.
    #[error("{file}, document {document}, line {line}, column {column}: not valid YAML: {problem}")]
    Syntax {
        /// The file as it was named.
        file: String,
        /// The document, counted from 1.
        document: usize,
        /// The line, counted from 1.
        line: u64,
        /// The column, counted from 1.
        column: u64,
        /// What the parser says.
        problem: String,
        /// Whether the line holds an unrendered template expression.
        is_template: bool,
    },
    /// The text is YAML, but an entry of it is no Kubernetes object.
    #[error("{origin}: {problem}")]
    NotAnObject {
        /// Where the entry begins.
        origin: Origin,
        /// What is wrong with it.
        problem: String,
    },
    /// The same object twice: which one counts would depend on the order.
    #[error("{identity} is declared twice: {first} and {second}")]
    Twice {
        /// The object.
        identity: Box<Identity>,
        /// Its first declaration.
        first: Origin,
        /// Its second declaration.
        second: Origin,
    },
}

/// Reads all objects of a YAML stream (JSON is YAML). Empty documents are skipped, `List`s are
/// opened. `file` is used in messages only.
///
/// # Errors
/// The text is no YAML, or an entry has no `apiVersion`, `kind` or usable `metadata.name`.
pub fn parse(file: &str, text: &str) -> Result<Vec<Object>, ParseError> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        strict_booleans: false,
        with_snippet: false,
    };
    let documents: Vec<Spanned<Value>> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|source| syntax_error(file, text, &source))?;
    let mut objects = Vec::new();
    for document in documents {
        let origin = Origin {
            file: file.to_owned(),
            document: document_at(text, document.referenced.line()),
            line: document.referenced.line(),
        };
        collect(with_whole_numbers(document.value), &origin, &mut objects)?;
    }
    Ok(objects)
}

/// Refuses a set in which one object is declared twice.
///
/// # Errors
/// Names the object and both places.
pub fn refuse_duplicates(objects: &[Object]) -> Result<(), ParseError> {
    let mut seen: BTreeMap<(String, String, Option<String>, String), &Origin> = BTreeMap::new();
    for object in objects {
        let identity = object.identity();
        let key = (
            identity.group().to_owned(),
            identity.kind.clone(),
            identity.namespace.clone(),
            identity.name.clone(),
        );
        if let Some(first) = seen.insert(key, object.origin()) {
            return Err(ParseError::Twice {
                identity: Box::new(identity),
                first: first.clone(),
                second: object.origin().clone(),
            });
        }
    }
    Ok(())
}

impl ParseError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { is_template, .. } => is_template.then(|| {
                "this looks like a template: give a chart as `chart`, or render it before"
                    .to_owned()
            }),
            Self::NotAnObject { .. } => None,
            Self::Twice { .. } => {
                Some("remove one, or name only the files that belong together".to_owned())
            }
        }
    }
}

fn syntax_error(file: &str, text: &str, source: &serde_saphyr::Error) -> ParseError {
    let location = source.location();
    let line = location.map_or(1, |location| location.line());
    ParseError::Syntax {
        file: file.to_owned(),
        document: document_at(text, line),
        line,
        column: location.map_or(1, |location| location.column()),
        problem: problem(source),
        is_template: usize::try_from(line)
            .ok()
            .and_then(|line| text.lines().nth(line.saturating_sub(1)))
            .is_some_and(|line| line.contains("{{")),
    }
}

/// The parser's words without the place, which is said already, and without its own settings.
fn problem(source: &serde_saphyr::Error) -> String {
    let text = source.to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    text.split(", set DuplicateKeyPolicy")
        .next()
        .unwrap_or(text)
        .to_owned()
}

/// The document that a line belongs to. A separator before any content opens the first document;
/// it does not end an empty one before it.
fn document_at(text: &str, line: u64) -> usize {
    let before = usize::try_from(line).unwrap_or(usize::MAX);
    let mut document = 0;
    let mut is_open = false;
    for content in text.lines().take(before) {
        let is_separator = content == "---" || content.starts_with("--- ");
        let is_comment = content.trim().is_empty() || content.trim_start().starts_with('#');
        if is_separator || (!is_open && !is_comment) {
            document += 1;
            is_open = true;
        }
    }
    document.max(1)
}

/// YAML's `1.0` is `1` to kubectl's YAML-to-JSON conversion; Go refuses `1.0` for an integer.
fn with_whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 =>
            {
                #[allow(clippy::cast_possible_truncation)]
                Value::from(float as i64)
            }
            Some(_) | None => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(with_whole_numbers).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, with_whole_numbers(value)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

fn collect(value: Value, origin: &Origin, objects: &mut Vec<Object>) -> Result<(), ParseError> {
    let refused = |problem: String| ParseError::NotAnObject {
        origin: origin.clone(),
        problem,
    };
    if value.is_null() {
        return Ok(());
    }
    let Value::Object(map) = &value else {
        return Err(refused(format!(
            "expected an object with apiVersion, kind and metadata, found {}",
            shape(&value)
        )));
    };
    for key in ["apiVersion", "kind"] {
        match map.get(key) {
            Some(Value::String(text)) if !text.trim().is_empty() => {}
            Some(Value::Null) | None => return Err(refused(format!("`{key}` is missing"))),
            Some(other) => {
                return Err(refused(format!(
                    "`{key}` must be text, found {}",
                    shape(other)
                )));
            }
        }
    }
    if is_list(&value) {
        return collect_list(value, origin, objects);
    }
    check_metadata(&value).map_err(refused)?;
    objects.push(Object::checked(value, origin.clone()));
    Ok(())
}

fn is_list(value: &Value) -> bool {
    value
        .get("kind")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.ends_with("List"))
        && value.get("items").is_some()
}

fn collect_list(
    mut value: Value,
    origin: &Origin,
    objects: &mut Vec<Object>,
) -> Result<(), ParseError> {
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items
            .into_iter()
            .try_for_each(|item| collect(item, origin, objects)),
        Some(Value::Null) | None => Ok(()),
        Some(other) => Err(ParseError::NotAnObject {
            origin: origin.clone(),
            problem: format!("`items` of a List must be a list, found {}", shape(&other)),
        }),
    }
}

fn check_metadata(value: &Value) -> Result<(), String> {
    let kind = value
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match value.pointer("/metadata/name") {
        Some(Value::String(name)) if is_object_name(name) => {}
        Some(Value::String(name)) => {
            return Err(format!(
                "`metadata.name` of this {kind} is `{name}`: allowed are lower-case letters, digits, `-` and `.`"
            ));
        }
        Some(Value::Null) | None => {
            return Err(match value.pointer("/metadata/generateName") {
                Some(_) => format!(
                    "this {kind} has `metadata.generateName`, which makes a new object with each apply: give it a `metadata.name`"
                ),
                None => format!("`metadata.name` of this {kind} is missing"),
            });
        }
        Some(other) => {
            return Err(format!(
                "`metadata.name` of this {kind} must be text, found {}",
                shape(other)
            ));
        }
    }
    check_texts(value, "labels")?;
    check_texts(value, "annotations")
}

fn check_texts(value: &Value, part: &str) -> Result<(), String> {
    match value.pointer(&format!("/metadata/{part}")) {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(map)) => match map.iter().find(|(_, entry)| !entry.is_string()) {
            None => Ok(()),
            Some((key, entry)) => Err(format!(
                "`metadata.{part}` has `{key}` as {}: quote it, so that it is text",
                shape(entry)
            )),
        },
        Some(other) => Err(format!(
            "`metadata.{part}` must be a map, found {}",
            shape(other)
        )),
    }
}

fn shape(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(flag) => format!("the boolean {flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => {
            let start: String = text.chars().take(40).collect();
            format!("the text `{start}`")
        }
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

#[cfg(test)]
mod tests;
