//! The order of a switch and of the way back, as a state machine over plain data.
//! It refuses to do anything itself: it says what is next, and is told what came of it.

use switchyard_record::Phase;

use crate::share::Percent;

/// Which way traffic moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the new side.
    Forward,
    /// To the side that had it before the deployment.
    Back,
}

/// What a write is for; the provider's goal is made of it where the routing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Proxies are to know both sides.
    Prepare,
    /// The taking side is to get this share.
    Share(Percent),
    /// As above, with nothing listed that gets nothing.
    Settle(Percent),
    /// As before the deployment, with the side that loses its traffic still listed.
    Return,
    /// As before the deployment.
    Restore,
}

impl Aim {
    /// The share of the taking side once it is reached; `None` while traffic has not moved.
    pub fn share(self) -> Option<Percent> {
        match self {
            Self::Prepare => None,
            Self::Share(share) | Self::Settle(share) => Some(share),
            Self::Return | Self::Restore => Some(Percent::ALL),
        }
    }

    /// The word for it in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Share(_) => "switch",
            Self::Settle(_) => "settle",
            Self::Return => "return",
            Self::Restore => "restore",
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Write the phase into the record.
    Enter(Phase),
    /// Send what goes to the taking side to the giving one, which can carry it: the taking side has no endpoint.
    /// Nothing waits for it to be in effect, for the taking side comes up meanwhile.
    Shelter,
    /// Bring the taking side to the size it had.
    ScaleUp,
    /// See that the taking side has the pods for this share, and that they are routable.
    Capacity(Percent),
    /// Write the route of one target.
    Write {
        /// Its number in the order of the input.
        target: usize,
        /// What for.
        aim: Aim,
    },
    /// See that every proxy has all targets as written.
    Confirm(Aim),
    /// See through the front door that the taking side answers its share.
    FrontDoor(Percent),
    /// Stay at this stage for the hold, watching.
    Hold,
    /// Wait until the side that lost its traffic has nothing in flight.
    Quiet,
    /// As above, and fail when requests to it still end: what comes next would cut them off.
    RequireQuiet,
    /// Take the side that lost its traffic to 0, when asked to.
    ScaleDown,
}

/// A stage of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagePlan {
    /// Its number in the deployment, from 1.
    pub index: u16,
    /// The share of the new side.
    pub share: Percent,
}

/// What a move of traffic is part of, which decides how it begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// A side takes over, and is watched from then on.
    Takeover,
    /// A canary takes shares. All of it is one of them: the main workload is updated then, idle.
    Canary,
    /// The updated main workload takes over from its canary.
    Promotion,
    /// An ended deployment is undone: the side that is to get traffic has to be brought to size
    /// first, and the other one may be taken to 0 at the end.
    Rollback,
}

impl Course {
    /// Where traffic goes when this fails.
    pub fn refuge(self) -> Refuge {
        match self {
            Self::Takeover | Self::Canary | Self::Rollback => Refuge::Before,
            Self::Promotion => Refuge::Canary,
        }
    }
}

/// Where traffic is safe when a deployment must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuge {
    /// Where it was before: that ends the deployment.
    Before,
    /// On the canary, while the main workload is brought back to the version before: the
    /// deployment stays on its way back.
    Canary,
}

/// What is to be done in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Itinerary {
    /// Number of targets.
    pub targets: usize,
    /// The stages that are left; empty when there is nothing to switch.
    pub stages: Vec<StagePlan>,
    /// The share that earlier steps have reached, to be seen again when no stage is left: what
    /// nobody looked at is not reported as done.
    pub reached: Option<Percent>,
    /// Whether another side had the traffic before, so that there is a way back.
    pub has_old_side: bool,
    /// Whether an earlier process of this deployment has already moved traffic.
    pub has_moved: bool,
    /// What it is part of.
    pub course: Course,
}

