use std::time::Duration;

use broker::{Delivery, Outgoing, Publisher, PullEvent, PullInbox, PullRequest};
use protocol::{
    Capability, Lane, Origin, Status, UniqueKey, codes,
    control::CancelNotice,
    topology::{self, Source},
};
use serde_json::json;
use sortie_client::{CancelFilter, Cancellation, ErrorKind};

use crate::fleet::{Fleet, SOON, echo, id, until};

#[tokio::test]
async fn what_is_queued_or_running_is_cancelled_and_the_workers_are_told() {
    let fleet = Fleet::start().await;
    let mut notices = fleet.connection().subscribe("fleet.control.all.cancel").await.unwrap();
    let receipt = fleet.client.request(&echo(), &1).submit().await.unwrap();
    assert_eq!(receipt.cancel().await.unwrap(), Cancellation::Cancelled);
    let outcome = receipt.outcome(SOON).await.unwrap();
    assert_eq!((outcome.status, outcome.failure().unwrap().code.as_str()), (Status::Cancelled, codes::CANCELLED));
    let notice: CancelNotice = serde_json::from_slice(&notices.next().await.unwrap().body).unwrap();
    assert_eq!(notice.ids, [receipt.id().clone()]);
    assert_eq!(fleet.complete(receipt.id(), &json!(1)).await, broker::Settled::Superseded, "the worker has lost");
    assert_eq!(receipt.cancel().await.unwrap(), Cancellation::Cancelled, "twice is harmless");
}

#[tokio::test]
async fn what_is_done_stays_as_it_is() {
    let fleet = Fleet::start().await;
    let receipt = fleet.client.request(&echo(), &1).submit().await.unwrap();
    fleet.complete(receipt.id(), &json!(1)).await;
    let Cancellation::AlreadyDone(outcome) = receipt.cancel().await.unwrap() else { panic!("it was done") };
    assert_eq!(outcome.result::<u32>(), Ok(1));
}

#[tokio::test]
async fn what_waits_for_its_time_is_taken_away() {
    let fleet = Fleet::start().await;
    let receipt = fleet.client.request(&echo(), &1).delay(Duration::from_secs(3600)).submit().await.unwrap();
    assert_eq!(receipt.cancel().await.unwrap(), Cancellation::Cancelled);
    assert_eq!(fleet.client.later(10).await.unwrap(), []);
    assert_eq!(receipt.outcome(SOON).await.unwrap().capability, Some(echo()));
}

#[tokio::test]
async fn unique_work_gives_its_key_back_and_takes_nobody_elses() {
    let fleet = Fleet::start().await;
    let submit = || fleet.client.request(&echo(), &1).unique(UniqueKey::parse("k").unwrap());
    let first = submit().submit().await.unwrap();
    assert!(matches!(first.id().origin(), Origin::UniqueSequence(1)));
    assert_eq!(first.cancel().await.unwrap(), Cancellation::Cancelled);
    let second = submit().submit().await.unwrap();
    assert_eq!(first.cancel().await.unwrap(), Cancellation::Cancelled);
    assert_eq!(fleet.count("FLEET_UNIQUE").await, 1, "the second holds the key");
    assert_ne!(first.id(), second.id());
}

/// Takes what is queued into its hands, as a worker does.
async fn take(fleet: &Fleet) -> Delivery {
    let consumer = topology::worker_consumer(fleet.client.namespace(), &echo(), Source::Unique, 1);
    broker::topology::ensure_consumer(fleet.connection(), &consumer).await.unwrap();
    let mut inbox = PullInbox::open(fleet.connection()).await.unwrap();
    // One that does not wait is told "none" where the consumer has not yet seen what the stream has stored.
    let waiting = PullRequest::Wait { expires: SOON, heartbeat: SOON / 4 };
    inbox.pull(&consumer, waiting, 1).await.unwrap();
    let event = tokio::time::timeout(SOON, inbox.next()).await.unwrap();
    let Some(PullEvent::Delivered(delivery)) = event else { panic!("{event:?}") };
    *delivery
}

#[tokio::test]
async fn unique_work_keeps_its_key_until_its_worker_lets_go() {
    let fleet = Fleet::start().await;
    let submit = |key| fleet.client.request(&echo(), &1).unique(UniqueKey::parse(key).unwrap()).submit();
    let running = submit("k").await.unwrap();
    let held = take(&fleet).await;
    let queued = submit("other").await.unwrap();
    for _ in 0..2 {
        assert_eq!(running.cancel().await.unwrap(), Cancellation::Cancelled);
        let error = submit("k").await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::KeyTaken { holder: Some(running.id().clone()) }, "it may still run");
    }
    assert_eq!(queued.cancel().await.unwrap(), Cancellation::Cancelled);
    submit("other").await.expect("nobody has what is queued behind it");

    held.ack_confirmed(fleet.connection()).await.unwrap();
    until("the key is free", async || submit("k").await.is_ok()).await;
    assert_eq!(running.cancel().await.unwrap(), Cancellation::Cancelled);
    assert_eq!(fleet.count("FLEET_UNIQUE").await, 2, "nobody else's is taken away");
}

