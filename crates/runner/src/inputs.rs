//! Inputs: one clap struct declares them, the command line or `INPUT_…` variables give them.
//!
//! The runner gives a composite action's inputs only through variables that its step maps, and an unset
//! one arrives empty. So the variables are turned into arguments before clap sees anything: empty ones
//! are dropped, unknown ones refused, and an argument on the command line wins.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use crate::secret::SECRET;
use crate::{Action, Environment, Failure, Kind, Secret};

/// The name of the input that chooses a subcommand.
pub const COMMAND: &str = "command";

/// What the command line and the environment said.
#[derive(Debug)]
pub enum Parsed<A> {
    /// Run this.
    Run(Box<A>),
    /// `--help` or `--version`: print this and end with 0.
    Show(String),
}

/// Parses the command line (`arguments[0]` is the program's name) and the environment.
///
/// # Errors
/// [`Kind::Input`] naming the input, what was given and what is allowed.
pub fn parse<A: Action>(
    arguments: Vec<OsString>,
    environment: &Environment,
) -> Result<Parsed<A>, Failure> {
    let mut command = A::command()
        .name(A::NAME)
        .version(env!("CARGO_PKG_VERSION"));
    command.build();
    let merged = merge::<A>(&command, arguments, environment)?;
    match command.try_get_matches_from_mut(merged) {
        Ok(matches) => A::from_arg_matches(&matches)
            .map(|action| Parsed::Run(Box::new(action)))
            .map_err(|error| refusal(&error)),
        Err(error) if is_for_reading(error.kind()) => Ok(Parsed::Show(error.render().to_string())),
        Err(error) => Err(refusal(&error)),
    }
}

/// The secrets that the environment gives, so that they can be masked before anything is printed.
#[must_use]
pub fn secrets<A: Action>(environment: &Environment) -> Vec<Secret> {
    let command = A::command();
    let subcommands = command.get_subcommands();
    let arguments = command
        .get_arguments()
        .chain(subcommands.flat_map(Command::get_arguments));
    let names: BTreeSet<String> = arguments
        .filter(|argument| is_secret(argument))
        .filter_map(|argument| argument.get_long().map(variable))
        .collect();
    let given = names.iter().filter_map(|name| environment.get(name));
    given.map(Secret::new).collect()
}

/// The variable of an input: `min-ready` is `INPUT_MIN_READY`.
#[must_use]
pub fn variable(input: &str) -> String {
    format!("INPUT_{}", input.to_uppercase().replace('-', "_"))
}

/// Whether an argument is declared as a secret.
#[must_use]
pub fn is_secret(argument: &Arg) -> bool {
    let names = argument.get_value_names().unwrap_or_default();
    names.iter().any(|name| name == SECRET)
}

/// The inputs that a command declares: its long flags without help and version.
pub fn declared(command: &Command) -> impl Iterator<Item = (&Arg, &str)> {
    command.get_arguments().filter_map(|argument| {
        let is_input = !matches!(
            argument.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        );
        let long = argument
            .get_long()
            .filter(|_| is_input && !argument.is_hide_set());
        long.map(|long| (argument, long))
    })
}

fn merge<A: Action>(
    command: &Command,
    mut arguments: Vec<OsString>,
    environment: &Environment,
) -> Result<Vec<OsString>, Failure> {
    if arguments.is_empty() {
        arguments.push(A::NAME.into());
    }
    let given = given(environment);
    let has_subcommands = command.get_subcommands().next().is_some();
    if arguments
        .get(1)
        .is_some_and(|first| is_help(first, has_subcommands) && !is_input(command, first))
    {
        return Ok(arguments);
    }
    let chosen = if has_subcommands {
        choose::<A>(command, &mut arguments, &given)?
    } else {
        command
    };
    refuse_secret_flags(chosen, &arguments)?;
    refuse_unknown(command, chosen, &given)?;
    let on_command_line: BTreeSet<String> = arguments
        .iter()
        .filter_map(|argument| argument.to_str()?.strip_prefix("--"))
        .map(|flag| flag.split('=').next().unwrap_or(flag).to_owned())
        .collect();
    for (_, long) in declared(chosen) {
        if on_command_line.contains(long) {
            continue;
        }
        if let Some((_, value)) = given.get(&variable(long)) {
            arguments.push(format!("--{long}={value}").into());
        }
    }
    Ok(arguments)
}

