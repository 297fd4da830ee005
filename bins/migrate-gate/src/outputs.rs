//! The outputs of the action, declared once.

use switchyard_runner::Output;

/// Every output of every command.
pub(crate) const ALL: &[Output] = &[
    Output {
        name: "findings",
        description: "Number of findings that nothing allows",
    },
    Output {
        name: "safe",
        description: "`true` when every statement is known and no finding is an error; `false` otherwise",
    },
];
