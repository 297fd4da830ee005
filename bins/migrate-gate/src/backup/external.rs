//! A backup that others make: what of it is proved, and what is only attested.

use std::time::Duration;

use jiff::Timestamp;
use switchyard_postgres::ConnectionUrl;
use switchyard_runner::child::{Child, ChildResult};
use switchyard_runner::{Context, Failure, Kind};

use super::inputs::ExternalArgs;
use super::proof::Proof;
use super::report::BackupReport;

/// Longest id that is taken.
const LONGEST_ID: usize = 500;

/// Has the backup made, or takes the id of one that was made.
///
/// # Errors
/// Kind input when neither is given; kind remote when the command fails or prints no id.
pub(super) async fn back_up(
    args: &ExternalArgs,
    url: &ConnectionUrl,
    context: &Context,
) -> Result<BackupReport, Failure> {
    let (id, proved) = match (&args.external_command, &args.external_id) {
        (Some(command), None) => {
            let begin = Timestamp::now();
            let id = command_id(command, args.external_time_limit, url, context).await?;
            let end = Timestamp::now();
            let proved = format!(
                "the command ended with 0 between {begin:.0} and {end:.0}, and named the backup"
            );
            (id, proved)
        }
        (None, Some(id)) => (checked(id)?, "nothing: the id was given".to_owned()),
        (None, None) | (Some(_), Some(_)) => {
            return Err(Failure::message(
                Kind::Input,
                "`backup-kind: external` needs one of `external-command` and `external-id`",
            ));
        }
    };
    let reason = format!(
        "proved: {proved}; only attested: that backup `{id}` exists, is complete, and can be restored"
    );
    Ok(BackupReport::of_external(
        url,
        format!("external:{id}"),
        Proof::Unverifiable {
            reason,
            hint: Some("restore the provider's backups regularly, and compare".to_owned()),
        },
    ))
}

async fn command_id(
    command: &str,
    limit: Duration,
    url: &ConnectionUrl,
    context: &Context,
) -> Result<String, Failure> {
    let child = Child::script(command, limit)
        .variable("SWITCHYARD_DATABASE", url.database())
        .variable("SWITCHYARD_SERVER", url.server());
    let (ended, output) = child.capture(&context.environment, &context.cancel).await?;
    let lines: Vec<&str> = output
        .lines()
        .chain(ended.last_lines.iter().map(String::as_str))
        .collect();
    context
        .console
        .untrusted("external-command:", &lines.join("\n"));
    if !ended.result.is_success() {
        let how = match ended.result {
            ChildResult::Exited(code) => format!("ended with {code}"),
            ChildResult::Killed => "was killed".to_owned(),
            ChildResult::TimedOut(limit) => format!("took longer than {limit:?}"),
        };
        return Err(Failure::message(
            Kind::Remote,
            format!("`external-command` {how}"),
        ));
    }
    let last = output.lines().map(str::trim).rfind(|line| !line.is_empty());
    let Some(id) = last else {
        let text = "`external-command` printed no id of a backup";
        return Err(Failure::message(Kind::Remote, text).hint("print it as the last line"));
    };
    checked(id)
}

fn checked(id: &str) -> Result<String, Failure> {
    let is_id = !id.is_empty()
        && id.len() <= LONGEST_ID
        && !id.chars().any(|c| c.is_control() || c.is_whitespace());
    if is_id {
        Ok(id.to_owned())
    } else {
        let text = format!(
            "the id of an external backup has 1 to {LONGEST_ID} characters, none of them blank"
        );
        Err(Failure::message(Kind::Input, text))
    }
}
