//! The state of a run: its log, folded.
//!
//! ```text
//!   Fact ──► State::fold ──► Course::take ──► tasks until nothing follows any more ──► orders, by the fact that led to them
//!                                                                                         │
//!                          coordinator ◄── State::commands_since ◄────────────────────────┘
//! ```
//!
//! Nothing here costs more per fact than what that fact changes: a run of thousands of steps or items folds in a time that
//! grows with their number. Exceptions, once a run each: its beginning, its stop, its undo.

mod course;
mod effect;
mod orders;
mod retry;
mod scope;
mod signals;
mod step;
pub mod view;

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use protocol::{Failure, Lane, RunId, Status, StepName};

use self::{course::Course, orders::Orders, signals::Signals};
use crate::{
    Command, Fact, Payload,
    command::Ending,
    fact::{Event, Started},
    program::Program,
};

pub use self::{step::StepStatus, view::View};

/// A run, as far as its log is folded.
#[derive(Debug)]
pub struct State {
    run: RunId,
    last_sequence: u64,
    program: Option<Arc<Program>>,
    stage: Stage,
}

/// What folding a fact did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    /// It changed the state.
    Changed,
    /// It changed nothing.
    Nothing(Why),
}

/// Why a fact changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is folded already.
    Folded,
    /// It only tells that a timer was set.
    Tells,
    /// The run has not started, and such a fact cannot wait.
    NotStarted,
    /// The run has ended.
    Ended,
    /// The run is being undone, which nothing stops.
    Undoing,
    /// The definition has no such step.
    NoSuchStep,
    /// Nobody was asked for it.
    NotAsked,
    /// It has happened before.
    Twice,
    /// Nobody waits for it any more.
    NotWaitedFor,
    /// So many signals wait for a step already that no more are kept.
    TooManySignals,
    /// It cannot be read.
    Unreadable,
}

/// How far a run is.
#[derive(Debug)]
enum Stage {
    /// It has not started.
    Early(Early),
    /// It has started.
    Begun(Box<Course>),
    /// Its definition cannot be run.
    Refused(Box<Refused>),
}

/// What came before the start and counts from there.
#[derive(Debug, Default)]
struct Early {
    cancel: Option<String>,
    is_paused: bool,
    signals: Signals,
}

/// A run that ended with its beginning.
#[derive(Debug)]
struct Refused {
    ending: Ending,
    orders: Orders,
}

/// The fact in hand.
#[derive(Clone, Copy, Debug)]
struct Now {
    cause: u64,
    at: DateTime<Utc>,
}

impl State {
    /// A run of which nothing is known.
    pub fn new(run: RunId) -> Self {
        Self { run, last_sequence: 0, program: None, stage: Stage::Early(Early::default()) }
    }

    /// A run whose definition was read before, for another run: so that it is not read and kept once more. It must be the one
    /// that its `started` fact holds.
    pub fn with_program(run: RunId, program: Arc<Program>) -> Self {
        Self { program: Some(program), ..Self::new(run) }
    }

    /// Folds the next fact of the run's log. Facts at or below the last folded sequence change nothing.
    pub fn fold(&mut self, fact: &Fact) -> Folded {
        if fact.sequence <= self.last_sequence {
            return Folded::Nothing(Why::Folded);
        }
        self.last_sequence = fact.sequence;
        let now = Now { cause: fact.sequence, at: fact.at };
        match (&mut self.stage, &fact.event) {
            (Stage::Early(_), Event::Started(started)) => self.start(started, now),
            (Stage::Early(early), event) => early.keep(event),
            (Stage::Begun(course), event) => course.take(event, now),
            (Stage::Refused(_), _) => Folded::Nothing(Why::Ended),
        }
    }

