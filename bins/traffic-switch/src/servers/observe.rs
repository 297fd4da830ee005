//! One server, watched at every process of the load balancer while its update goes on: it is told how to be
//! used, that is confirmed N of M, and a process that was replaced meanwhile is told again.

use std::fmt;
use std::time::Duration;

use switchyard_runner::values::show_duration;
use switchyard_runner::{Context, Failure, Kind, Signal};
use switchyard_servers::fleet::{Seen, Standing, standing};
use switchyard_servers::{Admin, Fleet, Process, Server};
use tokio::time::Instant;

use super::servers_failure;
use crate::run::TITLE;

/// Time between two looks.
const POLL: Duration = Duration::from_millis(300);
/// Time between two lines about the same wait.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A server at every process.
pub(super) struct Watch<'run> {
    context: &'run Context,
    fleet: &'run Fleet,
    server: &'run str,
    told: Admin,
    known: Vec<Process>,
    /// Until when a process that is gone may still have sessions that nobody sees.
    unseen_until: Option<Instant>,
    longest_request: Duration,
    /// Warnings that wait until the output of a command of the user's ends: within its fence the runner
    /// takes none.
    held_back: Option<Vec<String>>,
}

/// How a server became quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quiet {
    /// No process had anything under way.
    Seen,
    /// So it looked, but a process was replaced, whose sessions cannot be seen: they were given the time of
    /// the longest request.
    Unseen,
    /// So much was still under way at the limit.
    Left(u64),
}

impl fmt::Display for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seen => f.write_str("quiet"),
            Self::Unseen => f.write_str("quiet, not verified: a HAProxy was replaced"),
            Self::Left(1) => f.write_str("1 session cut"),
            Self::Left(count) => write!(f, "{count} sessions cut"),
        }
    }
}

/// What the processes say at one moment.
#[derive(Debug, Default)]
struct Observed {
    /// As it is seen by those that use it as they were told.
    as_told: Vec<Server>,
    /// By those that use it otherwise, with where they are asked.
    otherwise: Vec<(String, Server)>,
    /// Why others could not be asked.
    silent: Vec<String>,
}

impl Observed {
    fn at(&self) -> impl Iterator<Item = &Server> {
        let otherwise = self.otherwise.iter().map(|(_, server)| server);
        self.as_told.iter().chain(otherwise)
    }

    fn under_way(&self) -> u64 {
        self.at()
            .map(|server| server.sessions + server.queued)
            .sum()
    }

    /// Its state in the words of every process, and what stands against it.
    fn shown(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        let words: Vec<&str> = self.at().map(|one| one.status.as_str()).collect();
        if !words.is_empty() {
            parts.push(words.join(" / "));
        }
        parts.extend(self.otherwise());
        parts.extend(self.silent.iter().cloned());
        parts.join("; ")
    }

    fn otherwise(&self) -> impl Iterator<Item = String> {
        let otherwise = self.otherwise.iter();
        otherwise.map(|(place, server)| format!("`{place}` says {}", server.admin))
    }
}

impl<'run> Watch<'run> {
    /// Watches a server whose processes were these a moment ago.
    pub(super) fn new(
        context: &'run Context,
        fleet: &'run Fleet,
        server: &'run str,
        known: Vec<Process>,
        longest_request: Duration,
    ) -> Self {
        let mut watch = Self {
            context,
            fleet,
            server,
            told: Admin::Ready,
            known,
            unseen_until: None,
            longest_request,
            held_back: None,
        };
        let ages: Vec<Duration> = watch.known.iter().map(|process| process.uptime).collect();
        for age in ages.into_iter().filter(|age| *age < longest_request) {
            watch.replaced(longest_request - age);
        }
        watch
    }

    /// Tells every process how to use the server, and waits until all say that they do.
    ///
    /// # Errors
    /// One refuses, or they do not all say so within the limit.
    pub(super) async fn tell(&mut self, admin: Admin, limit: Duration) -> Result<(), Failure> {
        self.told = admin;
        for answer in self.fleet.set_admin(self.server, admin).await {
            match answer {
                // Whether it was heard is seen in what the process says next.
                Err(error) if error.may_pass() => {}
                other => other.map_err(servers_failure)?,
            }
        }
        let what = format!("say that `{}` is in state {admin}", self.server);
        self.until(limit, &what, |_| true).await
    }

