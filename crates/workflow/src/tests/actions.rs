//! What each action does, step by step.

use protocol::{Status, codes};
use serde_json::{Value, json};

use super::{
    build::{call, call_with, emit, for_each, plan, race, repeat, signal, sub_run, wait, wait_until},
    world::{World, completed, failed, started},
};
use crate::{
    Folded, Why,
    command::Order,
    fact::Event,
    plan::{Success, Target},
};

#[test]
fn steps_begin_when_what_they_need_has_ended() {
    let plan = plan(vec![
        call_with("report", json!({ "from": "${ steps.files.output.count }", "of": "${ input.path }" }))
            .needs(&["files", "secrets"]),
        call("files"),
        call("secrets"),
    ])
    .output(json!("${ steps.report.output }"));
    let mut world = World::start_with(&plan.program(), started(json!({ "path": "/src" })));
    assert_eq!(world.runs(), ["files.0", "secrets.0"]);
    world.complete("files", 0, json!({ "count": 3 }));
    assert_eq!(world.runs(), ["secrets.0"]);
    world.complete("secrets", 0, json!([]));
    assert_eq!(world.input_of("report", 0), json!({ "from": 3, "of": "/src" }));
    world.complete("report", 0, json!("fine"));
    assert_eq!(world.end(), (Status::Completed, String::new()));
    assert_eq!(super::world::value(&world.ending().output), json!("fine"));
}

#[test]
fn a_false_condition_skips_and_lets_others_go_on() {
    let plan = plan(vec![
        call("a"),
        call("b").needs(&["a"]).when("steps.a.output > 3"),
        call_with("c", json!("${ steps.b.output }")).needs(&["b"]),
    ]);
    let mut world = World::start(&plan.program());
    world.complete("a", 0, json!(3));
    assert_eq!(world.statuses(), ["a=completed", "b=skipped", "c=running"]);
    assert_eq!(world.input_of("c", 0), Value::Null);
    world.complete("c", 0, json!(0));
    assert_eq!(world.end().0, Status::Completed);
}

#[test]
fn a_condition_that_is_no_truth_fails_its_step() {
    for condition in ["steps.a.output", "steps.a.output.b > 1"] {
        let mut world = World::start(&plan(vec![call("a"), call("b").needs(&["a"]).when(condition)]).program());
        world.complete("a", 0, json!(3));
        assert_eq!(world.end(), (Status::Failed, codes::STEP_FAILED.to_owned()));
        assert_eq!(world.details()["failure"]["code"], codes::EXPRESSION_FAILED, "{condition}");
    }
}

#[test]
fn an_input_that_cannot_be_made_fails_its_step() {
    let plan = plan(vec![call("a"), call_with("b", json!("${ steps.a.output.missing }")).needs(&["a"]).go_on()]);
    let mut world = World::start(&plan.program());
    world.complete("a", 0, json!({}));
    assert_eq!(world.statuses(), ["a=completed", "b=failed"]);
    assert_eq!(world.calls(), ["a.0"]);
    assert_eq!(world.end().0, Status::Completed);
}

#[test]
fn an_output_that_cannot_be_made_fails_the_run() {
    let plan = plan(vec![call("a")]).output(json!("${ steps.a.output.missing }"));
    let mut world = World::start(&plan.program());
    world.complete("a", 0, json!({}));
    assert_eq!(world.end(), (Status::Failed, codes::EXPRESSION_FAILED.to_owned()));
}

#[test]
fn a_failure_that_is_passed_over_cuts_off_what_needs_it() {
    let plan = plan(vec![
        call("a").go_on(),
        call("b").needs(&["a"]),
        call("c").needs(&["b"]),
        call("other"),
        call("d").needs_any(&["a", "other"]),
        call("e").needs_any(&["a", "b"]),
    ]);
    let mut world = World::start(&plan.program());
    world.fail("a", 0);
    assert_eq!(world.statuses(), ["a=failed", "b=skipped", "c=skipped", "other=running", "d=waiting", "e=skipped"]);
    world.complete("other", 0, json!(1));
    assert_eq!(world.runs(), ["d.0"]);
    world.complete("d", 0, json!(1));
    assert_eq!(world.end().0, Status::Completed);
}

