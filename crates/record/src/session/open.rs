//! Opening a session: lease, then fence, then read.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;

use super::patience::Patience;
use super::preempt::{PreemptAnswer, PreemptOrder, request_preempt};
use super::writes::{read_again, read_patiently};
use super::{Session, SessionOptions};
use crate::application::ApplicationRecord;
use crate::deployment::DeploymentRecord;
use crate::error::{RecordError, Result};
use crate::fault::FaultInjection;
use crate::identity::{DeploymentId, application_record_name, lease_name};
use crate::lease::{Acquire, Claimant, Keeper, KeeperParts, acquire};
use crate::store::{Store, Stored, Write};

impl Session {
    /// Takes the lease (waiting for a live holder), raises the fence, and reads the records.
    ///
    /// # Errors
    /// The lease stays held by somebody else, a record cannot be believed, or the API server
    /// fails or refuses.
    pub async fn open(
        client: kube::Client,
        id: DeploymentId,
        options: SessionOptions,
    ) -> Result<Self> {
        open_with(client, id, options, None).await
    }

    /// As [`Session::open`], but first orders the process that works on the application to
    /// stop. One that has not stopped after the duration of its lease is dispossessed: its
    /// fence is then too low for anything it still tries.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn open_preempting(
        client: kube::Client,
        id: DeploymentId,
        options: SessionOptions,
        order: PreemptOrder,
    ) -> Result<Self> {
        let store = Store::new(client.clone(), id.namespace());
        let answer = request_preempt(&store, &id, &options, order).await?;
        let force_after = match answer {
            PreemptAnswer::Ordered => Some(options.times.duration),
            PreemptAnswer::NothingActive | PreemptAnswer::AlreadyGoingBack => None,
        };
        open_with(client, id, options, force_after).await
    }
}

async fn open_with(
    client: kube::Client,
    id: DeploymentId,
    options: SessionOptions,
    force_after: Option<std::time::Duration>,
) -> Result<Session> {
    let store = Store::new(client.clone(), id.namespace());
    let api: Api<Lease> = Api::namespaced(client.clone(), id.namespace());
    let name = lease_name(id.application());
    let claimant = Claimant::new(&options.actor, options.run_url.as_deref(), options.times);
    let how = Acquire {
        api: api.clone(),
        name: name.clone(),
        claimant: claimant.clone(),
        clock: options.clock.clone(),
        wait: options.wait,
        force_after,
        cancel: options.cancel.clone(),
        progress: options.progress.clone(),
    };
    let taken = acquire(&how).await?;
    let parts = KeeperParts {
        api,
        store: store.clone(),
        application: id.application().to_owned(),
        name,
        claimant,
        clock: options.clock.clone(),
        progress: options.progress.clone(),
    };
    let keeper = Keeper::start(parts, taken.lease, taken.at);
    match read_under_fence(&store, &id, &options).await {
        Ok((application, active)) => Ok(Session {
            client,
            store,
            fence: application.record.fence,
            id,
            fault: FaultInjection::new(options.fault),
            options,
            keeper,
            application,
            active,
            is_claimed: false,
            doubts: Vec::new(),
        }),
        Err(error) => {
            keeper.release().await;
            Err(error)
        }
    }
}

type Records = (Stored<ApplicationRecord>, Option<Stored<DeploymentRecord>>);

/// Raises the fence in the application's record and puts it on the active deployment's, so that
/// whoever held the lease before can write neither, then reads both.
async fn read_under_fence(
    store: &Store,
    id: &DeploymentId,
    options: &SessionOptions,
) -> Result<Records> {
    let patience = Patience::new(options);
    let application = raise(store, id.application(), options, &patience).await?;
    let fence = application.record.fence;
    let Some(active) = &application.record.active else {
        return Ok((application, None));
    };
    let active = fence_off(store, &active.deployment.record_name(), fence, &patience).await?;
    let application = heal(store, application, &active.record, &patience).await?;
    let active = Some(active).filter(|_| application.record.active.is_some());
    Ok((application, active))
}

/// Adds one to the fence of the application's record, creating the record where there is none.
async fn raise(
    store: &Store,
    application: &str,
    options: &SessionOptions,
    patience: &Patience<'_>,
) -> Result<Stored<ApplicationRecord>> {
    let name = application_record_name(application);
    loop {
        let write = match read_patiently::<ApplicationRecord>(store, &name, patience).await? {
            Some(stored) => {
                let mut record = stored.record.clone();
                record.fence += 1;
                store.replace(&stored, &record, record.fence).await?
            }
            None => {
                let mut record = ApplicationRecord::new(application);
                record.fence = first_fence(options);
                store.create(&record, record.fence).await?
            }
        };
        match write {
            Write::Done(stored) => return Ok(stored),
            Write::Conflict => patience.wait_for_turn(|| changed(store, &name)).await?,
            // Raising it once too often does no harm.
            Write::Unclear(error) => patience.wait(error).await?,
        }
    }
}

/// Puts the fence on the record of the active deployment, unchanged otherwise.
async fn fence_off(
    store: &Store,
    name: &str,
    fence: u64,
    patience: &Patience<'_>,
) -> Result<Stored<DeploymentRecord>> {
    loop {
        let stored: Stored<DeploymentRecord> = read_again(store, name, patience).await?;
        match store.replace(&stored, &stored.record, fence).await? {
            Write::Done(stored) => return Ok(stored),
            Write::Conflict => patience.wait_for_turn(|| changed(store, name)).await?,
            Write::Unclear(error) => patience.wait(error).await?,
        }
    }
}

/// Completes what a process that died between the two writes of a phase has left.
async fn heal(
    store: &Store,
    mut stored: Stored<ApplicationRecord>,
    active: &DeploymentRecord,
    patience: &Patience<'_>,
) -> Result<Stored<ApplicationRecord>> {
    let fence = stored.record.fence;
    loop {
        let mut record = stored.record.clone();
        if !record.follow(active) {
            return Ok(stored);
        }
        match store.replace(&stored, &record, fence).await? {
            Write::Done(stored) => return Ok(stored),
            Write::Conflict => {
                let changed = || changed(store, &stored.name);
                patience.wait_for_turn(changed).await?;
            }
            Write::Unclear(error) => patience.wait(error).await?,
        }
        stored = read_again(store, &stored.name, patience).await?;
        if stored.record.fence != fence {
            return Err(changed(store, &stored.name));
        }
    }
}

/// The fence of an application without a record. Its objects may carry the fences of a record
/// that was deleted; the seconds since 1970 are beyond them, for there are never so many
/// sessions as seconds.
fn first_fence(options: &SessionOptions) -> u64 {
    u64::try_from(options.clock.now().as_second())
        .unwrap_or(1)
        .max(1)
}

fn changed(store: &Store, name: &str) -> RecordError {
    RecordError::Changed {
        object: store.describe(name),
        writer: "another writer, again and again,".to_owned(),
    }
}
