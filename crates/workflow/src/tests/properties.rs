//! What holds for every workflow and every history.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use protocol::{RunId, Status, codes};
use serde_json::{Value, json};

use super::{
    build::name,
    generate::{Kinds, Recipes, recipes},
    world::{Id, World, completed, failed, id, started},
};
use crate::{
    Folded, Program, State, StepStatus,
    command::Order,
    fact::{Event, StepOutcome, TimerName},
};

/// More than any generated run needs; one that takes so many answers would never end.
const ANSWERS_MAX: usize = 1_000;

/// Answers until the run has ended, as the numbers want and, when those are used up, in whatever order is left.
fn drive(world: &mut World, chances: &[u16], outcome: &dyn Fn(&Id, u16) -> StepOutcome) -> Result<(), TestCaseError> {
    for turn in 0..ANSWERS_MAX {
        if world.ended.is_some() {
            return Ok(());
        }
        check_commands(world)?;
        let chance = chances.get(turn).copied().unwrap_or(0);
        let choices = world.running.len() + world.timers.len();
        if choices == 0 {
            // It waits for somebody outside.
            let event = if world.state.view().status == crate::state::view::RunStatus::Paused {
                Event::ResumeRequested
            } else {
                Event::Signalled { name: name(if turn % 2 == 0 { "go" } else { "stop" }), value: Default::default() }
            };
            world.post(event);
            continue;
        }
        let choice = usize::from(chance) % choices;
        if let Some(asked) = world.running.keys().nth(choice).cloned() {
            let outcome = match world.running[&asked] {
                true if chance % 3 > 0 => failed(codes::CANCELLED),
                _ => outcome(&asked, chance),
            };
            world.answer(&asked.0, asked.1, outcome);
        } else {
            world.next_timer();
        }
    }
    Err(TestCaseError::fail(format!("it does not end: {:?} {:?}", world.statuses(), world.runs())))
}

/// What is wanted is wanted of what runs, and each thing once.
fn check_commands(world: &World) -> Result<(), TestCaseError> {
    let view = world.state.view();
    let mut running: Vec<Id> = Vec::new();
    let of_steps = view.steps.iter().flat_map(|step| &step.requests);
    for request in of_steps.chain(&view.undo).filter(|request| request.status == StepStatus::Running) {
        running.push(id(request.step.as_str(), request.item));
    }
    running.sort();
    let mut asked: Vec<Id> = Vec::new();
    for command in world.state.commands_since(0) {
        match command.order {
            Order::Ask { step, item, .. } => asked.push(id(step.as_str(), item)),
            Order::Withdraw { step, item, .. } => {
                prop_assert!(
                    running.contains(&id(step.as_str(), item)),
                    "{step}.{item} is taken back and does not run"
                );
            }
            Order::SetTimer { timer: TimerName::Step { step, .. }, .. } => {
                let found = view.steps.iter().find(|found| found.name == step);
                prop_assert_eq!(found.map(|step| step.status), Some(StepStatus::Running), "a timer of {}", step);
            }
            Order::SetTimer { .. } | Order::ClearTimer { .. } | Order::Emit { .. } => {}
            Order::End(_) => prop_assert!(world.ended.is_some()),
        }
    }
    asked.sort();
    prop_assert_eq!(asked, running, "what is asked for is what runs");
    Ok(())
}

/// An outcome that follows from who is asked alone, whenever that is.
fn fixed(seed: u64) -> impl Fn(&Id, u16) -> StepOutcome {
    move |(step, item), _| {
        let hash = step
            .bytes()
            .fold(seed ^ item.wrapping_mul(31), |hash, byte| hash.wrapping_mul(1_099_511_628_211) ^ u64::from(byte));
        match hash >> 7 & 3 {
            0 => failed("tea_is_cold"),
            _ => completed(json!(hash & 7)),
        }
    }
}

fn by_chance((_, item): &Id, chance: u16) -> StepOutcome {
    match chance >> 8 & 15 {
        0..=2 => failed("tea_is_cold"),
        3 => failed(codes::TIMEOUT),
        4 => failed(codes::DEADLINE_EXCEEDED),
        5 => failed(codes::CANCELLED),
        6 => failed(codes::POISON),
        7 => failed(codes::STEP_FAILED),
        8 => StepOutcome { failure: None, ..failed("tea_is_cold") },
        _ => completed(json!(item)),
    }
}

