//! Tools that `scripts/tools` installs outside of the checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::succeed;

/// The folder of a tool, installed the first time (through npm or Go, which can take a minute).
///
/// # Panics
/// When it cannot be installed.
#[must_use]
pub fn tool(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/tools");
    let output = succeed(Command::new(script).arg(name));
    let folder = String::from_utf8(output.stdout).expect("a path");
    PathBuf::from(folder.trim())
}
