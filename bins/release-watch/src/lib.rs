//! `release-watch`: watches a new version under traffic and says whether it may stay.
//!
//! It owns what is measured and when, and what is told of it; the verdict is `switchyard-verdict`'s. It refuses to
//! know traffic providers and how objects are applied, and it changes nothing but the deployment record and, where it is
//! asked to, the size of one workload: what else follows from a verdict is an output, or a command of the user's.

mod ask;
mod chart;
mod checklist;
mod front_door;
mod inputs;
mod leave;
mod plan;
mod pods;
mod presets;
mod report;
mod run;
mod running;
mod samples;
mod scale_up;
mod watch;
mod written;

use switchyard_runner::{Action, Context, Failure, Output};

pub use inputs::ReleaseWatch;

impl Action for ReleaseWatch {
    const NAME: &'static str = "release-watch";
    const OUTPUTS: &'static [Output] = &[
        Output {
            name: "verdict",
            description: "`pass`, `fail`, `no-data` or `error`",
        },
        Output {
            name: "reason",
            description: "What decided it, in one sentence: what was measured, on how much, against which limit",
        },
        Output {
            name: "action",
            description: "What is to be done: `none`, `alert`, `scale-up`, `circuit-break` or `rollback`",
        },
        Output {
            name: "evidence",
            description: "Path of a file with every judgement and sample, one JSON object a line",
        },
        Output {
            name: "chart",
            description: "Path of an SVG with shares, rates, errors and latencies by version",
        },
        Output {
            name: "checks",
            description: "What was said of every check, as JSON",
        },
    ];

    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        run::run(self, context).await
    }
}
