//! The binary; everything is in the library.

fn main() -> std::process::ExitCode {
    switchyard_runner::main::<release_watch::ReleaseWatch>()
}
