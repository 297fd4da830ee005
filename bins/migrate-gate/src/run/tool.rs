//! The tool that runs migrations, as its users have it. It owns its command line and its environment; it
//! refuses to know what came of it.

mod prisma;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use switchyard_runner::child::{Child, KeptOutput};
use switchyard_runner::{Environment, Secret, mask};

use crate::project::{Schema, Tool};
pub(crate) use prisma::Stage;

/// Marks the sessions of a tool, so that they are told from others. A URL cannot be read by other roles;
/// an application name can, and holds no secret.
pub(crate) const APPLICATION_NAME: &str = "switchyard migrate-gate run";

/// What every tool of a run is given.
#[derive(Debug, Clone)]
pub(crate) struct ToolInputs {
    /// Words before `migrate deploy`, such as `npx --no-install prisma`.
    pub(crate) prisma: Vec<String>,
    /// Names of variables that are handed on.
    pub(crate) variables: Vec<String>,
    /// Most time that one start of a tool may take.
    pub(crate) time_limit: Duration,
}

/// The database as a tool is to reach it.
#[derive(Debug, Clone)]
pub(crate) struct ToolDatabase {
    /// The URL, with the time limits in it.
    pub(crate) url: Secret,
    /// Options for libpq's `PGOPTIONS`.
    pub(crate) options: String,
}

/// The child that applies everything pending of a schema, or of a stage of it.
pub(crate) fn apply(
    schema: &Schema,
    stage: Option<&Stage>,
    inputs: &ToolInputs,
    database: &ToolDatabase,
    environment: &Environment,
) -> Child {
    let child = match schema.tool {
        Tool::Prisma => Child::program(
            prisma::words(inputs, (schema, stage), &["migrate", "deploy"]),
            inputs.time_limit,
        ),
        // That there is a script was checked with the inputs.
        Tool::Command => {
            let script = schema.command.as_deref().unwrap_or("exit 2");
            Child::script(script, inputs.time_limit)
        }
    };
    with_environment(child, schema, inputs, database, environment)
}

/// The child that marks a failed migration as rolled back; none for tools without such a mark.
pub(crate) fn mark_rolled_back(
    schema: &Schema,
    migration: &str,
    inputs: &ToolInputs,
    database: &ToolDatabase,
    environment: &Environment,
) -> Option<Child> {
    let words = match schema.tool {
        Tool::Prisma => prisma::words(
            inputs,
            (schema, None),
            &["migrate", "resolve", "--rolled-back", migration],
        ),
        Tool::Command => return None,
    };
    let child = Child::program(words, inputs.time_limit);
    Some(with_environment(
        child,
        schema,
        inputs,
        database,
        environment,
    ))
}

/// The child that runs the generators of a schema, which need no database; none for tools without any.
pub(crate) fn generate(
    schema: &Schema,
    inputs: &ToolInputs,
    environment: &Environment,
) -> Option<Child> {
    match schema.tool {
        Tool::Prisma => {
            let words = prisma::words(inputs, (schema, None), &["generate"]);
            let child = Child::program(words, inputs.time_limit);
            Some(with_variables(
                child,
                schema,
                inputs,
                environment,
                BTreeMap::new(),
            ))
        }
        Tool::Command => None,
    }
}

/// What marks a failed migration as rolled back, without its name, for a person to type.
pub(crate) fn resolve_words(schema: &Schema, inputs: &ToolInputs) -> Option<String> {
    match schema.tool {
        Tool::Prisma => {
            let mut words = prisma::words(inputs, (schema, None), &["migrate", "resolve"]);
            // The name is typed behind it.
            words.push("--rolled-back".to_owned());
            Some(words.join(" "))
        }
        Tool::Command => None,
    }
}

/// Whether a tool reports that a lock did not come in time: SQLSTATE 55P03, or the server's words for it.
/// A wrong guess is harmless: nothing is repeated over anything that was changed.
pub(crate) fn says_lock_timeout(output: &KeptOutput) -> bool {
    const SIGNS: [&str; 2] = ["55P03", "due to lock timeout"];
    let mut lines = output.lines.iter();
    lines.any(|line| SIGNS.iter().any(|sign| line.contains(sign)))
}

/// Takes every form of the secrets out of what a tool wrote.
pub(crate) fn redact(output: &mut KeptOutput, secrets: &[Secret]) {
    let mut forms: Vec<String> = secrets.iter().flat_map(mask::forms).collect();
    // A longer form may hold a shorter one.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    for line in &mut output.lines {
        for form in &forms {
            if line.contains(form.as_str()) {
                *line = line.replace(form.as_str(), "***");
            }
        }
    }
}

