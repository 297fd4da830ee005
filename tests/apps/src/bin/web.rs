//! The demo application `web`.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchyard_apps::run(switchyard_apps::App::Web)
}
