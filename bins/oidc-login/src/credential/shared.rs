//! What all calls of a job share: one of them gets it while the others wait, and they take it until it is no
//! longer good. It refuses to know what is kept, and whatever it cannot keep each call gets for itself.

use std::path::Path;

use jiff::Timestamp;
use switchyard_runner::{Console, Failure, PluginContext};

use super::cache::{Cache, Kept};
use super::obtain::Obtained;
use super::token::Token;
use crate::github::TokenSource;
use crate::session::Session;

/// The place for what is got in one way, in one job.
#[derive(Debug)]
pub(crate) struct Shared {
    kept: Kept,
    /// `None` where the job can keep nothing.
    cache: Option<Cache>,
    console: Console,
}

/// A job, whose calls share what they get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    /// `RUNNER_TEMP`.
    pub(crate) runner_temp: Option<&'a Path>,
    /// What tells it from other jobs; `None` for who gets nothing with its tokens.
    pub(crate) source: Option<&'a TokenSource>,
    pub(crate) console: &'a Console,
}

impl<'a> Job<'a> {
    /// The job in which a plugin is called.
    pub(crate) fn of_call(context: &'a PluginContext, source: &'a TokenSource) -> Self {
        Self {
            runner_temp: context.environment.get("RUNNER_TEMP").map(Path::new),
            source: Some(source),
            console: &context.console,
        }
    }
}

impl Shared {
    /// The place for what is got by these arguments with the job's tokens. Nothing is kept, and the log says why,
    /// where our folder is not ours alone.
    pub(crate) fn open(job: Job<'_>, kept: Kept, arguments: &[String]) -> Self {
        let place = job.runner_temp.zip(job.source);
        let cache =
            place.map(|(folder, source)| Cache::new(folder, kept, arguments, source.fingerprint()));
        let cache = cache.transpose().inspect_err(|problem| {
            job.console
                .info(format!("going on without a cache: {problem}"));
        });
        Self {
            kept,
            cache: cache.ok().flatten(),
            console: job.console.clone(),
        }
    }

    /// What is kept, when it is good for what it is wanted for.
    pub(crate) fn look(&self, is_good: impl Fn(&Token) -> bool) -> Option<Token> {
        let read = self.cache.as_ref()?.read();
        let read = read.inspect_err(|problem| {
            let kept = self.kept;
            self.console
                .info(format!("the kept {kept} is not used: {problem}"));
        });
        read.ok()?.filter(is_good)
    }

    /// What is kept when it is good, else another one.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(crate) async fn one_for_all(
        &self,
        session: &Session,
        is_good: impl Fn(&Token) -> bool,
        get: impl Future<Output = Result<Obtained, Failure>>,
    ) -> Result<Obtained, Failure> {
        match self.look(&is_good) {
            Some(token) => Ok(Obtained::kept(token)),
            None => self.another(session, is_good, get).await,
        }
    }

    /// Gets another one while no other call does, and keeps it, or takes the one that another call got
    /// meanwhile.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(crate) async fn another(
        &self,
        session: &Session,
        is_good: impl Fn(&Token) -> bool,
        get: impl Future<Output = Result<Obtained, Failure>>,
    ) -> Result<Obtained, Failure> {
        let _lock = session.lock(self.cache.as_ref()).await;
        if let Some(token) = self.look(is_good) {
            return Ok(Obtained::kept(token));
        }
        let obtained = get.await?;
        self.keep(&obtained.token);
        Ok(obtained)
    }

    /// Keeps one for the calls that follow.
    pub(crate) fn keep(&self, token: &Token) {
        let written = self.cache.as_ref().map(|cache| cache.write(token));
        if let Some(Err(problem)) = written {
            let kept = self.kept;
            self.console.info(format!(
                "the {kept} is not kept for the calls that follow: {problem}"
            ));
        }
    }

    /// The one that is kept as long as it opens anything, where no other was to be had.
    ///
    /// # Errors
    /// Why no other was to be had.
    pub(crate) fn last_resort(
        &self,
        failure: Failure,
        is_usable: impl Fn(&Token) -> bool,
    ) -> Result<Token, Failure> {
        let alive = self.look(|token| is_usable(token) && token.is_alive(Timestamp::now()));
        let Some(token) = alive else {
            return Err(failure);
        };
        self.console.info(format!(
            "no new {} ({failure}); the one before is good until {}",
            self.kept, token.until
        ));
        Ok(token)
    }
}
