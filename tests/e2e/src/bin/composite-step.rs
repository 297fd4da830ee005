//! Stands before a program in a composite step, so that the step sees what GitHub would give it.

fn main() -> std::process::ExitCode {
    switchyard_e2e::composite_step::main()
}
