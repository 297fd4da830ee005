//! One watch per kind, kept alive: relist on 410, reconnect on a closed or dead connection, an
//! in-memory copy of what matters. It refuses to know what the objects mean.

mod wire;

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use self::wire::{WireEvent, WireStream};
use crate::{
    error::{Error, Result},
    objects::Objects,
    operation::{Operation, Verb},
};

/// How long a watch that once worked may fail in ways that are otherwise final: an API server
/// that has just started knows no RBAC rules yet and answers 403.
const RECOVERY: Duration = Duration::from_secs(30);

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Which objects to watch and what to keep of them.
pub struct WatchOptions<K> {
    /// Label selector for the server.
    pub labels: Option<String>,
    /// Field selector for the server, such as `metadata.name=web`.
    pub fields: Option<String>,
    /// Keeps an object or drops it at once.
    pub keep: Box<dyn Fn(&K) -> bool + Send + Sync>,
    /// Cuts off what nobody reads, before the object is stored.
    pub trim: fn(&mut K),
}

impl<K> Default for WatchOptions<K> {
    fn default() -> Self {
        Self {
            labels: None,
            fields: None,
            keep: Box::new(|_| true),
            trim: |_| {},
        }
    }
}

/// What a watch has to tell.
#[derive(Debug)]
pub enum Change<K> {
    /// The copy is complete (again, after a relist).
    Synced,
    /// An object is new or has changed.
    Applied(Arc<K>),
    /// An object is gone; this is its last known state.
    Deleted(Arc<K>),
    /// The watch is interrupted and being taken up again; the copy may be stale until
    /// [`Change::Resumed`].
    Interrupted(Error),
    /// The watch goes on where it was interrupted.
    Resumed,
}

/// A watch and its copy of the objects.
pub struct KindWatch<K> {
    // Never locked: the mutex only makes the watch `Sync`, so that tasks may share what it knows.
    stream: Mutex<WireStream<K>>,
    options: Arc<WatchOptions<K>>,
    operation: Operation,
    objects: HashMap<String, Arc<K>>,
    listing: HashMap<String, Arc<K>>,
    is_synced: bool,
    failing_since: Option<Instant>,
    failures: u32,
    resume_at: Option<Instant>,
}

impl<K> KindWatch<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Prepares a watch of `objects`; the first request is sent by [`KindWatch::next`].
    pub fn new(objects: &Objects<K>, options: WatchOptions<K>) -> Self {
        let operation = objects.operation(Verb::Watch, None);
        Self::on(objects.api().clone(), operation, options)
    }

    /// Prepares a watch through a raw API.
    pub fn on(api: Api<K>, operation: Operation, options: WatchOptions<K>) -> Self {
        let options = Arc::new(options);
        Self {
            stream: Mutex::new(wire::stream(api, Arc::clone(&options))),
            options,
            operation,
            objects: HashMap::new(),
            listing: HashMap::new(),
            is_synced: false,
            failing_since: None,
            failures: 0,
            resume_at: None,
        }
    }

    /// The objects as last seen.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    /// One object by name.
    pub fn get(&self, name: &str) -> Option<&Arc<K>> {
        self.objects.get(name)
    }

    /// Whether the copy has been complete once.
    pub fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Since when the watch is interrupted, if it is.
    pub fn interrupted_since(&self) -> Option<Instant> {
        self.failing_since
    }

    /// Waits for the next change. Safe to drop and call again.
    ///
    /// # Errors
    /// What no waiting mends: 401, 403, an unknown kind; from a watch that worked before, only
    /// after half a minute of nothing else.
    pub async fn next(&mut self) -> Result<Change<K>> {
        loop {
            if let Some(resume_at) = self.resume_at {
                tokio::time::sleep_until(resume_at).await;
                self.resume_at = None;
            }
            let stream = self.stream.get_mut();
            let stream = stream.unwrap_or_else(|poisoned| poisoned.into_inner());
            let Some(event) = stream.next().await else {
                return Err(Error::Connection {
                    what: self.operation.to_string(),
                    source: "the watch ended".into(),
                });
            };
            if let Some(change) = self.take(event)? {
                return Ok(change);
            }
        }
    }

    fn take(&mut self, event: WireEvent<K>) -> Result<Option<Change<K>>> {
        if let WireEvent::Failed { verb, error } = event {
            return self.interrupted(verb, error).map(Some);
        }
        self.failures = 0;
        let was_failing = self.failing_since.take().is_some();
        Ok(match event {
            WireEvent::Page {
                objects,
                is_first,
                is_last,
            } => {
                if is_first {
                    self.listing = HashMap::new();
                }
                for object in objects {
                    if let Some(object) = self.prepare(object) {
                        self.listing.insert(name_of(&*object), object);
                    }
                }
                is_last.then(|| {
                    self.objects = std::mem::take(&mut self.listing);
                    self.is_synced = true;
                    Change::Synced
                })
            }
            WireEvent::Applied(object) => self.apply(object),
            WireEvent::Deleted(object) => {
                let known = self.objects.remove(&name_of(&object));
                known.map(Change::Deleted)
            }
            WireEvent::Alive => was_failing.then_some(Change::Resumed),
            WireEvent::Failed { .. } => None,
        })
    }

    fn apply(&mut self, object: K) -> Option<Change<K>> {
        let name = name_of(&object);
        let Some(object) = self.prepare(object) else {
            // It was ours and has changed so that it no longer is.
            return self.objects.remove(&name).map(Change::Deleted);
        };
        self.objects.insert(name, Arc::clone(&object));
        Some(Change::Applied(object))
    }

    fn prepare(&self, mut object: K) -> Option<Arc<K>> {
        if !(self.options.keep)(&object) {
            return None;
        }
        // Often a third of the object, and nobody here asks who wrote what.
        object.meta_mut().managed_fields = None;
        (self.options.trim)(&mut object);
        Some(Arc::new(object))
    }

    fn interrupted(&mut self, verb: Verb, error: kube::Error) -> Result<Change<K>> {
        let operation = Operation {
            verb,
            ..self.operation.clone()
        };
        let error = Error::from_kube(error, &operation);
        let now = Instant::now();
        let since = *self.failing_since.get_or_insert(now);
        let may_recover = self.is_synced && now.duration_since(since) < RECOVERY;
        if !error.is_transient() && !may_recover {
            return Err(error);
        }
        let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        let asked = error.retry_after().unwrap_or_default();
        self.resume_at = Some(now + doubled.min(LONGEST_PAUSE).max(asked));
        self.failures += 1;
        Ok(Change::Interrupted(error))
    }
}

fn name_of<K: Resource>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}

/// Waits for the next change of a watch that may not be needed; without one, for ever.
pub async fn next_of<K>(watch: &mut Option<KindWatch<K>>) -> Result<Change<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}
