//! What an update has done to which server, as it is kept while it runs: a load balancer does not say who
//! drained a server, and why. Plain data; where it is kept is the program's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the form.
const SCHEMA: u32 = 1;

/// How far the update of a server has come. Written before what it names is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It is being taken out of the traffic; its old version still runs.
    Draining,
    /// Its update has been begun, and what came of it has not been verified.
    Updating,
    /// Its new version was found healthy, and it is being put back.
    Verified,
    /// It is back with its new version.
    Done,
}

/// What an update has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    schema: u32,
    /// The backend.
    pub backend: String,
    /// Which update it is: that of another run or with another command is another one.
    pub update: String,
    /// Servers that were used before the first one was taken out; 0 until that is known.
    pub up_at_start: usize,
    servers: BTreeMap<String, Stage>,
}

/// Why a journal cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another version of the program wrote it.
    #[error("it has the form {0}, and this program knows {SCHEMA}")]
    Schema(u32),
    /// It belongs to another backend.
    #[error("it belongs to backend `{0}`")]
    Backend(String),
}

impl Journal {
    /// The journal of an update that has not begun.
    #[must_use]
    pub fn new(backend: impl Into<String>, update: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA,
            backend: backend.into(),
            update: update.into(),
            up_at_start: 0,
            servers: BTreeMap::new(),
        }
    }

    /// Goes on from what is kept. For another update than the one that was kept nothing is done yet, and a
    /// server that was left out of the traffic begins anew.
    ///
    /// # Errors
    /// It is not one for this.
    pub fn resume(self, backend: &str, update: &str) -> Result<Self, JournalError> {
        if self.schema != SCHEMA {
            return Err(JournalError::Schema(self.schema));
        }
        if self.backend != backend {
            return Err(JournalError::Backend(self.backend));
        }
        if self.update == update {
            return Ok(self);
        }
        let left = self.servers.into_iter().filter_map(|(name, stage)| {
            let stage = match stage {
                Stage::Done => return None,
                // It may be back already at some process.
                Stage::Draining | Stage::Verified => Stage::Draining,
                // Nobody knows what runs there: it must not see users again.
                Stage::Updating => Stage::Updating,
            };
            Some((name, stage))
        });
        Ok(Self {
            servers: left.collect(),
            ..Self::new(backend, update)
        })
    }

    /// How far a server has come; absent where nothing was done to it.
    #[must_use]
    pub fn stage(&self, server: &str) -> Option<Stage> {
        self.servers.get(server).copied()
    }

    /// Whether this update took the server out of the traffic and has not put it back.
    #[must_use]
    pub fn holds(&self, server: &str) -> bool {
        match self.stage(server) {
            Some(Stage::Draining | Stage::Updating | Stage::Verified) => true,
            Some(Stage::Done) | None => false,
        }
    }

    /// Notes how far a server has come.
    pub fn set(&mut self, server: &str, stage: Stage) {
        self.servers.insert(server.to_owned(), stage);
    }

    /// Notes that a server is as it was before the update came.
    pub fn forget(&mut self, server: &str) {
        self.servers.remove(server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Journal {
        let mut journal = Journal::new("web", "1");
        journal.up_at_start = 4;
        journal.set("web1", Stage::Done);
        journal.set("web2", Stage::Verified);
        journal.set("web3", Stage::Updating);
        journal
    }

    #[test]
    fn the_same_update_goes_on_where_it_stopped() {
        let text = serde_json::to_string(&kept()).unwrap();
        let read: Journal = serde_json::from_str(&text).unwrap();
        assert_eq!(read.resume("web", "1").unwrap(), kept());
    }

    #[test]
    fn another_update_has_done_nothing_and_still_knows_which_servers_were_taken_out() {
        let journal = kept().resume("web", "2").unwrap();
        assert_eq!(journal.stage("web1"), None);
        assert_eq!(journal.stage("web2"), Some(Stage::Draining));
        assert_eq!(journal.stage("web3"), Some(Stage::Updating));
        assert_eq!(journal.up_at_start, 0);
    }

    #[test]
    fn the_journal_of_another_backend_or_form_is_refused() {
        assert!(kept().resume("api", "1").is_err());
        let mut newer = kept();
        newer.schema = 2;
        assert!(newer.resume("web", "1").is_err());
    }
}