fn with_environment(
    child: Child,
    schema: &Schema,
    inputs: &ToolInputs,
    database: &ToolDatabase,
    environment: &Environment,
) -> Child {
    let url = database.url.expose();
    let mut variables = BTreeMap::from([
        ("DATABASE_URL".to_owned(), url.to_owned()),
        ("PGAPPNAME".to_owned(), APPLICATION_NAME.to_owned()),
        ("PGOPTIONS".to_owned(), database.options.clone()),
    ]);
    if let Some(name) = &schema.url_env {
        variables.insert(name.as_str().to_owned(), url.to_owned());
    }
    with_variables(child, schema, inputs, environment, variables)
}

/// Those of the user, then ours, which count.
fn with_variables(
    mut child: Child,
    schema: &Schema,
    inputs: &ToolInputs,
    environment: &Environment,
    ours: BTreeMap<String, String>,
) -> Child {
    for name in &inputs.variables {
        if let Some(value) = environment.get(name) {
            child = child.variable(name, value);
        }
    }
    for name in [
        "CHECKPOINT_DISABLE",
        "NO_COLOR",
        "PRISMA_HIDE_UPDATE_MESSAGE",
    ] {
        child = child.variable(name, "1");
    }
    child.variables.extend(ours);
    match &schema.directory {
        Some(directory) => child.directory(directory),
        None => child,
    }
}

/// A path for a tool: as it was given, because tools print it and people look for it, unless the tool is
/// started elsewhere.
fn shown(path: &Path, schema: &Schema) -> String {
    let path = match (&schema.directory, std::path::absolute(path)) {
        (Some(_), Ok(absolute)) => absolute,
        (Some(_), Err(_)) | (None, _) => path.to_owned(),
    };
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Schemas;

    fn inputs() -> ToolInputs {
        ToolInputs {
            prisma: vec!["npx".to_owned(), "prisma".to_owned()],
            variables: vec!["NODE_OPTIONS".to_owned(), "ABSENT".to_owned()],
            time_limit: Duration::from_secs(60),
        }
    }

    fn database() -> ToolDatabase {
        ToolDatabase {
            url: Secret::new("postgres://dana:hunter2@db/shop"),
            options: "-c lock_timeout=2s".to_owned(),
        }
    }

    fn child(schemas: &str) -> Child {
        let schemas: Schemas = schemas.parse().unwrap();
        let environment = [("NODE_OPTIONS", "-r x"), ("HOME", "/root")]
            .into_iter()
            .collect();
        apply(&schemas[0], None, &inputs(), &database(), &environment)
    }

    #[test]
    fn the_url_is_in_the_environment_and_never_in_the_arguments() {
        for tool in ["prisma", "command"] {
            let child = child(&format!(
                "[{{name: a, path: p, tool: {tool}, url-env: SHOP_URL}}]"
            ));
            assert!(!child.program.join(" ").contains("hunter2"));
            for name in ["DATABASE_URL", "SHOP_URL"] {
                assert_eq!(child.variables[name], "postgres://dana:hunter2@db/shop");
            }
            assert_eq!(child.variables["PGOPTIONS"], "-c lock_timeout=2s");
        }
    }

    #[test]
    fn what_a_tool_wrote_loses_every_form_of_a_secret() {
        let mut output = KeptOutput::default();
        output
            .lines
            .push_back("to postgres://dana:p%40ss@db/shop with p@ss".to_owned());
        let secrets = ["postgres://dana:p%40ss@db/shop", "p@ss"].map(Secret::new);
        redact(&mut output, &secrets);
        assert_eq!(output.lines, ["to *** with ***"]);
    }

    #[test]
    fn a_person_can_type_what_marks_a_failed_migration() {
        let schemas: Schemas = "[{name: a, path: p, config: c.ts}]".parse().unwrap();
        assert_eq!(
            resolve_words(&schemas[0], &inputs()).as_deref(),
            Some("npx prisma migrate resolve --config c.ts --rolled-back")
        );
    }

    #[test]
    fn variables_are_handed_on_by_name() {
        let child = child("[{name: a, path: p, tool: command}]");
        assert_eq!(child.variables["NODE_OPTIONS"], "-r x");
        assert!(!child.variables.contains_key("ABSENT"));
    }
}
