//! Waiting until probes of the front door are answered as they should be.
//! Refuses to send any: they run all the time.

use tokio::time::Instant;

use super::{Engine, Stop};
use crate::evidence::{Level, Verification};
use crate::machine::Direction;
use crate::probe::Counts;
use crate::share::Percent;
use crate::statistic::{ShareVerdict, answers_needed};

/// Windows of probes in a row that may hold a loss before the front door counts as broken.
const BAD_WINDOWS: u32 = 3;

impl Engine<'_> {
    /// Waits until enough probes were answered by the right version, and none lost.
    pub(crate) async fn front_door(&mut self, share: Percent) -> Result<(), Stop> {
        let Some(prober) = self.prober else {
            return self
                .require_front_door(Verification::unverifiable("no `verify-url` was given"));
        };
        let version = self.settings.versions.taking.clone();
        let has_header = prober.plan().version_header.is_some();
        let sticky = self
            .own_fronts()
            .find_map(|front| front.shares_unverifiable.clone());
        let limit = self.limit(self.settings.wait);
        let mut since = Instant::now();
        let mut bad_windows = 0;
        loop {
            self.guard(share)?;
            self.tick().await?;
            let counts = prober.since(since);
            let verdict =
                judge_front_door(&counts, share, version.as_deref().filter(|_| has_header));
            match verdict {
                FrontDoorVerdict::Wait => {}
                FrontDoorVerdict::Fits(verification) => {
                    self.progress(format!("front door: {}", counts.describe()));
                    let verification = sticky.map_or(verification, Verification::unverifiable);
                    return self.require_front_door(verification);
                }
                FrontDoorVerdict::Bad(problem) => {
                    bad_windows += u32::from(counts.lost_total() > 0);
                    since = Instant::now();
                    if let (Some(why), true) = (&sticky, counts.lost_total() == 0) {
                        return self.require_front_door(Verification::unverifiable(why.clone()));
                    }
                    if bad_windows >= BAD_WINDOWS || limit.has_passed() {
                        return self.front_door_failed(&problem);
                    }
                    self.progress(format!("front door: {problem}"));
                }
            }
            if limit.has_passed() {
                return self.front_door_failed(&format!("too few answers: {}", counts.describe()));
            }
        }
    }

    /// On the way back this is said and does not stop anything: staying would be worse.
    fn front_door_failed(&mut self, problem: &str) -> Result<(), Stop> {
        let url = self
            .prober
            .map(|prober| prober.plan().url.to_string())
            .unwrap_or_default();
        let reason = format!("{url} does not answer as it should: {problem}");
        self.state.front_door = Verification::pending(reason.clone());
        if self.direction == Direction::Back {
            self.warn(reason);
            return Ok(());
        }
        Err(Stop::gate(
            reason,
            Some("look at the new version's pods, and at `version-header` and `expect-version`"),
        ))
    }

    fn require_front_door(&mut self, verification: Verification) -> Result<(), Stop> {
        self.state.front_door = verification;
        let is_met =
            self.state.front_door.is_verified() || self.settings.require != Level::FrontDoor;
        // The way back is not stopped for want of proof: staying would be worse.
        if is_met || self.direction == Direction::Back {
            return Ok(());
        }
        Err(Stop::gate(
            format!(
                "`require-verified` is `front-door`, and the front door is {}",
                self.state.front_door
            ),
            Some("give `verify-url`, `version-header` and `expect-version`"),
        ))
    }
}

/// What a window of probes says.
enum FrontDoorVerdict {
    /// Too few probes so far.
    Wait,
    /// As it should be, as far as that can be told.
    Fits(Verification),
    /// Not as it should be.
    Bad(String),
}

fn judge_front_door(counts: &Counts, share: Percent, version: Option<&str>) -> FrontDoorVerdict {
    let lost = counts.lost_total();
    if counts.probes() < answers_needed(share) {
        return FrontDoorVerdict::Wait;
    }
    if lost > 0 {
        return FrontDoorVerdict::Bad(counts.describe());
    }
    let Some(version) = version else {
        return FrontDoorVerdict::Fits(Verification::unverifiable(
            "answers cannot be told apart by version: `version-header` and `expect-version` say how",
        ));
    };
    match counts.share_of(version, share) {
        ShareVerdict::Fits { .. } => FrontDoorVerdict::Fits(Verification::Verified),
        ShareVerdict::TooFew { .. } => FrontDoorVerdict::Wait,
        ShareVerdict::Differs { observed, interval } => FrontDoorVerdict::Bad(format!(
            "{:.0} % of the answers are of `{version}` instead of {share} ({:.0} to {:.0} % at 95 %): {}",
            observed * 100.0,
            interval.0 * 100.0,
            interval.1 * 100.0,
            counts.describe()
        )),
    }
}
