//! The record of deployments: what is written into the cluster so that a killed run can be
//! resumed, rolled back or explained.
//!
//! Owns the identity of a deployment, its phases, its journal, who may claim an application,
//! the lease and the fence, and the two kinds of ConfigMap. It refuses to know traffic
//! providers, manifests, inputs, outputs and the process environment.

mod application;
mod claim;
mod clock;
mod deployment;
mod error;
mod fault;
mod fence;
mod identity;
mod inputs;
mod journal;
mod lease;
mod migration;
mod phase;
mod projection;
mod session;
mod side;
mod store;
mod summary;
#[cfg(test)]
mod testing;
mod validate;

pub use application::{
    Active, ApplicationRecord, IndexEntry, LiveVersion, MAX_INDEX, MAX_RECORDS, Preempt,
};
pub use claim::{
    Claim, ClaimRequest, Freshness, Intent, Known, Refusal, StepInputs, decide, turned_round,
};
pub use clock::{Clock, SystemClock};
pub use deployment::{
    Attempt, BackupRef, ChecklistEntry, ConfirmedReplicas, DeploymentRecord, DeploymentResult,
    Evidence, EvidenceLevel, Kind, MAX_CHECKLIST, MAX_EVIDENCE, MAX_WEIGHTS, Opening, PhaseEntry,
    PhaseStep, Promotion, Run, SCHEMA, SideState, Sides, Stage, Target, Verdict, Verification,
    WayBack, WeightsEntry, WorkloadState,
};
pub use error::{ErrorClass, LeaseHolder, RecordError, Result};
pub use fault::{FaultPoint, UnknownFaultPoint};
pub use fence::{
    FENCE_ANNOTATION, Raised, StaleHolder, check_fence, fence_of, fence_patch, raise_fence,
};
pub use identity::{
    DeploymentId, DeploymentIdParts, InvalidIdentity, application_record_name, lease_name,
};
pub use inputs::inputs_hash;
pub use journal::{
    Disagreement, JournalEntry, LiveTarget, ObjectRef, Outcome, PlannedMutation, Resume,
    Settlement, outcomes, resume,
};
pub use lease::{LeaseObserver, LeaseSeen, LeaseTimes, Standing};
pub use migration::{MigrationEntry, MigrationEvent, open_migrations};
pub use phase::{Advance, Chain, Phase, PhaseRefused, UnknownPhase, advance};
pub use projection::{MAX_SHOWN_BYTES, Projection};
pub use session::{
    Claimed, PreemptAnswer, PreemptOrder, Progress, Resize, ResizeError, Session, SessionOptions,
    request_preempt, resize,
};
pub use side::{Side, Slot, UnknownSide};
pub use store::{MAX_RECORD_BYTES, RECORD_KEY, RECORD_LABEL, Store, Stored};
pub use summary::{BudgetStage, Budgets, InvalidBudget, StageTime, stage_times, summary};
pub use validate::Impossible;
