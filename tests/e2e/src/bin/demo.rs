//! A whole blue-green deployment and its rollback on the sandbox, under load, with counts.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    switchyard_e2e::demo::main().await
}