/// What came of the last task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing yet: the first question.
    Started,
    /// It is done.
    Done,
    /// It failed.
    Failed(Trouble),
    /// The process was told to end.
    Cancelled,
    /// Somebody ordered a rollback elsewhere.
    Preempted(String),
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of failure it is, which decides what follows.
    pub kind: TroubleKind,
    /// What failed, on which object, what was seen.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// A check says no.
    Gate,
    /// Somebody else has written what we own on this target.
    Foreign {
        /// Its number.
        target: usize,
    },
    /// A remote system failed.
    Remote,
    /// The version before the deployment, which has a part of the traffic, has no endpoint any more, and the
    /// other side can carry everything.
    Deserted,
    /// The record or the lease is somebody else's now.
    Replaced,
}

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Do this, then tell.
    Do(Task),
    /// It is over.
    Finish(Ending),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything is done.
    Done,
    /// It failed before traffic moved; nothing has to be undone.
    Refused(Trouble),
    /// It failed after traffic had moved, and traffic is back.
    Reverted(Trouble),
    /// All traffic is on the canary, and the main workload may be undone behind it. With what
    /// failed, unless it was ordered.
    ThroughCanary(Option<Trouble>),
    /// The side that was to give traffic away step by step lost its endpoints, and all of it is on
    /// the other one; the deployment stays where it was.
    Sheltered(Trouble),
    /// It failed, and so did the way back.
    Stuck {
        /// Why the way back was taken; `None` when it was ordered.
        cause: Option<Trouble>,
        /// What failed on it.
        trouble: Trouble,
    },
    /// What is live is neither ours nor what was there: a person decides.
    NeedsPerson(Trouble),
    /// Told to end; the record tells where.
    Cancelled,
    /// A rollback goes on elsewhere.
    Preempted(String),
    /// Another process has taken over; it decides what follows.
    Replaced(Trouble),
}

/// The state of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    targets: usize,
    direction: Direction,
    tasks: Vec<Task>,
    /// Index of the task that the next event is about; `None` before the first.
    cursor: Option<usize>,
    has_moved: bool,
    has_old_side: bool,
    refuge: Refuge,
    cause: Option<Trouble>,
    /// Why traffic leaves, or has left, a side that has no endpoint any more.
    deserted: Option<Trouble>,
    foreign: Vec<usize>,
}

impl Machine {
    /// A switch to the new side.
    pub fn forward(itinerary: &Itinerary) -> Self {
        Self {
            targets: itinerary.targets,
            direction: Direction::Forward,
            tasks: forward_tasks(itinerary),
            cursor: None,
            has_moved: itinerary.has_moved,
            has_old_side: itinerary.has_old_side,
            refuge: itinerary.course.refuge(),
            cause: None,
            deserted: None,
            foreign: Vec::new(),
        }
    }

    /// The way back, as ordered.
    pub fn back(targets: usize, refuge: Refuge) -> Self {
        Self {
            targets,
            direction: Direction::Back,
            tasks: back_tasks(targets, &[], refuge),
            cursor: None,
            has_moved: true,
            has_old_side: true,
            refuge,
            cause: None,
            deserted: None,
            foreign: Vec::new(),
        }
    }

    /// The way back of all targets but those that somebody else has written, because of that.
    pub fn back_except(
        targets: usize,
        refuge: Refuge,
        foreign: Vec<usize>,
        cause: Trouble,
    ) -> Self {
        Self {
            tasks: back_tasks(targets, &foreign, refuge),
            cause: Some(cause),
            foreign,
            ..Self::back(targets, refuge)
        }
    }

    /// Nothing but the word to a person: no side is there to go back to.
    pub fn stranded(targets: usize, foreign: Vec<usize>, cause: Trouble) -> Self {
        Self {
            tasks: vec![Task::Enter(Phase::NeedsPerson)],
            has_old_side: false,
            cause: Some(cause),
            foreign,
            ..Self::back(targets, Refuge::Before)
        }
    }

    /// Which way traffic moves now.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Targets that somebody else has written, which are left alone.
    pub fn foreign(&self) -> &[usize] {
        &self.foreign
    }

    /// The tasks in their order, for a plan that is only shown.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Takes what came of the last task and says what is next.
    pub fn next(&mut self, event: Event) -> Next {
        match event {
            Event::Started => self.at(self.cursor.unwrap_or(0)),
            Event::Done => self.at(self.cursor.map_or(0, |cursor| cursor + 1)),
            Event::Cancelled => Next::Finish(Ending::Cancelled),
            Event::Preempted(by) => Next::Finish(Ending::Preempted(by)),
            Event::Failed(trouble) => self.failed(trouble),
        }
    }

    fn at(&mut self, cursor: usize) -> Next {
        self.cursor = Some(cursor);
        match self.tasks.get(cursor) {
            Some(task) => {
                if matches!(task, Task::Enter(Phase::Switching(_))) {
                    self.has_moved = true;
                }
                Next::Do(task.clone())
            }
            None => Next::Finish(self.ending()),
        }
    }

