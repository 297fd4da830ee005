//! What a restored copy has otherwise than its backup says, and what of it cannot be compared. Pure.

use switchyard_postgres::{SchemaDescription, ServerVersion};

use super::count::Counted;
use super::manifest::Manifest;

/// What came of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// What differs.
    pub(crate) differences: Vec<String>,
    /// What was not compared, and why.
    pub(crate) uncompared: Vec<String>,
}

/// What is in a database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    /// Version of its server.
    pub(crate) server: ServerVersion,
    pub(crate) schema: &'a SchemaDescription,
    pub(crate) counted: &'a Counted,
}

/// Compares what a manifest says with what is in a database. With the description that the manifest has the digest of,
/// another schema is told line by line.
pub(crate) fn compare(
    manifest: &Manifest,
    found: Found<'_>,
    original: Option<&SchemaDescription>,
) -> Compared {
    let mut compared = Compared {
        differences: manifest.contents.differences(&found.counted.contents),
        uncompared: uncounted(manifest, found.counted),
    };
    if !is_of_same_major(manifest, found.server) {
        compared.uncompared.push(format!(
            "the schema: it was restored on PostgreSQL {}, and comes from {}",
            found.server, manifest.server_version
        ));
    } else if found.schema.fingerprint() != manifest.fingerprint {
        let text = "the schema is another one".to_owned();
        compared.differences.push(text);
        let lines = original.map(|original| original.differences(found.schema));
        compared.differences.extend(lines.unwrap_or_default());
    }
    compared
}

/// Whether schemas can be compared: each major version writes definitions in its own way.
pub(crate) fn is_of_same_major(manifest: &Manifest, server: ServerVersion) -> bool {
    server.major() == manifest.server_version.major()
}

/// What was not counted on either side.
pub(crate) fn uncounted(manifest: &Manifest, counted: &Counted) -> Vec<String> {
    let mut uncounted = manifest.uncounted.clone();
    let new = counted.uncounted.iter();
    let new = new.filter(|one| !manifest.uncounted.contains(one));
    uncounted.extend(new.cloned());
    uncounted
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use switchyard_postgres::{CollationProvider, DatabaseContents, LargeObjects, ServerSettings};

    use super::super::manifest::Facts;
    use super::*;

    const UNREADABLE: &str = "large objects: one is not readable";

    fn contents(large_objects: Option<&str>) -> DatabaseContents {
        DatabaseContents {
            large_objects: large_objects.map(|checksum| LargeObjects {
                count: 1,
                checksum: checksum.to_owned(),
            }),
            ..DatabaseContents::default()
        }
    }

    fn counted(large_objects: Option<&str>, uncounted: &[&str]) -> Counted {
        Counted {
            contents: contents(large_objects),
            uncounted: uncounted.iter().map(|one| (*one).to_owned()).collect(),
        }
    }

    fn schema(line: &str) -> SchemaDescription {
        SchemaDescription::from_lines([line.to_owned()])
    }

    fn manifest(counted: Counted) -> Manifest {
        let version = ServerVersion::from_number(150_018);
        Manifest::new(Facts {
            database: "shop".to_owned(),
            server: "db:5432".to_owned(),
            server_version: version,
            dump_version: version,
            taken_at: jiff::Timestamp::UNIX_EPOCH,
            run: None,
            settings: ServerSettings {
                encoding: "UTF8".to_owned(),
                collate: "C".to_owned(),
                ctype: "C".to_owned(),
                provider: CollationProvider::Libc,
                locale: None,
                icu_rules: None,
                bytes: 0,
            },
            fingerprint: schema("table a").fingerprint(),
            contents: counted.contents,
            uncounted: counted.uncounted,
            files: BTreeMap::new(),
        })
    }

    fn compared(manifest: &Manifest, server: i32, line: &str, counted: &Counted) -> Compared {
        let schema = schema(line);
        let found = Found {
            server: ServerVersion::from_number(server),
            schema: &schema,
            counted,
        };
        compare(manifest, found, None)
    }

    #[test]
    fn what_was_not_counted_on_one_side_is_no_difference() {
        let original = manifest(counted(None, &[UNREADABLE]));
        let copy = counted(Some("7"), &[]);
        let found = compared(&original, 150_018, "table a", &copy);
        assert_eq!(found.differences, Vec::<String>::new());
        assert_eq!(found.uncompared, [UNREADABLE]);
        let twice = counted(None, &[UNREADABLE]);
        let found = compared(&original, 150_018, "table a", &twice);
        assert_eq!(found.uncompared, [UNREADABLE]);
    }

    #[test]
    fn a_schema_is_compared_on_its_own_major_version_alone() {
        let original = manifest(counted(Some("7"), &[]));
        let copy = counted(Some("7"), &[]);
        let other = compared(&original, 150_020, "table b", &copy);
        assert_eq!(other.differences, ["the schema is another one"]);
        let newer = compared(&original, 160_002, "table b", &copy);
        assert!(newer.differences.is_empty(), "{newer:?}");
        assert!(
            newer.uncompared[0].contains("restored on PostgreSQL 16.2"),
            "{newer:?}"
        );
        let changed = compared(&original, 160_002, "table b", &counted(Some("8"), &[]));
        assert_eq!(changed.differences, ["the large objects are others"]);
    }
}
