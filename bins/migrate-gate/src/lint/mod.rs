//! `lint`: judges migrations by their files alone. It refuses to know servers.

use switchyard_runner::{Context, Failure, Kind};

use crate::inputs::LintArgs;
use crate::project;

/// Judges the migrations and fails when the gate says no.
///
/// # Errors
/// Kind gate when a statement is not known or a finding is an error; kind input for bad inputs.
pub(crate) async fn run(args: LintArgs, context: &mut Context) -> Result<(), Failure> {
    let schemas = project::read(&args.project)?;
    let mut unknown = 0;
    for schema in &schemas {
        let count = schema.migrations.len();
        context.console.info(format!(
            "schema `{}`: {count} migrations",
            schema.schema.name
        ));
        for migration in &schema.migrations {
            let pieces = switchyard_sql::cut(migration.script());
            unknown += pieces
                .iter()
                .filter(|piece| piece.statement.is_some())
                .count();
        }
    }
    context.outputs.set("findings", unknown)?;
    context.outputs.set("safe", false)?;
    Err(Failure::message(
        Kind::Gate,
        format!("{unknown} statements are not known"),
    ))
}
