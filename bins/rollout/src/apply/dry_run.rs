//! The dry run: the API server tries every object before the first one is written, and everything that
//! it refuses is reported at once.

use futures::{StreamExt, stream};
use switchyard_cluster::Error;
use switchyard_deployment::cluster_failure;
use switchyard_manifest::Origin;
use switchyard_runner::{Failure, Kind as FailureKind};

use super::Applying;
use super::prepare::{Draft, Planned};
use crate::objects::{CONCURRENCY, Conflicts, NotApplied, Sending};
use crate::plan::conflicts::{self, FieldConflict};

impl Applying<'_> {
    /// Has the API server try every object, and reports everything that it refuses at once.
    pub(super) async fn dry_run(
        &self,
        drafts: Vec<Draft>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Planned>, Failure> {
        let tried: Vec<_> = stream::iter(drafts)
            .map(|draft| async {
                let origin = draft.object.origin().clone();
                self.try_out(draft).await.map_err(|error| (origin, error))
            })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        let mut planned = Vec::new();
        let mut in_the_way: Vec<FieldConflict> = Vec::new();
        let mut refused: Vec<(Origin, Error)> = Vec::new();
        for result in tried {
            match result {
                Ok((object, taken_over)) => {
                    notes.extend(taken_over.iter().map(|conflict| {
                        format!(
                            "{}: `{}` is taken over from `{}`",
                            conflict.object, conflict.field, conflict.manager
                        )
                    }));
                    planned.push(object);
                }
                Err((_, NotApplied::Conflicts(found))) => in_the_way.extend(found),
                Err((origin, NotApplied::Stale(error) | NotApplied::Other(error))) => {
                    refused.push((origin, error));
                }
            }
        }
        refuse_all(refused)?;
        if in_the_way.is_empty() {
            return Ok(planned);
        }
        let (text, hint) = conflicts::refusal(&in_the_way);
        Err(Failure::message(FailureKind::Gate, text).hint(hint))
    }

    async fn try_out(&self, draft: Draft) -> Result<(Planned, Vec<FieldConflict>), NotApplied> {
        let first = self
            .objects
            .apply(
                &draft.kind,
                &draft.object,
                Sending::DryRun,
                Conflicts::Refuse,
            )
            .await;
        let (after, conflicts, taken_over) = match first {
            Ok(after) => (after, Conflicts::Refuse, Vec::new()),
            Err(NotApplied::Conflicts(found)) => {
                let foreign: Vec<FieldConflict> = found
                    .into_iter()
                    .filter(|conflict| !conflict.is_with_ourselves())
                    .collect();
                if !foreign.is_empty() && !self.args.written.force_conflicts {
                    return Err(NotApplied::Conflicts(foreign));
                }
                let after = self
                    .objects
                    .apply(
                        &draft.kind,
                        &draft.object,
                        Sending::DryRun,
                        Conflicts::TakeOver,
                    )
                    .await?;
                (after, Conflicts::TakeOver, foreign)
            }
            Err(other) => return Err(other),
        };
        Ok((
            Planned {
                object: draft.object,
                kind: draft.kind,
                live: draft.live,
                after,
                conflicts,
            },
            taken_over,
        ))
    }
}

/// All refusals are shown, each with its place; the first decides over the kind and the hint.
fn refuse_all(refused: Vec<(Origin, Error)>) -> Result<(), Failure> {
    let lines: Vec<String> = refused
        .iter()
        .map(|(origin, error)| format!("{origin}: {error}"))
        .collect();
    let Some((_, first)) = refused.into_iter().next() else {
        return Ok(());
    };
    let text = match lines.as_slice() {
        [line] => line.clone(),
        several => format!(
            "{} objects are refused: {}",
            several.len(),
            several.join("; ")
        ),
    };
    let like = refusal_of_manifest(first);
    Err(Failure::message(like.kind(), text).maybe_hint(like.hints().first().cloned()))
}

/// An object that the API server calls invalid is bad input; one that its rules forbid is a gate's no.
fn refusal_of_manifest(error: Error) -> Failure {
    // A field of the wrong type is answered with 500 by server-side apply.
    const WRONG_TYPE: &str = "failed to create typed patch object";
    let is_invalid = if let Error::Refused {
        message, causes, ..
    } = &error
    {
        !causes.is_empty() || message.contains(WRONG_TYPE) || message.contains("strict decoding")
    } else {
        matches!(&error, Error::Server { message, .. } if message.contains(WRONG_TYPE))
    };
    if is_invalid {
        let hint = error.hint();
        Failure::input(error).maybe_hint(hint)
    } else {
        cluster_failure(error)
    }
}
