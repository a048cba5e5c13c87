use std::time::Duration;

use broker::{Delivery, Outgoing, Publisher, PullEvent, PullInbox, PullRequest, topology};
use protocol::{
    Capability, Lane, Operator,
    desired::{LimitWish, PauseWish},
    time,
    topology::{Source, worker_consumer},
};
use serde_json::json;
use sortie_client::{ErrorKind, Fulfilment, Queue, QueuesAsk};

use crate::fleet::{Fleet, SOON, echo};

const NORMAL: Source = Source::Lane(Lane::Normal);
const BULK: Source = Source::Lane(Lane::Bulk);

impl Fleet {
    async fn consumer(&self, source: Source) -> protocol::topology::Consumer {
        let consumer = worker_consumer(self.client.namespace(), &echo(), source, 1);
        topology::ensure_consumer(self.connection(), &consumer).await.unwrap();
        consumer
    }

    /// Takes messages and leaves them.
    async fn take(&self, source: Source, count: usize) -> Vec<Delivery> {
        let consumer = self.consumer(source).await;
        let mut inbox = PullInbox::open(self.connection()).await.unwrap();
        // One that does not wait is told "none" where the consumer has not yet seen what the stream has stored.
        let waiting = PullRequest::Stream { batch: count, expires: SOON, heartbeat: SOON / 4 };
        inbox.pull(&consumer, waiting, 1).await.unwrap();
        let mut taken = Vec::new();
        while taken.len() < count {
            match tokio::time::timeout(SOON, inbox.next()).await.unwrap() {
                Some(PullEvent::Delivered(delivery)) => taken.push(*delivery),
                other => panic!("{other:?}"),
            }
        }
        taken
    }

    async fn queue(&self, source: Source, rates_over: Option<Duration>) -> Queue {
        let ask = QueuesAsk { capability: Some(echo()), rates_over, ..QueuesAsk::default() };
        let found = self.client.queues(&ask).await.unwrap();
        assert_eq!(found.queues.len(), 4, "every lane");
        found.queues.into_iter().find(|queue| queue.lane == source).unwrap()
    }
}

fn pause() -> PauseWish {
    PauseWish { by: Operator::nearest("ann"), at: time::now(), reason: Some("too hot".to_owned()), until: None }
}

#[tokio::test]
async fn queues_tell_what_waits_runs_and_comes_later_whoever_serves() {
    let fleet = Fleet::start().await;
    assert_eq!(fleet.client.queues(&QueuesAsk::default()).await.unwrap().queues, []);
    let other = Capability::parse("other").unwrap();
    fleet.client.request(&other, &1).unique("k".parse().unwrap()).submit().await.unwrap();
    for number in 0..5 {
        fleet.client.request(&echo(), &number).submit().await.unwrap();
    }
    fleet.client.request(&echo(), &1).bulk().delay(Duration::from_secs(3_600)).submit().await.unwrap();
    let before = fleet.queue(NORMAL, None).await;
    assert_eq!((before.waiting, before.running, before.is_known, before.rate_in), (5, 0, false, None));
    let taken = fleet.take(NORMAL, 2).await;
    let found = fleet.client.queues(&QueuesAsk { rates_over: None, ..QueuesAsk::default() }).await.unwrap();
    let told: Vec<_> = found
        .queues
        .iter()
        .filter(|queue| !queue.is_idle())
        .map(|queue| (queue.capability.as_str(), queue.lane.token(), queue.waiting, queue.running, queue.scheduled))
        .collect();
    assert_eq!(told, [("echo", "normal", 3, 2, 0), ("echo", "bulk", 0, 0, 1), ("other", "unique", 1, 0, 0)]);
    assert_eq!((found.scheduled, found.has_more_scheduled), (1, false));
    let queue = fleet.queue(NORMAL, None).await;
    assert!(queue.oldest.unwrap() >= taken[1].published_at, "the oldest of those that wait, not of those taken");
    assert!(queue.is_known && queue.oldest.unwrap() <= found.at);
}

#[tokio::test]
async fn rates_are_seen_where_sizes_do_not_change() {
    let fleet = Fleet::start().await;
    fleet.consumer(NORMAL).await;
    let working = async {
        for _ in 0..20 {
            fleet.client.request(&echo(), &1).submit().await.unwrap();
            for delivery in fleet.take(NORMAL, 1).await {
                delivery.ack_confirmed(fleet.connection()).await.unwrap();
            }
        }
        std::future::pending::<()>().await;
    };
    let looked = tokio::select! {
        () = working => unreachable!(),
        queue = fleet.queue(NORMAL, Some(Duration::from_secs(8))) => queue,
    };
    assert_eq!((looked.waiting, looked.running), (0, 0));
    let (came, went) = (looked.rate_in.unwrap(), looked.rate_out.unwrap());
    assert!((0.5..=2.5).contains(&came) && (0.5..=2.5).contains(&went), "20 in 8 s: {came}, {went}");
}

