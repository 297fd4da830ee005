//! Inputs as a binary sees them: from flags, from `INPUT_…`, and what is refused.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use switchyard_runner::inputs::{self, Parsed};
use switchyard_runner::secret::SECRET;
use switchyard_runner::{
    Action, Context, Environment, Failure, Kind, List, Output, Secret, values,
};

/// Moves traffic
#[derive(Debug, Parser)]
struct Demo {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Move it
    Switch(SwitchArgs),
    /// Show it
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
struct SwitchArgs {
    /// Least number of ready pods
    #[arg(long, default_value_t = 1)]
    min_ready: u32,
    /// How long to hold
    #[arg(long, default_value = "30s", value_parser = values::duration)]
    hold: Duration,
    /// Only plan
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    plan: bool,
    /// Targets
    #[arg(long, required = true)]
    targets: Option<List<String>>,
    /// Token
    #[arg(long, value_name = SECRET)]
    token: Option<Secret>,
    /// Evidence
    #[arg(long, value_enum)]
    require: Option<Evidence>,
}

#[derive(Debug, clap::Args)]
struct StatusArgs {
    /// Targets
    #[arg(long)]
    targets: Option<List<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Evidence {
    Endpoints,
    FrontDoor,
}

impl Action for Demo {
    const NAME: &'static str = "demo";
    const OUTPUTS: &'static [Output] = &[Output {
        name: "changed",
        description: "Whether it changed",
    }];
    const DEFAULT_COMMAND: Option<&'static str> = Some("switch");

    async fn run(self, _context: &mut Context) -> Result<(), Failure> {
        Ok(())
    }
}

fn parse(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Demo, Failure> {
    let arguments = std::iter::once("demo").chain(arguments.iter().copied());
    let arguments: Vec<OsString> = arguments.map(OsString::from).collect();
    let environment: Environment = variables.iter().copied().collect();
    match inputs::parse::<Demo>(arguments, &environment)? {
        Parsed::Run(demo) => Ok(*demo),
        Parsed::Show(text) => panic!("help: {text}"),
    }
}

fn switch(arguments: &[&str], variables: &[(&str, &str)]) -> SwitchArgs {
    match parse(arguments, variables).unwrap().command {
        Command::Switch(switch) => switch,
        Command::Status(_) => panic!("status"),
    }
}

fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let failure = parse(arguments, variables).unwrap_err();
    assert_eq!(failure.kind(), Kind::Input, "{failure}");
    format!("{failure} | {}", failure.hints().join(" | "))
        .trim_end()
        .to_owned()
}

const TARGETS: (&str, &str) = ("INPUT_TARGETS", "service/web\nservice/api");

#[test]
fn a_flag_beats_the_variable_and_the_variable_beats_the_default() {
    assert_eq!(switch(&[], &[TARGETS]).min_ready, 1);
    assert_eq!(
        switch(&[], &[TARGETS, ("INPUT_MIN_READY", " 3 ")]).min_ready,
        3
    );
    assert_eq!(
        switch(
            &["switch", "--min-ready", "5"],
            &[TARGETS, ("INPUT_MIN_READY", "3")]
        )
        .min_ready,
        5
    );
    assert_eq!(
        switch(&["--min-ready=5"], &[TARGETS, ("INPUT_MIN_READY", "3")]).min_ready,
        5
    );
}

#[test]
fn an_empty_variable_means_not_given() {
    let switch = switch(
        &[],
        &[
            TARGETS,
            ("INPUT_MIN_READY", ""),
            ("INPUT_HOLD", "  "),
            ("INPUT_TOKEN", ""),
        ],
    );
    assert_eq!(switch.min_ready, 1);
    assert_eq!(switch.hold, Duration::from_secs(30));
    assert!(switch.token.is_none());
}

#[test]
fn the_toolkits_spelling_with_hyphens_is_understood() {
    assert_eq!(
        switch(&[], &[TARGETS, ("INPUT_MIN-READY", "4")]).min_ready,
        4
    );
}