/// Everything about a run's end that does not tell when things happened.
fn result(world: &World) -> Value {
    let steps = world.state.view().steps.into_iter().map(|step| {
        let requests = step.requests.iter().map(|request| {
            let code = request.failure.as_ref().map(|failure| failure.code.clone());
            json!([request.item, request.status, super::world::value(&request.output), code])
        });
        let code = step.failure.as_ref().map(|failure| failure.code.clone());
        json!([step.name, step.status, super::world::value(&step.output), code, requests.collect::<Vec<_>>()])
    });
    let ending = world.ending();
    json!([ending.status, super::world::value(&ending.output), steps.collect::<Vec<_>>()])
}

/// What comes from outside while a run goes on.
fn disturb(world: &mut World, chance: u16) {
    let event = match chance % 29 {
        0 => Event::CancelRequested { reason: String::new() },
        1 => Event::PauseRequested,
        2 | 3 => Event::ResumeRequested,
        4 | 5 => Event::Signalled { name: name("go"), value: Default::default() },
        6 => Event::Signalled { name: name("stop"), value: Default::default() },
        7 => Event::TimerFired(TimerName::Run),
        8 => Event::TimerFired(TimerName::Step { step: name("s0"), item: u64::from(chance >> 8) }),
        9 => Event::Unreadable { name: "x".to_owned(), why: "y".to_owned() },
        10 | 11 => match world.log.get(usize::from(chance >> 5) % world.log.len().max(1)) {
            // The same once more, as a message of its own.
            Some(fact) if !matches!(fact.event, Event::CancelRequested { .. } | Event::PauseRequested) => {
                fact.event.clone()
            }
            _ => return,
        },
        12 => Event::StepEnded {
            step: name("s1"),
            item: u64::from(chance >> 8),
            outcome: Box::new(completed(json!("from nobody"))),
        },
        _ => return,
    };
    // A step's own timer, or an outcome for what runs, is no disturbance: the model would not know that it was answered.
    match &event {
        Event::StepEnded { step, item, .. } if world.running.contains_key(&id(step.as_str(), *item)) => return,
        Event::TimerFired(timer) => _ = world.timers.remove(timer),
        _ => {}
    }
    world.post(event);
}

fn drive_disturbed(program: &Arc<Program>, chances: &[u16]) -> Result<World, TestCaseError> {
    let mut world = World::quiet(program);
    for chance in chances.iter().take(2) {
        disturb(&mut world, *chance);
    }
    world.post(Event::Started(Box::new(started(json!(1)))));
    for window in chances.chunks(3) {
        if world.ended.is_some() {
            break;
        }
        disturb(&mut world, window[0]);
        check_commands(&world)?;
        let running: Vec<Id> = world.running.keys().cloned().collect();
        if let (Some(chance), false) = (window.get(1), running.is_empty() || world.ended.is_some()) {
            let asked = running[usize::from(*chance) % running.len()].clone();
            world.answer(&asked.0, asked.1, by_chance(&asked, *chance));
        }
    }
    drive(&mut world, chances, &by_chance)?;
    Ok(world)
}

fn folded(program: &Arc<Program>, log: &[crate::Fact]) -> State {
    let mut state = State::with_program(RunId::parse("run-1").unwrap(), Arc::clone(program));
    for fact in log {
        state.fold(fact);
    }
    state
}

/// What has to be undone, by what the world itself saw happen; and what was.
fn to_undo(world: &World, recipes: &Recipes) -> (BTreeMap<Id, usize>, BTreeMap<Id, usize>) {
    let plan = recipes.plan().plan();
    let has_undo = |step: &str| plan.steps.iter().any(|found| found.name.as_str() == step && found.undo.is_some());
    let is_sub_run = |step: &str| {
        let sub_run = |action: &crate::plan::Action| matches!(action, crate::plan::Action::Once(body) if matches!(body.target, crate::plan::Target::Workflow(_)));
        plan.steps.iter().any(|found| found.name.as_str() == step && sub_run(&found.action))
    };
    let mut expected = BTreeMap::new();
    for ((step, item), outcome) in &world.answered {
        let code = outcome.failure.as_ref().map_or("", |failure| failure.code.as_str());
        let is_no = outcome.status == Status::Failed && ["tea_is_cold", ""].contains(&code);
        if has_undo(step) && (!is_no || is_sub_run(step)) {
            *expected.entry(id(step, *item)).or_insert(0) += 1;
        }
    }
    // What asks nobody is undone when it completed.
    for step in world.state.view().steps {
        let asks_nobody = ["wait", "signal", "emit"].contains(&step.kind);
        if asks_nobody && has_undo(step.name.as_str()) && step.status == StepStatus::Completed {
            expected.insert(id(step.name.as_str(), 0), 1);
        }
    }
    let mut found = BTreeMap::new();
    for ((step, item), _) in &world.asked {
        if let Some(undone) = step.strip_prefix("undo_") {
            *found.entry(id(undone, *item)).or_insert(0) += 1;
        }
    }
    (expected, found)
}

