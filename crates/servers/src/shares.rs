//! Which weights give a group of servers a share of the traffic. Pure arithmetic over the weights that the
//! configuration gives, which say how much one server bears beside another.

use std::collections::BTreeMap;

use crate::fleet::Combined;

/// The largest weight of HAProxy.
const LARGEST: u32 = 256;
/// How far a share may be from what was asked for, in percent points.
const TOLERANCE: f64 = 0.5;

/// What a group is to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// So many percent of the traffic together.
    Percent(u32),
    /// As the configuration has it.
    Configured,
}

/// Weights for every server of a backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// By server.
    pub by_server: BTreeMap<String, u16>,
    /// The percentage that the group gets while the same servers are up; absent while none is.
    pub share: Option<f64>,
}

/// Why no weights give the share.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoWeights {
    /// The backend has no such server.
    #[error("backend has no server `{0}`")]
    Unknown(String),
    /// No server of the group is used, so it would get nothing whatever its weight.
    #[error("none of the servers that are to get {0} % of the traffic is up")]
    GroupIsDown(u32),
    /// No other server is used, so the group gets everything.
    #[error("no server is up beside those that are to get {0} % of the traffic")]
    RestIsDown(u32),
    /// Weights of 1 to 256 are too coarse.
    #[error("weights of at most 256 cannot give {asked} % here: the nearest is {nearest:.1} %")]
    TooCoarse {
        /// What was asked for.
        asked: u32,
        /// The nearest share that can be given.
        nearest: f64,
    },
}

impl NoWeights {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "server names stand after the keyword `server` in the backend",
            Self::GroupIsDown(_) | Self::RestIsDown(_) => {
                "bring them up first: a server that is down, drained or in maintenance gets nothing"
            }
            Self::TooCoarse { .. } => {
                "ask for another share, or name more servers; the weights in the configuration should be small numbers"
            }
        }
    }
}

/// The weights that give the servers named in `group` what is wanted.
///
/// # Errors
/// None do.
pub fn weights(
    servers: &[Combined],
    group: &[String],
    wanted: Wanted,
) -> Result<Weights, NoWeights> {
    let is_known = |name: &&String| servers.iter().any(|server| server.name == **name);
    if let Some(unknown) = group.iter().find(|name| !is_known(name)) {
        return Err(NoWeights::Unknown(unknown.clone()));
    }
    let is_member = |server: &Combined| group.contains(&server.name);
    let unit = servers.iter().map(own).fold(0, greatest_divisor).max(1);
    let sum = |of_group: bool| -> u32 {
        let up = servers.iter().filter(|one| one.counts() && one.is_up());
        let of = up.filter(|one| is_member(one) == of_group);
        of.map(|one| own(one) / unit).sum()
    };
    let highest = |of_group: bool| -> u32 {
        let of = servers.iter().filter(|one| is_member(one) == of_group);
        of.map(|one| own(one) / unit).max().unwrap_or(0).max(1)
    };
    let (ours, rest) = (sum(true), sum(false));
    let factors = match wanted {
        Wanted::Configured => (unit, unit),
        Wanted::Percent(0) if rest == 0 => return Err(NoWeights::RestIsDown(0)),
        Wanted::Percent(asked) if asked > 0 && ours == 0 => {
            return Err(NoWeights::GroupIsDown(asked));
        }
        Wanted::Percent(asked) if asked < 100 && rest == 0 => {
            return Err(NoWeights::RestIsDown(asked));
        }
        Wanted::Percent(0) => (0, unit),
        Wanted::Percent(100) => (unit, 0),
        Wanted::Percent(asked) => divide(
            asked,
            (ours, LARGEST / highest(true)),
            (rest, LARGEST / highest(false)),
        )?,
    };
    let weight = |server: &Combined| {
        let factor = if is_member(server) {
            factors.0
        } else {
            factors.1
        };
        let weight = own(server) / unit * factor;
        (server.name.clone(), u16::try_from(weight).unwrap_or(0))
    };
    Ok(Weights {
        by_server: servers.iter().map(weight).collect(),
        share: share(ours * factors.0, rest * factors.1),
    })
}

