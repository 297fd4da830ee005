//! Who answered how much, and how much failed, by the share that the canary had. Decides nothing.

use std::time::{Duration, Instant};

use switchyard_sandbox::load::RunningLoad;

use super::route::Route;
use super::{BAD, GOOD, OLD};
use crate::Result;
use crate::demo::Stage;

const VERSIONS: [&str; 3] = [OLD, BAD, GOOD];
/// How many parts the bar of a share has.
const BAR: u64 = 10;
/// How long the last answers of another version may take after a workflow has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

pub(super) struct Board<'a> {
    stage: &'a Stage,
    route: Route,
    web: &'a RunningLoad,
    api: &'a RunningLoad,
    spans: Vec<Span>,
}

/// The time in which the canary had one share.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: f64,
    share: u64,
    before: Counts,
}

/// Answers of each version, and failures among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    answered: [u64; VERSIONS.len()],
    failed: [u64; VERSIONS.len()],
    /// Failed by nobody in particular: no version answered.
    lost: u64,
}

impl<'a> Board<'a> {
    pub(super) fn new(
        stage: &'a Stage,
        route: Route,
        web: &'a RunningLoad,
        api: &'a RunningLoad,
    ) -> Self {
        let first = Span {
            from: stage.now(),
            share: 0,
            before: Counts::default(),
        };
        Self {
            stage,
            route,
            web,
            api,
            spans: vec![first],
        }
    }

    /// Takes the route's changes in and shows how things stand.
    pub(super) fn look(&mut self) {
        for share in self.route.changes() {
            if self.spans.last().is_some_and(|span| span.share != share) {
                self.spans.push(Span {
                    from: self.stage.now(),
                    share,
                    before: Counts::of(self.web),
                });
            }
        }
        let share = self.spans.last().map_or(0, |span| span.share);
        let counts = Counts::of(self.web);
        let shown = VERSIONS.iter().zip(counts.answered).zip(counts.failed);
        let shown = shown.filter(|((_, answered), _)| *answered > 0).map(
            |((version, answered), failed)| match failed {
                0 => format!("{version} {answered}"),
                failed => format!("{version} {answered}, {failed} failed"),
            },
        );
        let subject = format!("canary {share:3} % {}", bar(share));
        let text = format!(
            "{:6.1} s  {subject} {} · {} lost",
            self.stage.now(),
            shown.collect::<Vec<_>>().join(" · "),
            counts.lost + Counts::of(self.api).lost
        );
        self.stage.screen.stand(&subject, &text);
    }

    /// Goes on looking for a while.
    pub(super) async fn look_on(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.look();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sees that for a second nobody but a version answers.
    pub(super) async fn require_all_on(&mut self, version: &str) -> Result<()> {
        let until = Instant::now() + LAST_ANSWERS;
        while Instant::now() < until {
            let before = Counts::of(self.web);
            self.look_on(Duration::from_secs(1)).await;
            if Counts::of(self.web).since(&before).are_all_of(version) {
                return Ok(());
            }
        }
        Err(format!("not all of the answers come from {version}"))
    }

    /// One line for each share that the canary had.
    pub(super) fn timeline(&self) -> String {
        let now = (self.stage.now(), Counts::of(self.web));
        let ends = self.spans.iter().skip(1);
        let ends = ends.map(|span| (span.from, span.before)).chain([now]);
        let spans = self.spans.iter().zip(ends);
        let lines = spans.map(|(span, (to, after))| {
            let counts = after.since(&span.before);
            format!(
                "  {:6.1} s to {to:6.1} s  canary {:3} % {}  {counts}",
                span.from,
                span.share,
                bar(span.share)
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Counts {
    fn of(load: &RunningLoad) -> Self {
        let failed = VERSIONS.map(|version| load.failures_of(version));
        Self {
            answered: VERSIONS.map(|version| load.answers_of(version)),
            failed,
            // Read last: a failure between the two is shown as nobody's for a moment, never hidden.
            lost: load.counts().1.saturating_sub(failed.iter().sum()),
        }
    }

    fn since(&self, before: &Self) -> Self {
        let less = |now: [u64; VERSIONS.len()], before: [u64; VERSIONS.len()]| {
            let mut pairs = now.into_iter().zip(before);
            [(); VERSIONS.len()].map(|()| pairs.next().map_or(0, |(n, b)| n.saturating_sub(b)))
        };
        Self {
            answered: less(self.answered, before.answered),
            failed: less(self.failed, before.failed),
            lost: self.lost.saturating_sub(before.lost),
        }
    }

    fn are_all_of(&self, version: &str) -> bool {
        let mut answers = VERSIONS.iter().zip(self.answered);
        answers.all(|(name, answered)| (*name == version) == (answered > 0))
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for ((version, answered), failed) in VERSIONS.iter().zip(self.answered).zip(self.failed) {
            if answered > 0 {
                write!(f, "{version}: {answered} answered, {failed} failed; ")?;
            }
        }
        write!(f, "{} lost", self.lost)
    }
}

fn bar(share: u64) -> String {
    // A small share is seen as well.
    let full = share.min(100) * BAR;
    let full = full.div_ceil(100);
    (0..BAR)
        .map(|part| if part < full { '█' } else { '░' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_of_one_version_count_as_all_of_it() {
        let counts = |answered| Counts {
            answered,
            ..Counts::default()
        };
        assert!(counts([5, 0, 0]).are_all_of(OLD));
        assert!(!counts([5, 1, 0]).are_all_of(OLD));
        assert!(!counts([0, 0, 0]).are_all_of(OLD));
        assert_eq!(
            counts([5, 3, 0]).since(&counts([2, 3, 0])),
            counts([3, 0, 0])
        );
    }

    #[test]
    fn a_bar_shows_a_small_share() {
        assert_eq!(bar(0), "░░░░░░░░░░");
        assert_eq!(bar(1), "█░░░░░░░░░");
        assert_eq!(bar(50), "█████░░░░░");
        assert_eq!(bar(100), "██████████");
    }
}