#[tokio::test]
async fn a_peek_takes_nothing() {
    let fleet = Fleet::start().await;
    let receipt = fleet.client.request(&echo(), &json!({ "n": 1 })).submit().await.unwrap();
    let strange = Outgoing::new("fleet.request.echo", "2")
        .with_headers([("Sortie-Attempt".to_owned(), "many".to_owned())].into_iter().collect());
    Publisher::new(fleet.connection()).publish(&strange).await.unwrap();
    for number in 3..103 {
        fleet.client.request(&echo(), &number).submit().await.unwrap();
    }
    fleet.take(NORMAL, 1).await;
    let peeked = fleet.client.peek(&echo(), NORMAL, 101).await.unwrap();
    assert_eq!(peeked.len(), 101);
    assert_eq!((&peeked[0].id, peeked[0].was_delivered, &peeked[0].body[..]), (receipt.id(), true, &br#"{"n":1}"#[..]));
    assert_eq!((peeked[1].id.as_str(), peeked[1].was_delivered), ("seq-2", false));
    assert!(peeked[1].fault.as_ref().unwrap().contains("Sortie-Attempt"), "{:?}", peeked[1].fault);
    assert_eq!((peeked[100].sequence, &peeked[100].body[..]), (101, &b"101"[..]));
    let queue = fleet.queue(NORMAL, None).await;
    assert_eq!((queue.waiting, queue.running, queue.redelivered), (101, 1, 0));
    assert!(fleet.client.peek(&echo(), BULK, 5).await.unwrap().is_empty());

    fleet.client.request(&echo(), &1).unique("k".parse().unwrap()).submit().await.unwrap();
    let unique = fleet.client.peek(&echo(), Source::Unique, 5).await.unwrap();
    assert_eq!((unique[0].id.as_str(), unique[0].key.as_ref().unwrap().as_str()), ("useq-1", "k"));
}

#[tokio::test]
async fn a_wish_is_told_before_and_after_it_is_fulfilled() {
    let fleet = Fleet::start().await;
    let client = &fleet.client;
    client.pause_queues(&echo(), &[NORMAL, BULK], &pause()).await.unwrap();
    let unserved = client.fulfilled(&echo(), &[NORMAL, BULK], SOON).await.unwrap();
    assert_eq!(unserved, [(NORMAL, Fulfilment::Unserved), (BULK, Fulfilment::Unserved)]);
    let consumer = fleet.consumer(NORMAL).await;
    let pending = client.fulfilled(&echo(), &[NORMAL], Duration::from_millis(200)).await.unwrap();
    assert_eq!(pending, [(NORMAL, Fulfilment::Pending)], "no coordinator is there");
    let told = fleet.queue(NORMAL, None).await.paused.unwrap();
    assert_eq!((told.by.unwrap().as_str(), told.reason.as_deref(), told.is_in_force), ("ann", Some("too hot"), false));

    // As the coordinator does it.
    topology::pause_consumer(fleet.connection(), &consumer.stream, &consumer.name, pause().broker_until())
        .await
        .unwrap();
    assert_eq!(client.fulfilled(&echo(), &[NORMAL], SOON).await.unwrap(), [(NORMAL, Fulfilment::InForce)]);
    assert!(fleet.queue(NORMAL, None).await.paused.unwrap().is_in_force);

    let limit = LimitWish { max: 3, by: Operator::nearest("bob"), at: time::now(), reason: None };
    client.limit_queues(&echo(), &[NORMAL], Some(&limit)).await.unwrap();
    let queue = fleet.queue(NORMAL, None).await;
    assert!(queue.paused.is_some(), "another wish leaves the pause");
    assert_eq!(queue.limit.map(|limit| (limit.max, limit.is_in_force)), Some((3, false)));
    client.resume_queues(&echo(), &[NORMAL]).await.unwrap();
    assert_eq!(client.fulfilled(&echo(), &[NORMAL], Duration::ZERO).await.unwrap(), [(NORMAL, Fulfilment::Pending)]);
    let by_hand = fleet.queue(NORMAL, None).await.paused.unwrap();
    assert_eq!((by_hand.by, by_hand.until, by_hand.is_in_force), (None, None, true));

    for bad in [0, 10_001] {
        let refused = client.limit_queues(&echo(), &[NORMAL], Some(&LimitWish { max: bad, ..limit.clone() })).await;
        assert_eq!(*refused.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let long = PauseWish { reason: Some("x".repeat(501)), ..pause() };
    assert_eq!(*client.pause_queues(&echo(), &[NORMAL], &long).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn two_who_wish_at_once_both_get_their_wish() {
    let fleet = Fleet::start().await;
    let limit = LimitWish { max: 3, by: Operator::nearest("bob"), at: time::now(), reason: None };
    let (name, normal, paused) = (echo(), [NORMAL], pause());
    let (one, other) = tokio::join!(
        fleet.client.limit_queues(&name, &normal, Some(&limit)),
        fleet.client.pause_queues(&name, &normal, &paused),
    );
    one.and(other).unwrap();
    let queue = fleet.queue(NORMAL, None).await;
    assert!(queue.limit.is_some() && queue.paused.is_some());
}

#[tokio::test]
async fn queues_of_no_fleet_say_what_to_do() {
    let fleet = Fleet::without_streams().await;
    let error = fleet.client.queues(&QueuesAsk::default()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::StreamsMissing, "{error}");
}