#[test]
fn a_fallback_stands_in_for_what_failed() {
    let plan = plan(vec![
        call("a").or("b"),
        call("b"),
        call_with(
            "c",
            json!([
                "${ steps.a.output }",
                "${ steps.a.status }",
                "${ steps.a.status == 'failed' ? steps.a.error.code : '' }"
            ]),
        )
        .needs(&["a"]),
    ]);
    let program = plan.program();
    let mut world = World::start(&program);
    assert_eq!(world.runs(), ["a.0"]);
    world.fail("a", 0);
    assert_eq!(world.runs(), ["b.0"]);
    world.complete("b", 0, json!("instead"));
    assert_eq!(world.input_of("c", 0), json!(["instead", "failed", "tea_is_cold"]));
    assert_eq!(world.state.view().steps[0].stood_in_by.as_ref().map(|name| name.as_str()), Some("b"));

    let mut world = World::start(&program);
    world.complete("a", 0, json!("itself"));
    assert_eq!(world.statuses(), ["a=completed", "b=skipped", "c=running"]);

    let mut world = World::start(&program);
    world.fail("a", 0);
    world.fail("b", 0);
    assert_eq!((world.end().0, world.details()["step"].clone()), (Status::Failed, json!("b")));
}

#[test]
fn a_fallback_whose_condition_is_false_leaves_the_failure() {
    let plan = plan(vec![call("a").or("b"), call("b").when("steps.a.error.code == 'other'"), call("c").needs(&["a"])]);
    let mut world = World::start(&plan.program());
    world.fail("a", 0);
    assert_eq!((world.end().0, world.details()["step"].clone()), (Status::Failed, json!("a")));
}

#[test]
fn fallbacks_of_fallbacks_end_what_began_it_all() {
    let plan = plan(vec![call("a").or("b"), call("b").or("c"), call("c"), call("d").needs(&["a"])]);
    let mut world = World::start(&plan.program());
    world.fail("a", 0);
    world.fail("b", 0);
    world.complete("c", 0, json!("third"));
    assert_eq!(
        (world.output("a"), world.output("b"), world.runs()),
        (json!("third"), json!("third"), vec!["d.0".to_owned()])
    );
}

#[test]
fn a_list_is_gone_through_with_so_many_at_once() {
    let plan = plan(vec![for_each("each", "input", 2, Success::All)]).output(json!("${ steps.each.output }"));
    let mut world = World::start_with(&plan.program(), started(json!(["a", "b", "c"])));
    assert_eq!(world.runs(), ["each.0", "each.1"]);
    world.complete("each", 1, json!("B"));
    assert_eq!(world.runs(), ["each.0", "each.2"]);
    assert_eq!(world.input_of("each", 2), json!({ "item": "c" }));
    world.complete("each", 2, json!("C"));
    world.complete("each", 0, json!("A"));
    assert_eq!(super::world::value(&world.ending().output), json!(["A", "B", "C"]));
}

#[test]
fn a_list_succeeds_by_its_rule() {
    // Items, rule, which fail (by number), and what comes of it.
    let cases: [(usize, Success, &[u64], Option<Value>); 11] = [
        (0, Success::All, &[], Some(json!([]))),
        (0, Success::Any, &[], Some(json!([]))),
        (0, Success::AtLeast(0), &[], Some(json!([]))),
        (0, Success::AtLeast(1), &[], None),
        (3, Success::All, &[], Some(json!([0, 1, 2]))),
        (3, Success::All, &[1], None),
        (3, Success::Any, &[0, 2], Some(json!([null, 1, null]))),
        (3, Success::Any, &[0, 1, 2], None),
        (3, Success::AtLeast(2), &[2], Some(json!([0, 1, null]))),
        (3, Success::AtLeast(2), &[0, 2], None),
        (3, Success::AtLeast(4), &[], None),
    ];
    for (items, success, failing, expected) in cases {
        let program = plan(vec![for_each("each", "input", 10, success).go_on()]).program();
        let list: Vec<usize> = (0..items).collect();
        let mut world = World::start_with(&program, started(json!(list)));
        for item in 0..items as u64 {
            if world.running.contains_key(&("each".to_owned(), item)) {
                let outcome = if failing.contains(&item) { failed("no") } else { completed(json!(item)) };
                world.answer("each", item, outcome);
            }
        }
        for (_, item) in world.running.clone().into_keys() {
            world.cancelled("each", item);
        }
        assert_eq!(world.end().0, Status::Completed, "{items} {success:?} {failing:?}");
        let step = &world.state.view().steps[0];
        let code = step.failure.as_ref().map(|failure| failure.code.as_str());
        match expected {
            Some(output) => assert_eq!((world.output("each"), code), (output, None), "{items} {success:?} {failing:?}"),
            None => assert_eq!(code, Some(codes::ITEMS_FAILED), "{items} {success:?} {failing:?}"),
        }
    }
}

