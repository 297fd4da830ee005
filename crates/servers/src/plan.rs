//! Which servers are updated in which order, and whether enough of them stay up: decided before anything
//! is touched, from what every process says and what an earlier run left.

use std::fmt;
use std::str::FromStr;

use crate::fleet::Combined;
use crate::journal::{Journal, Stage};
use crate::{Address, Admin};

/// Servers that have to stay up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinUp {
    /// So many.
    Count(usize),
    /// So many percent of those that were up at the start, rounded up.
    Percent(usize),
}

impl MinUp {
    /// As a number of servers.
    #[must_use]
    pub fn of(self, up_at_start: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (up_at_start * percent).div_ceil(100),
        }
    }
}

impl FromStr for MinUp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "allowed are a number of servers such as `2`, and a share such as `50%`";
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent) if percent <= 100 => Ok(Self::Percent(percent)),
                Ok(_) | Err(_) => Err(wanted().to_owned()),
            },
            None => text
                .parse()
                .map(Self::Count)
                .map_err(|_| wanted().to_owned()),
        }
    }
}

impl fmt::Display for MinUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Servers to update, in this order; all of the backend where there are none.
    pub servers: &'a [String],
    /// Servers out of the traffic that are to be taken for left behind by a run of ours.
    pub adopt: &'a [String],
    /// Servers to update at once, at least 1.
    pub batch: usize,
    /// Servers that have to stay up.
    pub min_up: MinUp,
}

/// One server to update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// Where it answers.
    pub address: Address,
    /// Where an earlier run left it; absent where nothing was done to it.
    pub left_at: Option<Stage>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Servers to update, those of a batch at once.
    pub batches: Vec<Vec<Task>>,
    /// Servers that somebody else took out of the traffic.
    pub left_out: Vec<String>,
    /// Servers that this update has done in an earlier run.
    pub done: Vec<String>,
    /// Servers that were up before the first one was taken out.
    pub up_at_start: usize,
    /// How many have to stay up.
    pub floor: usize,
}

/// Why nothing is begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The backend has no such server.
    #[error("backend has no server `{0}`")]
    Unknown(String),
    /// It is named more than once.
    #[error("server `{0}` is named twice")]
    Twice(String),
    /// It cannot be checked: it answers at a unix socket.
    #[error("server `{0}` has no host and port, so it cannot be checked")]
    NoAddress(String),
    /// Too few would stay up.
    #[error(
        "{stay} of {up} servers would stay up while {} updated, and {floor} have to",
        are(taken)
    )]
    Floor {
        /// Servers that would be out at once.
        taken: Vec<String>,
        /// Servers up before.
        up: usize,
        /// Servers up then.
        stay: usize,
        /// Servers that have to.
        floor: usize,
    },
    /// Every server is out of the traffic, and not by us.
    #[error("every server to update was taken out of the traffic by somebody else")]
    NothingToUpdate,
    /// There is no server.
    #[error("backend has no servers")]
    Empty,
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unknown(_) | Self::Empty => {
                "name servers as they stand after the keyword `server` in the backend"
            }
            Self::Twice(_) => "name each server once, in the order in which they are to be updated",
            Self::NoAddress(_) => "leave it out by naming the other ones in `servers`",
            Self::Floor { .. } => {
                "bring more servers up, or lower `batch` or `min-up`; a server that is not up counts for nothing"
            }
            Self::NothingToUpdate => {
                "put them back (`set server BACKEND/SERVER state ready`), or name in `adopt` those that a run of ours left behind"
            }
        }
    }
}

/// Decides what is to be done.
///
/// # Errors
/// A server cannot be updated so, or too few would stay up.
pub fn plan(servers: &[Combined], journal: &Journal, wish: &Wish<'_>) -> Result<Plan, Refusal> {
    let wanted = wanted(servers, wish)?;
    let mut left_out = Vec::new();
    let mut done = Vec::new();
    let mut tasks = Vec::new();
    for server in wanted {
        let left_at = journal.stage(&server.name);
        let is_out = server.at.iter().any(|one| one.admin != Admin::Ready);
        let is_adopted = wish.adopt.contains(&server.name);
        match left_at {
            Some(Stage::Done) => done.push(server.name.clone()),
            None if is_out && !is_adopted => left_out.push(server.name.clone()),
            Some(Stage::Draining | Stage::Updating | Stage::Verified) | None => {
                let address = server.address.clone();
                tasks.push(Task {
                    name: server.name.clone(),
                    address: address.ok_or_else(|| Refusal::NoAddress(server.name.clone()))?,
                    // Whoever left it there, what runs on it is unknown.
                    left_at: left_at.or(is_out.then_some(Stage::Updating)),
                });
            }
        }
    }
    if tasks.is_empty() && done.is_empty() {
        return Err(Refusal::NothingToUpdate);
    }
    // What is out already costs no capacity, and gives some back.
    tasks.sort_by_key(|task| task.left_at.is_none());
    let used = |server: &&Combined| server.counts() && server.is_used();
    let ours = |server: &&Combined| {
        let is_ours = tasks
            .iter()
            .any(|task| task.name == server.name && task.left_at.is_some());
        server.counts() && !server.is_used() && is_ours
    };
    let up_at_start = match journal.up_at_start {
        0 => servers.iter().filter(used).count() + servers.iter().filter(ours).count(),
        known => known,
    };
    let floor = wish.min_up.of(up_at_start);
    let batches: Vec<Vec<Task>> = tasks
        .chunks(wish.batch.max(1))
        .map(<[Task]>::to_vec)
        .collect();
    rehearse(servers, &batches, floor)?;
    Ok(Plan {
        batches,
        left_out,
        done,
        up_at_start,
        floor,
    })
}

