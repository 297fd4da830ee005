//! `generate`: runs the generators of every schema, so that a build finds the clients of its migrations.

use switchyard_runner::{Context, Failure, Kind};

use super::inputs::GenerateArgs;
use super::{tool, tool_inputs};
use crate::project;

/// Runs the generators, one schema after the other.
///
/// # Errors
/// Kind gate when one of them fails, naming the schema; kind input for bad inputs.
pub(crate) async fn run(args: GenerateArgs, context: &mut Context) -> Result<(), Failure> {
    let schemas = project::read(&args.project)?;
    let inputs = tool_inputs(&args.tool)?;
    let environment = &context.environment;
    let mut ran = 0;
    for schema in schemas.iter().map(|one| &one.schema) {
        let Some(child) = tool::generate(schema, &inputs, environment) else {
            let text = format!("schema `{}`: its tool has no generators", schema.name);
            context.console.info(text);
            continue;
        };
        context.console.info(format!("schema `{}`", schema.name));
        let ended = child
            .run(environment, &context.console, &context.cancel)
            .await?;
        if !ended.result.is_success() {
            let last = ended
                .last_lines
                .last()
                .map(String::as_str)
                .unwrap_or_default();
            let text = format!("schema `{}`: its generators failed: {last}", schema.name);
            return Err(Failure::message(Kind::Gate, text)
                .hint("run `prisma generate` with the same schema to see why"));
        }
        ran += 1;
    }
    context
        .console
        .info(format!("the generators of {ran} schemas ran"));
    Ok(())
}
