//! The outputs of the action, declared once, and the one that every command sets alike.

use switchyard_runner::{Context, Failure, Output};

use crate::ledger::Ledger;

/// Every output of every subcommand.
pub(crate) const ALL: &[Output] = &[
    Output {
        name: "slot",
        description: "Place that was written or read: `blue`, `green`, `canary` or `none`",
    },
    Output {
        name: "previous-slot",
        description: "Side that is live beside it: `blue`, `green`, `stable`, `unslotted` or empty",
    },
    Output {
        name: "applied",
        description: "Number of objects that are in the cluster as planned",
    },
    Output {
        name: "changed",
        description: "Number of objects that are different from before",
    },
    Output {
        name: "backup",
        description: "Path of the backup file",
    },
    Output {
        name: "revision",
        description: "Revision of the workload, or one `workload=revision` a line",
    },
    Output {
        name: "deployment-id",
        description: "Identity of the deployment, for later steps and jobs",
    },
    Output {
        name: "chain",
        description: "How the active deployment, else the live one, reaches its users: `in-place`, `slots`, `canary`, or empty where no record tells",
    },
    Output {
        name: "result",
        description: "How a rolling update ended: `updated`, `undone` (the version before is back), `paused` (there was none) or `planned`",
    },
    Output {
        name: "reason",
        description: "Why a rolling update did not go on",
    },
    Output {
        name: "notices",
        description: "Where notices about the deployment were posted, as JSON by channel; see `remember`",
    },
];

/// Puts the deployment's identity out, where there is one.
pub(crate) fn deployment_id(context: &Context, ledger: &Ledger) -> Result<(), Failure> {
    match ledger.id() {
        Some(id) => context.outputs.set("deployment-id", id),
        None => Ok(()),
    }
}

/// Puts out where notices about the deployment stand: an object, empty where none was remembered.
pub(crate) fn notices(context: &Context, ledger: &Ledger) -> Result<(), Failure> {
    let keys = ledger.record().map(|record| &record.notify_keys);
    let keys = keys.map_or_else(|| serde_json::json!({}), |keys| serde_json::json!(keys));
    context.outputs.set("notices", keys)
}

/// Puts revisions out: the number alone for one workload, one `workload=revision` a line for several.
pub(crate) fn revisions(context: &Context, revisions: &[(String, String)]) -> Result<(), Failure> {
    match revisions {
        [] => Ok(()),
        [(_, revision)] => context.outputs.set("revision", revision),
        several => {
            let lines: Vec<String> = several
                .iter()
                .map(|(workload, revision)| format!("{workload}={revision}"))
                .collect();
            context.outputs.set("revision", lines.join("\n"))
        }
    }
}