/// The factors for the sums of both parts, each with its largest one, that come nearest; the smallest of
/// those that come as near.
fn divide(
    asked: u32,
    (ours, most_ours): (u32, u32),
    (rest, most_rest): (u32, u32),
) -> Result<(u32, u32), NoWeights> {
    let mut best: Option<((u32, u32), f64, f64)> = None;
    for factor_rest in 1..=most_rest {
        let part = |percent: u32, sum: u32| f64::from(percent) * f64::from(sum);
        let exact = f64::from(factor_rest) * part(asked, rest) / part(100 - asked, ours);
        // Between 1 and 256, so no number is lost.
        let factor_ours = exact.round().clamp(1.0, f64::from(most_ours)) as u32;
        let Some(share) = share(ours * factor_ours, rest * factor_rest) else {
            continue;
        };
        let error = (share - f64::from(asked)).abs();
        if best.is_none_or(|(_, _, least)| error < least - 1e-9) {
            best = Some(((factor_ours, factor_rest), share, error));
        }
    }
    match best {
        Some((factors, _, error)) if error <= TOLERANCE => Ok(factors),
        Some((_, nearest, _)) => Err(NoWeights::TooCoarse { asked, nearest }),
        None => Err(NoWeights::GroupIsDown(asked)),
    }
}

/// Percent of the first part; absent where both are nothing.
fn share(ours: u32, rest: u32) -> Option<f64> {
    let whole = ours + rest;
    (whole > 0).then(|| f64::from(ours) * 100.0 / f64::from(whole))
}

/// A server's weight in the configuration.
fn own(server: &Combined) -> u32 {
    server.at.first().map_or(0, |one| one.own_weight)
}

fn greatest_divisor(one: u32, other: u32) -> u32 {
    if other == 0 {
        one
    } else {
        greatest_divisor(other, one % other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Admin, Checks, Server};

    fn servers(own: &[(&str, u32)]) -> Vec<Combined> {
        let combined = |(name, own_weight): &(&str, u32)| Combined {
            name: (*name).to_owned(),
            address: None,
            at: vec![Server {
                name: (*name).to_owned(),
                address: None,
                admin: Admin::Ready,
                is_running: !name.starts_with("down"),
                is_backup: false,
                checks: Checks::Passing,
                status: String::new(),
                weight: *own_weight,
                own_weight: *own_weight,
                sessions: 0,
                queued: 0,
            }],
        };
        own.iter().map(combined).collect()
    }

    fn given(own: &[(&str, u32)], group: &[&str], percent: u32) -> Result<Weights, NoWeights> {
        let group: Vec<String> = group.iter().map(|name| (*name).to_owned()).collect();
        weights(&servers(own), &group, Wanted::Percent(percent))
    }

    const FOUR: &[(&str, u32)] = &[("a", 1), ("b", 1), ("c", 1), ("d", 1)];

    #[test]
    fn every_share_of_one_server_in_four_is_given_within_half_a_point() {
        for percent in 0..=100 {
            let given = given(FOUR, &["a"], percent).unwrap();
            let share = given.share.unwrap();
            assert!(
                (share - f64::from(percent)).abs() <= TOLERANCE,
                "{percent}: {given:?}"
            );
            assert!(
                given.by_server.values().all(|weight| *weight <= 256),
                "{given:?}"
            );
        }
        assert_eq!(given(FOUR, &["a"], 1).unwrap().share, Some(1.0));
        assert_eq!(given(FOUR, &["a"], 0).unwrap().by_server["a"], 0);
        assert_eq!(given(FOUR, &["a"], 100).unwrap().by_server["b"], 0);
    }

    #[test]
    fn servers_keep_their_proportion_within_the_group_and_the_rest() {
        let weights = given(&[("a", 100), ("b", 200), ("c", 100)], &["c"], 50).unwrap();
        let by_server = weights.by_server;
        assert_eq!(
            (by_server["a"] * 2, by_server["c"]),
            (by_server["b"], by_server["a"] * 3)
        );
    }

    #[test]
    fn a_share_that_nobody_could_give_is_refused() {
        let down = [("down-a", 1), ("b", 1)];
        assert_eq!(
            given(&down, &["down-a"], 10),
            Err(NoWeights::GroupIsDown(10))
        );
        assert_eq!(given(&down, &["b"], 10), Err(NoWeights::RestIsDown(10)));
        assert_eq!(given(&down, &["b"], 0), Err(NoWeights::RestIsDown(0)));
        assert!(given(&down, &["b"], 100).is_ok());
        assert_eq!(
            given(FOUR, &["e"], 1),
            Err(NoWeights::Unknown("e".to_owned()))
        );
        let uneven = [("a", 1), ("b", 255), ("c", 256)];
        let refusal = given(&uneven, &["a"], 50).unwrap_err();
        assert!(
            matches!(refusal, NoWeights::TooCoarse { asked: 50, .. }),
            "{refusal}"
        );
    }

    #[test]
    fn the_configuration_gives_back_what_it_says() {
        let own = [("a", 100), ("b", 50)];
        let back = weights(&servers(&own), &[], Wanted::Configured).unwrap();
        assert_eq!((back.by_server["a"], back.by_server["b"]), (100, 50));
    }
}