    /// Waits until every process finds the server well, by its own checks where it has any.
    ///
    /// # Errors
    /// Not all do within the limit.
    pub(super) async fn until_well(&mut self, limit: Duration) -> Result<(), Failure> {
        let what = format!("find `{}` well", self.server);
        self.until(limit, &what, Server::is_well).await
    }

    /// Waits until nothing of the server is under way.
    ///
    /// # Errors
    /// A process cannot be asked at the limit: what it has under way is unknown.
    pub(super) async fn quiet(&mut self, limit: Duration) -> Result<Quiet, Failure> {
        let deadline = Instant::now() + limit;
        let mut last_told = None;
        loop {
            let observed = self.observe().await?;
            self.refuse_otherwise(&observed)?;
            let (under_way, now) = (observed.under_way(), Instant::now());
            if observed.silent.is_empty() {
                match self.unseen_until {
                    _ if under_way > 0 => {}
                    None => return Ok(Quiet::Seen),
                    Some(until) if until <= now => return Ok(Quiet::Unseen),
                    Some(_) => {}
                }
            }
            if now >= deadline {
                return match self.unseen_until {
                    _ if !observed.silent.is_empty() => Err(self.unconfirmed(
                        &observed,
                        observed.at().count(),
                        limit,
                        "show what is under way",
                    )),
                    Some(_) if under_way == 0 => Ok(Quiet::Unseen),
                    Some(_) | None => Ok(Quiet::Left(under_way)),
                };
            }
            self.progress(&mut last_told, || match under_way {
                0 if observed.silent.is_empty() => {
                    "a replaced HAProxy may have requests that cannot be seen".to_owned()
                }
                0 => observed.shown(),
                _ => format!("{under_way} under way"),
            });
            self.pause().await?;
        }
    }