#[test]
fn one_failed_item_decides_and_takes_the_others_back() {
    let plan = plan(vec![for_each("each", "input", 2, Success::All)]);
    let mut world = World::start_with(&plan.program(), started(json!([1, 2, 3, 4])));
    world.fail("each", 0);
    assert_eq!(world.runs(), ["-each.1"]);
    world.cancelled("each", 1);
    assert_eq!(world.calls(), ["each.0", "each.1"]);
    assert_eq!(world.details()["failure"]["details"]["first"][0]["item"], 0);
}

#[test]
fn what_is_no_list_fails_its_step() {
    let plan = plan(vec![for_each("each", "input", 2, Success::All)]);
    let world = World::start_with(&plan.program(), started(json!({ "a": 1 })));
    assert_eq!(world.details()["failure"]["code"], codes::EXPRESSION_FAILED);
}

#[test]
fn items_whose_input_cannot_be_made_fail_alone() {
    let plan = plan(vec![for_each("each", "input", 1, Success::Any)]);
    let program = plan.program();
    let mut world = World::start_with(&program, started(json!([1, 2])));
    world.complete("each", 0, json!(1));
    world.complete("each", 1, json!(1));
    assert_eq!(world.end().0, Status::Completed);
}

#[test]
fn turns_follow_each_other_until_it_is_enough() {
    let plan = plan(vec![repeat("poll", "last.done", 5, Some(30))]).output(json!("${ steps.poll.output.n }"));
    let mut world = World::start(&plan.program());
    assert_eq!(world.input_of("poll", 0), json!({ "turn": 0, "last": null }));
    world.complete("poll", 0, json!({ "done": false, "n": 0 }));
    assert!(world.runs().is_empty());
    let (timer, due) = world.timers.iter().next().map(|(timer, due)| (timer.to_string(), *due)).unwrap();
    assert_eq!((timer.as_str(), (due - world.now).num_seconds()), ("poll~1", 30));
    world.next_timer();
    assert_eq!(world.input_of("poll", 1), json!({ "turn": 1, "last": { "done": false, "n": 0 } }));
    world.complete("poll", 1, json!({ "done": true, "n": 1 }));
    assert_eq!((world.end().0, super::world::value(&world.ending().output)), (Status::Completed, json!(1)));
}

#[test]
fn turns_end_with_their_number_or_their_failure() {
    let program = plan(vec![repeat("poll", "last", 2, None)]).program();
    let mut world = World::start(&program);
    world.complete("poll", 0, json!(false));
    world.complete("poll", 1, json!(false));
    assert_eq!(world.details()["failure"]["code"], codes::TURNS_EXHAUSTED);

    let mut world = World::start(&program);
    world.complete("poll", 0, json!(false));
    world.fail("poll", 1);
    assert_eq!(world.details()["failure"]["code"], "tea_is_cold");

    let mut world = World::start(&program);
    world.complete("poll", 0, json!("perhaps"));
    assert_eq!(world.details()["failure"]["code"], codes::EXPRESSION_FAILED);
}

#[test]
fn the_first_success_wins_and_the_others_are_taken_back_and_waited_for() {
    let plan = plan(vec![race("ask", 3)]).output(json!("${ steps.ask.output }"));
    let mut world = World::start(&plan.program());
    world.fail("ask", 0);
    world.complete("ask", 2, json!("third"));
    assert_eq!(world.runs(), ["-ask.1"]);
    assert!(world.ended.is_none());
    // Too late to be taken back, and too late to win.
    world.complete("ask", 1, json!("second"));
    assert_eq!(super::world::value(&world.ending().output), json!("third"));
}

#[test]
fn a_race_that_nobody_wins_is_lost() {
    let mut world = World::start(&plan(vec![race("ask", 2)]).program());
    world.fail("ask", 0);
    world.fail("ask", 1);
    assert_eq!(world.details()["failure"]["code"], codes::RACE_LOST);
    assert_eq!(world.details()["failure"]["details"]["first"].as_array().map(Vec::len), Some(2));
}

