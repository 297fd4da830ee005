//! `health-wait`: waits until a new version is healthy, and runs tests against it.
//!
//! It owns waiting. It refuses to know traffic providers and how objects are applied, and it changes nothing but the
//! deployment record.

mod forward;
mod inputs;
mod report;
mod rollout;
mod warm_up;

use switchyard_runner::{Action, Context, Failure, Output};

use inputs::HealthCommand;
pub use inputs::HealthWait;

impl Action for HealthWait {
    const NAME: &'static str = "health-wait";
    const DEFAULT_COMMAND: Option<&'static str> = Some("rollout");
    const OUTPUTS: &'static [Output] = &[
        Output {
            name: "healthy",
            description: "`true` when everything that was asked for was seen to be healthy, else `false`",
        },
        Output {
            name: "reason",
            description: "Why not, or what was seen, in one sentence",
        },
        Output {
            name: "failed-check",
            description: "Name of the check, workload or command that failed",
        },
        Output {
            name: "report",
            description: "What was seen of every workload and check, as JSON",
        },
        Output {
            name: "elapsed-seconds",
            description: "How long it took, in whole seconds",
        },
        Output {
            name: "restarts",
            description: "Container restarts since the step began",
        },
    ];

    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.command {
            HealthCommand::Rollout(inputs) => rollout::run(*inputs, context).await,
            HealthCommand::Forward(inputs) => forward::run(*inputs, context).await,
        }
    }
}
