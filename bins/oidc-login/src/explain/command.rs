//! The command `explain`: a token of this job, or one from standard input, explained.

use std::io::Read as _;

use switchyard_runner::{Context, Failure, Kind, Secret};

use super::report::{Expectations, report};
use crate::github::{Jwt, TokenSource};
use crate::inputs::{ExplainArgs, Source};
use crate::session::{Session, not_given, unavailable};

/// Longest token read from standard input, in bytes, so that a wrong file ends soon.
const LONGEST: u64 = 64 * 1024;

/// Explains one token.
///
/// # Errors
/// Of kind gate when the token is not as expected.
pub(crate) async fn run(args: ExplainArgs, context: &mut Context) -> Result<(), Failure> {
    let audience = args.audience();
    let (jwt, audience) = match args.source {
        Some(Source::StandardInput) => (from_standard_input(context)?, args.given_audience()),
        None => {
            let source = TokenSource::read(&context.environment).map_err(unavailable)?;
            let session = Session::new(
                &args.network,
                source,
                &context.environment,
                &context.console,
            )?;
            (session.jwt(&audience).await.map_err(not_given)?, None)
        }
    };
    let expectations = Expectations {
        subject: args.expected_subject,
        audience,
    };
    let report = report(jwt.claims(), &expectations);
    context.console.info(&report.text);
    context.outputs.set("subject", &jwt.claims().subject)?;
    if let Some(warning) = &report.warning {
        context.console.notice("oidc-login", warning);
    }
    if report.mismatches.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::message(Kind::Gate, "the token is not as expected");
    for mismatch in report.mismatches {
        failure = failure.hint(mismatch);
    }
    Err(failure)
}

fn from_standard_input(context: &Context) -> Result<Jwt, Failure> {
    let mut text = String::new();
    let stdin = std::io::stdin().lock();
    stdin
        .take(LONGEST + 1)
        .read_to_string(&mut text)
        .map_err(|cause| {
            Failure::input(
                anyhow::Error::new(cause).context("cannot read a token from standard input"),
            )
        })?;
    let token = Secret::new(text);
    context.console.mask(&token);
    Jwt::parse(token).map_err(|cause| {
        Failure::message(
            Kind::Input,
            format!("standard input holds no token: {cause}"),
        )
        .hint("give the token alone, as in `… | jq -r .value | oidc-login explain -`")
    })
}
