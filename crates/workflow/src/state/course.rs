//! The course of a run since it started: takes facts, and settles all that follows from each at once.

mod ask;
mod begin;
mod conclude;
mod go_on;
mod stop;
mod undo;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use protocol::{Failure, Lane, RequestId, RunId, Status, codes};

use self::undo::Undo;
pub(super) use self::undo::Undone;
use super::{
    Early, Folded, Now, Why,
    orders::Orders,
    signals::Signals,
    step::{StepRun, StepStatus},
};
use crate::{
    Payload,
    command::Ending,
    fact::{Event, Started, StepOutcome, TimerName},
    plan::{Action, StepIndex},
    program::{Program, Slot},
};

/// What has become of a run since it started.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) program: Arc<Program>,
    pub(super) run: RunId,
    pub(super) input: Payload,
    pub(super) lane: Lane,
    pub(super) started: DateTime<Utc>,
    /// How long it may take.
    timeout: Option<Duration>,
    /// When it has to be over, and whether that is a deadline; else it is its timeout.
    pub(super) due: Option<(DateTime<Utc>, bool)>,
    pub(super) parent: Option<RequestId>,
    pub(super) retry_of: Option<RunId>,
    /// What the run that this one does again had done, until a step takes it over.
    pub(super) copied: BTreeMap<(StepIndex, u64), StepOutcome>,
    pub(super) signals: Signals,
    pub(super) is_paused: bool,
    /// What would have gone on, were it not for the pause.
    pub(super) held: BTreeSet<StepIndex>,
    pub(super) steps: Vec<StepRun>,
    /// Steps that have not ended.
    pub(super) open: usize,
    /// Steps that have begun and not ended.
    pub(super) active: usize,
    /// How many things have ended.
    rank: u64,
    pub(super) phase: Phase,
    /// How it is going to end, once that is decided.
    pub(super) verdict: Option<Box<Verdict>>,
    pub(super) undo: Undo,
    pub(super) ending: Option<Box<Ending>>,
    pub(super) ended: Option<DateTime<Utc>>,
    pub(super) orders: Orders,
    /// What is still to be settled of the fact in hand; empty between facts.
    agenda: VecDeque<Task>,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Steps begin.
    Running,
    /// Nothing begins; what runs is waited for.
    Stopping,
    /// What was done is taken back.
    Undoing,
    /// It is over.
    Ended,
}

/// How a run that does not complete is going to end.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) status: Status,
    pub(super) failure: Failure,
    /// Steps that failed after it was decided.
    pub(super) later: Vec<(StepIndex, Failure)>,
    /// Whether what runs was taken back.
    is_withdrawn: bool,
}

/// What is to be settled.
#[derive(Debug)]
enum Task {
    /// A step may begin, or begin more.
    GoOn(StepIndex),
    /// What was begun has ended without anybody being asked.
    Ended(StepIndex, u64, Box<StepOutcome>),
}

impl Course {
    pub(super) fn begin(run: RunId, program: Arc<Program>, started: &Started, early: Early, now: Now) -> Self {
        let plan = program.plan();
        let timeout = [plan.timeout, started.timeout].into_iter().flatten().min();
        let until = timeout.map(|timeout| (after(now.at, timeout), false));
        let deadline = started.deadline.map(|deadline| (deadline, true));
        let copied = started.copied.iter().filter_map(|copied| match program.find(&copied.step)? {
            Slot::Do(index) => Some(((index, copied.item), copied.outcome.clone())),
            Slot::Undo(_) => None,
        });
        let mut course = Self {
            run,
            input: started.input.clone(),
            lane: started.lane,
            started: now.at,
            timeout,
            due: [until, deadline].into_iter().flatten().min(),
            parent: started.parent.clone(),
            retry_of: started.retry_of.clone(),
            copied: copied.collect(),
            signals: early.signals,
            is_paused: early.is_paused,
            held: BTreeSet::new(),
            steps: Vec::with_capacity(plan.steps.len()),
            open: plan.steps.len(),
            active: 0,
            rank: 0,
            phase: Phase::Running,
            verdict: None,
            undo: Undo::default(),
            ending: None,
            ended: None,
            orders: Orders::default(),
            agenda: VecDeque::new(),
            program: Arc::clone(&program),
        };
        for (number, step) in plan.steps.iter().enumerate() {
            let gate = usize::from(program.fallback_of[number].is_some());
            let needs_open = step.needs.len() + step.needs_any.len() + gate;
            course.steps.push(StepRun { needs_open, ..StepRun::default() });
            if needs_open == 0 {
                course.agenda.push_back(Task::GoOn(StepIndex(number)));
            }
        }
        match course.due {
            Some((due, _)) if due <= now.at => {
                course.time_is_up(now);
            }
            Some((due, _)) => course.orders.set_timer(now, TimerName::Run, due),
            None => {}
        }
        if let Some(reason) = early.cancel {
            course.cancel(&reason, now);
        }
        course.settle_all(now);
        course
    }

