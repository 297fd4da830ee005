//! GitHub's own OpenAPI description as a check of recorded exchanges: requests of ours and answers of
//! the stand-in alike. It knows OpenAPI and nothing of issues; where it comes from is npm's business.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::server::Exchange;

const PACKAGE: &str = include_str!("github-openapi/package.json");
const PACKAGE_LOCK: &str = include_str!("github-openapi/package-lock.json");
/// Folder and file in the package; the other files describe GitHub Enterprise Server.
const FILE: &str = "node_modules/@octokit/openapi/generated/api.github.com.json";

/// Why the description cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file or folder of the cache.
    #[error("cannot use `{path}`")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// npm did not install the package.
    #[error("npm did not install GitHub's OpenAPI description: {0}")]
    Npm(String),
    /// The file is not JSON.
    #[error("`{path}` is not JSON")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
}

/// The description, loaded.
pub struct Description {
    document: Value,
}

impl Description {
    /// Installs the pinned package through npm into `cache` where it is not there yet, and loads it.
    ///
    /// # Errors
    /// When npm fails or the cache cannot be written.
    pub fn install(cache: &Path) -> Result<Self, InstallError> {
        let lock: Value = serde_json::from_str(PACKAGE_LOCK).unwrap_or_default();
        let version = lock["packages"]["node_modules/@octokit/openapi"]["version"]
            .as_str()
            .unwrap_or("unknown");
        let kept = cache.join(format!("github-openapi-{version}.json"));
        if !kept.exists() {
            download(cache, &kept)?;
        }
        let text = std::fs::read(&kept).map_err(file(&kept))?;
        let document = serde_json::from_slice(&text)
            .map_err(|source| InstallError::Json { path: kept, source })?;
        Ok(Self { document })
    }

    /// What of an exchange the description does not allow; empty when all of it is.
    #[must_use]
    pub fn violations(&self, exchange: &Exchange) -> Vec<String> {
        let path = exchange
            .path
            .strip_prefix("/api/v3")
            .unwrap_or(&exchange.path);
        let method = exchange.method.to_lowercase();
        let Some(operation) = self.operation(path, &method) else {
            return vec![format!("no operation {method} {path}")];
        };
        let mut violations = self.query_violations(operation, &exchange.query);
        violations.extend(self.body_violations(operation, exchange));
        violations.extend(self.answer_violations(operation, exchange));
        violations
    }

    fn operation(&self, path: &str, method: &str) -> Option<&Value> {
        let given: Vec<&str> = path.split('/').collect();
        let paths = self.document["paths"].as_object()?;
        let matches = |template: &str| {
            let parts: Vec<&str> = template.split('/').collect();
            parts.len() == given.len()
                && parts
                    .iter()
                    .zip(&given)
                    .all(|(part, given)| part.starts_with('{') || part == given)
        };
        // A literal path wins over a template that would match it, too.
        let mut found: Vec<(&String, &Value)> = paths
            .iter()
            .filter(|(template, _)| matches(template))
            .collect();
        found.sort_by_key(|(template, _)| template.matches('{').count());
        found
            .into_iter()
            .find_map(|(_, operations)| operations.get(method))
    }

    fn query_violations(&self, operation: &Value, query: &[(String, String)]) -> Vec<String> {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters: Vec<&Value> = parameters
            .map(|parameter| self.resolve(parameter))
            .filter(|parameter| parameter["in"] == "query")
            .collect();
        let mut violations = Vec::new();
        for (name, value) in query {
            let Some(parameter) = parameters
                .iter()
                .find(|parameter| parameter["name"] == *name)
            else {
                violations.push(format!("unknown query parameter `{name}`"));
                continue;
            };
            let is_number = parameter["schema"]["type"] == "integer";
            let value = value
                .parse::<i64>()
                .ok()
                .filter(|_| is_number)
                .map_or_else(|| json!(value), Value::from);
            violations.extend(self.schema_violations(&parameter["schema"], &value, name));
        }
        violations
    }

    fn body_violations(&self, operation: &Value, exchange: &Exchange) -> Vec<String> {
        let body = self.resolve(&operation["requestBody"]);
        let schema = &body["content"]["application/json"]["schema"];
        if schema.is_null() {
            return if exchange.body.is_empty() {
                Vec::new()
            } else {
                vec!["a body where none is taken".to_owned()]
            };
        }
        let content_type = exchange
            .headers
            .get("content-type")
            .map_or("", String::as_str);
        if !content_type.starts_with("application/json") {
            return vec![format!("content type `{content_type}`")];
        }
        let given = exchange.json();
        let mut violations = self.schema_violations(schema, &given, "request body");
        // The description allows more properties than it names; one that it does not name is a slip.
        for name in given
            .as_object()
            .into_iter()
            .flat_map(|object| object.keys())
        {
            if schema["properties"].get(name).is_none() {
                violations.push(format!("request body: unknown property `{name}`"));
            }
        }
        violations
    }

