//! Runs of workflows: what their logs consist of, and the names that follow from others.

use std::fmt;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{Namespace, RequestId, RunId, StepName, WorkflowName};

mod holders;
mod start;
mod summary;

pub use holders::{RunHolders, RunWaiting, WAITING_MAX, holders_key};
pub use start::Start;
pub use summary::{LoggedFact, RunSummary};

/// What the id of a sub-run begins with.
const SUB_RUN: &str = "sub-";
/// The length of what follows, as 62 letters to a digit: 130 bits.
const SUB_RUN_DIGITS: usize = 22;

/// A fact of a run's log that is no outcome of a step, by the end of its subject: `run.<run>.<fact>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunFact {
    /// It began: `started`.
    Started,
    /// A timer was set: `timer.<t>`, in a log of before timers had a place of their own.
    Timer(RunTimer),
    /// A timer came due: `timer.<t>.fired`.
    TimerFired(RunTimer),
    /// Somebody says something from outside: `signal.<name>`.
    Signal(StepName),
    /// Somebody wants it to end: `cancel`.
    Cancel,
    /// Nothing new is to begin: `pause`.
    Pause,
    /// Go on: `resume`.
    Resume,
    /// The message with this sequence is in this log too, but nobody was told: its headers cannot be read.
    /// `unreadable.<sequence>`.
    Unreadable(u64),
}

/// A timer of a run, one token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunTimer {
    /// The run's own timeout or deadline: `run`.
    Run,
    /// A step's: `<step>~<n>`.
    Step {
        /// The step.
        step: StepName,
        /// The turn that follows, else 0.
        item: u64,
    },
}

impl RunFact {
    /// The inverse of its text; none for whatever is no such fact.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split('.').collect::<Vec<_>>().as_slice() {
            ["started"] => Some(Self::Started),
            ["timer", timer] => Some(Self::Timer(RunTimer::parse(timer)?)),
            ["timer", timer, "fired"] => Some(Self::TimerFired(RunTimer::parse(timer)?)),
            ["signal", name] => Some(Self::Signal(StepName::parse(name).ok()?)),
            ["cancel"] => Some(Self::Cancel),
            ["pause"] => Some(Self::Pause),
            ["resume"] => Some(Self::Resume),
            ["unreadable", sequence] => Some(Self::Unreadable(number(sequence)?)),
            _ => None,
        }
    }
}

impl fmt::Display for RunFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Timer(timer) => write!(f, "timer.{timer}"),
            Self::TimerFired(timer) => write!(f, "timer.{timer}.fired"),
            Self::Signal(name) => write!(f, "signal.{name}"),
            Self::Cancel => f.write_str("cancel"),
            Self::Pause => f.write_str("pause"),
            Self::Resume => f.write_str("resume"),
            Self::Unreadable(sequence) => write!(f, "unreadable.{sequence}"),
        }
    }
}

/// The step and item of an outcome, by the end of its subject: `step.<step>.<n>.outcome`. None for whatever is no such thing.
pub fn step_outcome_of(text: &str) -> Option<(StepName, u64)> {
    match text.split('.').collect::<Vec<_>>().as_slice() {
        ["step", step, item, "outcome"] => Some((StepName::parse(step).ok()?, number(item)?)),
        _ => None,
    }
}

/// A number as we write it: one number has one spelling.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

impl RunTimer {
    /// The inverse of its text.
    pub fn parse(token: &str) -> Option<Self> {
        if token == "run" {
            return Some(Self::Run);
        }
        let (step, item) = token.split_once('~')?;
        Some(Self::Step { step: StepName::parse(step).ok()?, item: number(item)? })
    }
}

impl Serialize for RunTimer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for RunTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("run"),
            Self::Step { step, item } => write!(f, "{step}~{item}"),
        }
    }
}

/// A message of a run's log, from the subject under which the broker stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFact {
    /// The partition that the broker put in front of the run.
    pub partition: u8,
    /// The run.
    pub run: RunId,
    /// The rest: a [`RunFact`], `step.<step>.<n>.outcome`, or something else.
    pub name: String,
}