#[test]
fn waits_last_from_the_fact_that_began_them() {
    let plan = plan(vec![call("a"), wait("pause", 60).needs(&["a"]), call("b").needs(&["pause"])]);
    let mut world = World::start(&plan.program());
    assert!(!world.state.is_asleep(), "an answer is waited for");
    world.complete("a", 0, json!(1));
    let due = world.timers.values().next().copied().unwrap();
    assert_eq!((due - world.now).num_seconds(), 60);
    assert!(world.state.is_asleep());
    world.next_timer();
    assert_eq!(world.runs(), ["b.0"]);
    assert!(!world.state.is_asleep());
}

#[test]
fn a_moment_that_is_past_does_not_wait() {
    for (moment, is_waiting) in [("'2020-01-01T00:00:00Z'", false), ("'2100-01-01T00:00:00Z'", true)] {
        let world = World::start(&plan(vec![wait_until("pause", moment)]).program());
        assert_eq!((world.timers.len() == 1, world.ended.is_none()), (is_waiting, is_waiting), "{moment}");
    }
    for nonsense in ["'tomorrow'", "5", "input.when"] {
        let world = World::start(&plan(vec![wait_until("pause", nonsense)]).program());
        assert_eq!(world.details()["failure"]["code"], codes::EXPRESSION_FAILED, "{nonsense}");
    }
}

#[test]
fn a_moment_may_be_computed() {
    let mut world =
        World::start(&plan(vec![wait_until("remind", "timestamp(run.started) + duration('24h')")]).program());
    let due = world.timers.values().next().copied().unwrap();
    assert_eq!((due - world.now).num_hours(), 24);
    world.next_timer();
    assert_eq!(world.end().0, Status::Completed);
}

#[test]
fn a_signal_is_taken_whether_it_comes_early_or_late() {
    let plan = plan(vec![
        call("a"),
        signal("gate", "approve", Some(60), None).needs(&["a"]),
        signal("again", "approve", None, None).needs(&["gate"]),
    ]);
    let mut world = World::quiet(&plan.program());
    assert_eq!(world.signal("approve", json!("before the start")), Folded::Changed);
    world.post(Event::Started(Box::new(started(Value::Null))));
    world.signal("approve", json!("before the step"));
    assert_eq!(world.state.view().signals_kept, 2);
    world.complete("a", 0, json!(1));
    assert_eq!((world.output("gate"), world.output("again")), (json!("before the start"), json!("before the step")));
    assert_eq!(world.end().0, Status::Completed);
    assert!(world.timers.is_empty());
}

#[test]
fn a_signal_clears_the_timer_of_its_step() {
    let mut world = World::start(&plan(vec![signal("gate", "approve", Some(60), None), call("a")]).program());
    assert_eq!(world.timers.len(), 1);
    world.signal("approve", json!({ "by": "ann" }));
    assert_eq!((world.timers.len(), world.output("gate")), (0, json!({ "by": "ann" })));
    // The timer had fired before it was cleared.
    let timer = crate::fact::TimerName::parse("gate~0").unwrap();
    assert_eq!(world.post(Event::TimerFired(timer)), Folded::Nothing(Why::NotWaitedFor));
}

#[test]
fn a_signal_that_does_not_come_is_a_failure_or_has_a_default() {
    let mut world = World::start(&plan(vec![signal("gate", "approve", Some(60), None)]).program());
    world.next_timer();
    assert_eq!(world.details()["failure"]["code"], codes::SIGNAL_TIMEOUT);

    let otherwise = Some(json!({ "approved": false }));
    let mut world = World::start(&plan(vec![signal("gate", "approve", Some(60), otherwise), call("a")]).program());
    world.next_timer();
    assert_eq!(world.output("gate"), json!({ "approved": false }));
    assert_eq!(world.signal("approve", json!(1)), Folded::Changed);
    assert_eq!(world.state.view().signals_kept, 1, "nobody waits for it any more, so it is kept");
}

#[test]
fn two_steps_that_wait_for_one_signal_take_one_each() {
    let steps = || vec![signal("one", "go", None, None), signal("two", "go", None, None)];
    let mut world = World::start(&plan(steps()).program());
    world.signal("go", json!(1));
    assert_eq!(world.statuses(), ["one=completed", "two=running"]);
    world.signal("go", json!(2));
    assert_eq!((world.output("one"), world.output("two")), (json!(1), json!(2)));
}

