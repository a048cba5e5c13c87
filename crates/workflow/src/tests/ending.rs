//! How runs end that do not complete, and facts that come when nobody wants them.

use protocol::{Status, codes};
use serde_json::{Value, json};

use super::{
    build::{call, for_each, plan, race, repeat, signal, wait},
    world::{World, completed, failed, started},
};
use crate::{
    Folded, Why,
    fact::{Event, TimerName},
    plan::{Stop, Success},
};

#[test]
fn a_failure_takes_back_what_runs_and_waits_for_it() {
    let plan = plan(vec![
        call("a"),
        call("b"),
        for_each("each", "[1, 2, 3]", 2, Success::All),
        wait("pause", 60),
        signal("gate", "approve", None, None),
        repeat("poll", "last", 3, Some(60)),
        call("after").needs(&["b"]),
    ]);
    let mut world = World::start(&plan.program());
    world.complete("poll", 0, json!(false));
    world.fail("a", 0);
    assert_eq!(world.runs(), ["-b.0", "-each.0", "-each.1"]);
    assert!(world.timers.is_empty(), "{:?}", world.timers);
    let statuses = [
        "a=failed",
        "b=running",
        "each=running",
        "pause=cancelled",
        "gate=cancelled",
        "poll=cancelled",
        "after=skipped",
    ];
    assert_eq!(world.statuses(), statuses);
    world.cancelled("b", 0);
    world.complete("each", 0, json!(1));
    assert!(world.ended.is_none());
    world.answer("each", 1, failed("too_late"));
    assert_eq!(world.end(), (Status::Failed, codes::STEP_FAILED.to_owned()));
    assert_eq!(world.details()["step"], "a");
    assert_eq!(world.details()["failed_later"][0]["step"], "each");
}

#[test]
fn what_runs_may_finish() {
    let plan = plan(vec![
        call("a"),
        call("b"),
        for_each("each", "[1, 2, 3]", 2, Success::All),
        signal("gate", "approve", None, None),
        call("after").needs(&["b"]),
    ])
    .on_failure(Stop::FinishWhatRuns, false);
    let mut world = World::start(&plan.program());
    world.fail("a", 0);
    assert_eq!(world.runs(), ["b.0", "each.0", "each.1"]);
    world.complete("each", 0, json!(1));
    assert_eq!(world.runs(), ["b.0", "each.1"], "no item begins any more");
    world.complete("each", 1, json!(1));
    world.complete("b", 0, json!(1));
    assert_eq!(world.statuses(), ["a=failed", "b=completed", "each=cancelled", "gate=cancelled", "after=skipped"]);
    assert_eq!(world.end().0, Status::Failed);
}

#[test]
fn a_cancel_takes_back_what_was_to_finish() {
    let plan = plan(vec![call("a"), call("b")]).on_failure(Stop::FinishWhatRuns, false);
    let mut world = World::start(&plan.program());
    world.fail("a", 0);
    assert_eq!(world.cancel(), Folded::Changed);
    assert_eq!(world.runs(), ["-b.0"]);
    assert_eq!(world.cancel(), Folded::Nothing(Why::Twice));
    world.cancelled("b", 0);
    assert_eq!(world.end(), (Status::Failed, codes::STEP_FAILED.to_owned()), "the first reason counts");
}

#[test]
fn a_cancelled_run_says_so() {
    let mut world = World::start(&plan(vec![call("a"), race("ask", 2)]).program());
    assert_eq!(world.cancel(), Folded::Changed);
    assert_eq!(world.runs(), ["-a.0", "-ask.0", "-ask.1"]);
    world.cancelled("a", 0);
    world.cancelled("ask", 0);
    world.cancelled("ask", 1);
    assert_eq!(world.statuses(), ["a=cancelled", "ask=cancelled"]);
    assert_eq!(world.end(), (Status::Cancelled, codes::CANCELLED.to_owned()));
    assert!(world.ending().failure.as_ref().is_some_and(|failure| failure.message.contains("enough")));
}

#[test]
fn a_cancel_may_come_before_the_start() {
    let mut world = World::quiet(&plan(vec![call("a")]).program());
    assert_eq!(world.cancel(), Folded::Changed);
    assert!(!world.state.is_started());
    world.post(Event::Started(Box::new(started(Value::Null))));
    assert_eq!(world.end().0, Status::Cancelled);
    assert!(world.calls().is_empty());
}

#[test]
fn a_step_that_somebody_else_cancelled_has_failed() {
    let mut world = World::start(&plan(vec![call("a").go_on()]).program());
    world.cancelled("a", 0);
    assert_eq!((world.statuses(), world.end().0), (vec!["a=failed".to_owned()], Status::Completed));
}

#[test]
fn time_is_up_for_a_run() {
    let mut world = World::start(&plan(vec![call("a")]).timeout(60).program());
    world.next_timer();
    assert_eq!(world.runs(), ["-a.0"]);
    world.cancelled("a", 0);
    assert_eq!(world.end(), (Status::Failed, codes::RUN_TIMEOUT.to_owned()));
}