    /// Takes one fact.
    pub(super) fn take(&mut self, event: &Event, now: Now) -> Folded {
        if self.phase == Phase::Ended {
            return Folded::Nothing(Why::Ended);
        }
        let folded = match event {
            Event::Started(_) => Folded::Nothing(Why::Twice),
            Event::StepEnded { step, item, outcome } => match self.program.find(step) {
                Some(Slot::Do(index)) => self.step_ended(index, *item, outcome, now),
                Some(Slot::Undo(index)) => self.undo_ended(index, *item, outcome, now),
                None => Folded::Nothing(Why::NoSuchStep),
            },
            Event::TimerSet(_) => Folded::Nothing(Why::Tells),
            Event::TimerFired(timer) => self.timer_fired(timer, now),
            Event::Signalled { name, value } => self.signalled(name, value, now),
            Event::CancelRequested { reason } => self.cancel(reason, now),
            Event::PauseRequested => self.pause(true),
            Event::ResumeRequested => self.pause(false),
            Event::Unreadable { .. } => Folded::Nothing(Why::Unreadable),
        };
        self.settle_all(now);
        folded
    }

    fn step_ended(&mut self, index: StepIndex, item: u64, outcome: &StepOutcome, now: Now) -> Folded {
        let entry = usize::try_from(item).ok().and_then(|item| self.steps[index.0].items.get(item));
        match entry.map(|entry| entry.status) {
            None | Some(StepStatus::Waiting) => Folded::Nothing(Why::NotAsked),
            Some(StepStatus::Running) => {
                self.orders.ended(Slot::Do(index), item);
                self.item_ended(index, item, outcome.clone(), now);
                Folded::Changed
            }
            Some(_) => Folded::Nothing(Why::Twice),
        }
    }

    fn timer_fired(&mut self, timer: &TimerName, now: Now) -> Folded {
        let TimerName::Step { step, item } = timer else {
            self.orders.fired(timer);
            return self.run_timer_fired(now);
        };
        let Some(Slot::Do(index)) = self.program.find(step) else { return Folded::Nothing(Why::NoSuchStep) };
        if self.steps[index.0].timer.is_none_or(|(number, _)| number != *item) {
            return Folded::Nothing(Why::NotWaitedFor);
        }
        self.steps[index.0].timer = None;
        self.orders.fired(timer);
        self.time_has_come(index, now);
        Folded::Changed
    }

    fn run_timer_fired(&mut self, now: Now) -> Folded {
        let is_timed = matches!(self.phase, Phase::Running | Phase::Stopping) && self.due.is_some();
        if is_timed && self.time_is_up(now) { Folded::Changed } else { Folded::Nothing(Why::NotWaitedFor) }
    }

    fn signalled(&mut self, name: &protocol::StepName, value: &Payload, now: Now) -> Folded {
        while let Some(index) = self.signals.next_waiting(name) {
            if self.steps[index.0].status == StepStatus::Running {
                self.signal_has_come(index, value.clone(), now);
                return Folded::Changed;
            }
        }
        if self.signals.keep(name, value) { Folded::Changed } else { Folded::Nothing(Why::TooManySignals) }
    }

    fn pause(&mut self, is_paused: bool) -> Folded {
        if self.is_paused == is_paused {
            return Folded::Nothing(Why::Twice);
        }
        self.is_paused = is_paused;
        if !is_paused {
            self.agenda.extend(std::mem::take(&mut self.held).into_iter().map(Task::GoOn));
        }
        Folded::Changed
    }

    /// Settles whatever follows. Each task is taken once, so this ends: a step begins once, an item ends once.
    fn settle_all(&mut self, now: Now) {
        loop {
            while let Some(task) = self.agenda.pop_front() {
                match task {
                    Task::GoOn(index) => self.go_on(index, now),
                    Task::Ended(index, item, outcome) => self.item_ended(index, item, *outcome, now),
                }
            }
            match self.phase {
                Phase::Running if self.open == 0 => self.complete(now),
                Phase::Running if self.active == 0 && self.held.is_empty() => self.stalled(now),
                Phase::Stopping if self.active == 0 => self.begin_undo(now),
                Phase::Running | Phase::Stopping | Phase::Undoing | Phase::Ended => return,
            }
        }
    }

    /// A step may begin, or begin more.
    fn go_on(&mut self, index: StepIndex, now: Now) {
        if self.phase != Phase::Running {
            return;
        }
        let status = self.steps[index.0].status;
        if self.is_paused && matches!(status, StepStatus::Waiting | StepStatus::Running) {
            self.held.insert(index);
            return;
        }
        match status {
            StepStatus::Waiting => self.begin_step(index, now),
            StepStatus::Running => self.go_on_with(index, now),
            _ => {}
        }
    }

    fn next_rank(&mut self) -> u64 {
        self.rank += 1;
        self.rank
    }

    fn action(&self, index: StepIndex) -> Shape {
        match &self.program.plan().step(index).action {
            Action::Once(_) => Shape::Once,
            Action::ForEach { .. } => Shape::ForEach,
            Action::Repeat { .. } => Shape::Repeat,
            Action::Race { .. } => Shape::Race,
            Action::Wait(_) | Action::Signal { .. } | Action::Emit { .. } => Shape::Alone,
        }
    }
}

/// How the requests of a step belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Once,
    ForEach,
    Repeat,
    Race,
    /// It asks nobody.
    Alone,
}

/// A moment after another. Durations that no calendar holds end with it.
fn after(at: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
    let duration = duration.min(protocol::duration::DURATION_MAX);
    chrono::TimeDelta::from_std(duration).ok().and_then(|delta| at.checked_add_signed(delta)).unwrap_or(at)
}

fn expression_failed(message: String) -> Failure {
    Failure::new(codes::EXPRESSION_FAILED, message)
}
