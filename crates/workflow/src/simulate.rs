//! A run that only happens here: the real engine, invented outcomes, a clock that jumps.

mod invent;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use protocol::{Failure, Lane, RunId, Status, StepName, codes, limits};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Command, Fact, Payload, Program, State, StepStatus,
    command::{Ending, Order},
    fact::{Event, Started, StepOutcome, TimerName},
    plan::Target,
};

/// How long each invented request takes.
const REQUEST_TAKES: TimeDelta = TimeDelta::seconds(1);

/// Facts of a dry run at most; it is left unended there.
pub const FACTS_MAX: u64 = 100_000;

/// What is invented. What is said of `step.2` (an item, turn or branch) comes before what is said of `step`.
pub struct Invented<'a> {
    /// Outputs of requests, by step. Defaults to an example of the output schema of who is asked, else to a value in which
    /// everything is that expressions read.
    pub outputs: BTreeMap<String, Value>,
    /// Requests that fail, by step, with the message of their failure.
    pub failures: BTreeMap<String, String>,
    /// Signals that come as soon as the run has started. For others their timeout passes.
    pub signals: BTreeMap<StepName, Value>,
    /// The JSON Schema of what somebody gives, if it is known.
    pub output_schema: &'a dyn Fn(&Target) -> Option<Value>,
}

/// What would happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simulation {
    /// Everything in its order.
    pub happened: Vec<Happened>,
    /// Steps that still wait at the end, because nothing comes any more; empty if the run ended.
    pub waiting: Vec<StepName>,
}

/// Something that would happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Happened {
    /// When, from the beginning.
    #[serde(with = "protocol::duration::text")]
    pub after: Duration,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What would happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// Somebody is asked.
    Asked {
        /// The step, or `undo_<step>`.
        step: StepName,
        /// The item, turn or branch, else 0.
        item: u64,
        /// Who: `call list-files` or `workflow other`.
        whom: String,
        /// The input.
        input: Value,
    },
    /// Somebody answers.
    Answered {
        /// The step, or `undo_<step>`.
        step: StepName,
        /// The item, turn or branch, else 0.
        item: u64,
        /// How.
        status: Status,
        /// The output; null unless completed.
        output: Value,
    },
    /// What was asked is cancelled.
    Withdrawn {
        /// The step.
        step: StepName,
        /// The item, turn or branch, else 0.
        item: u64,
    },
    /// Something waits until a moment.
    Waits {
        /// The step, or `run`.
        name: String,
        /// Until when, from the beginning.
        #[serde(with = "protocol::duration::text")]
        until: Duration,
    },
    /// A moment that was waited for has come.
    Due {
        /// The step, or `run`.
        name: String,
    },
    /// A signal comes.
    Signalled {
        /// Its name.
        name: StepName,
        /// What it carries.
        value: Value,
    },
    /// An event is published.
    Emitted {
        /// The step.
        step: StepName,
        /// The topic.
        topic: String,
        /// Its data.
        data: Value,
    },
    /// The run ends.
    Ended {
        /// How.
        status: Status,
        /// The result; null unless completed.
        output: Value,
        /// What failed, unless completed.
        failure: Option<Failure>,
    },
}

/// What would happen if a run began at that moment.
pub fn simulate(program: &Arc<Program>, input: Value, invented: &Invented<'_>, now: DateTime<Utc>) -> Simulation {
    let Ok(run) = RunId::parse("dry-run") else { return Simulation { happened: Vec::new(), waiting: Vec::new() } };
    let mut world = World {
        state: State::with_program(run, Arc::clone(program)),
        by_use: invent::by_use(program.plan()),
        invented,
        beginning: now,
        now,
        sequence: 0,
        comes: BTreeMap::new(),
        timers: BTreeMap::new(),
        requests: BTreeMap::new(),
        happened: Vec::new(),
    };
    world.run(input);
    let is_waiting = |status: StepStatus| matches!(status, StepStatus::Running);
    let is_ended = world.state.ending().is_some();
    let steps = world.state.view().steps.into_iter();
    let waiting = steps.filter(|step| !is_ended && is_waiting(step.status)).map(|step| step.name).collect();
    Simulation { happened: world.happened, waiting }
}

/// When something comes, and in which order of what comes then.
type When = (DateTime<Utc>, u64);

struct World<'a> {
    state: State,
    by_use: BTreeMap<StepName, Value>,
    invented: &'a Invented<'a>,
    beginning: DateTime<Utc>,
    now: DateTime<Utc>,
    /// Of the last fact or order; each gets a number of its own.
    sequence: u64,
    comes: BTreeMap<When, Event>,
    timers: BTreeMap<TimerName, When>,
    requests: BTreeMap<(StepName, u64), When>,
    happened: Vec<Happened>,
}

