//! The size of the stripped release binaries.

use anyhow::Context as _;

use crate::Bench;
use crate::table::Figure;

/// Mebibytes that a binary may have.
const GOAL: f64 = 7.0;

const BINARIES: [&str; 4] = ["rollout", "health-wait", "traffic-switch", "notify"];

pub(crate) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    BINARIES
        .iter()
        .map(|name| {
            let path = bench.binaries.join(name);
            let bytes = std::fs::metadata(&path)
                .with_context(|| format!("read {}", path.display()))?
                .len();
            #[expect(
                clippy::cast_precision_loss,
                reason = "a file's size fits a float's mantissa"
            )]
            let mebibytes = bytes as f64 / 1024.0 / 1024.0;
            Ok(Figure {
                what: format!("size of `{name}`, stripped"),
                ours: format!("{bytes} bytes"),
                peer: "–".into(),
                measured: mebibytes,
                goal: GOAL,
                unit: "MiB",
            })
        })
        .collect()
}
