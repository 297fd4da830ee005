//! The `rollout` program.

fn main() -> std::process::ExitCode {
    switchyard_runner::main::<rollout::Rollout>()
}
