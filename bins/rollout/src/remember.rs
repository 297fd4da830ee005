//! `rollout remember`: where notices about this run's deployment stand, kept in its record, so that
//! whoever tells the next one brings the same message up to date. Takes no lease and moves no phase.

use std::str::FromStr;

use k8s_openapi::api::core::v1::ConfigMap;
use switchyard_cluster::access::Permission;
use switchyard_cluster::{Operation, Verb};
use switchyard_deployment::{deployment_id, record_failure};
use switchyard_record::Store;
use switchyard_runner::{Context, Failure, Kind};

use crate::inputs::RememberArgs;
use crate::opening::Opened;
use crate::timing::within;

/// Most characters of a key: the longest known one, of a Slack message, has about 30.
const LONGEST_KEY: usize = 255;

/// Where a notice stands: `slack=C012AB3CD/1790000000.000100`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoticeKey {
    channel: String,
    key: String,
}

impl FromStr for NoticeKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_channel = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        };
        let is_key = |key: &str| {
            (1..=LONGEST_KEY).contains(&key.len()) && key.chars().all(|c| c.is_ascii_graphic())
        };
        match text.split_once('=') {
            Some((channel, key)) if is_channel(channel) && is_key(key) => Ok(Self {
                channel: channel.to_owned(),
                key: key.to_owned(),
            }),
            Some(_) | None => Err(format!(
                "a notice is `CHANNEL=KEY`, such as `slack=C012AB3CD/1790000000.000100`, with a key of at most {LONGEST_KEY} characters"
            )),
        }
    }
}

/// Writes the keys into the record of this run's latest deployment.
///
/// # Errors
/// Bad input, a run that has no deployment, or a cluster that fails.
pub(crate) async fn run(args: RememberArgs, context: &mut Context) -> Result<(), Failure> {
    if args.notices.is_empty() {
        return Err(Failure::message(Kind::Input, "input `notices` is required")
            .hint("for example `slack=` and the output `slack-ts` of the notice"));
    }
    within(args.timeout, async {
        let opened = Opened::to_read(context, &args.deployment, args.timeout).await?;
        let id = deployment_id(&args.deployment, &context.environment, &opened.connection)?;
        opened.check(permissions(opened.namespace())).await?;
        let store = Store::new(opened.cluster().client(), opened.namespace());
        let fail = |error| record_failure(error, context.cancel.requested());
        let Some(found) = store.latest_of_run(&id).await.map_err(fail)? else {
            let text = format!("run {} has no deployment of `{}` to remember notices of", id.run_id(), id.application());
            return Err(Failure::message(Kind::Gate, text)
                .hint("the step that claims the application (`rollout backup` or `rollout apply`) comes first"));
        };
        let id = found.record.id;
        for NoticeKey { channel, key } in args.notices.iter() {
            store.remember_notice(&id, channel, key).await.map_err(fail)?;
            context
                .console
                .info(format!("the notice of channel {channel} stands at {key}"));
        }
        context.outputs.set("deployment-id", &id)
    })
    .await
}

fn permissions(namespace: &str) -> Vec<Permission> {
    [Verb::Get, Verb::Update]
        .map(|verb| Permission::to(Operation::on::<ConfigMap>(verb, namespace)))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_names_its_channel_and_one_key() {
        let parsed: NoticeKey = "slack=C012AB3CD/1790000000.000100".parse().unwrap();
        assert_eq!(
            (parsed.channel.as_str(), parsed.key.as_str()),
            ("slack", "C012AB3CD/1790000000.000100")
        );
        for wrong in [
            "",
            "slack",
            "slack=",
            "=key",
            "Slack=key",
            "slack=two words",
            "slack=line\nbreak",
            &format!("slack={}", "x".repeat(LONGEST_KEY + 1)),
        ] {
            assert!(wrong.parse::<NoticeKey>().is_err(), "{wrong}");
        }
    }
}