#[test]
fn the_command_input_chooses_the_subcommand() {
    let demo = parse(&[], &[("INPUT_COMMAND", "status"), TARGETS]).unwrap();
    assert!(
        matches!(demo.command, Command::Status(StatusArgs { targets: Some(list) }) if list.len() == 2)
    );
}

#[test]
fn booleans_lists_and_values_that_begin_with_a_hyphen_come_through() {
    let switch = switch(
        &[],
        &[
            ("INPUT_PLAN", "True"),
            ("INPUT_TARGETS", "-a, b"),
            ("INPUT_REQUIRE", "front-door"),
        ],
    );
    assert!(switch.plan);
    assert_eq!(switch.require, Some(Evidence::FrontDoor));
    assert_eq!(&*switch.targets.unwrap(), ["-a", "b"]);
    assert!(self::switch(&["--plan"], &[TARGETS]).plan);
}

#[test]
fn nonsense_is_refused_with_what_was_given_and_what_is_allowed() {
    let messages = [
        refused(&[], &[TARGETS, ("INPUT_MIN_READY", "many")]),
        refused(&[], &[TARGETS, ("INPUT_HOLD", "90")]),
        refused(&[], &[TARGETS, ("INPUT_PLAN", "yes")]),
        refused(&[], &[TARGETS, ("INPUT_REQUIRE", "frontdoor")]),
        refused(&[], &[TARGETS, ("INPUT_MIN_REDY", "2")]),
        refused(
            &[],
            &[("INPUT_COMMAND", "status"), ("INPUT_MIN_READY", "2")],
        ),
        refused(&[], &[("INPUT_COMMAND", "swich")]),
        refused(&["--min-redy", "1"], &[TARGETS]),
        refused(&[], &[]),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    input `min-ready` is `many`: a whole number is needed |
    input `hold` is `90`: time unit needed, for example 90sec or 90ms; a duration looks like `90s`, `2m` or `1h30m` |
    input `plan` is `yes`: a boolean is `true` or `false` |
    input `require` is `frontdoor` | did you mean `front-door`? | one of endpoints, front-door
    unknown input `min-redy` (INPUT_MIN_REDY) | did you mean `min-ready`? | inputs are listed in the action's reference page
    input `min-ready` is not used by `status` | remove it; it belongs to `switch`
    input `command` is `swich` | did you mean `switch`? | one of `switch`, `status`
    unknown flag `--min-redy` | did you mean `min-ready`?
    input `targets` is required |
    ");
}

#[test]
fn a_secret_is_taken_from_the_environment_only_and_never_shown() {
    let switch = switch(&[], &[TARGETS, ("INPUT_TOKEN", "hunter2")]);
    assert_eq!(switch.token.as_ref().unwrap().expose(), "hunter2");
    assert!(!format!("{switch:?}").contains("hunter2"));
    let message = refused(&["--token", "hunter2"], &[TARGETS]);
    assert!(
        message.contains("INPUT_TOKEN") && !message.contains("hunter2"),
        "{message}"
    );
    let environment: Environment = [("INPUT_TOKEN", "hunter2")].into_iter().collect();
    assert_eq!(inputs::secrets::<Demo>(&environment).len(), 1);
}

#[test]
fn the_action_maps_every_input_and_output() {
    let [(path, action), (_, page)] = switchyard_runner::reference::files::<Demo>();
    assert_eq!(path.to_str(), Some("actions/demo/action.yml"));
    for line in [
        "INPUT_MIN_READY: ${{ inputs.min-ready }}",
        "INPUT_COMMAND: ${{ inputs.command }}",
        "value: ${{ steps.run.outputs.changed }}",
    ] {
        assert!(action.contains(line), "{action}");
    }
    assert!(page.contains("(secret: never a flag)"));
}