impl StoredFact {
    /// Reads `<ns>.run.<partition>.<run>.<fact…>`.
    pub fn parse(namespace: &Namespace, subject: &str) -> Option<Self> {
        let rest = subject.strip_prefix(namespace.as_str())?.strip_prefix(".run.")?;
        let (partition, rest) = rest.split_once('.')?;
        let (run, name) = rest.split_once('.')?;
        Some(Self { partition: partition.parse().ok()?, run: RunId::parse(run).ok()?, name: name.to_owned() })
    }
}

/// The run that a step starts: whoever carries the step's request out again starts the same one.
pub fn sub_run_of(step_request: &RequestId) -> RunId {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digest = Sha256::digest(step_request.as_str().as_bytes());
    let mut number = digest.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let mut text = String::from(SUB_RUN);
    for _ in 0..SUB_RUN_DIGITS {
        text.push(char::from(DIGITS[usize::try_from(number % 62).unwrap_or(0)]));
        number /= 62;
    }
    RunId::known(text)
}

/// The key of a workflow's definition in the workflows bucket: each revision is a version.
pub fn definition_key(workflow: &WorkflowName) -> String {
    workflow.to_string()
}

/// The topic of the event that a run ended: `sys.run.<workflow>.<status>.<run>`. Wildcards stand for what is not named.
pub fn ended_topic(workflow: Option<&WorkflowName>, status: Option<crate::Status>, run: Option<&RunId>) -> String {
    let workflow = workflow.map_or("*", WorkflowName::as_str);
    let status = status.map_or("*", crate::Status::as_str);
    format!("{}.{workflow}.{status}.{}", crate::event::RUN, run.map_or("*", RunId::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_read_back_from_its_name() {
        let (pause, step) = (StepName::parse("approve").unwrap(), StepName::parse("a_b").unwrap());
        let timer = RunTimer::Step { step, item: 7 };
        for (fact, name) in [
            (RunFact::Started, "started"),
            (RunFact::Timer(RunTimer::Run), "timer.run"),
            (RunFact::TimerFired(timer), "timer.a_b~7.fired"),
            (RunFact::Signal(pause), "signal.approve"),
            (RunFact::Cancel, "cancel"),
            (RunFact::Pause, "pause"),
            (RunFact::Resume, "resume"),
            (RunFact::Unreadable(17), "unreadable.17"),
        ] {
            assert_eq!((fact.to_string().as_str(), RunFact::parse(name)), (name, Some(fact)));
        }
        for none in ["", "start", "timer.a~07", "timer.a~1.fired.x", "unreadable.07", "signal", "step.a.0.outcome"] {
            assert_eq!(RunFact::parse(none), None, "{none}");
        }
    }

    #[test]
    fn an_outcome_names_its_step_and_item() {
        let scan = StepName::parse("scan").unwrap();
        assert_eq!(step_outcome_of("step.scan.17.outcome"), Some((scan, 17)));
        for none in
            ["", "step.scan.17", "step.scan.017.outcome", "step.scan.-1.outcome", "step.a b.0.outcome", "cancel"]
        {
            assert_eq!(step_outcome_of(none), None, "{none}");
        }
    }

    #[test]
    fn a_stored_fact_tells_partition_run_and_name() {
        let fleet = Namespace::default();
        let found = StoredFact::parse(&fleet, "fleet.run.12.order-1.step.a.0.outcome").unwrap();
        assert_eq!((found.partition, found.run.as_str(), found.name.as_str()), (12, "order-1", "step.a.0.outcome"));
        for none in ["fleet.run.12.order-1", "fleet.run.x.order-1.started", "other.run.1.a.started", "fleet.request.a"]
        {
            assert_eq!(StoredFact::parse(&fleet, none), None, "{none}");
        }
    }

    #[test]
    fn a_sub_run_has_one_id_for_good() {
        let step = RequestId::parse("order-1~ship~0").unwrap();
        assert_eq!(sub_run_of(&step), sub_run_of(&step));
        assert_eq!(sub_run_of(&step).as_str().len(), 26);
        assert_ne!(sub_run_of(&step), sub_run_of(&RequestId::parse("order-1~ship~1").unwrap()));
        assert!(RequestId::from_client(sub_run_of(&step).as_str()).is_ok());
    }
}
