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
        description: "`true` when everything was checked and nothing speaks against it; `false` otherwise",
    },
    Output {
        name: "pending",
        description: "Number of migrations that would run (`plan`)",
    },
    Output {
        name: "digest",
        description: "What an approval is bound to: migrations, the live schema and the tool, without measurements (`plan`)",
    },
    Output {
        name: "applied",
        description: "Number of migrations that were applied (`run`)",
    },
    Output {
        name: "backup",
        description: "What names the backup, with the digest of its manifest; one a line for several databases (`backup`, `verify`)",
    },
    Output {
        name: "copies",
        description: "Restored copies that were kept, for the input of that name of `rehearse`: `DATABASE=COPY`, one a line (`backup`, `verify`, with `keep-copy`)",
    },
    Output {
        name: "verified",
        description: "`true` when everything is applied and every proof held (`run`), when no row is left (`backfill`), when the backup was restored and compared (`backup`, `verify`); `unverifiable` when it was not, `false` when it differs",
    },
    Output {
        name: "restored",
        description: "`true` when a backup is in the place of the database (`restore`, `run`)",
    },
    Output {
        name: "report",
        description: "Path of the report",
    },
    Output {
        name: "rows",
        description: "Number of rows that were changed so far (`backfill`)",
    },
    Output {
        name: "phase",
        description: "Latest phase of what would run: `none`, `neutral`, `expand`, `migrate`, `contract` or `unknown` (`phases`)",
    },
    Output {
        name: "rehearsal",
        description: "Path of the rehearsal, JSON, which `run` compares with (`rehearse`)",
    },
];
