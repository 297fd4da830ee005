//! The program `sandbox`.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchyard_sandbox::cli::main()
}