/// A fact as nobody would write it, most often about a step that there is.
fn anything() -> impl Strategy<Value = Event> {
    let step = ("(s|s|s|f|undo_s|undo_f)[0-8]", 0..4_u64).prop_map(|(step, item)| (name(&step), item));
    let outcome = (step.clone(), any::<u16>()).prop_map(|((step, item), chance)| {
        let outcome = Box::new(by_chance(&id(step.as_str(), item), chance));
        Event::StepEnded { step, item, outcome }
    });
    let timer = step.prop_map(|(step, item)| Event::TimerFired(TimerName::Step { step, item }));
    let signal = "(go|stop)".prop_map(|signal| Event::Signalled { name: name(&signal), value: Default::default() });
    prop_oneof![
        30 => outcome,
        8 => timer,
        4 => signal,
        4 => Just(Event::Started(Box::new(started(json!(1))))),
        1 => Just(Event::CancelRequested { reason: String::new() }),
        1 => Just(Event::PauseRequested),
        1 => Just(Event::ResumeRequested),
        1 => Just(Event::TimerFired(TimerName::Run)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_outcomes_and_any_repetition_folds_to_the_same_end(
        recipes in recipes(Kinds::Unordered).prop_filter("looks at others", Recipes::is_unordered),
        seed: u64,
        first in prop::collection::vec(any::<u16>(), 60),
        second in prop::collection::vec(any::<u16>(), 60),
        again in prop::collection::vec(any::<u16>(), 20),
    ) {
        let program = recipes.plan().program();
        let outcome = fixed(seed);
        let mut worlds = [first, second].map(|chances| (World::start_with(&program, started(json!(1))), chances));
        for (world, chances) in &mut worlds {
            drive(world, chances, &outcome)?;
        }
        let [(one, _), (two, _)] = &worlds;
        prop_assert_eq!(result(one), result(two));
        // The second history once more, with outcomes and timers told again in between, each as a message of its own.
        let mut repeated: Vec<crate::Fact> = Vec::new();
        for (place, fact) in two.log.iter().enumerate() {
            repeated.push(fact.clone());
            let chance = usize::from(again[place % again.len()]);
            if chance % 2 == 0 {
                let earlier = &two.log[chance % (place + 1)];
                repeated.push(crate::Fact { at: fact.at, ..earlier.clone() });
            }
        }
        let mut state = State::with_program(RunId::parse("run-1").unwrap(), Arc::clone(&program));
        for (place, fact) in repeated.iter().enumerate() {
            let sequence = place as u64 + 1;
            state.fold(&crate::Fact { sequence, ..fact.clone() });
            prop_assert_eq!(state.fold(&crate::Fact { sequence, ..fact.clone() }), Folded::Nothing(crate::Why::Folded));
        }
        prop_assert_eq!(state.ending(), two.ended.as_ref());
        let view = crate::View { last_sequence: two.state.last_sequence(), ..state.view() };
        prop_assert_eq!(view, two.state.view());
    }

    #[test]
    fn a_run_ends_whatever_fails_and_no_command_is_for_what_has_ended(
        recipes in recipes(Kinds::All),
        chances in prop::collection::vec(any::<u16>(), 0..90),
    ) {
        let world = drive_disturbed(&recipes.plan().program(), &chances)?;
        let left = world.state.commands_since(world.log.last().map_or(0, |fact| fact.sequence) - 1);
        prop_assert!(matches!(left.last().map(|command| &command.order), Some(Order::End(_))), "{left:?}");
        prop_assert!(world.running.is_empty(), "{:?}", world.running);
        let of_steps = |timer: &&TimerName| **timer != TimerName::Run;
        prop_assert_eq!(world.timers.keys().filter(of_steps).count(), 0, "{:?}", &world.timers);
        let is_open = |status: StepStatus| matches!(status, StepStatus::Waiting | StepStatus::Running);
        prop_assert!(world.state.view().steps.iter().all(|step| !is_open(step.status)), "{:?}", world.statuses());
    }

    #[test]
    fn what_completed_or_may_have_taken_effect_is_undone_once_and_in_reverse(
        recipes in recipes(Kinds::All),
        chances in prop::collection::vec(any::<u16>(), 0..90),
    ) {
        let world = drive_disturbed(&recipes.plan().program(), &chances)?;
        let (expected, found) = to_undo(&world, &recipes);
        if world.ending().status == Status::Completed {
            prop_assert!(found.is_empty(), "{found:?}");
            return Ok(());
        }
        prop_assert_eq!(&expected, &found);
        let ended: Vec<&Id> = world.answered.iter().map(|(asked, _)| asked).collect();
        let place = |asked: &Id| ended.iter().position(|found| *found == asked);
        let undone = world.asked.iter().filter_map(|((step, item), _)| Some(id(step.strip_prefix("undo_")?, *item)));
        let places: Vec<usize> = undone.filter_map(|asked| place(&asked)).collect();
        prop_assert!(places.is_sorted_by(|one, other| one > other), "{places:?}");
    }

    #[test]
    fn a_log_folded_anew_from_any_point_gives_the_same_state_and_commands(
        recipes in recipes(Kinds::All),
        chances in prop::collection::vec(any::<u16>(), 0..60),
    ) {
        let program = recipes.plan().program();
        let world = drive_disturbed(&program, &chances)?;
        let mut state = folded(&program, &[]);
        for (place, fact) in world.log.iter().enumerate() {
            state.fold(fact);
            let again = folded(&program, &world.log[..=place]);
            prop_assert_eq!(format!("{state:?}"), format!("{again:?}"));
            prop_assert_eq!(state.commands_since(0), again.commands_since(0));
            // What an acknowledged fact led to is told no more, and nothing else is lost.
            let since: Vec<_> = state.commands_since(0).into_iter().filter(|command| command.cause > fact.sequence - 2).collect();
            prop_assert_eq!(state.commands_since(fact.sequence - 2), since);
        }
        // Redelivered from the beginning, it changes nothing.
        let before = format!("{state:?}");
        prop_assert!(world.log.iter().all(|fact| state.fold(fact) == Folded::Nothing(crate::Why::Folded)));
        prop_assert_eq!(before, format!("{state:?}"));
    }

    #[test]
    fn a_run_done_again_asks_for_nothing_that_completed(
        recipes in recipes(Kinds::All),
        chances in prop::collection::vec(any::<u16>(), 0..60),
        from in prop::option::of(0..9_usize),
    ) {
        let program = recipes.plan().program();
        let world = drive_disturbed(&program, &chances)?;
        let steps = &program.plan().steps;
        let from = from.and_then(|from| steps.get(from)).map(|step| step.name.clone());
        let copied = world.state.copied_outcomes(from.as_ref()).unwrap();
        let kept: Vec<Id> = copied.iter().map(|copied| id(copied.step.as_str(), copied.item)).collect();
        let mut second = World::start_with(&program, crate::fact::Started { copied, ..started(json!(1)) });
        drive(&mut second, &chances, &by_chance)?;
        for (asked, _) in &second.asked {
            prop_assert!(!kept.contains(asked), "{asked:?} was done before");
        }
        if let Some(from) = from {
            prop_assert!(kept.iter().all(|(step, _)| step != from.as_str()));
        }
    }

    #[test]
    fn no_log_whatever_makes_folding_panic_or_asks_for_more_than_there_is(
        recipes in recipes(Kinds::All),
        events in prop::collection::vec(anything(), 0..80),
    ) {
        let program = recipes.plan().program();
        let mut state = State::with_program(RunId::parse("run-1").unwrap(), Arc::clone(&program));
        let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        for (place, event) in events.into_iter().enumerate() {
            // Not even the broker's time has to go forward.
            let at = at - chrono::TimeDelta::seconds(place as i64 % 7);
            state.fold(&crate::Fact { sequence: place as u64 + 1, at, event });
            let commands = state.commands_since(0);
            prop_assert!(commands.is_sorted_by_key(|command| command.cause));
            prop_assert!(commands.last().is_none_or(|command| command.cause <= place as u64 + 1));
            prop_assert_eq!(state.ending().is_some(), commands.iter().any(|command| matches!(command.order, Order::End(_))));
            let view = state.view();
            prop_assert!(view.percent <= 100);
            prop_assert_eq!(view.steps.len(), if state.is_started() { program.plan().steps.len() } else { 0 });
        }
    }

    #[test]
    fn nothing_that_a_log_may_hold_makes_reading_panic(
        tail in "(started|step|timer|signal|cancel|pause|resume|fired|outcome|[a-z0-9~.]{0,8})(\\.[a-z0-9~]{0,9}){0,4}|\\PC*",
        body in prop::collection::vec(any::<u8>(), 0..200),
        headers in prop::collection::vec(("Sortie-Status|Content-Type|Sortie-Payload-Ref|Sortie-Attempt", "\\PC{0,30}"), 0..4),
    ) {
        let headers = headers.into_iter().collect();
        let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let fact = crate::Fact::read(&tail, 1, at, &headers, &body);
        State::new(RunId::parse("run-1").unwrap()).fold(&fact);
    }
}
