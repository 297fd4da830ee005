//! The last events of an object. Their text comes from the cluster and is untrusted.
//! It refuses to judge them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;

use crate::{connect::Cluster, error::Result, read::Deadline};

/// One event, reduced to what a person reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEvent {
    /// When it last happened.
    pub at: Option<Timestamp>,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// CamelCase reason.
    pub reason: String,
    /// Untrusted text.
    pub message: String,
    /// How often it happened.
    pub count: u32,
}

impl Cluster {
    /// The `limit` last events of the object with this UID, oldest first.
    ///
    /// # Errors
    /// [`crate::Error::Forbidden`] and those of the connection.
    pub async fn events_of(
        &self,
        uid: &str,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Vec<ObjectEvent>> {
        let params = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        let events = self.objects::<Event>().list(&params, deadline).await?;
        let mut events: Vec<_> = events.into_iter().map(read).collect();
        events.sort_by_key(|event| event.at);
        let surplus = events.len().saturating_sub(limit);
        events.drain(..surplus);
        Ok(events)
    }

    /// All warnings of pods that the namespace still knows, each with the UID of its pod.
    ///
    /// # Errors
    /// [`crate::Error::Forbidden`] and those of the connection.
    pub async fn pod_warnings(&self, deadline: Deadline) -> Result<Vec<(String, ObjectEvent)>> {
        let params = ListParams::default().fields("type=Warning,involvedObject.kind=Pod");
        let events = self.objects::<Event>().list(&params, deadline).await?;
        let warnings = events.into_iter().map(|event| {
            let uid = event.involved_object.uid.clone().unwrap_or_default();
            (uid, read(event))
        });
        Ok(warnings.collect())
    }
}

fn read(event: Event) -> ObjectEvent {
    let series = event.series.as_ref();
    let at = series
        .and_then(|series| series.last_observed_time.as_ref().map(|time| time.0))
        .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| {
            event
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0)
        });
    let count = series.and_then(|series| series.count).or(event.count);
    ObjectEvent {
        at,
        kind: event.type_.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
        count: u32::try_from(count.unwrap_or(1)).unwrap_or(1).max(1),
    }
}