    fn ending(&self) -> Ending {
        match (&self.cause, self.direction, self.refuge) {
            (Some(cause), _, _) if !self.foreign.is_empty() || !self.has_old_side => {
                Ending::NeedsPerson(cause.clone())
            }
            (cause, Direction::Back, Refuge::Canary) => Ending::ThroughCanary(cause.clone()),
            (Some(cause), _, _) => Ending::Reverted(cause.clone()),
            (None, Direction::Forward, _) => match &self.deserted {
                Some(trouble) => Ending::Sheltered(trouble.clone()),
                None => Ending::Done,
            },
            (None, Direction::Back, Refuge::Before) => Ending::Done,
        }
    }

    fn failed(&mut self, trouble: Trouble) -> Next {
        match (self.direction, trouble.kind) {
            (_, TroubleKind::Replaced) => Next::Finish(Ending::Replaced(trouble)),
            (Direction::Forward, TroubleKind::Deserted)
                if self.has_moved && self.deserted.is_none() =>
            {
                self.leave(trouble)
            }
            (
                Direction::Forward,
                TroubleKind::Gate | TroubleKind::Remote | TroubleKind::Deserted,
            ) if !self.has_moved => Next::Finish(Ending::Refused(trouble)),
            (
                Direction::Forward,
                TroubleKind::Gate | TroubleKind::Remote | TroubleKind::Deserted,
            ) => self.turn_back(trouble, Vec::new()),
            (Direction::Forward, TroubleKind::Foreign { target }) if self.has_moved => {
                self.turn_back(trouble, vec![target])
            }
            (Direction::Forward, TroubleKind::Foreign { .. }) => {
                Next::Finish(Ending::Refused(trouble))
            }
            (Direction::Back, TroubleKind::Foreign { target }) => self.give_up(trouble, target),
            (Direction::Back, TroubleKind::Deserted) if self.deserted.is_none() => {
                self.shelter(trouble)
            }
            (Direction::Back, TroubleKind::Gate | TroubleKind::Remote | TroubleKind::Deserted) => {
                Next::Finish(Ending::Stuck {
                    cause: self.cause.clone(),
                    trouble,
                })
            }
        }
    }

    /// All of the traffic goes to the side that stands, and the dead one is not listed any more: that
    /// alone can break what is beside it. There it ends: the deployment has not earned the step that
    /// it took.
    fn leave(&mut self, trouble: Trouble) -> Next {
        self.tasks = write_all(self.targets, Aim::Settle(Percent::ALL), &[]);
        self.deserted = Some(trouble);
        self.at(0)
    }

    /// The side that traffic goes back to is dead and has a part of it already: the other one answers
    /// everything until that side is up again. Then the way back goes on in its order.
    fn shelter(&mut self, trouble: Trouble) -> Next {
        let back = back_tasks(self.targets, &self.foreign, self.refuge);
        let rest = back.into_iter().skip_while(|task| *task != Task::ScaleUp);
        self.tasks = [Task::Shelter].into_iter().chain(rest).collect();
        self.deserted = Some(trouble);
        self.at(0)
    }

    /// All or none: every target that was written goes back, except one that is somebody else's.
    fn turn_back(&mut self, cause: Trouble, foreign: Vec<usize>) -> Next {
        if self.has_old_side {
            self.direction = Direction::Back;
            self.tasks = back_tasks(self.targets, &foreign, self.refuge);
            self.foreign = foreign;
            self.cause = Some(cause);
        } else {
            *self = Self::stranded(self.targets, foreign, without_way_back(cause));
        }
        self.at(0)
    }

    /// On the way back a foreign edit stops that target; the others still go back.
    fn give_up(&mut self, trouble: Trouble, target: usize) -> Next {
        if self.foreign.contains(&target) {
            return Next::Finish(Ending::NeedsPerson(trouble));
        }
        let mut foreign = self.foreign.clone();
        foreign.push(target);
        self.turn_back(self.cause.clone().unwrap_or(trouble), foreign)
    }
}

/// The same trouble, with what it means on a first deployment.
fn without_way_back(cause: Trouble) -> Trouble {
    Trouble {
        reason: format!("{}; no other side was there to go back to", cause.reason),
        hint: cause
            .hint
            .or_else(|| Some("deploy a good version with `new-deployment: true`".to_owned())),
        ..cause
    }
}

