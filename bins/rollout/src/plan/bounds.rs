//! How many pods may be too many and too few during an update, as Kubernetes' controllers resolve it. Pure.

use serde_json::Value;

/// Kubernetes' own surge and unavailability of a Deployment.
pub(crate) const DEFAULT_SHARE: &str = "25%";

/// How many pods of a Deployment may be too many and too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Pods on top of its size.
    pub surge: u64,
    /// Pods that may be missing.
    pub unavailable: u64,
}

/// As the Deployment controller resolves them: surge up, unavailability down, and never both to nothing.
pub(crate) fn bounds(deployment: &Value, size: u64) -> Bounds {
    let field = |name: &str| deployment.pointer(&format!("/spec/strategy/rollingUpdate/{name}"));
    let surge = resolved(field("maxSurge"), DEFAULT_SHARE, size, Rounding::Up);
    let unavailable = resolved(field("maxUnavailable"), DEFAULT_SHARE, size, Rounding::Down);
    Bounds {
        surge,
        unavailable: if surge == 0 && unavailable == 0 {
            1
        } else {
            unavailable.min(size)
        },
    }
}

/// Which way a part of a pod goes.
#[derive(Clone, Copy)]
pub(crate) enum Rounding {
    Up,
    Down,
}

/// A number of pods, or a percentage of them.
pub(crate) fn resolved(value: Option<&Value>, default: &str, size: u64, rounding: Rounding) -> u64 {
    if let Some(pods) = value.and_then(Value::as_u64) {
        return pods;
    }
    let text = value.and_then(Value::as_str).unwrap_or(default);
    let percent: u64 = text.trim_end_matches('%').parse().unwrap_or(0);
    match rounding {
        Rounding::Up => (percent * size).div_ceil(100),
        Rounding::Down => percent * size / 100,
    }
}