impl World<'_> {
    fn run(&mut self, input: Value) {
        let started = Started {
            definition: Value::Null,
            input: Payload::from(input),
            lane: Lane::Normal,
            deadline: None,
            parent: None,
            timeout: None,
            retry_of: None,
            copied: Vec::new(),
        };
        self.will(self.now, Event::Started(Box::new(started)));
        for (name, value) in &self.invented.signals {
            self.will(self.now, Event::Signalled { name: name.clone(), value: Payload::from(value.clone()) });
        }
        while self.state.ending().is_none()
            && self.sequence < FACTS_MAX
            && let Some(((at, _), event)) = self.comes.pop_first()
        {
            self.now = at;
            self.tell(&event);
            self.sequence += 1;
            let fact = Fact { sequence: self.sequence, at, event };
            self.state.fold(&fact);
            for command in self.state.commands_since(fact.sequence - 1) {
                self.carry_out(command);
            }
        }
    }

    fn will(&mut self, at: DateTime<Utc>, event: Event) -> When {
        self.sequence += 1;
        let when = (at, self.sequence);
        self.comes.insert(when, event);
        when
    }

    fn happens(&mut self, what: What) {
        let after = (self.now - self.beginning).to_std().unwrap_or_default();
        self.happened.push(Happened { after, what });
    }

    /// Says what comes from outside.
    fn tell(&mut self, event: &Event) {
        match event {
            Event::StepEnded { step, item, outcome } => {
                let (step, item, status) = (step.clone(), *item, outcome.status);
                self.requests.remove(&(step.clone(), item));
                self.happens(What::Answered { step, item, status, output: shown(&outcome.output) });
            }
            Event::TimerFired(timer) => {
                self.timers.remove(timer);
                self.happens(What::Due { name: named(timer) });
            }
            Event::Signalled { name, value } => {
                self.happens(What::Signalled { name: name.clone(), value: shown(value) });
            }
            _ => {}
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command.order {
            Order::Ask { step, item, target, input, .. } => {
                let outcome = Box::new(self.outcome(&step, item, &target));
                let event = Event::StepEnded { step: step.clone(), item, outcome };
                let when = self.will(self.now + REQUEST_TAKES, event);
                self.requests.insert((step.clone(), item), when);
                self.happens(What::Asked { step, item, whom: whom(&target), input: shown(&input) });
            }
            Order::Withdraw { step, item, .. } => {
                if let Some(when) = self.requests.remove(&(step.clone(), item)) {
                    self.comes.remove(&when);
                }
                let outcome = Box::new(failed(Status::Cancelled, codes::CANCELLED, "cancelled by the run"));
                self.will(self.now, Event::StepEnded { step: step.clone(), item, outcome });
                self.happens(What::Withdrawn { step, item });
            }
            Order::SetTimer { timer, due } => {
                let when = self.will(due, Event::TimerFired(timer.clone()));
                let until = (due - self.beginning).to_std().unwrap_or_default();
                self.happens(What::Waits { name: named(&timer), until });
                self.timers.insert(timer, when);
            }
            Order::ClearTimer { timer } => {
                if let Some(when) = self.timers.remove(&timer) {
                    self.comes.remove(&when);
                }
            }
            Order::Emit { step, topic, data } => {
                self.happens(What::Emitted { step, topic, data: shown(&data) });
            }
            Order::End(Ending { status, output, failure }) => {
                self.happens(What::Ended { status, output: shown(&output), failure });
            }
        }
    }

    fn outcome(&self, step: &StepName, item: u64, target: &Target) -> StepOutcome {
        let one = format!("{step}.{item}");
        let (failures, outputs) = (&self.invented.failures, &self.invented.outputs);
        let says = |key: &str| failures.contains_key(key) || outputs.contains_key(key);
        let key = if says(&one) { one.as_str() } else { step.as_str() };
        if let Some(message) = failures.get(key) {
            return failed(Status::Failed, codes::HANDLER_FAILED, message);
        }
        let output = outputs.get(key).cloned();
        let output = output
            .or_else(|| (self.invented.output_schema)(target).map(|schema| invent::example(&schema)))
            .or_else(|| self.by_use.get(step).cloned())
            .unwrap_or(Value::Null);
        let output = Payload::from(output);
        StepOutcome { status: Status::Completed, output, failure: None, attempt: 1, instance: None }
    }
}

fn failed(status: Status, code: &str, message: &str) -> StepOutcome {
    let failure = Some(Failure::new(code, message));
    StepOutcome { status, output: Payload::default(), failure, attempt: 1, instance: None }
}

fn shown(payload: &Payload) -> Value {
    match payload {
        Payload::Value(value) => value.as_ref().clone(),
        Payload::Held { reference, .. } => Value::from(reference.as_str()),
    }
}

fn named(timer: &TimerName) -> String {
    match timer {
        TimerName::Run => "run".to_owned(),
        TimerName::Step { step, .. } => step.to_string(),
    }
}

fn whom(target: &Target) -> String {
    match target {
        Target::Capability(capability) => format!("call {capability}"),
        Target::Workflow(workflow) => format!("workflow {workflow}"),
    }
}

/// `1d2s`: in the units that it has.
fn moment(after: Duration) -> String {
    let mut left = after.as_secs();
    let mut text = String::new();
    for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        let count = left / seconds;
        left %= seconds;
        if count > 0 || (unit == "s" && text.is_empty()) {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    text
}

/// One line for a terminal.
impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = |value: &Value| limits::truncate(&value.to_string(), 100);
        write!(f, "{:>8}  ", moment(self.after))?;
        match &self.what {
            What::Asked { step, item, whom, input } => write!(f, "{step}.{item}: {whom} {}", json(input)),
            What::Answered { step, item, status: Status::Completed, output } => {
                write!(f, "{step}.{item}: completed {}", json(output))
            }
            What::Answered { step, item, status, .. } => write!(f, "{step}.{item}: {}", status.as_str()),
            What::Withdrawn { step, item } => write!(f, "{step}.{item}: is cancelled"),
            What::Waits { name, until } => write!(f, "{name}: waits until {}", moment(*until)),
            What::Due { name } => write!(f, "{name}: goes on, its time has come"),
            What::Signalled { name, value } => write!(f, "signal {name} {}", json(value)),
            What::Emitted { step, topic, data } => write!(f, "{step}: emits {topic} {}", json(data)),
            What::Ended { status, failure: Some(failure), .. } => write!(f, "run {}: {failure}", status.as_str()),
            What::Ended { status, output, failure: None } => write!(f, "run {} {}", status.as_str(), json(output)),
        }
    }
}