/// The `INPUT_…` variables that hold something, by normalised name: (name as it was, value). The toolkit
/// keeps hyphens in these names, a shell cannot; both read the same, the underscore form first.
fn given(environment: &Environment) -> BTreeMap<String, (String, String)> {
    let mut given = BTreeMap::new();
    for (name, value) in environment.iter() {
        let value = value.trim();
        if !name.starts_with("INPUT_") || value.is_empty() {
            continue;
        }
        let normalised = name.replace('-', "_").to_uppercase();
        if name == normalised || !given.contains_key(&normalised) {
            given.insert(normalised, (name.to_owned(), value.to_owned()));
        }
    }
    given
}

/// Whether a flag is an input of this action: one may well be named `version`.
fn is_input(command: &Command, argument: &OsString) -> bool {
    declared(command).any(|(_, long)| argument == format!("--{long}").as_str())
}

fn is_help(argument: &OsString, has_subcommands: bool) -> bool {
    let flags = ["-h", "--help", "-V", "--version"];
    flags.iter().any(|flag| argument == flag) || (has_subcommands && argument == "help")
}

/// Finds the subcommand on the command line, or inserts the one that the environment names.
fn choose<'a, A: Action>(
    command: &'a Command,
    arguments: &mut Vec<OsString>,
    given: &BTreeMap<String, (String, String)>,
) -> Result<&'a Command, Failure> {
    let find = |name: &str| command.get_subcommands().find(|sub| sub.get_name() == name);
    let first = arguments.get(1).and_then(|argument| argument.to_str());
    if let Some(first) = first.filter(|first| !first.starts_with('-')) {
        return find(first).ok_or_else(|| unknown_command(command, first));
    }
    let named = given
        .get(&variable(COMMAND))
        .map(|(_, value)| value.as_str());
    let name = named.or(A::DEFAULT_COMMAND).ok_or_else(|| {
        Failure::message(Kind::Input, "input `command` is required").hint(allowed_commands(command))
    })?;
    let found = find(name).ok_or_else(|| unknown_command(command, name))?;
    arguments.insert(1, name.into());
    Ok(found)
}

fn unknown_command(command: &Command, given: &str) -> Failure {
    let names = command.get_subcommands().map(Command::get_name);
    Failure::message(Kind::Input, format!("input `command` is `{given}`"))
        .maybe_hint(closest(given, names).map(|name| format!("did you mean `{name}`?")))
        .hint(allowed_commands(command))
}

fn allowed_commands(command: &Command) -> String {
    let names = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help");
    let names: Vec<String> = names.map(|sub| format!("`{}`", sub.get_name())).collect();
    format!("one of {}", names.join(", "))
}

fn refuse_secret_flags(chosen: &Command, arguments: &[OsString]) -> Result<(), Failure> {
    for (argument, long) in declared(chosen) {
        let flag = format!("--{long}");
        let is_given = arguments.iter().any(|given| {
            let given = given.to_string_lossy();
            given == flag || given.starts_with(&format!("{flag}="))
        });
        if is_given && is_secret(argument) {
            let text = format!("`{flag}` is a secret and would be readable by every process here");
            return Err(Failure::message(Kind::Input, text).hint(format!(
                "set the environment variable {} instead",
                variable(long)
            )));
        }
    }
    Ok(())
}