#[tokio::test]
async fn an_id_by_sequence_that_was_never_issued_is_not_found() {
    let fleet = Fleet::start().await;
    fleet.connection().publish_core(broker::Outgoing::new("fleet.request.echo", "1")).await.unwrap();
    until("it is stored", async || fleet.count("FLEET_REQUESTS").await == 1).await;
    let named = fleet.client.request(&echo(), &1).submit().await.unwrap();
    for (never, why) in [("seq-3", "never issued"), ("useq-1", "never issued"), ("seq-2", named.id().as_str())] {
        let error = fleet.client.cancel(&id(never)).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().contains(why)), (&ErrorKind::NotFound, true), "{error}");
    }
    assert_eq!(fleet.client.cancel(&id("seq-1")).await.unwrap(), Cancellation::Cancelled);
    let error = fleet.client.cancel(&id("run-1~scan~0")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert_eq!(fleet.count("FLEET_OUTCOMES").await, 1);
}

#[tokio::test]
async fn all_that_a_filter_means_is_cancelled_and_nothing_that_is_done() {
    let fleet = Fleet::start().await;
    let client = &fleet.client;
    let other = Capability::parse("other").unwrap();
    for number in 0..300 {
        client.request(&echo(), &number).id(id(&format!("normal-{number}"))).submit().await.unwrap();
    }
    for (name, lane) in [("urgent", Lane::Urgent), ("bulk", Lane::Bulk)] {
        client.request(&echo(), &1).id(id(name)).lane(lane).submit().await.unwrap();
    }
    client.request(&echo(), &1).id(id("later")).lane(Lane::Bulk).delay(SOON * 100).submit().await.unwrap();
    client.request(&other, &1).id(id("other")).submit().await.unwrap();
    let key = UniqueKey::parse("k").unwrap();
    let unique = client.request(&echo(), &1).unique(key.clone()).submit().await.unwrap();
    // One that names no id, one that nobody has taken out since it was done, and one under a second message of its id.
    Publisher::new(fleet.connection()).publish(&Outgoing::new("fleet.request.echo", "1")).await.unwrap();
    fleet.complete(&id("normal-7"), &json!(7)).await;

    let bulk = CancelFilter { source: Some(Source::Lane(Lane::Bulk)), ..CancelFilter::default() };
    let dry = client.cancel_many(&bulk, true, |_| {}).await.unwrap();
    assert_eq!((dry.matched, dry.cancelled, dry.examples), (2, 0, vec![id("bulk"), id("later")]));
    let old = CancelFilter { older_than: Some(SOON * 100), ..CancelFilter::default() };
    assert_eq!(client.cancel_many(&old, false, |_| {}).await.unwrap().matched, 0);
    let unique_ones = CancelFilter { source: Some(Source::Unique), ..CancelFilter::default() };
    assert_eq!(client.cancel_many(&unique_ones, false, |_| {}).await.unwrap().cancelled, 1);
    assert_eq!(client.outcome(unique.id()).await.unwrap().unwrap().status, Status::Cancelled);
    client.request(&echo(), &1).unique(key).submit().await.expect("its key is free");

    let echoes = CancelFilter { capability: Some(echo()), ..CancelFilter::default() };
    let mut told = 0;
    let tally = client.cancel_many(&echoes, false, |_| told += 1).await.unwrap();
    // 299 of the normal ones, urgent, bulk, later, the one without an id, and the unique one.
    assert_eq!((tally.matched, tally.cancelled, tally.done, tally.refused.len()), (304, 304, 0, 0), "{told}");
    assert_eq!(client.outcome(&id("normal-7")).await.unwrap().unwrap().status, Status::Completed);
    assert!(client.outcome(&id("other")).await.unwrap().is_none());
    assert!(client.later(10).await.unwrap().is_empty());
    let again = client.cancel_many(&echoes, false, |_| {}).await.unwrap();
    assert_eq!((again.matched, again.cancelled), (0, 0), "what lies there still is cancelled already");
    let rest = client.cancel_many(&CancelFilter::default(), false, |_| {}).await.unwrap();
    assert_eq!((rest.cancelled, rest.examples), (1, vec![id("other")]));
}
