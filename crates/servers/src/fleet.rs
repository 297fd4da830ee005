//! All processes of the load balancer together: asked at once, compared, counted N of M. A single one that
//! is silent or says something else is never left out of the count.

use crate::{Address, Admin, Look, Process, Server, Servers, ServersError};

/// Every process that sends traffic to the servers of a backend.
pub struct Fleet {
    members: Vec<Box<dyn Servers>>,
    backend: String,
}

/// What one process said, or why it said nothing.
#[derive(Debug)]
pub struct Seen {
    /// Where it was asked.
    pub place: String,
    /// What it said.
    pub look: Result<Look, ServersError>,
}

/// A server as every process sees it, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combined {
    /// Its name.
    pub name: String,
    /// Where it answers.
    pub address: Option<Address>,
    /// As each process sees it.
    pub at: Vec<Server>,
}

/// What every process of a fleet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Who they are.
    pub processes: Vec<Process>,
    /// The servers, in the order of the first process.
    pub servers: Vec<Combined>,
}

/// Why the processes make no fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// One of them could not be asked.
    #[error(transparent)]
    Asked(#[from] ServersError),
    /// Two places lead to one process: it would be counted twice.
    #[error("`{one}` and `{other}` are the same process")]
    SameProcess {
        /// A place.
        one: String,
        /// The other one.
        other: String,
    },
    /// One of them has a server that another has not, or has it elsewhere.
    #[error("server `{server}` is {here} at `{one}` and {there} at `{other}`")]
    Different {
        /// The server.
        server: String,
        /// A place.
        one: String,
        /// What it says.
        here: String,
        /// The other place.
        other: String,
        /// What that says.
        there: String,
    },
    /// A process that is about to end: another one has its ports by now.
    #[error("the process at `{place}` is stopping: another one takes the traffic")]
    Stopping {
        /// Its place.
        place: String,
    },
}

impl FleetError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Asked(error) => error.hint(),
            Self::SameProcess { .. } => "name every process once in `haproxy-api`",
            Self::Different { .. } => {
                "every HAProxy needs the same servers in this backend; reload those with an older configuration"
            }
            Self::Stopping { .. } => {
                "give the socket of the new process; after a reload it has the same path"
            }
        }
    }
}

impl Fleet {
    /// The fleet of these processes.
    #[must_use]
    pub fn new(members: Vec<Box<dyn Servers>>, backend: impl Into<String>) -> Self {
        Self {
            members,
            backend: backend.into(),
        }
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// How many processes there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Asks every process at once.
    pub async fn look(&self) -> Vec<Seen> {
        let asked = self.members.iter().map(async |member| Seen {
            place: member.place(),
            look: member.look(&self.backend).await,
        });
        futures::future::join_all(asked).await
    }

    /// Whether every process lets its servers be changed.
    ///
    /// # Errors
    /// One would not, or cannot be asked.
    pub async fn require_control(&self) -> Result<(), ServersError> {
        let asked = self.members.iter().map(|member| member.require_control());
        futures::future::try_join_all(asked).await.map(|_| ())
    }

    /// Tells every process at once; gives the answer of each, in order.
    pub async fn set_admin(&self, server: &str, admin: Admin) -> Vec<Result<(), ServersError>> {
        let members = 0..self.members.len();
        let told = members.map(|member| self.set_admin_at(member, server, admin));
        futures::future::join_all(told).await
    }

    /// Gives a server a weight at every process at once; gives the answer of each, in order.
    pub async fn set_weight(&self, server: &str, weight: u16) -> Vec<Result<(), ServersError>> {
        let members = self.members.iter();
        let told = members.map(|member| member.set_weight(&self.backend, server, weight));
        futures::future::join_all(told).await
    }

    /// Tells one process, by its place in the order.
    ///
    /// # Errors
    /// It refuses, or cannot be asked.
    pub async fn set_admin_at(
        &self,
        member: usize,
        server: &str,
        admin: Admin,
    ) -> Result<(), ServersError> {
        match self.members.get(member) {
            Some(member) => member.set_admin(&self.backend, server, admin).await,
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let places: Vec<String> = self.members.iter().map(|one| one.place()).collect();
        f.debug_struct("Fleet")
            .field("backend", &self.backend)
            .field("members", &places)
            .finish()
    }
}

impl Whole {
    /// Puts together what every process said.
    ///
    /// # Errors
    /// One said nothing, one is there twice or about to end, or they disagree about which servers there are.
    pub fn of(seen: Vec<Seen>) -> Result<Self, FleetError> {
        let mut looks = Vec::new();
        for Seen { place, look } in seen {
            looks.push((place, look?));
        }
        refuse_no_fleet(&looks)?;
        let servers = looks.first().map_or(&[][..], |(_, look)| &look.servers);
        let combined = servers.iter().map(|server| Combined {
            name: server.name.clone(),
            address: server.address.clone(),
            at: looks
                .iter()
                .filter_map(|(_, look)| look.server(&server.name).cloned())
                .collect(),
        });
        Ok(Self {
            servers: combined.collect(),
            processes: looks.into_iter().map(|(_, look)| look.process).collect(),
        })
    }

    /// The server of this name.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&Combined> {
        self.servers.iter().find(|server| server.name == name)
    }
}

fn refuse_no_fleet(looks: &[(String, Look)]) -> Result<(), FleetError> {
    for (number, (place, look)) in looks.iter().enumerate() {
        if look.process.is_stopping {
            return Err(FleetError::Stopping {
                place: place.clone(),
            });
        }
        for (other, before) in &looks[..number] {
            if before.process.is_same(&look.process) {
                return Err(FleetError::SameProcess {
                    one: other.clone(),
                    other: place.clone(),
                });
            }
            // Both ways: either may know one more.
            differs((other, before), (place, look))?;
            differs((place, look), (other, before))?;
        }
    }
    Ok(())
}

fn differs(
    (one, here): (&String, &Look),
    (other, there): (&String, &Look),
) -> Result<(), FleetError> {
    let shown = |server: Option<&Server>| match server {
        None => "unknown".to_owned(),
        Some(server) => server
            .address
            .as_ref()
            .map_or_else(|| "without a port".to_owned(), ToString::to_string),
    };
    for server in &here.servers {
        let (here, there) = (shown(Some(server)), shown(there.server(&server.name)));
        if here != there {
            return Err(FleetError::Different {
                server: server.name.clone(),
                one: one.clone(),
                here,
                other: other.clone(),
                there,
            });
        }
    }
    Ok(())
}

impl Combined {
    /// Whether it gets its share of new clients from every process.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.at.is_empty() && self.at.iter().all(Server::is_used)
    }

