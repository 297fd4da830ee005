//! The size of the stripped release binaries.

use anyhow::Context as _;

use crate::Bench;
use crate::table::Figure;

/// Each binary, and the mebibytes that it may have.
const BINARIES: [(&str, f64); 7] = [
    ("rollout", 7.0),
    ("health-wait", 7.0),
    ("traffic-switch", 7.0),
    ("release-watch", 7.0),
    ("notify", 7.0),
    ("oidc-login", 5.0),
    ("migrate-gate", 10.0),
];

pub(crate) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    BINARIES
        .iter()
        .map(|(name, goal)| {
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
                goal: *goal,
                unit: "MiB",
            })
        })
        .collect()
}
