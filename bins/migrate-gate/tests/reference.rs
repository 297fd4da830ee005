//! The committed `action.yml` and reference page are what the declarations say.

use std::collections::BTreeSet;
use std::path::Path;

use switchyard_runner::reference::{self, Writing};

#[test]
fn action_and_reference_page_are_generated() {
    let writing = if std::env::var_os("SWITCHYARD_GENERATE").is_some() {
        Writing::Yes
    } else {
        Writing::No
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if let Err(reason) = reference::check::<migrate_gate::MigrateGate>(&root, writing) {
        panic!("{reason}");
    }
}

#[test]
fn every_rule_has_its_page_and_every_page_its_rule() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lint");
    let pages = migrate_gate::rule_pages();
    if std::env::var_os("SWITCHYARD_GENERATE").is_some() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for page in &pages {
            std::fs::write(folder.join(&page.file), &page.text).unwrap();
        }
    }
    for page in &pages {
        let committed = std::fs::read_to_string(folder.join(&page.file)).unwrap_or_default();
        assert_eq!(
            committed, page.text,
            "docs/lint/{}: run scripts/generate",
            page.file
        );
    }
    let files = std::fs::read_dir(&folder).unwrap();
    let files: BTreeSet<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<String> = pages.into_iter().map(|page| page.file).collect();
    assert_eq!(files, expected);
}
