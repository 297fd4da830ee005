//! Taking a lease: at once when it is free or expired, else after waiting for its holder.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use switchyard_cluster::FIELD_MANAGER;
use tokio_util::sync::CancellationToken;

use super::{Claimant, LeaseObserver, LeaseSeen, Standing, holder_of};
use crate::clock::Clock;
use crate::error::{LeaseHolder, RecordError, Result};
use crate::session::Progress;
use crate::store::{REQUEST_TIMEOUT, api_error};

/// How often a lease that somebody holds is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the wait says that it still goes on.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// How a lease is to be taken.
pub(crate) struct Acquire {
    pub(crate) api: Api<Lease>,
    pub(crate) name: String,
    pub(crate) claimant: Claimant,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long to wait for a live holder.
    pub(crate) wait: Duration,
    /// After which time a live holder that was told to stop is dispossessed; its fence stops it.
    pub(crate) force_after: Option<Duration>,
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: Progress,
}

/// A lease that was just taken, and when, by our monotonic clock.
pub(crate) struct Taken {
    pub(crate) lease: Lease,
    pub(crate) at: Duration,
}

/// Waits for the lease and takes it.
pub(crate) async fn acquire(how: &Acquire) -> Result<Taken> {
    let started = how.clock.monotonic();
    let mut observer = LeaseObserver::default();
    let mut said: Option<(LeaseHolder, Duration)> = None;
    loop {
        let at = how.clock.monotonic();
        let waited = at.saturating_sub(started);
        let (error, holder) = match look(how, &mut observer).await {
            Ok(Look::Take(seen)) => match take(how, seen.as_deref()).await {
                Ok(Some(lease)) => return Ok(Taken { lease, at }),
                // Somebody was faster: look again.
                Ok(None) => (None, None),
                Err(error) => (Some(error), None),
            },
            Ok(Look::Held(seen, holder)) => {
                if how.force_after.is_some_and(|limit| waited >= limit) {
                    (how.progress)(&format!(
                        "{holder} did not stop, taking lease `{}` over",
                        how.name
                    ));
                    match take(how, Some(&seen)).await {
                        Ok(Some(lease)) => return Ok(Taken { lease, at }),
                        Ok(None) => (None, None),
                        Err(error) => (Some(error), Some(holder)),
                    }
                } else {
                    (None, Some(holder))
                }
            }
            Err(error) => (Some(error), None),
        };
        if let Some(error) = error
            && (waited >= how.wait || !error.is_passing())
        {
            return Err(error);
        }
        if let Some(holder) = holder {
            if waited >= how.wait {
                return Err(RecordError::LeaseHeld {
                    lease: how.name.clone(),
                    holder,
                    waited,
                });
            }
            say(how, &holder, waited, &mut said);
        }
        tokio::select! {
            () = how.cancel.cancelled() => {
                return Err(RecordError::Cancelled { what: format!("lease `{}`", how.name) });
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

enum Look {
    /// It can be taken, over this state of it.
    Take(Option<Box<Lease>>),
    /// Somebody holds it.
    Held(Box<Lease>, LeaseHolder),
}

async fn look(how: &Acquire, observer: &mut LeaseObserver) -> Result<Look> {
    let Some(lease) = get(&how.api, &how.name).await? else {
        return Ok(Look::Take(None));
    };
    let seen = LeaseSeen::of(&lease, how.claimant.times.duration);
    let standing = observer.see(seen, how.clock.monotonic());
    Ok(match (standing, holder_of(&lease)) {
        (Standing::Held { .. }, Some(holder)) => Look::Held(Box::new(lease), holder),
        (Standing::Expired, Some(holder)) => {
            (how.progress)(&format!(
                "lease `{}` of {holder} was not renewed and has expired, taking it over",
                how.name
            ));
            Look::Take(Some(Box::new(lease)))
        }
        (Standing::Free | Standing::Held { .. } | Standing::Expired, _) => {
            Look::Take(Some(Box::new(lease)))
        }
    })
}

/// Takes the lease over the state of it that was seen. Nothing when somebody was faster.
async fn take(how: &Acquire, seen: Option<&Lease>) -> Result<Option<Lease>> {
    let lease = how.claimant.lease(&how.name, seen, how.clock.now());
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let request = async {
        match seen {
            None => how.api.create(&params, &lease).await,
            Some(_) => how.api.replace(&how.name, &params, &lease).await,
        }
    };
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(lease)) => Ok(Some(lease)),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(None),
        Ok(Err(error)) => Err(api_error("take", &describe(&how.name), error)),
        Err(_elapsed) => Err(no_answer("take", &how.name)),
    }
}

pub(super) async fn get(api: &Api<Lease>, name: &str) -> Result<Option<Lease>> {
    match tokio::time::timeout(REQUEST_TIMEOUT, api.get_opt(name)).await {
        Ok(Ok(lease)) => Ok(lease),
        Ok(Err(error)) => Err(api_error("read", &describe(name), error)),
        Err(_elapsed) => Err(no_answer("read", name)),
    }
}

fn describe(name: &str) -> String {
    format!("Lease `{name}`")
}

fn no_answer(operation: &'static str, name: &str) -> RecordError {
    RecordError::NoAnswer {
        operation,
        object: describe(name),
        limit: REQUEST_TIMEOUT,
    }
}

fn say(
    how: &Acquire,
    holder: &LeaseHolder,
    waited: Duration,
    said: &mut Option<(LeaseHolder, Duration)>,
) {
    let is_due = match said {
        Some((last, at)) => last != holder || waited.saturating_sub(*at) >= SAY_EVERY,
        None => true,
    };
    if is_due {
        let waited_for = waited.as_secs();
        let limit = how
            .force_after
            .map_or(how.wait, |force| force.min(how.wait))
            .as_secs();
        (how.progress)(&format!(
            "waiting for lease `{}`, held by {holder} ({waited_for}s of at most {limit}s)",
            how.name
        ));
        *said = Some((holder.clone(), waited));
    }
}
