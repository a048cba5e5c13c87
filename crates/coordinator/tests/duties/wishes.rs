use std::time::Duration;

use broker::{Bucket, PullEvent, PullInbox, PullRequest, topology};
use protocol::{
    Capability, Lane, Operator,
    desired::{LimitWish, PauseWish, QueueWish, far, queue_key},
    time::{self, Timestamp},
    topology::{Consumer, Source, worker_consumer},
};

use crate::fleet::{Fleet, quick, until};

const NORMAL: Source = Source::Lane(Lane::Normal);

fn echo() -> Capability {
    Capability::parse("echo").unwrap()
}

fn pause(until: Option<Timestamp>) -> QueueWish {
    let by = Operator::nearest("ann");
    QueueWish { paused: Some(PauseWish { by, at: time::now(), reason: None, until }), ..QueueWish::default() }
}

fn limit(max: u32) -> QueueWish {
    let by = Operator::nearest("ann");
    QueueWish { limit: Some(LimitWish { max, by, at: time::now(), reason: None }), ..QueueWish::default() }
}

impl Fleet {
    pub(crate) async fn wish(&self, source: Source, wish: &QueueWish) {
        let body = serde_json::to_vec(wish).unwrap();
        self.desired().put(&queue_key(&echo(), source), body, None).await.unwrap();
    }

    fn desired(&self) -> Bucket {
        Bucket::new(&self.connection, &self.publisher, self.names.desired.clone())
    }

    async fn state(&self, consumer: &Consumer) -> topology::ConsumerState {
        topology::consumer_state(&self.connection, &consumer.stream, &consumer.name).await.unwrap()
    }

    async fn is_paused_until(&self, consumer: &Consumer, expected: Option<Timestamp>) {
        until("the pause is as wished", || async {
            (self.state(consumer).await.paused_until == expected).then_some(())
        })
        .await;
    }

    async fn has_limit(&self, consumer: &Consumer, expected: i64) {
        until("the limit is as wished", || async {
            (self.state(consumer).await.consumer.max_ack_pending == expected).then_some(())
        })
        .await;
    }
}

/// Waits for a message at a pull that is open already.
async fn delivered(inbox: &mut PullInbox, within: Duration) -> bool {
    let delivered = async {
        loop {
            if let Some(PullEvent::Delivered(_)) = inbox.next().await {
                return;
            }
        }
    };
    tokio::time::timeout(within, delivered).await.is_ok()
}

#[tokio::test]
async fn a_wished_pause_holds_until_it_is_taken_back_and_only_in_its_lane() {
    let fleet = Fleet::start().await;
    let normal = fleet.consumer("echo", NORMAL, 100).await;
    let urgent = fleet.consumer("echo", Source::Lane(Lane::Urgent), 100).await;
    let unique = fleet.consumer("echo", Source::Unique, 100).await;
    let coordinator = fleet.coordinate(quick()).await;
    fleet.wish(NORMAL, &pause(None)).await;
    fleet.wish(Source::Unique, &pause(None)).await;
    fleet.is_paused_until(&normal, Some(far())).await;
    fleet.is_paused_until(&unique, Some(far())).await;
    assert!(!fleet.state(&urgent).await.is_paused);

    // Who resumes it by hand, or makes it again, does not change what is wished.
    let past = time::parse("2020-01-01T00:00:00Z").unwrap();
    topology::pause_consumer(&fleet.connection, &normal.stream, &normal.name, past).await.unwrap();
    fleet.is_paused_until(&normal, Some(far())).await;

    fleet.wish(NORMAL, &QueueWish::default()).await;
    fleet.is_paused_until(&normal, None).await;
    assert!(fleet.state(&unique).await.is_paused, "it was not asked for");
    // No wish at all is the same as one of nothing.
    fleet.desired().remove(&queue_key(&echo(), Source::Unique)).await.unwrap();
    fleet.is_paused_until(&unique, None).await;
    coordinator.looks("wishes", 2.0).await;
    assert_eq!(coordinator.metric("looks_failed_total", "wishes"), 0.0);
}