    fn answer_violations(&self, operation: &Value, exchange: &Exchange) -> Vec<String> {
        let Some(status) = exchange.status else {
            return Vec::new();
        };
        let response = self.resolve(&operation["responses"][status.to_string()]);
        // Refusals that every operation may answer with are not listed at each.
        if response.is_null() {
            let common = [400, 401, 403, 404, 415, 429].contains(&status) || status >= 500;
            return if common {
                Vec::new()
            } else {
                vec![format!("status {status} is not described")]
            };
        }
        let schema = &response["content"]["application/json"]["schema"];
        if schema.is_null() {
            return Vec::new();
        }
        match serde_json::from_str(&exchange.answer) {
            Ok(answer) => self.schema_violations(schema, &answer, "answer"),
            Err(_) => vec!["the answer is not JSON".to_owned()],
        }
    }

    fn schema_violations(&self, schema: &Value, value: &Value, what: &str) -> Vec<String> {
        let schema = self.self_contained(schema);
        match jsonschema::options()
            .with_draft(jsonschema::Draft::Draft7)
            .build(&schema)
        {
            Ok(validator) => validator
                .iter_errors(value)
                .map(|error| format!("{what}{}: {error}", error.instance_path()))
                .collect(),
            Err(cause) => vec![format!("{what}: the schema cannot be used: {cause}")],
        }
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"]
            .as_str()
            .and_then(|reference| reference.strip_prefix('#'))
        {
            Some(pointer) => self.document.pointer(pointer).unwrap_or(&Value::Null),
            None => value,
        }
    }

    /// The schema as JSON Schema, with everything it refers to beside it and nothing else: the whole
    /// description would be compiled otherwise.
    fn self_contained(&self, schema: &Value) -> Value {
        let mut names = BTreeSet::new();
        let mut open = references(schema);
        while let Some(name) = open.pop() {
            if names.insert(name.clone()) {
                open.extend(references(&self.document["components"]["schemas"][&name]));
            }
        }
        let mut whole = json_schema(schema);
        for name in names {
            let part = json_schema(&self.document["components"]["schemas"][&name]);
            whole["components"]["schemas"][name] = part;
        }
        whole
    }
}

/// Names of the schemas that a schema refers to.
fn references(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(object) => {
            let own = object.get("$ref").and_then(Value::as_str);
            let own = own
                .and_then(|reference| reference.strip_prefix("#/components/schemas/"))
                .map(str::to_owned);
            own.into_iter()
                .chain(object.values().flat_map(references))
                .collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// OpenAPI 3.0 says `nullable: true` where JSON Schema lists the type `null`.
fn json_schema(schema: &Value) -> Value {
    match schema {
        Value::Object(object) => {
            let is_nullable = object.get("nullable") == Some(&Value::Bool(true));
            let converted = object
                .iter()
                .filter(|(key, _)| !["nullable", "example", "examples"].contains(&key.as_str()));
            let converted: Value = converted
                .map(|(key, value)| (key.clone(), json_schema(value)))
                .collect();
            if is_nullable {
                json!({ "anyOf": [converted, { "type": "null" }] })
            } else {
                converted
            }
        }
        Value::Array(items) => items.iter().map(json_schema).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
    }
}

fn file(path: &Path) -> impl FnOnce(std::io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::File { path, source }
}

/// Installs the package into a folder of its own and keeps the one file of it that is used: the
/// package has some hundred megabytes.
fn download(cache: &Path, kept: &Path) -> Result<(), InstallError> {
    let folder = cache.join(format!("github-openapi.{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(file(&folder))?;
    for (name, text) in [
        ("package.json", PACKAGE),
        ("package-lock.json", PACKAGE_LOCK),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(file(&path))?;
    }
    let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    let output = Command::new("npm")
        .args(arguments)
        .current_dir(&folder)
        .output();
    let output = output.map_err(|cause| InstallError::Npm(cause.to_string()))?;
    if !output.status.success() {
        return Err(InstallError::Npm(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    std::fs::rename(folder.join(FILE), kept).map_err(file(kept))?;
    std::fs::remove_dir_all(&folder).map_err(file(&folder))
}