    /// Whether it would get new clients from every process with any weight.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.at.is_empty() && self.at.iter().all(Server::is_up)
    }

    /// Whether it counts for capacity: a backup server takes nothing while others are used.
    #[must_use]
    pub fn counts(&self) -> bool {
        !self.at.iter().any(|server| server.is_backup)
    }

    /// Requests and connections under way or waiting, over all processes.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        let each = self.at.iter();
        each.map(|server| server.sessions + server.queued).sum()
    }

    /// Its state in the load balancer's words, by process where they differ.
    #[must_use]
    pub fn status(&self) -> String {
        let mut words: Vec<&str> = self.at.iter().map(|one| one.status.as_str()).collect();
        words.dedup();
        words.join(" / ")
    }
}

/// What a process says of a server that it was told how to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does as it was told.
    AsTold,
    /// It is another process than the one that was told, and uses the server so.
    Replaced(Admin),
    /// The same process uses the server otherwise: somebody else told it, or it was not reached.
    Otherwise(Admin),
    /// It has the server no more.
    Gone,
}

/// Compares what a process says with what it was told.
#[must_use]
pub fn standing(told: Admin, known: &Process, look: &Look, server: &str) -> Standing {
    let Some(server) = look.server(server) else {
        return Standing::Gone;
    };
    if !known.is_same(&look.process) {
        return Standing::Replaced(server.admin);
    }
    if server.admin == told {
        Standing::AsTold
    } else {
        Standing::Otherwise(server.admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checks;
    use std::time::Duration;

    fn look(pid: u32, servers: &[(&str, u16)]) -> Look {
        let server = |(name, port): &(&str, u16)| Server {
            name: (*name).to_owned(),
            address: Some(Address {
                host: "10.0.0.1".to_owned(),
                port: *port,
            }),
            admin: Admin::Ready,
            is_running: true,
            is_backup: false,
            checks: Checks::Passing,
            status: "UP".to_owned(),
            weight: 1,
            own_weight: 1,
            sessions: 0,
            queued: 0,
        };
        Look {
            process: Process {
                node: "lb".to_owned(),
                pid,
                started: 1,
                uptime: Duration::from_secs(60),
                version: "2.6".to_owned(),
                is_stopping: false,
            },
            servers: servers.iter().map(server).collect(),
        }
    }

    fn whole(looks: Vec<Look>) -> Result<Whole, FleetError> {
        let seen = looks.into_iter().enumerate().map(|(number, look)| Seen {
            place: format!("/run/{number}"),
            look: Ok(look),
        });
        Whole::of(seen.collect())
    }

    #[test]
    fn processes_with_other_servers_make_no_fleet() {
        let servers = [("web1", 1), ("web2", 2)];
        assert!(whole(vec![look(1, &servers), look(2, &servers)]).is_ok());
        for other in [
            &[("web1", 1)][..],
            &[("web1", 1), ("web2", 3)],
            &[("web1", 1), ("web2", 2), ("web3", 3)],
        ] {
            let error = whole(vec![look(1, &servers), look(2, other)]).unwrap_err();
            assert!(matches!(error, FleetError::Different { .. }), "{error}");
        }
    }

    #[test]
    fn one_process_by_two_names_is_not_counted_twice() {
        let error = whole(vec![look(1, &[]), look(1, &[])]).unwrap_err();
        assert!(matches!(error, FleetError::SameProcess { .. }), "{error}");
    }

    #[test]
    fn a_new_process_is_told_from_one_that_somebody_else_told_otherwise() {
        let look = look(7, &[("web1", 1)]);
        let same = look.process.clone();
        let other = Process {
            pid: 6,
            ..same.clone()
        };
        let of = |told, known: &Process, server| standing(told, known, &look, server);
        assert_eq!(of(Admin::Ready, &same, "web1"), Standing::AsTold);
        assert_eq!(
            of(Admin::Maint, &same, "web1"),
            Standing::Otherwise(Admin::Ready)
        );
        assert_eq!(
            of(Admin::Maint, &other, "web1"),
            Standing::Replaced(Admin::Ready)
        );
        assert_eq!(of(Admin::Maint, &same, "web9"), Standing::Gone);
    }
}
