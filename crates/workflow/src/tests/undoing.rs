//! What is undone, in which order, and what is told of it.

use protocol::{AttemptRecord, Status, codes};
use serde_json::{Value, json};

use super::{
    build::{call, emit, for_each, plan, race, repeat, signal, sub_run},
    world::{World, completed, failed, started},
};
use crate::{
    Folded, Why,
    fact::{Event, StepOutcome},
    plan::{Stop, Success},
};

fn undos(world: &World) -> Vec<String> {
    world.calls().into_iter().filter(|call| call.starts_with("undo_")).collect()
}

/// Answers whatever is asked from now on, and gives back the undos in their order.
fn finish(world: &mut World) -> Vec<String> {
    for _ in 0..1_000 {
        let Some(((step, item), is_withdrawn)) = world.running.clone().pop_first() else { break };
        if is_withdrawn {
            world.cancelled(&step, item)
        } else {
            world.complete(&step, item, Value::Null)
        };
    }
    assert!(world.ended.is_some());
    undos(world)
}

#[test]
fn what_completed_is_undone_in_reverse_order_one_after_the_other() {
    let plan = plan(vec![
        call("a").undo_with(json!({ "of": "${ steps.a.output.id }" })),
        call("b").undo(),
        call("c").needs(&["a", "b"]).undo(),
        call("d").needs(&["c"]),
    ])
    .on_failure(Stop::FailFast, true);
    let mut world = World::start(&plan.program());
    world.complete("b", 0, json!(1));
    world.complete("a", 0, json!({ "id": 17 }));
    world.complete("c", 0, json!(1));
    world.fail("d", 0);
    assert_eq!(world.runs(), ["undo_c.0"]);
    world.complete("undo_c", 0, Value::Null);
    assert_eq!(world.runs(), ["undo_a.0"]);
    assert_eq!(world.input_of("undo_a", 0), json!({ "of": 17 }));
    world.fail("undo_a", 0);
    assert_eq!(world.runs(), ["undo_b.0"], "one that fails stops nothing");
    world.complete("undo_b", 0, Value::Null);
    assert_eq!(world.end(), (Status::Failed, codes::STEP_FAILED.to_owned()));
    let told = world.details()["undo"].clone();
    assert_eq!(told[0], json!({ "step": "c", "undone": 1, "failed": 0, "failures": [] }));
    assert_eq!((&told[1]["failed"], &told[1]["failures"][0]["code"]), (&json!(1), &json!("tea_is_cold")));
}

#[test]
fn nothing_is_undone_unless_the_workflow_says_so_or_when_it_completed() {
    let steps = || vec![call("a").undo(), call("b").needs(&["a"])];
    let mut world = World::start(&plan(steps()).program());
    world.complete("a", 0, json!(1));
    world.fail("b", 0);
    assert_eq!((world.end().0, undos(&world).len()), (Status::Failed, 0));

    let mut world = World::start(&plan(steps()).on_failure(Stop::FailFast, true).program());
    world.complete("a", 0, json!(1));
    world.complete("b", 0, json!(1));
    assert_eq!((world.end().0, undos(&world).len()), (Status::Completed, 0));
}

#[test]
fn what_may_have_taken_effect_is_undone() {
    let attempts = |outcome: StepOutcome| {
        let mut outcome = outcome;
        let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let record = AttemptRecord {
            attempt: 1,
            code: codes::TIMEOUT.to_owned(),
            message: String::new(),
            instance: None,
            version: None,
            at,
        };
        outcome.failure.as_mut().unwrap().attempts.push(record);
        outcome
    };
    for (outcome, is_undone) in [
        (failed("tea_is_cold"), false),
        (failed(codes::INVALID_INPUT), false),
        (failed(codes::HANDLER_FAILED), false),
        (attempts(failed("tea_is_cold")), true),
        (failed(codes::TIMEOUT), true),
        (failed(codes::POISON), true),
        (failed(codes::HANDLER_PANICKED), true),
        (failed(codes::RESULT_TOO_LARGE), true),
        (failed(codes::CANCELLED), true),
        (failed(codes::DEADLINE_EXCEEDED), true),
    ] {
        let program = plan(vec![call("a").undo()]).on_failure(Stop::FailFast, true).program();
        let mut world = World::start(&program);
        world.answer("a", 0, outcome.clone());
        assert_eq!(finish(&mut world).len() == 1, is_undone, "{outcome:?}");
    }
}

#[test]
fn a_sub_run_that_failed_may_have_done_something() {
    for (code, is_undone) in [(codes::STEP_FAILED, true), ("tea_is_cold", true), (codes::RUN_LIMIT_REACHED, false)] {
        let program = plan(vec![sub_run("inner", "other").undo()]).on_failure(Stop::FailFast, true).program();
        let mut world = World::start(&program);
        world.answer("inner", 0, failed(code));
        assert_eq!(finish(&mut world).len() == 1, is_undone, "{code}");
    }
}