/// Whether enough servers stay up while these are taken out, as things are now.
///
/// # Errors
/// Too few would.
pub fn require_capacity(servers: &[Combined], batch: &[Task], floor: usize) -> Result<(), Refusal> {
    rehearse(servers, std::slice::from_ref(&batch.to_vec()), floor)
}

/// Goes through the batches on paper: those of a batch are out, and up afterwards.
fn rehearse(servers: &[Combined], batches: &[Vec<Task>], floor: usize) -> Result<(), Refusal> {
    let counted = servers.iter().filter(|server| server.counts());
    let mut up: Vec<&str> = counted
        .clone()
        .filter(|server| server.is_used())
        .map(|server| server.name.as_str())
        .collect();
    for batch in batches {
        let is_taken = |name: &str| batch.iter().any(|task| task.name == name);
        let before = up.len();
        up.retain(|name| !is_taken(name));
        if up.len() < floor {
            return Err(Refusal::Floor {
                taken: batch.iter().map(|task| task.name.clone()).collect(),
                up: before,
                stay: up.len(),
                floor,
            });
        }
        let back = counted.clone().map(|server| server.name.as_str());
        up.extend(back.filter(|name| is_taken(name)));
    }
    Ok(())
}

fn wanted<'a>(servers: &'a [Combined], wish: &Wish<'_>) -> Result<Vec<&'a Combined>, Refusal> {
    let find = |name: &String| {
        let mut servers = servers.iter();
        let found = servers.find(|server| server.name == *name);
        found.ok_or_else(|| Refusal::Unknown(name.clone()))
    };
    for name in wish.adopt {
        find(name)?;
    }
    if servers.is_empty() {
        return Err(Refusal::Empty);
    }
    if wish.servers.is_empty() {
        return Ok(servers.iter().collect());
    }
    let mut wanted: Vec<&Combined> = Vec::new();
    for name in wish.servers {
        let server = find(name)?;
        if wanted.iter().any(|known| known.name == *name) {
            return Err(Refusal::Twice(name.clone()));
        }
        wanted.push(server);
    }
    Ok(wanted)
}