#[test]
fn the_nearer_of_timeout_and_deadline_counts() {
    for (timeout, deadline, expected) in [(60, 120, codes::RUN_TIMEOUT), (120, 60, codes::DEADLINE_EXCEEDED)] {
        let program = plan(vec![call("a")]).timeout(timeout).program();
        let mut world = World::quiet(&program);
        let deadline = Some(world.now + chrono::TimeDelta::seconds(deadline));
        world.post(Event::Started(Box::new(crate::fact::Started { deadline, ..started(Value::Null) })));
        world.next_timer();
        world.cancelled("a", 0);
        let status = if expected == codes::RUN_TIMEOUT { Status::Failed } else { Status::Expired };
        assert_eq!(world.end(), (status, expected.to_owned()));
    }
}

#[test]
fn a_run_whose_deadline_is_past_asks_nobody() {
    let mut world = World::quiet(&plan(vec![call("a")]).program());
    let deadline = Some(world.now);
    world.post(Event::Started(Box::new(crate::fact::Started { deadline, ..started(Value::Null) })));
    assert_eq!((world.end().0, world.calls().len()), (Status::Expired, 0));
}

#[test]
fn the_run_s_timer_is_no_command_any_more_once_it_ended() {
    let mut world = World::start(&plan(vec![call("a")]).timeout(60).program());
    world.complete("a", 0, json!(1));
    assert_eq!(world.state.commands_since(0).len(), 1, "the end alone");
}

#[test]
fn facts_that_nobody_wants_change_nothing() {
    let mut world = World::quiet(&plan(vec![call("a"), call("b").needs(&["a"])]).program());
    let outcome = |step: &str, item: u64| Event::StepEnded {
        step: super::build::name(step),
        item,
        outcome: Box::new(completed(json!("late"))),
    };
    assert_eq!(world.post(outcome("a", 0)), Folded::Nothing(Why::NotStarted));
    assert_eq!(world.post(Event::TimerFired(TimerName::Run)), Folded::Nothing(Why::NotStarted));
    world.post(Event::Started(Box::new(started(Value::Null))));
    let before = (world.state.view(), world.state.commands_since(0));
    let unreadable = Event::Unreadable { name: "x".to_owned(), why: "y".to_owned() };
    for (event, why) in [
        (Event::Started(Box::new(started(Value::Null))), Why::Twice),
        (outcome("nobody", 0), Why::NoSuchStep),
        (outcome("b", 0), Why::NotAsked),
        (outcome("a", 1), Why::NotAsked),
        (outcome("a", u64::MAX), Why::NotAsked),
        (outcome("undo_a", 0), Why::NoSuchStep),
        (Event::TimerFired(TimerName::Run), Why::NotWaitedFor),
        (Event::TimerFired(TimerName::parse("a~0").unwrap()), Why::NotWaitedFor),
        (Event::TimerFired(TimerName::parse("nobody~0").unwrap()), Why::NoSuchStep),
        (Event::TimerSet(TimerName::Run), Why::Tells),
        (Event::ResumeRequested, Why::Twice),
        (unreadable, Why::Unreadable),
    ] {
        assert_eq!(world.post(event.clone()), Folded::Nothing(why), "{event:?}");
        let view = crate::View { last_sequence: before.0.last_sequence, ..world.state.view() };
        assert_eq!((&view, &world.state.commands_since(0)), (&before.0, &before.1), "{event:?}");
    }
    world.complete("a", 0, json!(1));
    assert_eq!(world.post(outcome("a", 0)), Folded::Nothing(Why::Twice));
    world.complete("b", 0, json!(1));
    assert_eq!(world.post(outcome("b", 0)), Folded::Nothing(Why::Ended));
    let log = world.log.clone();
    assert!(log.iter().all(|fact| world.state.fold(fact) == Folded::Nothing(Why::Folded)));
}

#[test]
fn what_was_not_asked_yet_is_not_asked_only_to_be_taken_back() {
    // Both begin with the same fact, and one of them cannot: the other is never asked.
    let bad = super::build::call_with("bad", json!("${ input.missing }"));
    let world = World::start_with(&plan(vec![call("good"), bad]).program(), started(json!({})));
    assert_eq!((world.end().0, world.calls().len()), (Status::Failed, 0));
}

#[test]
fn a_definition_that_cannot_be_read_ends_the_run_at_once() {
    let mut state = crate::State::new(protocol::RunId::parse("run-1").unwrap());
    let event = Event::Started(Box::new(started(Value::Null)));
    let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    state.fold(&crate::Fact { sequence: 1, at, event });
    let code = state.ending().and_then(|ending| ending.failure.as_ref()).map(|failure| failure.code.clone());
    assert_eq!(code.as_deref(), Some(codes::DEFINITION_INVALID));
    assert_eq!(state.commands_since(0).len(), 1);
}

#[test]
fn failures_of_nested_runs_stay_small() {
    let program = plan(vec![super::build::sub_run("inner", "other")]).program();
    let big = json!("x".repeat(100_000));
    let mut outcome = failed("tea_is_cold");
    outcome.failure = outcome.failure.map(|failure| failure.details(big));
    let mut sizes = Vec::new();
    for _ in 0..40 {
        let mut world = World::start(&program);
        world.answer("inner", 0, outcome);
        let failure = world.ending().failure.clone().unwrap();
        assert_eq!(failure.causes.len(), (sizes.len() + 1).min(10));
        assert_eq!(failure.causes.last().map(String::as_str), Some("tea_is_cold: as the test wants"));
        sizes.push(serde_json::to_string(&failure).unwrap().len());
        outcome = crate::fact::StepOutcome { failure: Some(failure), ..failed(codes::STEP_FAILED) };
    }
    assert!(sizes.iter().all(|size| *size < 200_000), "{sizes:?}");
}