#[test]
fn what_was_never_asked_is_not_undone() {
    let bad = super::build::call_with("bad", json!("${ input.missing }")).undo();
    let plan = plan(vec![call("good").undo(), bad]).on_failure(Stop::FailFast, true);
    let world = World::start_with(&plan.program(), started(json!({})));
    assert_eq!((world.end().0, world.calls().len()), (Status::Failed, 0));
}

#[test]
fn items_turns_and_branches_are_undone_one_by_one() {
    let item = json!({ "item": "${ item }", "output": "${ last }" });
    let plan = plan(vec![
        for_each("each", "['a', 'b', 'c']", 3, Success::Any).undo_with(item),
        repeat("poll", "last == 1", 3, None).undo_with(json!("${ turn }")),
        race("ask", 3).undo(),
        call("bad").needs(&["each", "poll", "ask"]),
    ])
    .on_failure(Stop::FailFast, true);
    let mut world = World::start(&plan.program());
    world.complete("each", 2, json!("C"));
    world.fail("each", 1);
    world.complete("each", 0, json!("A"));
    world.complete("poll", 0, json!(0));
    world.complete("poll", 1, json!(1));
    world.fail("ask", 0);
    world.complete("ask", 1, json!(1));
    world.cancelled("ask", 2);
    world.fail("bad", 0);
    let expected = ["undo_ask.2", "undo_ask.1", "undo_poll.1", "undo_poll.0", "undo_each.0", "undo_each.2"];
    assert_eq!(finish(&mut world), expected);
    assert_eq!(world.input_of("undo_each", 2), json!({ "item": "c", "output": "C" }));
    assert_eq!(world.input_of("undo_poll", 1), json!(1));
}

#[test]
fn steps_that_ask_nobody_are_undone_too() {
    let plan = plan(vec![
        emit("tell", json!(1)).undo(),
        signal("gate", "approve", None, None).needs(&["tell"]).undo(),
        call("bad").needs(&["gate"]),
    ])
    .on_failure(Stop::FailFast, true);
    let mut world = World::start(&plan.program());
    world.signal("approve", json!(1));
    world.fail("bad", 0);
    assert_eq!(finish(&mut world), ["undo_gate.0", "undo_tell.0"]);
}

#[test]
fn a_cancelled_run_is_undone_and_nothing_stops_that() {
    let plan =
        plan(vec![call("a").undo(), call("b").needs(&["a"]).undo()]).on_failure(Stop::FailFast, true).timeout(60);
    let mut world = World::start(&plan.program());
    world.complete("a", 0, json!(1));
    world.cancel();
    world.cancelled("b", 0);
    assert_eq!(world.runs(), ["undo_b.0"]);
    assert_eq!(world.cancel(), Folded::Nothing(Why::Undoing));
    world.next_timer();
    world.post(Event::PauseRequested);
    assert_eq!(finish(&mut world), ["undo_b.0", "undo_a.0"]);
    assert_eq!(world.end().0, Status::Cancelled);
}

#[test]
fn an_undo_whose_input_cannot_be_made_is_told_and_passed_over() {
    let plan = plan(vec![
        call("a").undo(),
        call("b").needs(&["a"]).undo_with(json!("${ steps.b.output.missing }")),
        call("c").needs(&["b"]),
    ])
    .on_failure(Stop::FailFast, true);
    let mut world = World::start(&plan.program());
    world.complete("a", 0, json!(1));
    world.complete("b", 0, json!({}));
    world.fail("c", 0);
    assert_eq!(finish(&mut world), ["undo_a.0"]);
    assert_eq!(world.details()["undo"][0]["failures"][0]["code"], codes::EXPRESSION_FAILED);
}

#[test]
fn outcomes_of_undos_count_once() {
    let plan = plan(vec![call("a").undo(), call("b").needs(&["a"]).undo(), call("c").needs(&["b"])])
        .on_failure(Stop::FailFast, true);
    let mut world = World::start(&plan.program());
    world.complete("a", 0, json!(1));
    world.complete("b", 0, json!(1));
    assert_eq!(world.answer("undo_a", 0, completed(Value::Null)), Folded::Nothing(Why::NotAsked));
    world.fail("c", 0);
    world.complete("undo_b", 0, Value::Null);
    assert_eq!(world.answer("undo_b", 0, completed(Value::Null)), Folded::Nothing(Why::Twice));
    assert_eq!(finish(&mut world), ["undo_b.0", "undo_a.0"]);
}

#[test]
fn a_failure_that_was_passed_over_is_undone_when_the_run_fails() {
    let plan = plan(vec![call("a").go_on().undo(), call("b").needs_any(&["a", "c"]), call("c")])
        .on_failure(Stop::FailFast, true);
    let mut world = World::start(&plan.program());
    world.answer("a", 0, failed(codes::TIMEOUT));
    world.complete("c", 0, json!(1));
    world.fail("b", 0);
    assert_eq!(finish(&mut world), ["undo_a.0"]);
}
