//! A world around one run: it carries orders out the way a coordinator does, and answers them the way a test wants.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use protocol::{Failure, InstanceId, RunId, Status, codes};
use serde_json::Value;

use super::build::name;
use crate::{
    Command, Fact, Folded, Payload, Program, State,
    command::{Ending, Order},
    fact::{Event, Started, StepOutcome, TimerName},
};

/// A step and an item, as texts are easier to compare in tests.
pub(crate) type Id = (String, u64);

pub(crate) struct World {
    pub(crate) program: Arc<Program>,
    pub(crate) state: State,
    pub(crate) log: Vec<Fact>,
    pub(crate) now: DateTime<Utc>,
    /// Everything that was ever asked, in order.
    pub(crate) asked: Vec<(Id, Payload)>,
    /// What was asked and not answered.
    pub(crate) running: BTreeMap<Id, bool>,
    /// How what was asked ended, in the order of answering.
    pub(crate) answered: Vec<(Id, StepOutcome)>,
    pub(crate) timers: BTreeMap<TimerName, DateTime<Utc>>,
    pub(crate) emitted: Vec<Value>,
    pub(crate) ended: Option<Ending>,
}

pub(crate) fn id(step: &str, item: u64) -> Id {
    (step.to_owned(), item)
}

pub(crate) fn completed(output: Value) -> StepOutcome {
    let instance = InstanceId::parse("ins_1").ok();
    StepOutcome { status: Status::Completed, output: Payload::from(output), failure: None, attempt: 1, instance }
}

pub(crate) fn failed(code: &str) -> StepOutcome {
    let status = match code {
        codes::CANCELLED => Status::Cancelled,
        codes::DEADLINE_EXCEEDED => Status::Expired,
        _ => Status::Failed,
    };
    let failure = Some(Failure::new(code, "as the test wants"));
    StepOutcome { status, output: Payload::default(), failure, attempt: 3, instance: None }
}

pub(crate) fn started(input: Value) -> Started {
    Started {
        definition: Value::Null,
        input: Payload::from(input),
        lane: protocol::Lane::Normal,
        deadline: None,
        parent: None,
        timeout: None,
        retry_of: None,
        copied: Vec::new(),
    }
}

impl World {
    /// Not started yet.
    pub(crate) fn quiet(program: &Arc<Program>) -> Self {
        Self {
            program: Arc::clone(program),
            state: State::with_program(RunId::parse("run-1").unwrap(), Arc::clone(program)),
            log: Vec::new(),
            now: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            asked: Vec::new(),
            running: BTreeMap::new(),
            answered: Vec::new(),
            timers: BTreeMap::new(),
            emitted: Vec::new(),
            ended: None,
        }
    }

    pub(crate) fn start(program: &Arc<Program>) -> Self {
        Self::start_with(program, started(Value::Null))
    }

    pub(crate) fn start_with(program: &Arc<Program>, started: Started) -> Self {
        let mut world = Self::quiet(program);
        world.post(Event::Started(Box::new(started)));
        world
    }

    /// A fact comes into the log, a second after the one before, and what it leads to is carried out.
    pub(crate) fn post(&mut self, event: Event) -> Folded {
        self.now += TimeDelta::seconds(1);
        self.post_now(event)
    }

    fn post_now(&mut self, event: Event) -> Folded {
        // Sequences of a stream have gaps between the facts of one run.
        let sequence = self.log.last().map_or(7, |fact| fact.sequence + 3);
        let fact = Fact { sequence, at: self.now, event };
        let folded = self.state.fold(&fact);
        self.log.push(fact);
        let commands = self.state.commands_since(sequence - 1);
        assert!(commands.iter().all(|command| command.cause == sequence));
        for command in commands {
            self.carry_out(command);
        }
        folded
    }

