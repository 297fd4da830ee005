//! Servers behind real HAProxies, updated under load. Everything is on the loopback; no cluster is needed.

mod faults;
mod refusals;
mod resume;
mod rig;
mod rolling;
mod steps;
mod weights;

use std::path::{Path, PathBuf};

/// The demo application, beside the program under test.
fn application() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_traffic-switch")).with_file_name("api");
    assert!(
        program.exists(),
        "the demo application is not built: run `cargo build -p switchyard-apps`"
    );
    program
}