    /// Lets something be done while the server stays as told: a process that is replaced is told again. When
    /// somebody else tells a process otherwise, what is being done is done to its end, and does not count.
    ///
    /// # Errors
    /// It failed, or somebody else told a process otherwise.
    pub(super) async fn while_held<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        self.held_back = Some(Vec::new());
        let first = tokio::select! {
            done = &mut work => Ok(done),
            foreign = self.hold() => Err(foreign),
        };
        let ended = match first {
            Ok(done) => done,
            Err(foreign) => work.await.and(Err(foreign)),
        };
        for warning in self.held_back.take().into_iter().flatten() {
            self.warn(warning);
        }
        ended
    }

    /// Puts the server back as it was before anything was done to it; says whether every process confirmed.
    /// Nothing cancels it.
    pub(super) async fn put_back(&mut self, limit: Duration) -> bool {
        self.told = Admin::Ready;
        let deadline = Instant::now() + limit;
        // What a process answered is seen in what it says next.
        let _ = self.fleet.set_admin(self.server, Admin::Ready).await;
        loop {
            if let Ok(observed) = self.observe().await
                && observed.as_told.len() == self.fleet.size()
            {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn hold(&mut self) -> Failure {
        loop {
            tokio::time::sleep(POLL).await;
            let observed = match self.observe().await {
                Ok(observed) => observed,
                Err(failure) => return failure,
            };
            if let Err(foreign) = self.refuse_otherwise(&observed) {
                return foreign;
            }
        }
    }

    /// Waits until every process says as told, and further as wanted.
    async fn until(
        &mut self,
        limit: Duration,
        what: &str,
        wanted: fn(&Server) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        let mut last_told = Some(Instant::now());
        loop {
            let observed = self.observe().await?;
            let confirmed = observed.as_told.iter().filter(|one| wanted(one)).count();
            let (size, shown) = (self.fleet.size(), observed.shown());
            if confirmed == size {
                let server = self.server;
                let line = format_args!("{server}: {size} of {size} HAProxies {what} ({shown})");
                self.context.console.progress(line);
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.unconfirmed(&observed, confirmed, limit, what));
            }
            self.progress(&mut last_told, || {
                format!("waiting until all HAProxies {what}: {shown}")
            });
            self.pause().await?;
        }
    }

    /// Looks at every process; one that was replaced is told again.
    async fn observe(&mut self) -> Result<Observed, Failure> {
        let mut observed = Observed::default();
        for (member, Seen { place, look }) in self.fleet.look().await.into_iter().enumerate() {
            let look = match look {
                Ok(look) => look,
                Err(error) if error.may_pass() => {
                    observed.silent.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(servers_failure(error)),
            };
            let standing = standing(self.told, &self.known[member], &look, self.server);
            let server = look.server(self.server).cloned();
            match (standing, server) {
                (Standing::AsTold, Some(server)) => observed.as_told.push(server),
                (Standing::Otherwise(_), Some(server)) => observed.otherwise.push((place, server)),
                (Standing::Replaced(admin), Some(_)) => {
                    let process = look.process;
                    self.tell_again(member, &place, &process, admin).await?;
                    observed.silent.push(format!("`{place}` was replaced"));
                    self.known[member] = process;
                }
                (_, None) | (Standing::Gone, _) => {
                    let text = format!("`{place}` has no server `{}` any more", self.server);
                    return Err(Failure::message(Kind::Gate, text)
                        .hint("was HAProxy given another configuration meanwhile?"));
                }
            }
        }
        Ok(observed)
    }

    async fn tell_again(
        &mut self,
        member: usize,
        place: &str,
        process: &Process,
        admin: Admin,
    ) -> Result<(), Failure> {
        let before = self.known[member].pid;
        let told = self.told;
        let what = if admin == told {
            format!("it has kept `{}` in state {told}", self.server)
        } else {
            format!(
                "it had `{}` in state {admin} and is told {told} again",
                self.server
            )
        };
        self.warn(format!(
            "HAProxy at `{place}` was replaced (process {before} before; now {process}): {what}"
        ));
        self.replaced(self.longest_request);
        if admin == told {
            return Ok(());
        }
        match self.fleet.set_admin_at(member, self.server, told).await {
            Err(error) if !error.may_pass() => Err(servers_failure(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Sessions of a process that is gone may go on for so long.
    fn replaced(&mut self, longest: Duration) {
        let until = Instant::now() + longest;
        self.unseen_until = Some(self.unseen_until.map_or(until, |known| known.max(until)));
    }

    fn refuse_otherwise(&self, observed: &Observed) -> Result<(), Failure> {
        if observed.otherwise.is_empty() {
            return Ok(());
        }
        let otherwise: Vec<String> = observed.otherwise().collect();
        let text = format!(
            "`{}` was told to be in state {}, and somebody else told it otherwise: {}",
            self.server,
            self.told,
            otherwise.join("; ")
        );
        Err(Failure::message(Kind::Gate, text).hint(
            "two writers cannot update the same servers: find the other one, then run this again",
        ))
    }

    fn unconfirmed(
        &self,
        observed: &Observed,
        confirmed: usize,
        limit: Duration,
        what: &str,
    ) -> Failure {
        let text = format!(
            "{confirmed} of {} HAProxies {what} within {}: {}",
            self.fleet.size(),
            show_duration(limit),
            observed.shown()
        );
        Failure::message(Kind::Remote, text)
            .hint("every HAProxy has to confirm: look at those named with `show servers state`")
    }

    fn warn(&mut self, text: String) {
        match &mut self.held_back {
            Some(held_back) => held_back.push(text),
            None => self.context.console.warning(TITLE, text),
        }
    }

    fn progress(&self, last: &mut Option<Instant>, line: impl Fn() -> String) {
        let now = Instant::now();
        if last.is_none_or(|last| now.duration_since(last) >= TELL_EVERY) {
            *last = Some(now);
            let (server, line) = (self.server, line());
            self.context
                .console
                .progress(format_args!("{server}: {}", line.trim_end()));
        }
    }

    async fn pause(&self) -> Result<(), Failure> {
        tokio::select! {
            () = tokio::time::sleep(POLL) => Ok(()),
            signal = self.context.cancel.cancelled() => Err(cancelled(signal, self.server)),
        }
    }
}

/// A signal came while this server was worked on.
pub(super) fn cancelled(signal: Signal, server: &str) -> Failure {
    let text = format!("{} came while `{server}` was worked on", signal.name());
    Failure::message(Kind::Cancelled(signal), text)
}