fn forward_tasks(itinerary: &Itinerary) -> Vec<Task> {
    let course = itinerary.course;
    let mut tasks = Vec::new();
    if let (true, Some(share)) = (itinerary.stages.is_empty(), itinerary.reached) {
        tasks.extend([Task::Confirm(Aim::Settle(share)), Task::FrontDoor(share)]);
        if course == Course::Rollback {
            tasks.extend([Task::Quiet, Task::ScaleDown]);
        }
    }
    let last = itinerary.stages.len().saturating_sub(1);
    for (position, stage) in itinerary.stages.iter().enumerate() {
        if position == 0 && matches!(course, Course::Rollback | Course::Promotion) {
            tasks.push(Task::ScaleUp);
        }
        tasks.push(Task::Capacity(stage.share));
        if course != Course::Promotion {
            tasks.push(Task::Enter(Phase::Switching(stage.index)));
        }
        tasks.extend(write_all(itinerary.targets, Aim::Prepare, &[]));
        tasks.extend(write_all(itinerary.targets, Aim::Share(stage.share), &[]));
        tasks.push(Task::FrontDoor(stage.share));
        match (position == last, stage.share) {
            (true, Percent::ALL) => {
                let settled = write_all(itinerary.targets, Aim::Settle(stage.share), &[]);
                tasks.extend(arrival(course, *stage, settled));
            }
            (true | false, _) => {
                tasks.extend([Task::Enter(Phase::Holding(stage.index)), Task::Hold])
            }
        }
    }
    tasks
}

/// What follows once the taking side has all of the traffic.
fn arrival(course: Course, stage: StagePlan, settled: Vec<Task>) -> Vec<Task> {
    let (quiet, end) = match course {
        Course::Takeover => (Task::Quiet, vec![Task::Enter(Phase::Soaking)]),
        // Its pods end while they are updated, so nothing may be in flight to them.
        Course::Canary => (
            Task::RequireQuiet,
            vec![Task::Enter(Phase::Holding(stage.index)), Task::Hold],
        ),
        // Floors of autoscalers that were raised on the way.
        Course::Promotion | Course::Rollback => (
            Task::Quiet,
            vec![Task::Enter(Phase::Soaking), Task::ScaleDown],
        ),
    };
    [vec![quiet], settled, end].concat()
}

fn back_tasks(targets: usize, foreign: &[usize], refuge: Refuge) -> Vec<Task> {
    if targets > 0 && foreign.len() == targets {
        // Nothing is left that we may write.
        return vec![Task::Enter(Phase::NeedsPerson)];
    }
    let (move_all, settle) = match refuge {
        Refuge::Before => (Aim::Return, Aim::Restore),
        Refuge::Canary => (Aim::Share(Percent::ALL), Aim::Settle(Percent::ALL)),
    };
    let mut tasks = vec![
        Task::Enter(Phase::Reverting),
        Task::ScaleUp,
        Task::Capacity(Percent::ALL),
    ];
    tasks.extend(write_all(targets, Aim::Prepare, foreign));
    tasks.extend(write_all(targets, move_all, foreign));
    tasks.push(Task::FrontDoor(Percent::ALL));
    tasks.push(Task::Quiet);
    tasks.extend(write_all(targets, settle, foreign));
    match (foreign.is_empty(), refuge) {
        (true, Refuge::Before) => {
            tasks.extend([Task::ScaleDown, Task::Enter(Phase::RolledBack)]);
        }
        // The main workload is undone next, so its side is no end.
        (true, Refuge::Canary) => {}
        // Somebody else's routing may still use the new side, so its pods stay.
        (false, _) => tasks.push(Task::Enter(Phase::NeedsPerson)),
    }
    tasks
}

fn write_all(targets: usize, aim: Aim, foreign: &[usize]) -> Vec<Task> {
    let writes = (0..targets)
        .filter(|target| !foreign.contains(target))
        .map(|target| Task::Write { target, aim });
    writes.chain([Task::Confirm(aim)]).collect()
}

