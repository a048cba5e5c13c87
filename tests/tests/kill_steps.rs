//! SIGKILL between every two steps of a request's way, for each way that there is. After each, another worker takes
//! over, and then there is exactly one outcome, a dead letter exactly when it failed, nothing waits and nothing is stuck.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use sortie_tests::{
    lives::{Life, Story, tell},
    proxy::{
        Action,
        Seen::{Answer, Delivery, Publish, Says},
        Trigger, after, before,
    },
    victim::{BACKOFF, Task},
};

const VICTIM: &str = env!("CARGO_BIN_EXE_victim");

const REQUEST: &str = "fleet.request.";
const OUTCOME: &str = "fleet.outcome.";
const LATER: &str = "fleet.later.";
const DEAD: &str = "fleet.dead.";
const EVENT: &str = "fleet.event.";
const MARK: &str = "$KV.fleet-state.mark.";
const TRIES: &str = "$KV.fleet-state.tries.";
const CHUNK: &str = "$O.fleet-payloads.C.";
const OBJECT: &str = "$O.fleet-payloads.M.";

/// A handler says its progress when it has begun.
const RUNNING: &str = "fleet.progress.";

const WORKS: Task = Task { works_ms: 100, fails: 0, gives_up: false, result_bytes: 10 };

fn task(fails: u32) -> Task {
    Task { fails, ..WORKS }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_completed() -> Result<()> {
    let story = |what, trigger: Trigger| Story::new(what, WORKS).life(trigger);
    tell(
        VICTIM,
        vec![
            story("before the delivery", before(Delivery(REQUEST))).takers(1),
            story("after the delivery", after(Delivery(REQUEST))).or_begins(&[1, 1]).takers(1),
            story("while the handler runs", after(Publish(RUNNING))).begins(&[1, 1]).takers(1),
            story("before the outcome", before(Publish(OUTCOME))).begins(&[1, 1]).takers(1),
            story("after the outcome", after(Publish(OUTCOME))).takers(0),
            story("before the answer to the outcome", before(Answer(OUTCOME))).takers(0),
            story("before the ack", before(Says("+ACK"))).takers(0),
            story("after the ack", after(Says("+ACK"))).takers(0).stored(1),
        ],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_retried() -> Result<()> {
    let story = |what, trigger: Trigger| Story::new(what, task(1)).life(trigger).stored(3);
    let late = |what, trigger: Trigger| story(what, trigger).attempts(3, Duration::from_secs(14)).begins(&[1, 1, 2]);
    tell(
        VICTIM,
        vec![
            story("before the schedule", before(Publish(LATER))).begins(&[1, 1, 2]),
            story("after the schedule", after(Publish(LATER))).begins(&[1, 2]),
            story("before the answer to the schedule", before(Answer(LATER))).begins(&[1, 2]),
            story("before the ack of what is scheduled", before(Says("+ACK"))).begins(&[1, 2]),
            story("after the ack of what is scheduled", after(Says("+ACK"))).begins(&[1, 2]),
            late("redelivered before the schedule fires", after(Publish(LATER))),
            late("redelivered before the schedule fires, its answer seen", before(Says("+ACK"))),
            story("before the retry's delivery", before(Delivery(REQUEST)).nth(2)).begins(&[1, 2]),
            story("before the retry's outcome", before(Publish(OUTCOME))).begins(&[1, 2, 2]),
            story("after the retry's outcome", after(Publish(OUTCOME))).begins(&[1, 2]),
            story("before the retry's ack", before(Says("+ACK")).nth(2)).begins(&[1, 2]),
        ],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_given_up() -> Result<()> {
    let given_up = |what| Story::new(what, task(1)).attempts(1, BACKOFF).fails("as_told").stored(1);
    let story = |what, trigger: Trigger| given_up(what).life(trigger);
    tell(
        VICTIM,
        vec![
            story("before the failed outcome", before(Publish(OUTCOME))).begins(&[1, 1]),
            story("after the failed outcome", after(Publish(OUTCOME))),
            story("before the answer to the failed outcome", before(Answer(OUTCOME))),
            story("before the dead letter", before(Publish(DEAD))),
            story("after the dead letter", after(Publish(DEAD))),
            story("before the answer to the dead letter", before(Answer(DEAD))),
            story("before the event", before(Publish(EVENT))),
            story("after the event", after(Publish(EVENT))),
            story("before the ack of what is dead", before(Says("+ACK"))),
            story("after the ack of what is dead", after(Says("+ACK"))),
            given_up("before each dead letter of three")
                .life(before(Publish(DEAD)))
                .life(before(Publish(DEAD)))
                .life(before(Publish(DEAD))),
        ],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_large_result_is_stored() -> Result<()> {
    let large = Task { result_bytes: 1_000_000, ..WORKS };
    let story = |what, trigger: Trigger| Story::new(what, large.clone()).life(trigger).stored(1);
    tell(
        VICTIM,
        vec![
            story("before the object", before(Publish(CHUNK))).begins(&[1, 1]),
            story("in the middle of the object", after(Publish(CHUNK)).nth(3)).begins(&[1, 1]),
            story("before the object is whole", before(Publish(OBJECT))).begins(&[1, 1]),
            story("after the object is whole", after(Publish(OBJECT))).begins(&[1, 1]),
            story("before the answer to the object", before(Answer(OBJECT))).begins(&[1, 1]),
            story("before the outcome that refers to it", before(Publish(OUTCOME))).begins(&[1, 1]),
            story("after the outcome that refers to it", after(Publish(OUTCOME))),
            story("before the ack of a large result", before(Says("+ACK"))),
        ],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_unique_work_is_retried() -> Result<()> {
    let story = |what, trigger: Trigger| Story::new(what, task(1)).unique().life(trigger).stored(1);
    let twice = |what, trigger: Trigger| Story::new(what, task(2)).unique().life(trigger).stored(1);
    let nakked = |what| {
        let running = after(Publish(RUNNING));
        Story::new(what, task(1)).unique().life(after(Says("-NAK"))).life(running).life(running).stored(1)
    };
    tell(
        VICTIM,
        vec![
            story("before the tries", before(Publish(TRIES))).begins(&[1, 1, 2]).takers(1),
            story("after the tries", after(Publish(TRIES))).begins(&[1, 2]).takers(1),
            story("before the answer to the tries", before(Answer(TRIES))).begins(&[1, 2]).takers(1),
            story("before the nak", before(Says("-NAK"))).begins(&[1, 2]).takers(1),
            story("after the nak", after(Says("-NAK"))).begins(&[1, 2]).takers(1),
            story("before the second outcome", before(Publish(OUTCOME))).begins(&[1, 2, 2]).takers(2),
            story("after the second outcome", after(Publish(OUTCOME))).begins(&[1, 2]).takers(1),
            story("before the second ack", before(Says("+ACK"))).begins(&[1, 2]).takers(1),
            story("after the second ack", after(Says("+ACK"))).begins(&[1, 2]).takers(1),
            twice("before the mark is taken back", before(Publish(MARK)).nth(2)).begins(&[1, 2, 3]).takers(2),
            twice("after the mark is taken back", after(Publish(MARK)).nth(2)).begins(&[1, 2, 3]).takers(1),
            twice("before the second nak", before(Says("-NAK")).nth(2)).begins(&[1, 2, 3]).takers(1),
            nakked("two deaths after a nak are not three").begins(&[1, 2, 2, 2]).takers(3),
            nakked("three deaths after a nak")
                .life(after(Publish(RUNNING)))
                .fails("poison")
                .begins(&[1, 2, 2, 2])
                .takers(3),
            Story::new("unique work given up, before the dead letter", task(2))
                .unique()
                .attempts(2, BACKOFF)
                .life(before(Publish(DEAD)))
                .fails("as_told")
                .begins(&[1, 2]),
            Story::new("unique work given up, before the ack", task(2))
                .unique()
                .attempts(2, BACKOFF)
                .life(before(Says("+ACK")))
                .fails("as_told")
                .begins(&[1, 2]),
        ],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_kills_every_worker() -> Result<()> {
    let running = after(Publish(RUNNING));
    let twice = |what| Story::new(what, WORKS).life(running).life(running).stored(1);
    let poison = |what| twice(what).life(running).fails("poison").begins(&[1, 1, 1]).takers(2);
    tell(
        VICTIM,
        vec![
            twice("two deaths are not three").begins(&[1, 1, 1]).takers(2),
            Story::new("marks around a mark", WORKS)
                .life(running)
                .life(before(Publish(MARK)))
                .life(after(Publish(MARK)))
                .life(before(Answer(MARK)))
                .fails("poison")
                .takers(2),
            Story::new("a death before the mark leaves none", WORKS)
                .life(running)
                .life(before(Publish(MARK)))
                .life(before(Publish(MARK)))
                .begins(&[1, 1])
                .takers(1),
            twice("before the second mark").life(before(Publish(MARK))).begins(&[1, 1, 1]).takers(2),
            twice("after the second mark").life(after(Publish(MARK))).fails("poison").begins(&[1, 1]).takers(2),
            poison("three deaths are poison"),
            poison("before the outcome of poison").life(before(Publish(OUTCOME))),
            poison("after the outcome of poison").life(after(Publish(OUTCOME))),
            poison("before the dead letter of poison").life(before(Publish(DEAD))),
            poison("before the ack of poison").life(before(Says("+ACK"))),
        ],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_handed_back_by_a_drain() -> Result<()> {
    let drain = after(Publish(RUNNING)).then(Action::Signal(Signal::SIGTERM));
    let long = |script: Vec<Trigger>| Life::of(script).working(Duration::from_secs(60));
    let story = |what, script: Vec<Trigger>| Story::new(what, WORKS).life(long(script)).begins(&[1, 1]).stored(1);
    let again = |what, script: Vec<Trigger>| {
        Story::new(what, WORKS).life(after(Publish(RUNNING))).life(long(script)).begins(&[1, 1, 1]).stored(1)
    };
    tell(
        VICTIM,
        vec![
            story("handed back", vec![drain]).takers(1),
            story("before it is handed back", vec![drain, before(Says("-NAK"))]).takers(1),
            story("after it is handed back", vec![drain, after(Says("-NAK"))]).takers(1),
            again("handed back again", vec![drain]).takers(1),
            again("before its mark is taken back", vec![drain, before(Publish(MARK)).nth(2)]).takers(2),
            again("after its mark is taken back", vec![drain, after(Publish(MARK)).nth(2)]).takers(1),
            again("before it is handed back again", vec![drain, before(Says("-NAK"))]).takers(1),
        ],
    )
    .await
}
