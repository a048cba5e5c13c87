//! Large runs: what folding them costs is counted in evaluations and orders, not in time.

use std::collections::BTreeMap;

use protocol::Status;
use serde_json::{Value, json};

use super::{
    build::{call, call_with, emit, for_each, plan},
    world::{completed, started},
};
use crate::{Fact, State, command::Order, fact::Event, plan::Success};

/// Folds a run to its end, answering everything at once, and gives back how many facts and commands that took.
fn drive(program: &std::sync::Arc<crate::Program>, input: Value) -> (State, u64, usize) {
    let mut state = State::with_program(protocol::RunId::parse("run-1").unwrap(), program.clone());
    let mut sequence = 1;
    let mut at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let mut told = 0;
    let mut ready = BTreeMap::from([(0, Event::Started(Box::new(started(input))))]);
    while let Some((_, event)) = ready.pop_first() {
        state.fold(&Fact { sequence, at, event });
        let commands = state.commands_since(sequence - 1);
        told += commands.len();
        for command in commands {
            if let Order::Ask { step, item, .. } = command.order {
                let outcome = Box::new(completed(json!(item)));
                ready.insert(told as u64 * 1_000_000 + ready.len() as u64, Event::StepEnded { step, item, outcome });
            }
        }
        sequence += 1;
        at += chrono::TimeDelta::milliseconds(1);
    }
    (state, sequence - 1, told)
}

#[test]
fn ten_thousand_items() {
    let program = plan(vec![for_each("each", "input", 32, Success::All)]).program();
    let list: Vec<usize> = (0..10_000).collect();
    let (state, facts, commands) = drive(&program, json!(list));
    assert_eq!((facts, commands), (10_001, 10_001), "one for each item, and the end");
    assert_eq!(state.ending().map(|ending| ending.status), Some(Status::Completed));
    let view = state.view();
    assert_eq!(view.steps[0].items.map(|items| items.completed), Some(10_000));
}

#[test]
fn ten_thousand_items_at_once() {
    let program = plan(vec![for_each("each", "input", 10_000, Success::Any)]).program();
    let list: Vec<usize> = (0..10_000).collect();
    let (state, facts, commands) = drive(&program, json!(list));
    assert_eq!((facts, commands), (10_001, 10_001));
    assert!(state.ending().is_some());
}

#[test]
fn a_thousand_steps_one_after_the_other() {
    let steps = (0..1_000).map(|number| {
        let step = call(&format!("s{number}"));
        if number == 0 { step } else { step.needs(&[&format!("s{}", number - 1)]) }
    });
    let (state, facts, commands) = drive(&plan(steps.collect()).program(), Value::Null);
    assert_eq!((facts, commands), (1_001, 1_001));
    assert_eq!(state.view().percent, 100);
}

#[test]
fn a_thousand_steps_that_need_nobody_for_one_that_needs_all() {
    let names: Vec<String> = (0..999).map(|number| format!("s{number}")).collect();
    let needs: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut steps: Vec<_> = names.iter().map(|name| call(name)).collect();
    steps.push(call_with("all", json!("${ steps.s998.output }")).needs(&needs));
    let (state, facts, commands) = drive(&plan(steps).program(), Value::Null);
    assert_eq!((facts, commands), (1_001, 1_001));
    assert!(state.ending().is_some());
}

#[test]
fn a_thousand_steps_that_settle_in_one_fact() {
    let steps = (0..1_000).map(|number| {
        let step = emit(&format!("s{number}"), json!(number));
        if number == 0 { step } else { step.needs(&[&format!("s{}", number - 1)]) }
    });
    let (state, facts, commands) = drive(&plan(steps.collect()).program(), Value::Null);
    assert_eq!((facts, commands), (1, 1_001));
    assert!(state.ending().is_some());
}

#[test]
fn fallbacks_a_thousand_deep_do_not_overflow_the_stack() {
    let steps = (0..1_000).map(|number| {
        let step = call_with(&format!("s{number}"), json!("${ input.missing }"));
        if number == 999 { call("s999") } else { step.or(&format!("s{}", number + 1)) }
    });
    let (state, _, _) = drive(&plan(steps.collect()).program(), json!({}));
    assert_eq!(state.ending().map(|ending| ending.status), Some(Status::Completed));
}

#[test]
fn a_run_that_sleeps_is_small() {
    // What 100,000 runs that wait have in common is the program; this is each one's own, without its strings.
    let bytes = size_of::<State>() + crate::state::COURSE_BYTES + crate::state::STEP_BYTES;
    assert!(bytes <= 1_024, "{bytes}");
}
