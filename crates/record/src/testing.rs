//! Records for the tests of this crate.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    ApplicationRecord, Attempt, Chain, ConfirmedReplicas, DeploymentId, DeploymentIdParts,
    DeploymentRecord, Evidence, EvidenceLevel, Kind, Phase, PhaseEntry, PhaseStep, Run, SCHEMA,
    Side, SideState, Sides, Verification,
};

/// A moment this many seconds after the claim of [`record`].
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(crate) fn id(run: &str) -> DeploymentId {
    DeploymentId::new(DeploymentIdParts {
        repository: "acme/shop".to_owned(),
        run_id: run.to_owned(),
        environment: "production".to_owned(),
        cluster: "main".to_owned(),
        namespace: "shop".to_owned(),
        application: "web".to_owned(),
    })
    .unwrap()
}

/// The record of a deployment of run 1001 that was claimed and no more.
pub(crate) fn record(chain: Chain) -> DeploymentRecord {
    record_of(&id("1001"), chain)
}

pub(crate) fn record_of(id: &DeploymentId, chain: Chain) -> DeploymentRecord {
    DeploymentRecord {
        schema: SCHEMA,
        id: id.clone(),
        kind: Kind::Deploy,
        chain,
        reverts: None,
        run: Run {
            repository: id.repository().to_owned(),
            run_id: id.run_id().to_owned(),
            url: id.run_url("https://github.com"),
            attempts: vec![Attempt {
                number: 1,
                actor: "ann".to_owned(),
                at: at(0),
            }],
        },
        actor: "ann".to_owned(),
        version: Some("1.1.0".to_owned()),
        commit: None,
        digests: BTreeMap::new(),
        inputs_hash: BTreeMap::from([("rollout apply".to_owned(), "aa".to_owned())]),
        previous: None,
        sides: Sides {
            from: Some(SideState::new(Side::BLUE)),
            to: Some(SideState::new(Side::GREEN)),
        },
        targets: Vec::new(),
        stages: Vec::new(),
        phase: Phase::Claimed,
        phases: vec![PhaseEntry {
            name: Phase::Claimed,
            at: at(0),
            attempt: 1,
            reason: None,
        }],
        journal: Vec::new(),
        migrations: Vec::new(),
        promotion: None,
        weights: Vec::new(),
        evidence: Vec::new(),
        checklist: Vec::new(),
        backup_ref: None,
        notify_keys: BTreeMap::new(),
        result: None,
    }
}

/// Moves a record to a phase, so many seconds after its claim.
pub(crate) fn entered(record: &mut DeploymentRecord, to: Phase, seconds: i64) {
    record
        .advance(PhaseStep {
            to,
            at: at(seconds),
            reason: None,
        })
        .unwrap();
}

pub(crate) fn evidence(step: &str, seconds: i64) -> Evidence {
    Evidence {
        at: at(seconds),
        step: step.to_owned(),
        verification: Verification::Verified,
        level: Some(EvidenceLevel::FrontDoor),
        probes: 3000,
        lost: 0,
        bound: Some(0.001),
        replicas: Some(ConfirmedReplicas {
            confirmed: 2,
            of: 2,
        }),
    }
}

/// An application that this deployment has claimed.
pub(crate) fn claimed_by(record: &DeploymentRecord) -> ApplicationRecord {
    let mut application = ApplicationRecord::new("web");
    application.fence = 1;
    application.claim(record, at(0));
    application
}