    fn carry_out(&mut self, command: Command) {
        assert!(self.ended.is_none(), "after the end: {command:?}");
        match command.order {
            Order::Ask { step, item, input, .. } => {
                let id = id(step.as_str(), item);
                assert!(self.asked.iter().all(|(asked, _)| *asked != id), "asked twice: {id:?}");
                self.asked.push((id.clone(), input));
                self.running.insert(id, false);
            }
            Order::Withdraw { step, item, .. } => {
                let is_withdrawn =
                    self.running.get_mut(&id(step.as_str(), item)).expect("only what runs is taken back");
                assert!(!std::mem::replace(is_withdrawn, true), "taken back twice: {step} {item}");
            }
            Order::SetTimer { timer, due } => {
                assert!(due > self.now, "{timer:?} is past");
                assert!(self.timers.insert(timer, due).is_none());
            }
            Order::ClearTimer { timer } => {
                assert!(self.timers.remove(&timer).is_some(), "only what was set is cleared: {timer:?}");
            }
            Order::Emit { data, .. } => self.emitted.push(value(&data)),
            Order::End(ending) => self.ended = Some(ending),
        }
    }

    pub(crate) fn answer(&mut self, step: &str, item: u64, outcome: StepOutcome) -> Folded {
        let id = id(step, item);
        if self.running.remove(&id).is_some() {
            self.answered.push((id, outcome.clone()));
        }
        self.post(Event::StepEnded { step: name(step), item, outcome: Box::new(outcome) })
    }

    pub(crate) fn complete(&mut self, step: &str, item: u64, output: Value) -> Folded {
        self.answer(step, item, completed(output))
    }

    pub(crate) fn fail(&mut self, step: &str, item: u64) -> Folded {
        self.answer(step, item, failed("tea_is_cold"))
    }

    pub(crate) fn cancelled(&mut self, step: &str, item: u64) -> Folded {
        self.answer(step, item, failed(codes::CANCELLED))
    }

    pub(crate) fn signal(&mut self, signal: &str, value: Value) -> Folded {
        self.post(Event::Signalled { name: name(signal), value: Payload::from(value) })
    }

    pub(crate) fn cancel(&mut self) -> Folded {
        self.post(Event::CancelRequested { reason: "enough".to_owned() })
    }

    /// The timer that is due first fires when it is due.
    pub(crate) fn next_timer(&mut self) -> Option<Folded> {
        let (timer, due) = self.timers.iter().min_by_key(|(_, due)| **due).map(|(timer, due)| (timer.clone(), *due))?;
        self.timers.remove(&timer);
        self.now = self.now.max(due);
        Some(self.post_now(Event::TimerFired(timer)))
    }

    /// What runs, as `step.item`, those taken back with a `-` before them.
    pub(crate) fn runs(&self) -> Vec<String> {
        let show = |((step, item), is_withdrawn): (&Id, &bool)| {
            format!("{}{step}.{item}", if *is_withdrawn { "-" } else { "" })
        };
        self.running.iter().map(show).collect()
    }

    /// What was asked, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.asked.iter().map(|((step, item), _)| format!("{step}.{item}")).collect()
    }

    pub(crate) fn input_of(&self, step: &str, item: u64) -> Value {
        let found = self.asked.iter().find(|(asked, _)| *asked == id(step, item));
        value(&found.unwrap_or_else(|| panic!("{step}.{item} was not asked")).1)
    }

    /// Where the steps are, as `name=status`.
    pub(crate) fn statuses(&self) -> Vec<String> {
        let steps = self.state.view().steps;
        steps.iter().map(|step| format!("{}={}", step.name, step.status.as_str())).collect()
    }

    pub(crate) fn output(&self, step: &str) -> Value {
        let steps = self.state.view().steps;
        value(&steps.iter().find(|found| found.name.as_str() == step).unwrap().output)
    }

    pub(crate) fn ending(&self) -> &Ending {
        self.ended.as_ref().expect("it has ended")
    }

    /// The status and the failure's code of an ended run.
    pub(crate) fn end(&self) -> (Status, String) {
        let ending = self.ending();
        (ending.status, ending.failure.as_ref().map(|failure| failure.code.clone()).unwrap_or_default())
    }

    pub(crate) fn details(&self) -> Value {
        self.ending().failure.as_ref().and_then(|failure| failure.details.clone()).unwrap_or_default()
    }
}

pub(crate) fn value(payload: &Payload) -> Value {
    match payload {
        Payload::Value(value) => value.as_ref().clone(),
        Payload::Held { reference, .. } => Value::String(format!("held {reference}")),
    }
}