    /// Every command that a fact above `sequence` led to and that is still wanted, in the order of those facts (0: all).
    ///
    /// A request is wanted until its outcome is there, a timer until it fired or is not needed. Events and cleared timers are
    /// never answered: they are told again for as long as the run lives.
    pub fn commands_since(&self, sequence: u64) -> Vec<Command> {
        match &self.stage {
            Stage::Early(_) => Vec::new(),
            Stage::Begun(course) => course.orders.since(sequence),
            Stage::Refused(refused) => refused.orders.since(sequence),
        }
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Whether `started` is folded.
    pub fn is_started(&self) -> bool {
        !matches!(self.stage, Stage::Early(_))
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<&Ending> {
        match &self.stage {
            Stage::Early(_) => None,
            Stage::Begun(course) => course.ending.as_deref(),
            Stage::Refused(refused) => Some(&refused.ending),
        }
    }

    /// Whether it may take only so long: then it has a timer of its own, which nothing but the end of its log clears.
    pub fn is_timed(&self) -> bool {
        self.course().is_some_and(|course| course.due.is_some())
    }

    /// Whether nobody has been asked for anything that the run still waits for: it waits for its time, or for a word from
    /// outside.
    pub fn is_asleep(&self) -> bool {
        self.course().is_some_and(|course| !course.orders.is_any_asked())
    }

    /// The sequence of the last fact folded, whether it changed anything or not; 0 before the first.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// The step's request that asked for this run, if it is a sub-run.
    pub fn parent(&self) -> Option<&protocol::RequestId> {
        self.course().and_then(|course| course.parent.as_ref())
    }

    /// Its input, once it has started.
    pub fn input(&self) -> Option<&Payload> {
        self.course().map(|course| &course.input)
    }

    /// The lane of its steps where they name none.
    pub fn lane(&self) -> Lane {
        self.course().map(|course| course.lane).unwrap_or_default()
    }

    /// What it runs, once it has started.
    pub fn program(&self) -> Option<&Arc<Program>> {
        self.program.as_ref()
    }

    /// Whether a held output of this step has to be at hand before its fact is folded.
    pub fn is_output_read(&self, step: &StepName) -> bool {
        self.program.as_ref().is_some_and(|program| program.is_output_read(step))
    }

    /// Whether a held signal of this name has to be at hand before its fact is folded. Before the start nobody knows.
    pub fn is_signal_read(&self, signal: &StepName) -> bool {
        self.program.as_ref().is_none_or(|program| program.is_signal_read(signal))
    }

    /// Whether a held input of the run has to be at hand before its `started` is folded.
    pub fn is_input_read(&mut self, started: &Started) -> bool {
        self.prepare(started).is_ok_and(|program| program.is_input_read())
    }

    fn start(&mut self, started: &Started, now: Now) -> Folded {
        let program = self.prepare(started);
        let Stage::Early(early) = &mut self.stage else { return Folded::Nothing(Why::Twice) };
        let early = std::mem::take(early);
        self.stage = match program {
            Ok(program) => Stage::Begun(Box::new(Course::begin(self.run.clone(), program, started, early, now))),
            Err(failure) => Stage::Refused(Box::new(Refused::new(failure, now))),
        };
        Folded::Changed
    }

    fn prepare(&mut self, started: &Started) -> Result<Arc<Program>, Failure> {
        if let Some(program) = &self.program {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(Program::read(&started.definition)?);
        self.program = Some(Arc::clone(&program));
        Ok(program)
    }

    fn course(&self) -> Option<&Course> {
        match &self.stage {
            Stage::Begun(course) => Some(course),
            Stage::Early(_) | Stage::Refused(_) => None,
        }
    }
}

impl Early {
    fn keep(&mut self, event: &Event) -> Folded {
        match event {
            Event::CancelRequested { reason } if self.cancel.is_none() => self.cancel = Some(reason.clone()),
            Event::PauseRequested if !self.is_paused => self.is_paused = true,
            Event::ResumeRequested if self.is_paused => self.is_paused = false,
            Event::Signalled { name, value } => {
                if !self.signals.keep(name, value) {
                    return Folded::Nothing(Why::TooManySignals);
                }
            }
            Event::CancelRequested { .. } | Event::PauseRequested | Event::ResumeRequested => {
                return Folded::Nothing(Why::Twice);
            }
            Event::TimerSet(_) => return Folded::Nothing(Why::Tells),
            Event::Unreadable { .. } => return Folded::Nothing(Why::Unreadable),
            Event::Started(_) | Event::StepEnded { .. } | Event::TimerFired(_) => {
                return Folded::Nothing(Why::NotStarted);
            }
        }
        Folded::Changed
    }
}

impl Refused {
    fn new(failure: Failure, now: Now) -> Self {
        let ending = Ending { status: Status::Failed, output: Payload::default(), failure: Some(failure) };
        let mut orders = Orders::default();
        orders.end(now, ending.clone());
        Self { ending, orders }
    }
}

impl Why {
    /// Said as what the fact is.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Folded => "is folded already",
            Self::Tells => "only tells that a timer was set",
            Self::NotStarted => "came before the run started",
            Self::Ended => "came after the run's end",
            Self::Undoing => "came while the run is undone, which nothing stops",
            Self::NoSuchStep => "names no step of the workflow",
            Self::NotAsked => "answers what nobody asked",
            Self::Twice => "has happened before",
            Self::NotWaitedFor => "is what nobody waits for any more",
            Self::TooManySignals => "is one signal too many",
            Self::Unreadable => "cannot be read",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a run takes, without what its steps and items take; for the test that bounds it.
#[cfg(test)]
pub(crate) const COURSE_BYTES: usize = size_of::<Course>();
/// What a step takes, without its items.
#[cfg(test)]
pub(crate) const STEP_BYTES: usize = size_of::<step::StepRun>();