#[tokio::test]
async fn a_pause_for_a_while_ends_by_the_brokers_clock_without_a_coordinator() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 100).await;
    let coordinator = fleet.coordinate(quick()).await;
    let now = fleet.state(&consumer).await.at;
    fleet.wish(NORMAL, &pause(Some(now + chrono::TimeDelta::seconds(12)))).await;
    until("it is paused", || async { fleet.state(&consumer).await.is_paused.then_some(()) }).await;
    drop(coordinator);
    fleet.publish("fleet.request.echo", &[], "1").await;
    let mut inbox = PullInbox::open(&fleet.connection).await.unwrap();
    let waiting = PullRequest::Wait { expires: Duration::from_secs(120), heartbeat: Duration::from_secs(50) };
    inbox.pull(&consumer, waiting, 1).await.unwrap();
    assert!(delivered(&mut inbox, Duration::from_secs(40)).await, "before its next heartbeat");
    let late = fleet.state(&consumer).await.at - now;
    assert!(late > chrono::TimeDelta::milliseconds(11_900), "delivered after {late}");
}

#[tokio::test]
async fn what_somebody_set_by_hand_stays_until_it_is_asked_for() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 100).await;
    let (stream, name) = (&consumer.stream, &consumer.name);
    let by_hand = time::parse("2090-01-01T00:00:00Z").unwrap();
    topology::pause_consumer(&fleet.connection, stream, name, by_hand).await.unwrap();
    topology::limit_consumer(&fleet.connection, stream, name, 50).await.unwrap();
    assert_eq!(fleet.state(&consumer).await.paused_until, Some(by_hand), "a new limit leaves the pause");
    let coordinator = fleet.coordinate(quick()).await;
    fleet.wish(NORMAL, &limit(5)).await;
    fleet.has_limit(&consumer, 5).await;
    fleet.wish(NORMAL, &QueueWish::default()).await;
    fleet.has_limit(&consumer, 50).await;
    coordinator.looks("wishes", 2.0).await;
    assert_eq!(fleet.state(&consumer).await.paused_until, Some(by_hand));

    let asked = QueueWish { resumed_at: Some(time::now()), unlimited_at: Some(time::now()), ..QueueWish::default() };
    fleet.wish(NORMAL, &asked).await;
    fleet.is_paused_until(&consumer, None).await;
    fleet.has_limit(&consumer, 10_000).await;
    // Once: what somebody does by hand afterwards stays again.
    topology::pause_consumer(&fleet.connection, stream, name, by_hand).await.unwrap();
    topology::limit_consumer(&fleet.connection, stream, name, 50).await.unwrap();
    coordinator.looks("wishes", 3.0).await;
    let state = fleet.state(&consumer).await;
    assert_eq!((state.paused_until, state.consumer.max_ack_pending), (Some(by_hand), 50));
}

#[tokio::test]
async fn another_coordinator_takes_back_what_one_did() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 100).await;
    let first = fleet.coordinate(quick()).await;
    fleet.wish(NORMAL, &QueueWish { limit: limit(2).limit, ..pause(None) }).await;
    fleet.is_paused_until(&consumer, Some(far())).await;
    fleet.has_limit(&consumer, 2).await;
    drop(first);
    fleet.wish(NORMAL, &QueueWish::default()).await;
    let _second = fleet.coordinate(quick()).await;
    fleet.is_paused_until(&consumer, None).await;
    fleet.has_limit(&consumer, 10_000).await;
    let after = fleet.state(&consumer).await.consumer;
    assert_eq!(after, Consumer { max_ack_pending: 10_000, ..consumer }, "nothing else of it changed");
}

#[tokio::test]
async fn a_consumer_that_is_made_later_is_paused_when_it_is_there() {
    let fleet = Fleet::start().await;
    let coordinator = fleet.coordinate(quick()).await;
    fleet.wish(NORMAL, &pause(None)).await;
    coordinator.looks("wishes", 2.0).await;
    assert_eq!(coordinator.metric("looks_failed_total", "wishes"), 0.0);
    let consumer = fleet.consumer("echo", NORMAL, 100).await;
    fleet.is_paused_until(&consumer, Some(far())).await;
}

#[tokio::test]
async fn a_wish_that_cannot_be_read_changes_nothing() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 100).await;
    let coordinator = fleet.coordinate(quick()).await;
    fleet.wish(NORMAL, &pause(None)).await;
    fleet.is_paused_until(&consumer, Some(far())).await;
    fleet.desired().put(&queue_key(&echo(), NORMAL), "{\"paused\": 1}", None).await.unwrap();
    coordinator.looks("wishes", 3.0).await;
    assert_eq!(fleet.state(&consumer).await.paused_until, Some(far()));
}