/// Refuses variables that no command of this action knows, and those that only another one uses.
fn refuse_unknown(
    command: &Command,
    chosen: &Command,
    given: &BTreeMap<String, (String, String)>,
) -> Result<(), Failure> {
    let known: BTreeSet<String> = declared(chosen).map(|(_, long)| variable(long)).collect();
    for (normalised, (name, _)) in given {
        if known.contains(normalised) || *normalised == variable(COMMAND) {
            continue;
        }
        let users: Vec<&str> = command
            .get_subcommands()
            .filter(|sub| declared(sub).any(|(_, long)| variable(long) == *normalised))
            .map(Command::get_name)
            .collect();
        let input = normalised["INPUT_".len()..]
            .to_lowercase()
            .replace('_', "-");
        if !users.is_empty() {
            let text = format!("input `{input}` is not used by `{}`", chosen.get_name());
            return Err(Failure::message(Kind::Input, text)
                .hint(format!("remove it; it belongs to `{}`", users.join("`, `"))));
        }
        let names = declared(chosen).map(|(_, long)| long);
        return Err(
            Failure::message(Kind::Input, format!("unknown input `{input}` ({name})"))
                .maybe_hint(closest(&input, names).map(|name| format!("did you mean `{name}`?")))
                .hint("inputs are listed in the action's reference page"),
        );
    }
    Ok(())
}

/// The known name most like `given`, if one is like it at all.
#[must_use]
pub fn closest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::jaro_winkler(given, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// Turns clap's error into ours: the input's name, what was given, what is allowed.
fn refusal(error: &clap::Error) -> Failure {
    let text = |kind| error.get(kind).map(show);
    let input = text(ContextKind::InvalidArg).unwrap_or_default();
    let input = input
        .split(['=', ' '])
        .next()
        .unwrap_or_default()
        .trim_start_matches('-')
        .to_owned();
    let value = text(ContextKind::InvalidValue).filter(|value| !value.is_empty());
    let cause = std::error::Error::source(error).map(|cause| format!(": {}", explain(cause)));
    let cause = cause.unwrap_or_default();
    let message = match (error.kind(), value) {
        (ErrorKind::InvalidValue | ErrorKind::ValueValidation, Some(value)) => {
            format!("input `{input}` is `{value}`{cause}")
        }
        (ErrorKind::InvalidValue | ErrorKind::ValueValidation, None) => {
            format!("input `{input}` has no value")
        }
        (ErrorKind::MissingRequiredArgument, _) => match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::Strings(names)) => {
                let names: Vec<&str> = names.iter().map(|name| bare(name)).collect();
                format!("input `{}` is required", names.join("`, `"))
            }
            _ => format!("input `{input}` is required"),
        },
        (ErrorKind::UnknownArgument, _) => format!("unknown flag `--{input}`"),
        _ => first_line(error),
    };
    let suggested = text(ContextKind::SuggestedArg).or_else(|| text(ContextKind::SuggestedValue));
    let allowed = text(ContextKind::ValidValue).filter(|allowed| !allowed.is_empty());
    Failure::message(Kind::Input, message)
        .maybe_hint(suggested.map(|name| format!("did you mean `{}`?", bare(&name))))
        .maybe_hint(allowed.map(|allowed| format!("one of {allowed}")))
}

/// The standard library's texts about numbers say nothing to a person who writes a workflow.
fn explain(cause: &(dyn std::error::Error + 'static)) -> String {
    use std::num::IntErrorKind::{InvalidDigit, NegOverflow, PosOverflow};
    match cause
        .downcast_ref::<std::num::ParseIntError>()
        .map(std::num::ParseIntError::kind)
    {
        Some(InvalidDigit) => "a whole number is needed".to_owned(),
        Some(PosOverflow) => "the number is too large".to_owned(),
        Some(NegOverflow) => "the number is too small".to_owned(),
        _ => cause.to_string(),
    }
}

fn bare(argument: &str) -> &str {
    let name = argument.trim_start_matches('-');
    name.split([' ', '=']).next().unwrap_or(name)
}

fn is_for_reading(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

fn show(value: &ContextValue) -> String {
    if let ContextValue::Strings(values) = value {
        values.join(", ")
    } else {
        value.to_string()
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}
