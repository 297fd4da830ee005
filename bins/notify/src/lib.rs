//! `notify`: tells people how a deployment goes, over several channels at once.
//!
//! It owns messages and their delivery. It refuses to know clusters, records and what a deployment
//! is: it is told, and it passes on.

mod channel;
mod channels;
mod cut;
mod delivery;
mod event;
mod facts;
mod inputs;
mod markup;
mod mention;
mod plan;
mod report;
mod template;

use switchyard_runner::{Action, Context, Failure, Kind, Output};

pub use inputs::Notify;

impl Action for Notify {
    const NAME: &'static str = "notify";
    const OUTPUTS: &'static [Output] = &[
        Output {
            name: "sent",
            description: "Channels that took the notice, comma-separated",
        },
        Output {
            name: "failed",
            description: "Channels that did not, comma-separated",
        },
        Output {
            name: "skipped",
            description: "Channels for which there was nothing to do, comma-separated",
        },
        Output {
            name: "slack-ts",
            description: "Channel identifier and time stamp of the Slack message (`C…/1790000000.000100`); give it to the next notice as input `slack-ts`",
        },
        Output {
            name: "issue-number",
            description: "Number of the GitHub issue",
        },
        Output {
            name: "issue-url",
            description: "Page of the GitHub issue",
        },
        Output {
            name: "dedup-key",
            description: "Key under which PagerDuty knows the alert",
        },
    ];

    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let plan = plan::Plan::new(self, &context.environment)?;
        if plan.is_dry_run {
            report::preview(&plan, context);
            return Ok(());
        }
        let reports = tokio::select! {
            reports = delivery::deliver(&plan) => reports,
            signal = context.cancel.cancelled() => {
                let text = format!("{} while the notices were being sent; some may have arrived", signal.name());
                return Err(Failure::message(Kind::Cancelled(signal), text));
            }
        };
        report::conclude(&plan, reports, context)
    }
}
