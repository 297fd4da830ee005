//! One watch per kind, kept alive: relist on 410, reconnect on a closed or dead connection, an
//! in-memory copy of what matters. It refuses to know what the objects mean.

use std::{
    collections::HashMap,
    fmt::Debug,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt};
use kube::{
    Api, Resource,
    runtime::watcher::{self, watcher},
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{
    error::{Error, Result},
    objects::Objects,
    operation::{Operation, Verb},
};

/// Seconds after which the server is asked to end a watch. A connection on which nothing at all
/// arrives for this long plus five seconds is dead, so this bounds how long a lost one goes
/// unnoticed; resuming costs one request.
const WATCH_SECONDS: u32 = 25;

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
    /// The watch is interrupted and being taken up again; the copy may be stale until the next
    /// change.
    Interrupted(Error),
}

type EventStream<K> = Pin<Box<dyn Stream<Item = watcher::Result<watcher::Event<K>>> + Send>>;

/// A watch and its copy of the objects.
pub struct KindWatch<K> {
    // Never locked: the mutex only makes the watch `Sync`, so that tasks may share what it knows.
    stream: Mutex<EventStream<K>>,
    options: WatchOptions<K>,
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
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// Prepares a watch of `objects`; the first request is sent by [`KindWatch::next`].
    pub fn new(objects: &Objects<K>, options: WatchOptions<K>) -> Self {
        let operation = objects.operation(Verb::Watch, None);
        Self::on(objects.api().clone(), operation, options)
    }

    /// Prepares a watch through a raw API.
    pub fn on(api: Api<K>, operation: Operation, options: WatchOptions<K>) -> Self {
        let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
        config.label_selector.clone_from(&options.labels);
        config.field_selector.clone_from(&options.fields);
        Self {
            stream: Mutex::new(Box::pin(watcher(api, config))),
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
            // The library's stream never ends; were it to, that is a lost connection.
            let stream = self.stream.get_mut();
            let stream = stream.unwrap_or_else(|poisoned| poisoned.into_inner());
            let event = stream.next().await;
            match event {
                Some(Ok(event)) => {
                    self.failing_since = None;
                    self.failures = 0;
                    if let Some(change) = self.take(event) {
                        return Ok(change);
                    }
                }
                Some(Err(error)) => return self.interrupted(error).map(Change::Interrupted),
                None => {
                    return Err(Error::Connection {
                        what: self.operation.to_string(),
                        source: "the watch ended".into(),
                    });
                }
            }
        }
    }

    fn take(&mut self, event: watcher::Event<K>) -> Option<Change<K>> {
        match event {
            watcher::Event::Init => {
                self.listing = HashMap::new();
                None
            }
            watcher::Event::InitApply(object) => {
                if let Some(object) = self.prepare(object) {
                    self.listing.insert(name_of(&*object), object);
                }
                None
            }
            watcher::Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                self.is_synced = true;
                Some(Change::Synced)
            }
            watcher::Event::Apply(object) => {
                let name = name_of(&object);
                let Some(object) = self.prepare(object) else {
                    // It was ours and has changed so that it no longer is.
                    return self.objects.remove(&name).map(Change::Deleted);
                };
                self.objects.insert(name, object.clone());
                Some(Change::Applied(object))
            }
            watcher::Event::Delete(object) => {
                let known = self.objects.remove(&name_of(&object));
                known.map(Change::Deleted)
            }
        }
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

    fn interrupted(&mut self, error: watcher::Error) -> Result<Error> {
        let error = read_error(error, &self.operation);
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
        Ok(error)
    }
}

fn name_of<K: Resource>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}

fn read_error(error: watcher::Error, operation: &Operation) -> Error {
    match error {
        watcher::Error::InitialListFailed(error) => {
            let operation = Operation {
                verb: Verb::List,
                ..operation.clone()
            };
            Error::from_kube(error, &operation)
        }
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            Error::from_kube(error, operation)
        }
        // 410 makes the library list again; whatever else the server says inside a stream is an
        // interruption, too.
        watcher::Error::WatchError(status) => Error::Server {
            operation: Box::new(operation.clone()),
            code: status.code,
            message: status.message.clone(),
        },
        watcher::Error::NoResourceVersion => Error::Unreadable {
            what: operation.to_string(),
            problem: "the object has no resourceVersion".to_owned(),
        },
    }
}

/// Waits for the next change of a watch that may not be needed; without one, for ever.
pub async fn next_of<K>(watch: &mut Option<KindWatch<K>>) -> Result<Change<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}