/// What the broker does, on which steering relies.
#[tokio::test]
async fn a_pause_holds_back_pulls_that_wait_and_leaves_what_is_in_hand() {
    let fleet = Fleet::start().await;
    let ack_wait = Duration::from_secs(4);
    let consumer = Consumer { ack_wait, ..worker_consumer(&fleet.namespace, &echo(), NORMAL, 1) };
    topology::ensure_consumer(&fleet.connection, &consumer).await.unwrap();
    let (stream, name) = (&consumer.stream, &consumer.name);
    fleet.publish("fleet.request.echo", &[], "in hand").await;
    let in_hand = fleet.take(&consumer).await;
    let mut inbox = PullInbox::open(&fleet.connection).await.unwrap();
    // No heartbeat is due meanwhile: one would deliver, too.
    let waiting = PullRequest::Wait { expires: Duration::from_secs(60), heartbeat: Duration::from_secs(25) };
    inbox.pull(&consumer, waiting, 1).await.unwrap();
    until("the pull waits", || async { (fleet.state(&consumer).await.waiting == 1).then_some(()) }).await;
    let until_then = time::parse("2090-01-01T00:00:00Z").unwrap();
    topology::pause_consumer(&fleet.connection, stream, name, until_then).await.unwrap();
    fleet.publish("fleet.request.echo", &[], "held back").await;
    assert!(!delivered(&mut inbox, ack_wait + Duration::from_millis(700)).await, "the pull that waits is held back");
    assert_eq!(fleet.state(&consumer).await.waiting, 1, "and still waits");
    // Past its deadline, and not given to anybody else; its holder acknowledges it all the same.
    let state = fleet.state(&consumer).await;
    assert_eq!((state.ack_pending, state.redelivered, state.pending), (1, 0, 1));
    in_hand.ack_confirmed(&fleet.connection).await.unwrap();
    assert_eq!(fleet.state(&consumer).await.ack_pending, 0);

    topology::resume_consumer(&fleet.connection, stream, name).await.unwrap();
    assert!(delivered(&mut inbox, Duration::from_secs(15)).await, "the same pull is given it");
}

#[tokio::test]
async fn at_its_limit_a_queue_stands_still_and_goes_on_when_the_limit_is_raised() {
    let fleet = Fleet::start().await;
    let consumer = worker_consumer(&fleet.namespace, &echo(), NORMAL, 1);
    topology::ensure_consumer(&fleet.connection, &consumer).await.unwrap();
    let (stream, name) = (&consumer.stream, &consumer.name);
    for body in ["in hand", "held back"] {
        fleet.publish("fleet.request.echo", &[], body).await;
    }
    topology::limit_consumer(&fleet.connection, stream, name, 1).await.unwrap();
    fleet.take(&consumer).await;
    let mut inbox = PullInbox::open(&fleet.connection).await.unwrap();
    let waiting = PullRequest::Wait { expires: Duration::from_secs(60), heartbeat: Duration::from_secs(25) };
    inbox.pull(&consumer, waiting, 1).await.unwrap();
    assert!(!delivered(&mut inbox, Duration::from_millis(500)).await, "one is in hand");
    topology::limit_consumer(&fleet.connection, stream, name, 2).await.unwrap();
    assert!(delivered(&mut inbox, Duration::from_secs(20)).await, "before its next heartbeat");
    let refused = topology::limit_consumer(&fleet.connection, stream, name, 0).await.unwrap_err();
    assert_eq!(refused.kind(), broker::Kind::Invalid);
}

#[tokio::test]
async fn a_deadline_holds_in_a_queue_that_is_paused_while_agents_wait() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 100).await;
    let inbox = PullInbox::open(&fleet.connection).await.unwrap();
    let waiting = PullRequest::Wait { expires: Duration::from_secs(60), heartbeat: Duration::from_secs(5) };
    inbox.pull(&consumer, waiting, 1).await.unwrap();
    let _coordinator = fleet.coordinate(quick()).await;
    fleet.wish(NORMAL, &pause(None)).await;
    fleet.is_paused_until(&consumer, Some(far())).await;
    let headers = [("Sortie-Request-Id", "a"), ("Sortie-Deadline", "2020-01-01T00:00:00Z")];
    fleet.publish("fleet.request.echo", &headers, "1").await;
    until("it expires", || fleet.outcome("a")).await;
}
