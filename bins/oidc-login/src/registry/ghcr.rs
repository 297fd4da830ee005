//! The command `ghcr`: GitHub's registry with the job's own token.

use switchyard_runner::{Context, Failure, Kind};

use super::enter::{Registration, enter};
use super::entry::Way;
use crate::explain::Expectations;
use crate::inputs::GhcrArgs;
use crate::session::Session;

/// Enters the helper for GHCR, when the registry takes the job's token.
///
/// # Errors
/// Of kind input before anything was asked, of kind remote afterwards.
pub(crate) async fn run(args: GhcrArgs, context: &mut Context) -> Result<(), Failure> {
    let is_text = args
        .github_token
        .expose()
        .chars()
        .all(|c| c.is_ascii_graphic());
    if args.github_token.expose().is_empty() || !is_text {
        let text = "input `github-token` holds no token";
        return Err(Failure::message(Kind::Input, text).hint("pass `${{ github.token }}`"));
    }
    let session = Session::without_tokens(&args.network, &context.environment, &context.console)?;
    let way = Way::Ghcr(args.github_token);
    let registration = Registration {
        registries: args
            .registry
            .iter()
            .map(|registry| (registry.clone(), way.clone()))
            .collect(),
        entering: args.registry_credentials,
    };
    enter(context, &session, &registration, &Expectations::default()).await
}
