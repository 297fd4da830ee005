//! The digest that an approval is bound to: what would run, against which schema, by which tool. Measurements are
//! not in it, so that a row more does not void an approval.

use std::fmt;

use serde::Serialize;

use crate::sha256::sha256;

/// Version of what is digested: another form of the same must not be taken for a change of the migrations.
const FORM: u32 = 1;

/// 64 hexadecimal digits of SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Digest(String);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What of one schema is in the digest.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DigestedSchema {
    /// Name of the schema in the inputs.
    pub(crate) name: String,
    /// Name of the database.
    pub(crate) database: String,
    /// Schema of its tables.
    pub(crate) namespace: String,
    /// Name of the tool.
    pub(crate) tool: &'static str,
    /// Script of the tool, where it is any command.
    pub(crate) command: Option<String>,
    /// Version of the tool, where it is known.
    pub(crate) tool_version: Option<String>,
    /// Fingerprint of the database's schema.
    pub(crate) fingerprint: String,
    /// Name, checksum with LF, and state of every migration.
    pub(crate) migrations: Vec<(String, Option<String>, String)>,
}

/// Digests the schemas of a project, in their order.
pub(crate) fn digest(schemas: &[DigestedSchema]) -> Digest {
    // Plain structs of texts always serialize.
    let text = serde_json::to_vec(&(FORM, schemas)).unwrap_or_default();
    Digest(sha256(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> DigestedSchema {
        DigestedSchema {
            name: "main".into(),
            database: "shop".into(),
            namespace: "public".into(),
            tool: "prisma",
            command: None,
            tool_version: Some("6.19.3".into()),
            fingerprint: "f".into(),
            migrations: vec![("1".into(), Some("c".into()), "pending".into())],
        }
    }

    #[test]
    fn everything_that_decides_what_runs_is_in_it() {
        let before = digest(&[schema()]);
        assert_eq!(digest(&[schema()]), before);
        let changes: [fn(&mut DigestedSchema); 8] = [
            |one| one.command = Some("dbmate up".into()),
            |one| one.name.push('x'),
            |one| one.database.push('x'),
            |one| one.namespace.push('x'),
            |one| one.tool_version = None,
            |one| one.fingerprint.push('x'),
            |one| one.migrations[0].1 = Some("d".into()),
            |one| one.migrations[0].2 = "applied".into(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = schema();
            change(&mut changed);
            assert_ne!(digest(&[changed]), before, "change {number}");
        }
        assert_ne!(digest(&[schema(), schema()]), before);
    }
}
