//! The committed `action.yml` and reference page are what the declarations say.

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
    if let Err(reason) = reference::check::<release_watch::ReleaseWatch>(&root, writing) {
        panic!("{reason}");
    }
}
