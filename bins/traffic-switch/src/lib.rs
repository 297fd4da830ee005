//! `traffic-switch`: moves all or part of the traffic to another version, and back.
//!
//! It owns how the inputs become a switch, and what is told of it. It refuses to know how a
//! provider is written and in which order things happen: that is the traffic crate's.

mod abandon;
mod access;
mod conclude;
mod held;
mod inputs;
mod leg;
mod outcome;
mod plan;
mod rescue;
mod rollback;
mod run;
mod servers;
mod sides;
mod status;
mod switch;
mod take_back;
mod tracked;
mod undo;
mod undoing;

use switchyard_runner::{Action, Context, Failure, Output};

use inputs::Command;
pub use inputs::TrafficSwitch;

impl Action for TrafficSwitch {
    const NAME: &'static str = "traffic-switch";
    const DEFAULT_COMMAND: Option<&'static str> = Some("switch");
    const OUTPUTS: &'static [Output] = &[
        Output {
            name: "changed",
            description: "`true` when any route was written by this step",
        },
        Output {
            name: "active",
            description: "Side with the traffic now: `blue`, `green`, `stable`, `canary` or `unslotted`",
        },
        Output {
            name: "previous",
            description: "Side that had the traffic before",
        },
        Output {
            name: "weights",
            description: "Percent by side, as JSON; by target where they differ; of `server-weights` the weight by server",
        },
        Output {
            name: "verified",
            description: "How far it was verified: `none`, `endpoints`, `data-plane` or `front-door`",
        },
        Output {
            name: "evidence",
            description: "What was seen of every target and proxy, as JSON",
        },
        Output {
            name: "probes",
            description: "Requests sent to `verify-url` while the step ran",
        },
        Output {
            name: "lost",
            description: "Those of them without a good answer",
        },
        Output {
            name: "loss-bound",
            description: "Upper bound of the share of lost requests at 95 % confidence, 0 to 1",
        },
        Output {
            name: "duration-ms",
            description: "How long the step took, in milliseconds",
        },
        Output {
            name: "deployment-id",
            description: "Identity of the deployment that was worked on",
        },
        Output {
            name: "notices",
            description: "Where notices about the deployment were posted, as JSON by channel (`rescue`)",
        },
        Output {
            name: "result",
            description: "`switched`, `holding`, `planned`, `rolled-back`, `through-canary`, `sheltered`, `abandoned`, `concluded`, `updated`, `weighted`, `nothing-to-do` or `failed`",
        },
        Output {
            name: "updated",
            description: "Servers with the new version, as JSON (`servers`)",
        },
        Output {
            name: "failed",
            description: "Servers whose update failed or was stopped, as JSON (`servers`)",
        },
        Output {
            name: "remaining",
            description: "Servers that nothing was done to, as JSON (`servers`)",
        },
    ];

    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.command {
            Command::Switch(inputs) => switch::run(*inputs, context).await,
            Command::Status(inputs) => status::run(*inputs, context).await,
            Command::Rollback(inputs) => rollback::run(*inputs, context).await,
            Command::Rescue(inputs) => rescue::run(*inputs, context).await,
            Command::Servers(inputs) => servers::run(*inputs, context).await,
            Command::ServerWeights(inputs) => servers::run_weights(*inputs, context).await,
        }
    }
}