fn are(names: &[String]) -> String {
    match names {
        [one] => format!("`{one}` is"),
        several => format!("`{}` are", several.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checks, Server};

    fn server(name: &str, admin: Admin, is_running: bool) -> Combined {
        let address = Some(Address {
            host: "10.0.0.1".to_owned(),
            port: 80,
        });
        Combined {
            name: name.to_owned(),
            address: address.clone(),
            at: vec![Server {
                name: name.to_owned(),
                address,
                admin,
                is_running,
                is_backup: name.starts_with("backup"),
                checks: Checks::Passing,
                status: String::new(),
                weight: 1,
                own_weight: 1,
                sessions: 0,
                queued: 0,
            }],
        }
    }

    fn up(names: &[&str]) -> Vec<Combined> {
        let each = names.iter();
        each.map(|name| server(name, Admin::Ready, true)).collect()
    }

    fn wish(batch: usize, min_up: &str) -> Wish<'static> {
        Wish {
            servers: &[],
            adopt: &[],
            batch,
            min_up: min_up.parse().unwrap(),
        }
    }

    fn fresh() -> Journal {
        Journal::new("web", "1")
    }

    fn names(plan: &Plan) -> Vec<Vec<&str>> {
        let mut batches = Vec::new();
        for batch in &plan.batches {
            batches.push(batch.iter().map(|task| task.name.as_str()).collect());
        }
        batches
    }

    #[test]
    fn capacity_below_the_floor_is_refused_before_anything_is_touched() {
        let four = up(&["web1", "web2", "web3", "web4"]);
        for (batch, min_up, is_held) in [
            (1, "3", true),
            (1, "4", false),
            (2, "50%", true),
            (2, "51%", false),
            (3, "50%", false),
            (1, "75%", true),
            (1, "76%", false),
            (4, "0", true),
        ] {
            let plan = plan(&four, &fresh(), &wish(batch, min_up));
            assert_eq!(plan.is_ok(), is_held, "{batch} {min_up}: {plan:?}");
        }
    }

    #[test]
    fn servers_that_are_down_or_backups_count_for_no_capacity() {
        let mut servers = up(&["web1", "web2", "backup1"]);
        servers.push(server("web3", Admin::Ready, false));
        let plan = plan(&servers, &fresh(), &wish(1, "1")).unwrap();
        assert_eq!((plan.up_at_start, plan.floor), (2, 1));
        assert!(super::plan(&servers, &fresh(), &wish(1, "2")).is_err());
    }

    #[test]
    fn what_somebody_else_took_out_is_left_and_what_we_took_out_comes_first() {
        let mut servers = up(&["web1", "web2", "web3"]);
        servers.push(server("web4", Admin::Maint, true));
        servers.push(server("web5", Admin::Drain, true));
        let mut journal = fresh();
        journal.set("web5", Stage::Updating);
        journal.set("web2", Stage::Done);
        let plan = plan(&servers, &journal, &wish(1, "50%")).unwrap();
        assert_eq!(plan.left_out, ["web4"]);
        assert_eq!(plan.done, ["web2"]);
        assert_eq!(names(&plan), [["web5"], ["web1"], ["web3"]]);
        assert_eq!(plan.up_at_start, 4);
    }

    #[test]
    fn a_server_that_only_one_process_has_drained_is_somebody_elses_as_well() {
        let mut servers = up(&["web1", "web2"]);
        let drained = server("web2", Admin::Drain, true);
        servers[1].at.extend(drained.at);
        let plan = plan(&servers, &fresh(), &wish(1, "0")).unwrap();
        assert_eq!(plan.left_out, ["web2"]);
    }

    #[test]
    fn a_drained_server_is_taken_up_when_it_is_named() {
        let mut servers = up(&["web1"]);
        servers.push(server("web2", Admin::Drain, true));
        let adopt = ["web2".to_owned()];
        let wish = Wish {
            adopt: &adopt,
            ..wish(1, "0")
        };
        let plan = plan(&servers, &fresh(), &wish).unwrap();
        assert_eq!(names(&plan), [["web2"], ["web1"]]);
        assert_eq!(plan.batches[0][0].left_at, Some(Stage::Updating));
    }

    #[test]
    fn servers_go_in_the_order_in_which_they_are_named_and_never_twice() {
        let servers = up(&["web1", "web2", "web3"]);
        let named = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let of = |names: &[String]| {
            let wish = Wish {
                servers: names,
                ..wish(1, "0")
            };
            plan(&servers, &fresh(), &wish)
        };
        let plan = of(&named(&["web3", "web1"])).unwrap();
        assert_eq!(names(&plan), [["web3"], ["web1"]]);
        assert_eq!(
            of(&named(&["web1", "web1"])),
            Err(Refusal::Twice("web1".to_owned()))
        );
        assert_eq!(
            of(&named(&["web9"])),
            Err(Refusal::Unknown("web9".to_owned()))
        );
    }

    #[test]
    fn nothing_to_update_is_no_success() {
        let out = [server("web1", Admin::Maint, true)];
        let refusal = plan(&out, &fresh(), &wish(1, "0")).unwrap_err();
        assert_eq!(refusal, Refusal::NothingToUpdate);
        assert_eq!(plan(&[], &fresh(), &wish(1, "0")), Err(Refusal::Empty));
    }

    #[test]
    fn the_share_is_of_what_was_up_when_the_update_began() {
        let servers = up(&["web1", "web2"]);
        let mut journal = fresh();
        journal.up_at_start = 4;
        let refusal = plan(&servers, &journal, &wish(1, "50%")).unwrap_err();
        assert!(
            matches!(
                refusal,
                Refusal::Floor {
                    stay: 1,
                    floor: 2,
                    ..
                }
            ),
            "{refusal}"
        );
    }

    #[test]
    fn a_share_or_a_number_and_nothing_else() {
        assert_eq!("2".parse(), Ok(MinUp::Count(2)));
        assert_eq!("50%".parse(), Ok(MinUp::Percent(50)));
        for nonsense in ["", "-1", "101%", "half", "1.5", "%"] {
            assert!(nonsense.parse::<MinUp>().is_err(), "{nonsense}");
        }
    }
}
