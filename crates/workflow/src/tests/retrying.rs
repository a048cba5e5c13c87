//! What a run that is done again keeps.

use protocol::{RunId, Status};
use serde_json::{Value, json};

use super::{
    build::{call, call_with, emit, for_each, name, plan, race, repeat, signal, wait},
    world::{World, started},
};
use crate::{
    fact::Started,
    plan::{Stop, Success},
};

/// The run that does this one again.
fn again(world: &World, from: Option<&str>) -> World {
    let copied = world.state.copied_outcomes(from.map(name).as_ref()).unwrap();
    // It travels in a fact.
    let copied = serde_json::from_str(&serde_json::to_string(&copied).unwrap()).unwrap();
    let retry_of = RunId::parse("run-1").ok();
    World::start_with(&world.program, Started { copied, retry_of, ..started(json!([1, 2, 3])) })
}

#[test]
fn what_completed_is_not_done_again() {
    let plan =
        plan(vec![call("a"), call_with("b", json!("${ steps.a.output }")).needs(&["a"]), call("c").needs(&["b"])]);
    let mut world = World::start(&plan.program());
    world.complete("a", 0, json!("A"));
    world.complete("b", 0, json!("B"));
    world.fail("c", 0);

    let mut second = again(&world, None);
    assert_eq!(second.calls(), ["c.0"]);
    assert_eq!((second.output("a"), second.output("b")), (json!("A"), json!("B")));
    assert!(second.state.view().steps[0].requests[0].is_copied);
    second.complete("c", 0, json!(1));
    assert_eq!(second.end().0, Status::Completed);

    let from_b = again(&world, Some("b"));
    assert_eq!((from_b.calls(), from_b.input_of("b", 0)), (vec!["b.0".to_owned()], json!("A")));
    assert_eq!(again(&world, Some("a")).calls(), ["a.0"]);
    let error = world.state.copied_outcomes(Some(&name("x"))).unwrap_err();
    assert!(error.contains("no step `x`; it has a, b, c"), "{error}");
}

#[test]
fn every_kind_of_step_is_taken_over() {
    let plan = plan(vec![
        for_each("each", "input", 2, Success::All),
        repeat("poll", "last == 1", 9, Some(60)),
        race("ask", 3),
        wait("pause", 60),
        signal("gate", "approve", None, None),
        emit("tell", json!(1)),
        call("z").needs(&["each", "poll", "ask", "pause", "gate", "tell"]),
    ]);
    let mut world = World::start_with(&plan.program(), started(json!([1, 2, 3])));
    for item in 0..3 {
        world.complete("each", item, json!(item * 10));
    }
    world.complete("poll", 0, json!(0));
    world.next_timer();
    world.next_timer();
    world.complete("poll", 1, json!(1));
    world.complete("ask", 1, json!("won"));
    world.cancelled("ask", 0);
    world.cancelled("ask", 2);
    world.signal("approve", json!("yes"));
    world.fail("z", 0);
    assert_eq!(world.end().0, Status::Failed);

    let second = again(&world, None);
    // The pause between two turns is waited for: it costs nothing to keep to it.
    assert_eq!(second.timers.keys().map(ToString::to_string).collect::<Vec<_>>(), ["poll~1"]);
    let mut second = second;
    second.next_timer();
    assert_eq!((second.calls(), second.emitted.len()), (vec!["z.0".to_owned()], 0));
    for step in ["each", "poll", "ask", "gate"] {
        assert_eq!(second.output(step), world.output(step), "{step}");
    }
}

#[test]
fn items_that_completed_are_kept_where_others_failed() {
    let plan = plan(vec![for_each("each", "input", 3, Success::All)]).on_failure(Stop::FinishWhatRuns, false);
    let mut world = World::start_with(&plan.program(), started(json!([1, 2, 3])));
    world.complete("each", 0, json!(10));
    world.fail("each", 1);
    world.complete("each", 2, json!(30));
    let mut second = again(&world, None);
    assert_eq!(second.calls(), ["each.1"]);
    second.complete("each", 1, json!(20));
    assert_eq!(second.output("each"), json!([10, 20, 30]));
    assert_eq!(again(&world, Some("each")).calls(), ["each.0", "each.1", "each.2"]);
}

#[test]
fn turns_that_were_not_enough_are_taken_again() {
    let mut world = World::start(&plan(vec![repeat("poll", "last == 1", 2, None)]).program());
    world.complete("poll", 0, json!(0));
    world.complete("poll", 1, json!(0));
    assert_eq!(again(&world, None).calls(), ["poll.0"]);

    let mut world = World::start(&plan(vec![repeat("poll", "last == 1", 2, None)]).program());
    world.complete("poll", 0, json!(0));
    world.fail("poll", 1);
    assert_eq!(again(&world, None).calls(), ["poll.1"]);
}

#[test]
fn what_was_undone_is_done_again_with_what_depends_on_it() {
    let plan = plan(vec![call("a"), call("b").needs(&["a"]).undo(), call("c").needs(&["b"]), call("d").needs(&["c"])])
        .on_failure(Stop::FailFast, true);
    let mut world = World::start(&plan.program());
    for step in ["a", "b", "c"] {
        world.complete(step, 0, json!(1));
    }
    world.fail("d", 0);
    world.complete("undo_b", 0, Value::Null);
    let mut second = again(&world, None);
    assert_eq!(second.calls(), ["b.0"]);
    second.complete("b", 0, json!(1));
    assert_eq!(second.calls(), ["b.0", "c.0"]);
}

#[test]
fn what_was_taken_over_is_undone_when_it_comes_to_that() {
    let steps = || vec![call("a").undo(), call("b").needs(&["a"])];
    let mut world = World::start(&plan(steps()).program());
    world.complete("a", 0, json!(1));
    world.fail("b", 0);
    let copied = world.state.copied_outcomes(None).unwrap();
    let program = plan(steps()).on_failure(Stop::FailFast, true).program();
    let mut second = World::start_with(&program, Started { copied, ..started(Value::Null) });
    second.fail("b", 0);
    assert_eq!(second.runs(), ["undo_a.0"]);
}

#[test]
fn a_fallback_and_what_it_stands_in_for_go_together() {
    let plan = plan(vec![call("a").or("b"), call("b"), call("c").needs(&["a"])]);
    let mut world = World::start(&plan.program());
    world.fail("a", 0);
    world.complete("b", 0, json!("B"));
    world.fail("c", 0);
    // Its fallback is there already, should it fail again.
    let mut second = again(&world, None);
    assert_eq!(second.calls(), ["a.0"]);
    second.fail("a", 0);
    assert_eq!(second.calls(), ["a.0", "c.0"]);
    assert_eq!(again(&world, Some("b")).calls(), ["a.0"]);
}