/// What is left of `steps`, given the share and phase that the record stands at.
///
/// A stage whose hold nobody watched to its end is held again; a stage that is over is not gone
/// through again.
pub fn stages_left(steps: &[Percent], stands_at: Option<(StagePlan, Phase)>) -> Vec<StagePlan> {
    let numbered = |first: u16, shares: &[Percent]| {
        let numbers = first..;
        numbers
            .zip(shares)
            .map(|(index, share)| StagePlan {
                index,
                share: *share,
            })
            .collect()
    };
    let Some((current, phase)) = stands_at else {
        return numbered(1, steps);
    };
    let later: Vec<Percent> = steps
        .iter()
        .copied()
        .filter(|share| *share > current.share)
        .collect();
    let is_listed = steps.contains(&current.share);
    let again = || {
        let shares: Vec<Percent> = [current.share]
            .into_iter()
            .chain(later.iter().copied())
            .collect();
        numbered(current.index, &shares)
    };
    if matches!(phase, Phase::Switching(_)) {
        again()
    } else if !matches!(phase, Phase::Holding(_)) {
        // All of the traffic has moved.
        Vec::new()
    } else if is_listed && !later.is_empty() {
        // In the middle of our own list, so nobody saw the end of this hold.
        again()
    } else {
        numbered(current.index + 1, &later)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percents(list: &[u32]) -> Vec<Percent> {
        list.iter()
            .map(|value| Percent::new(*value).unwrap())
            .collect()
    }

    fn itinerary(targets: usize, shares: &[u32]) -> Itinerary {
        Itinerary {
            targets,
            stages: stages_left(&percents(shares), None),
            reached: None,
            has_old_side: true,
            has_moved: false,
            course: Course::Takeover,
        }
    }

    fn trouble(kind: TroubleKind) -> Trouble {
        Trouble {
            kind,
            reason: "x".to_owned(),
            hint: None,
        }
    }

    fn run(machine: &mut Machine, fail_at: Option<(usize, TroubleKind)>) -> (Vec<Task>, Ending) {
        let mut done = Vec::new();
        let mut event = Event::Started;
        loop {
            match machine.next(event) {
                Next::Finish(ending) => return (done, ending),
                Next::Do(task) => {
                    event = match &fail_at {
                        Some((index, kind)) if *index == done.len() => {
                            Event::Failed(trouble(*kind))
                        }
                        _ => Event::Done,
                    };
                    done.push(task);
                }
            }
            assert!(done.len() < 500, "it never ends");
        }
    }

    #[test]
    fn a_switch_prepares_confirms_writes_confirms_and_waits_for_quiet_before_it_settles() {
        let (done, ending) = run(&mut Machine::forward(&itinerary(1, &[100])), None);
        let all = Percent::ALL;
        let write = |aim| Task::Write { target: 0, aim };
        assert_eq!(ending, Ending::Done);
        assert_eq!(
            done,
            [
                Task::Capacity(all),
                Task::Enter(Phase::Switching(1)),
                write(Aim::Prepare),
                Task::Confirm(Aim::Prepare),
                write(Aim::Share(all)),
                Task::Confirm(Aim::Share(all)),
                Task::FrontDoor(all),
                Task::Quiet,
                write(Aim::Settle(all)),
                Task::Confirm(Aim::Settle(all)),
                Task::Enter(Phase::Soaking),
            ]
        );
    }

    #[test]
    fn steps_hold_in_between_and_a_part_of_the_traffic_ends_holding() {
        let (done, _) = run(&mut Machine::forward(&itinerary(1, &[10, 50])), None);
        let holds = done.iter().filter(|task| **task == Task::Hold).count();
        assert_eq!(holds, 2);
        assert!(done.contains(&Task::Enter(Phase::Holding(2))));
        assert!(!done.contains(&Task::Enter(Phase::Soaking)));
    }

    fn with(course: Course, shares: &[u32]) -> Itinerary {
        Itinerary {
            course,
            has_moved: course == Course::Promotion,
            ..itinerary(1, shares)
        }
    }

    #[test]
    fn a_canary_with_all_of_the_traffic_holds_until_its_main_workload_is_quiet_and_updated() {
        let (done, ending) = run(
            &mut Machine::forward(&with(Course::Canary, &[50, 100])),
            None,
        );
        assert_eq!(ending, Ending::Done);
        let end = [
            Task::RequireQuiet,
            Task::Write {
                target: 0,
                aim: Aim::Settle(Percent::ALL),
            },
            Task::Confirm(Aim::Settle(Percent::ALL)),
            Task::Enter(Phase::Holding(2)),
            Task::Hold,
        ];
        assert!(done.ends_with(&end), "{done:?}");
        assert!(!done.contains(&Task::Enter(Phase::Soaking)));
        // Whatever it fails on, the version before is still there to go back to.
        for failed in 2..done.len() {
            let mut machine = Machine::forward(&with(Course::Canary, &[50, 100]));
            let (_, ending) = run(&mut machine, Some((failed, TroubleKind::Gate)));
            assert!(
                matches!(ending, Ending::Reverted(_)),
                "{failed}: {ending:?}"
            );
        }
    }

    #[test]
    fn the_main_workload_takes_over_in_the_full_order_and_is_watched_then() {
        let (done, ending) = run(
            &mut Machine::forward(&with(Course::Promotion, &[100])),
            None,
        );
        let all = Percent::ALL;
        let write = |aim| Task::Write { target: 0, aim };
        assert_eq!(ending, Ending::Done);
        assert_eq!(
            done,
            [
                Task::ScaleUp,
                Task::Capacity(all),
                write(Aim::Prepare),
                Task::Confirm(Aim::Prepare),
                write(Aim::Share(all)),
                Task::Confirm(Aim::Share(all)),
                Task::FrontDoor(all),
                Task::Quiet,
                write(Aim::Settle(all)),
                Task::Confirm(Aim::Settle(all)),
                Task::Enter(Phase::Soaking),
                Task::ScaleDown,
            ]
        );
    }

    #[test]
    fn a_takeover_that_fails_brings_everything_to_the_canary_and_ends_nothing() {
        let (forward, _) = run(
            &mut Machine::forward(&with(Course::Promotion, &[100])),
            None,
        );
        for failed in 0..forward.len() {
            let mut machine = Machine::forward(&with(Course::Promotion, &[100]));
            let (done, ending) = run(&mut machine, Some((failed, TroubleKind::Remote)));
            assert!(
                matches!(ending, Ending::ThroughCanary(Some(_))),
                "{ending:?}"
            );
            assert!(!done.contains(&Task::Enter(Phase::RolledBack)), "{failed}");
            let restores = |task: &Task| {
                matches!(
                    task,
                    Task::Write {
                        aim: Aim::Return | Aim::Restore,
                        ..
                    }
                )
            };
            assert!(!done.iter().any(restores), "{failed}: {done:?}");
        }
        let again = Itinerary {
            stages: Vec::new(),
            reached: Some(Percent::ALL),
            ..with(Course::Promotion, &[])
        };
        let failed = Some((0, TroubleKind::Gate));
        let (_, ending) = run(&mut Machine::forward(&again), failed);
        assert!(
            matches!(ending, Ending::ThroughCanary(Some(_))),
            "{ending:?}"
        );
    }

    #[test]
    fn a_way_back_to_a_dead_side_shelters_once_and_goes_on_in_its_order() {
        let back = || Machine::back(2, Refuge::Before);
        let (plain, _) = run(&mut back(), None);
        let scales_up = plain.iter().position(|task| *task == Task::ScaleUp);
        let scales_up = scales_up.unwrap();
        for failed in [scales_up, scales_up + 1] {
            let deserted = Some((failed, TroubleKind::Deserted));
            let (done, ending) = run(&mut back(), deserted);
            assert_eq!(ending, Ending::Done);
            let (before, after) = done.split_at(failed + 1);
            assert_eq!(before, &plain[..=failed]);
            assert_eq!(after[0], Task::Shelter);
            assert_eq!(&after[1..], &plain[scales_up..]);
        }
        let mut machine = back();
        let mut next = machine.next(Event::Started);
        let mut tries = 0;
        while let Next::Do(task) = next {
            let event = if task == Task::ScaleUp {
                tries += 1;
                Event::Failed(trouble(TroubleKind::Deserted))
            } else {
                Event::Done
            };
            next = machine.next(event);
        }
        assert_eq!(tries, 2);
        assert!(matches!(next, Next::Finish(Ending::Stuck { .. })));
    }

    #[test]
    fn an_ordered_way_back_through_the_canary_ends_on_it_with_the_main_workload_quiet() {
        let (done, ending) = run(&mut Machine::back(1, Refuge::Canary), None);
        assert_eq!(ending, Ending::ThroughCanary(None));
        assert_eq!(done[0], Task::Enter(Phase::Reverting));
        assert_eq!(done[1], Task::ScaleUp);
        let place = |task: &Task| done.iter().position(|done| done == task);
        assert!(place(&Task::Confirm(Aim::Share(Percent::ALL))) < place(&Task::Quiet));
        assert!(!done.contains(&Task::ScaleDown));
        let failed = Some((4, TroubleKind::Gate));
        let (_, ending) = run(&mut Machine::back(1, Refuge::Canary), failed);
        assert!(matches!(ending, Ending::Stuck { .. }), "{ending:?}");
        let foreign = Some((4, TroubleKind::Foreign { target: 0 }));
        let (done, ending) = run(&mut Machine::back(2, Refuge::Canary), foreign);
        assert_eq!(done.last(), Some(&Task::Enter(Phase::NeedsPerson)));
        assert!(matches!(ending, Ending::NeedsPerson(_)), "{ending:?}");
    }

    #[test]
    fn a_switch_that_was_done_before_is_looked_at_again() {
        let done_before = Itinerary {
            stages: Vec::new(),
            reached: Some(Percent::ALL),
            has_moved: true,
            ..itinerary(1, &[])
        };
        let (done, ending) = run(&mut Machine::forward(&done_before), None);
        let all = Percent::ALL;
        assert_eq!(
            done,
            [Task::Confirm(Aim::Settle(all)), Task::FrontDoor(all)]
        );
        assert_eq!(ending, Ending::Done);
        let failed = Some((0, TroubleKind::Gate));
        let (_, ending) = run(&mut Machine::forward(&done_before), failed);
        assert!(matches!(ending, Ending::Reverted(_)));
    }

    #[test]
    fn a_first_deployment_that_fails_needs_a_person_and_waits_for_no_side_that_never_was() {
        let first = Itinerary {
            has_old_side: false,
            ..itinerary(1, &[100])
        };
        for kind in [
            TroubleKind::Gate,
            TroubleKind::Remote,
            TroubleKind::Foreign { target: 0 },
        ] {
            let (done, ending) = run(&mut Machine::forward(&first), Some((5, kind)));
            assert_eq!(done.last(), Some(&Task::Enter(Phase::NeedsPerson)));
            assert!(!done.contains(&Task::ScaleUp));
            let Ending::NeedsPerson(trouble) = ending else {
                panic!("{ending:?}")
            };
            assert!(trouble.reason.contains("no other side"), "{trouble:?}");
        }
    }

    #[test]
    fn traffic_leaves_a_side_without_endpoints_and_the_deployment_stays_where_it_was() {
        let (forward, _) = run(&mut Machine::forward(&itinerary(2, &[50, 100])), None);
        let hold = forward.iter().position(|task| *task == Task::Hold).unwrap();
        let mut machine = Machine::forward(&itinerary(2, &[50, 100]));
        let (done, ending) = run(&mut machine, Some((hold, TroubleKind::Deserted)));
        assert_eq!(ending, Ending::Sheltered(trouble(TroubleKind::Deserted)));
        let aim = Aim::Settle(Percent::ALL);
        assert_eq!(
            done[hold + 1..],
            [
                Task::Write { target: 0, aim },
                Task::Write { target: 1, aim },
                Task::Confirm(aim)
            ]
        );
        // Where that fails as well, nothing is left but the way back.
        let mut machine = Machine::forward(&itinerary(2, &[50, 100]));
        while machine.next(Event::Done) != Next::Do(Task::Hold) {}
        machine.next(Event::Failed(trouble(TroubleKind::Deserted)));
        for kind in [TroubleKind::Gate, TroubleKind::Deserted] {
            let next = machine.clone().next(Event::Failed(trouble(kind)));
            assert_eq!(next, Next::Do(Task::Enter(Phase::Reverting)), "{kind:?}");
        }
    }

    #[test]
    fn nothing_is_undone_when_nothing_moved() {
        let (done, ending) = run(
            &mut Machine::forward(&itinerary(2, &[100])),
            Some((0, TroubleKind::Gate)),
        );
        assert_eq!(done.len(), 1);
        assert!(matches!(ending, Ending::Refused(_)));
    }

    #[test]
    fn one_target_that_fails_takes_all_back() {
        let mut machine = Machine::forward(&itinerary(2, &[100]));
        let second_share = 6;
        let (done, ending) = run(&mut machine, Some((second_share, TroubleKind::Gate)));
        assert_eq!(
            done[second_share],
            Task::Write {
                target: 1,
                aim: Aim::Share(Percent::ALL)
            }
        );
        for target in 0..2 {
            assert!(done.contains(&Task::Write {
                target,
                aim: Aim::Restore
            }));
        }
        assert_eq!(done.last(), Some(&Task::Enter(Phase::RolledBack)));
        assert!(matches!(ending, Ending::Reverted(_)));
    }

    #[test]
    fn a_foreign_edit_is_left_alone_while_the_others_go_back() {
        let mut machine = Machine::forward(&itinerary(2, &[100]));
        let (done, ending) = run(&mut machine, Some((6, TroubleKind::Foreign { target: 1 })));
        assert!(done.contains(&Task::Write {
            target: 0,
            aim: Aim::Restore
        }));
        assert!(!done.contains(&Task::Write {
            target: 1,
            aim: Aim::Restore
        }));
        assert!(!done.contains(&Task::ScaleDown));
        assert!(matches!(ending, Ending::NeedsPerson(_)));
    }

    #[test]
    fn a_foreign_edit_on_the_way_back_stops_that_target_only() {
        let mut machine = Machine::back(2, Refuge::Before);
        let (done, ending) = run(&mut machine, Some((3, TroubleKind::Foreign { target: 0 })));
        assert!(done.contains(&Task::Write {
            target: 1,
            aim: Aim::Restore
        }));
        assert!(!done.contains(&Task::Write {
            target: 0,
            aim: Aim::Return
        }));
        assert_eq!(done.last(), Some(&Task::Enter(Phase::NeedsPerson)));
        assert!(matches!(ending, Ending::NeedsPerson(_)));
    }

    #[test]
    fn a_process_that_was_replaced_touches_nothing_more() {
        let mut machine = Machine::forward(&itinerary(1, &[100]));
        let (done, ending) = run(&mut machine, Some((5, TroubleKind::Replaced)));
        assert_eq!(done.len(), 6);
        assert!(matches!(ending, Ending::Replaced(_)));
    }

    #[test]
    fn cancel_ends_where_it_is() {
        let mut machine = Machine::forward(&itinerary(1, &[100]));
        let _ = machine.next(Event::Started);
        assert_eq!(
            machine.next(Event::Cancelled),
            Next::Finish(Ending::Cancelled)
        );
    }

    #[test]
    fn a_resumed_list_goes_on_where_the_record_stands() {
        let steps = percents(&[10, 50, 100]);
        let at = |index, share, phase| {
            Some((
                StagePlan {
                    index,
                    share: Percent::new(share).unwrap(),
                },
                phase,
            ))
        };
        let left = |stands_at| {
            stages_left(&steps, stands_at)
                .iter()
                .map(|stage| (stage.index, stage.share.get()))
                .collect::<Vec<_>>()
        };
        assert_eq!(left(None), [(1, 10), (2, 50), (3, 100)]);
        assert_eq!(left(at(2, 50, Phase::Switching(2))), [(2, 50), (3, 100)]);
        assert_eq!(
            left(at(1, 10, Phase::Holding(1))),
            [(1, 10), (2, 50), (3, 100)],
            "the hold starts again"
        );
        assert_eq!(left(at(3, 100, Phase::Soaking)), []);
    }

    #[test]
    fn one_step_a_call_goes_on_from_the_call_before() {
        let at = Some((
            StagePlan {
                index: 1,
                share: Percent::new(10).unwrap(),
            },
            Phase::Holding(1),
        ));
        assert_eq!(stages_left(&percents(&[10]), at), []);
        let next = stages_left(&percents(&[50]), at);
        assert_eq!(
            next,
            [StagePlan {
                index: 2,
                share: Percent::new(50).unwrap()
            }]
        );
    }

    proptest! {
        /// Wherever it fails: every share is confirmed prepared first, nothing is scaled down
        /// before the other side has the traffic and the giving side is quiet, and it ends.
        #[test]
        fn traffic_never_moves_to_a_side_that_was_not_prepared(
            targets in 1_usize..4,
            shares in prop::sample::subsequence(vec![1_u32, 10, 25, 50, 75, 100], 1..6),
            fail_at in prop::option::of((0_usize..80, 0_usize..4)),
            course in prop::sample::select(vec![
                Course::Takeover, Course::Canary, Course::Promotion, Course::Rollback,
            ]),
        ) {
            let kinds = |choice: usize| match choice {
                0 => TroubleKind::Gate,
                1 => TroubleKind::Remote,
                2 => TroubleKind::Foreign { target: 0 },
                _ => TroubleKind::Replaced,
            };
            let planned = Itinerary { course, ..itinerary(targets, &shares) };
            let mut machine = Machine::forward(&planned);
            let (done, _) = run(&mut machine, fail_at.map(|(index, choice)| (index, kinds(choice))));
            let failed = fail_at.map(|(index, _)| index);
            for (index, task) in done.iter().enumerate() {
                let before = &done[..index];
                match task {
                    Task::Write { aim: Aim::Share(_) | Aim::Return, .. } => {
                        let prepared = before.iter().rposition(|task| *task == Task::Confirm(Aim::Prepare));
                        prop_assert!(prepared.is_some_and(|at| Some(at) != failed));
                    }
                    Task::Write { aim: Aim::Settle(_) | Aim::Restore, .. } | Task::ScaleDown => {
                        prop_assert!(before.contains(&Task::Quiet) || before.contains(&Task::RequireQuiet));
                    }
                    Task::Write { aim: Aim::Prepare, .. } => {
                        prop_assert!(before.iter().any(|task| matches!(task, Task::Capacity(_))));
                    }
                    Task::Enter(_) | Task::Shelter | Task::ScaleUp | Task::Capacity(_)
                    | Task::Confirm(_) | Task::FrontDoor(_) | Task::Hold | Task::Quiet | Task::RequireQuiet => {}
                }
            }
        }
    }
}
