//! The cases: files of the corpus.

use std::path::{Path, PathBuf};

/// One file of the corpus.
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: String,
    /// What is made besides the shop that all cases share.
    pub(crate) before: String,
    /// What is measured.
    pub(crate) migration: String,
    /// How it has to be run.
    pub(crate) way: Way,
    /// First major version that knows its statements.
    pub(crate) since: u32,
}

/// How a migration has to be run.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// In a transaction that ends after its locks were looked at.
    Transaction,
    /// On its own, because the server refuses it inside of one.
    Alone,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/migrations")
}

/// The script that makes what is there before each case.
pub(crate) fn before() -> String {
    std::fs::read_to_string(folder().join("before.sql")).unwrap()
}

/// All cases by name.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name != "before" {
            cases.push(parse(name, &std::fs::read_to_string(&path).unwrap()));
        }
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    cases
}

fn parse(name: String, text: &str) -> Case {
    let (before, rest) = text
        .split_once("-- migration")
        .unwrap_or_else(|| panic!("case `{name}` has no line `-- migration`"));
    let (mark, migration) = rest.split_once('\n').unwrap();
    let way = match mark.trim() {
        "" => Way::Transaction,
        "(outside of a transaction)" => Way::Alone,
        other => panic!("case `{name}`: unknown mark `{other}`"),
    };
    let since = before.lines().find_map(|line| {
        let version = line.strip_prefix("-- since PostgreSQL ")?;
        Some(version.trim().parse().expect("a major version"))
    });
    Case {
        since: since.unwrap_or(0),
        name,
        before: before.to_owned(),
        migration: migration.to_owned(),
        way,
    }
}