#[test]
fn signals_that_nobody_waits_for_are_bounded() {
    let mut world = World::start(&plan(vec![call("a")]).program());
    for _ in 0..1_000 {
        assert_eq!(world.signal("go", json!(1)), Folded::Changed);
    }
    assert_eq!(world.signal("go", json!(1)), Folded::Nothing(Why::TooManySignals));
}

#[test]
fn an_event_is_published_and_the_run_goes_on() {
    let plan = plan(vec![emit("tell", json!({ "n": "${ input }" })), call("a").needs(&["tell"])]);
    let mut world = World::start_with(&plan.program(), started(json!(4)));
    assert_eq!((world.emitted.clone(), world.runs()), (vec![json!({ "n": 4 })], vec!["a.0".to_owned()]));
    world.complete("a", 0, json!(1));
    // Who folds the log anew from before that fact publishes it again, under the same id, before the end.
    let again = world.state.commands_since(0);
    assert!(matches!(&again[0].order, Order::Emit { .. }) && matches!(&again[1].order, Order::End(_)), "{again:?}");
    assert_eq!(again.len(), 2);
}

#[test]
fn a_sub_run_is_asked_for_like_anything_else() {
    let mut world = World::start(&plan(vec![sub_run("inner", "other"), call("a").needs(&["inner"])]).program());
    let commands = world.state.commands_since(0);
    let Order::Ask { target: Target::Workflow(workflow), .. } = &commands[0].order else { panic!("{commands:?}") };
    assert_eq!(workflow.as_str(), "other");
    world.complete("inner", 0, json!(1));
    assert_eq!(world.runs(), ["a.0"]);
}

#[test]
fn a_paused_run_begins_nothing_and_goes_on_where_it_was() {
    let plan = plan(vec![
        for_each("each", "input", 1, Success::All),
        repeat("poll", "last", 3, Some(10)),
        call("after").needs(&["each"]),
        wait("pause", 5),
        call("then").needs(&["pause"]),
    ]);
    let mut world = World::start_with(&plan.program(), started(json!([1, 2])));
    assert_eq!(world.post(Event::PauseRequested), Folded::Changed);
    assert_eq!(world.post(Event::PauseRequested), Folded::Nothing(Why::Twice));
    world.complete("each", 0, json!(1));
    world.complete("poll", 0, json!(false));
    world.next_timer();
    world.next_timer();
    assert!(world.runs().is_empty() && world.timers.is_empty());
    assert_eq!(world.statuses(), ["each=running", "poll=running", "after=waiting", "pause=completed", "then=waiting"]);
    world.post(Event::ResumeRequested);
    assert_eq!(world.runs(), ["each.1", "poll.1", "then.0"]);
}

#[test]
fn a_run_of_no_steps_completes_at_once() {
    let world = World::start(&plan(vec![]).output(json!("nothing")).program());
    assert_eq!(super::world::value(&world.ending().output), json!("nothing"));
}

#[test]
fn steps_that_wait_for_each_other_fail_the_run() {
    let plan = plan(vec![call("a").needs(&["b"]), call("b").needs(&["a"]), call("c")]);
    let mut world = World::start(&plan.program());
    world.complete("c", 0, json!(1));
    assert_eq!(world.end(), (Status::Failed, codes::DEFINITION_INVALID.to_owned()));
}

#[test]
fn results_too_large_for_a_list_fail_their_item() {
    let program = plan(vec![for_each("each", "input", 2, Success::Any)]).program();
    let mut world = World::start_with(&program, started(json!([1, 2])));
    let held = crate::Payload::Held { reference: "object".to_owned(), content_type: "application/json".to_owned() };
    world.answer("each", 0, crate::fact::StepOutcome { output: held, ..completed(Value::Null) });
    world.complete("each", 1, json!(2));
    assert_eq!(world.output("each"), json!([null, 2]));
    let code = world.state.view().steps[0].requests[0].failure.as_ref().map(|failure| failure.code.clone());
    assert_eq!(code.as_deref(), Some(codes::RESULT_TOO_LARGE));
}

#[test]
fn what_is_held_is_handed_on_without_being_read() {
    let plan = plan(vec![call("a"), call_with("b", json!("${ steps.a.output }")).needs(&["a"])]);
    let mut world = World::start(&plan.program());
    let held = crate::Payload::Held { reference: "object".to_owned(), content_type: "application/json".to_owned() };
    world.answer("a", 0, crate::fact::StepOutcome { output: held, ..completed(Value::Null) });
    assert_eq!(world.input_of("b", 0), json!("held object"));
}
