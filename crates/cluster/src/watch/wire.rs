//! The requests of a watch: list in pages, then follow, and begin again where the connection or
//! the server's memory ended. It refuses to keep objects and to decide which failures are final.
//!
//! The client library has a watcher of its own; it does not tell when an interrupted watch stands
//! again, and a step that waits must be able to say so.

use std::{collections::VecDeque, fmt::Debug, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream::BoxStream};
use kube::{
    Api, Resource,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;

use super::WatchOptions;
use crate::operation::Verb;

/// Seconds after which the server is asked to end a watch; resuming costs one request.
const WATCH_SECONDS: u32 = 25;
/// A connection on which nothing at all arrives for this long is dead: the server would have
/// ended the watch by now.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Pause after a watch that the server ended at once, so that a confused one is not flooded.
const SHORT_WATCH_PAUSE: Duration = Duration::from_secs(1);
/// Objects asked for in one page, as client-go does.
const PAGE: u32 = 500;

/// What arrived.
pub(super) enum WireEvent<K> {
    /// A page of a listing.
    Page {
        objects: Vec<K>,
        is_first: bool,
        is_last: bool,
    },
    /// An object is new or has changed.
    Applied(K),
    /// An object is gone.
    Deleted(K),
    /// The watch stands and nothing has changed.
    Alive,
    /// A request failed; the next poll tries again.
    Failed { verb: Verb, error: kube::Error },
}

pub(super) type WireStream<K> = Pin<Box<dyn Stream<Item = WireEvent<K>> + Send>>;

/// Lists and watches for ever.
pub(super) fn stream<K>(api: Api<K>, options: Arc<WatchOptions<K>>) -> WireStream<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let wire = Wire {
        api,
        options,
        state: State::fresh_list(),
        ready: VecDeque::new(),
    };
    Box::pin(futures::stream::unfold(wire, |mut wire| async move {
        loop {
            if let Some(event) = wire.ready.pop_front() {
                return Some((event, wire));
            }
            wire.step().await;
        }
    }))
}

struct Wire<K> {
    api: Api<K>,
    options: Arc<WatchOptions<K>>,
    state: State<K>,
    ready: VecDeque<WireEvent<K>>,
}

enum State<K> {
    /// The next page is to be asked for.
    List { token: Option<String> },
    /// The watch is to be begun after this version.
    Start { version: String },
    /// The watch stands.
    Following {
        version: String,
        events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
        has_spoken: bool,
        began: tokio::time::Instant,
    },
}

impl<K> State<K> {
    fn fresh_list() -> Self {
        Self::List { token: None }
    }
}

impl<K> Wire<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    async fn step(&mut self) {
        let state = std::mem::replace(&mut self.state, State::fresh_list());
        self.state = match state {
            State::List { token } => self.list(token).await,
            State::Start { version } => self.start(version).await,
            State::Following {
                version,
                events,
                has_spoken,
                began,
            } => {
                let following = Following {
                    version,
                    events,
                    has_spoken,
                    began,
                };
                self.follow(following).await
            }
        };
    }

    async fn list(&mut self, token: Option<String>) -> State<K> {
        let params = ListParams {
            label_selector: self.options.labels.clone(),
            field_selector: self.options.fields.clone(),
            limit: Some(PAGE),
            continue_token: token.clone(),
            ..ListParams::default()
        };
        match self.api.list(&params).await {
            Ok(page) => {
                let next = page.metadata.continue_.filter(|token| !token.is_empty());
                self.ready.push_back(WireEvent::Page {
                    objects: page.items,
                    is_first: token.is_none(),
                    is_last: next.is_none(),
                });
                match next {
                    Some(token) => State::List { token: Some(token) },
                    None => State::Start {
                        version: page.metadata.resource_version.unwrap_or_default(),
                    },
                }
            }
            // The server has forgotten the snapshot that the pages belong to.
            Err(error) if token.is_some() && is_gone(&error) => State::fresh_list(),
            Err(error) => {
                self.fail(Verb::List, error);
                State::fresh_list()
            }
        }
    }

    async fn start(&mut self, version: String) -> State<K> {
        let params = WatchParams {
            label_selector: self.options.labels.clone(),
            field_selector: self.options.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            ..WatchParams::default()
        };
        match self.api.watch(&params, &version).await {
            Ok(events) => {
                self.ready.push_back(WireEvent::Alive);
                State::Following {
                    version,
                    events: events.boxed(),
                    has_spoken: false,
                    began: tokio::time::Instant::now(),
                }
            }
            Err(error) if is_gone(&error) => State::fresh_list(),
            Err(error) => {
                self.fail(Verb::Watch, error);
                State::Start { version }
            }
        }
    }

    async fn follow(&mut self, mut following: Following<K>) -> State<K> {
        let next = tokio::time::timeout(IDLE_LIMIT, following.events.next()).await;
        // Ended in order, or dead: both are taken up where they ended.
        let Ok(Some(event)) = next else {
            if !following.has_spoken && following.began.elapsed() < SHORT_WATCH_PAUSE {
                tokio::time::sleep(SHORT_WATCH_PAUSE).await;
            }
            return State::Start {
                version: following.version,
            };
        };
        following.has_spoken = true;
        let (event, version) = match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                let version = object.meta().resource_version.clone();
                (WireEvent::Applied(object), version)
            }
            Ok(WatchEvent::Deleted(object)) => {
                let version = object.meta().resource_version.clone();
                (WireEvent::Deleted(object), version)
            }
            Ok(WatchEvent::Bookmark(mark)) => {
                (WireEvent::Alive, Some(mark.metadata.resource_version))
            }
            Ok(WatchEvent::Error(status)) if status.code == 410 => return State::fresh_list(),
            Ok(WatchEvent::Error(status)) => {
                self.fail(Verb::Watch, kube::Error::Api(status.boxed()));
                return State::fresh_list();
            }
            Err(error) if is_gone(&error) => return State::fresh_list(),
            Err(error) => {
                self.fail(Verb::Watch, error);
                return State::Start {
                    version: following.version,
                };
            }
        };
        self.ready.push_back(event);
        State::Following {
            version: version.unwrap_or(following.version),
            events: following.events,
            has_spoken: true,
            began: following.began,
        }
    }

    fn fail(&mut self, verb: Verb, error: kube::Error) {
        self.ready.push_back(WireEvent::Failed { verb, error });
    }
}

struct Following<K> {
    version: String,
    events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    has_spoken: bool,
    began: tokio::time::Instant,
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}
