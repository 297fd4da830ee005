//! The binary; everything is in the library.

fn main() -> std::process::ExitCode {
    switchyard_runner::main_or_plugin::<oidc_login::OidcLogin, oidc_login::OidcPlugin>()
}
