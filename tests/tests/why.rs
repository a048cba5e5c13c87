//! Why a request has not been done, in real fleets: one answer for each of what can keep it back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use anyhow::Result;
use broker::{PullEvent, PullInbox, PullRequest, topology};
use client::{Answer, ErrorKind, SentAgain, Why, WhyAsk, dead::Again};
use coordinator::Coordinator;
use protocol::{
    BreakerName, Lane, Operator, RequestId, Status, UniqueKey,
    breaker::State,
    desired::{LimitWish, PauseWish},
    time,
    topology::{Consumer, Source, worker_consumer},
};
use sortie_tests::{Fleet, Latch, PATIENCE, fleet::capability, raw, until};
use worker::{
    Backoff, CapabilityConfig, Context, Failure, RetryPolicy,
    layer::{CircuitBreaker, RateLimit},
};

const NORMAL: Source = Source::Lane(Lane::Normal);
const HOUR: Duration = Duration::from_secs(3_600);

/// An id that a client chose: only agents and queues tell where such a request is.
fn id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

async fn why(fleet: &Fleet, request: &str) -> Why {
    fleet.client.why(&id(request), &WhyAsk::default()).await.unwrap()
}

/// The answer, once it is one that this expects.
async fn because(fleet: &Fleet, request: &str, is_it: impl Fn(&Answer) -> bool) -> Why {
    until(&format!("the answer for {request}"), PATIENCE, || async {
        let why = why(fleet, request).await;
        is_it(&why.answer).then_some(why)
    })
    .await
}

async fn submit(fleet: &Fleet, name: &str, request: &str) -> Result<()> {
    fleet.client.request(&capability("tea"), &name).id(id(request)).submit().await?;
    Ok(())
}

async fn coordinate(fleet: &Fleet) -> Result<Coordinator> {
    Ok(Coordinator::start(&fleet.connection, coordinator::Config::default(), &Default::default()).await?)
}

/// Does what its input says; `hold` waits for the latch.
fn handler(
    latch: &Latch,
) -> impl Fn(Context, String) -> futures_util::future::BoxFuture<'static, Result<(), Failure>> + use<> {
    let latch = latch.clone();
    move |_, what| {
        let latch = latch.clone();
        Box::pin(async move {
            match what.as_str() {
                "hold" => latch.passed().await,
                "fail" => return Err(Failure::new("no_water", "the tap is dry").give_up()),
                "again" => return Err(Failure::new("no_milk", "not yet").retry_after(HOUR)),
                _ => {}
            }
            Ok(())
        })
    }
}

async fn take(fleet: &Fleet, consumer: &Consumer) -> broker::Delivery {
    let mut inbox = PullInbox::open(&fleet.connection).await.unwrap();
    // One that does not wait is told "none" where the consumer has not yet seen what the stream has stored.
    let waiting = PullRequest::Wait { expires: PATIENCE, heartbeat: PATIENCE / 4 };
    inbox.pull(consumer, waiting, 1).await.unwrap();
    match inbox.next().await {
        Some(PullEvent::Delivered(delivery)) => *delivery,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_it_ended_and_what_it_waits_for_by_its_own_subjects() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = CapabilityConfig::default().retry(RetryPolicy { attempts_max: 3, backoff: Backoff::fixed(HOUR) });
    let builder = fleet.worker("kettle").capability_with("tea", config, handler(&Latch::new()));
    let worker = fleet.run(builder, "tea").await?;
    for what in ["done", "fail", "again"] {
        submit(&fleet, what, what).await?;
    }
    because(&fleet, "done", |answer| *answer == Answer::Completed).await;
    let dead = because(&fleet, "fail", |answer| matches!(answer, Answer::Dead { .. })).await;
    assert!(matches!(&dead.answer, Answer::Dead { code, attempt: 1, .. } if code == "no_water"), "{dead:?}");
    assert!(matches!(&dead.answer, Answer::Dead { sent_again: None, .. }), "{dead:?}");
    // One that was sent again says so, and what became of that.
    fleet.client.replay(&id("fail"), &Again::default()).await?;
    let ended = |again: &SentAgain| again.status == Some(Status::Failed) && again.id != id("fail");
    because(&fleet, "fail", |answer| matches!(answer, Answer::Dead { sent_again: Some(again), .. } if ended(again)))
        .await;
    let again = because(&fleet, "again", |answer| matches!(answer, Answer::Scheduled { .. })).await;
    let Answer::Scheduled { due, attempt, after, .. } = &again.answer else { panic!("{again:?}") };
    assert_eq!((*attempt, after.as_deref(), again.lane), (2, Some("no_milk"), Some(NORMAL)));
    assert!(due.unwrap() > time::now() + chrono::TimeDelta::minutes(50), "{due:?}");

    fleet.client.request(&capability("tea"), "x").id(id("delayed")).bulk().delay(HOUR).submit().await?;
    let delayed = why(&fleet, "delayed").await;
    assert!(matches!(delayed.answer, Answer::Scheduled { attempt: 1, after: None, .. }), "{delayed:?}");
    assert_eq!(delayed.lane, Some(Source::Lane(Lane::Bulk)));
    fleet.client.cancel(&id("delayed")).await?;
    assert_eq!(why(&fleet, "delayed").await.answer, Answer::Cancelled);
    let late = fleet.client.request(&capability("tea"), "x").id(id("late")).deadline(time::now() - HOUR);
    late.submit().await?;
    because(&fleet, "late", |answer| *answer == Answer::Expired).await;

    // A unique request keeps its key while it waits for its retry.
    let unique = fleet.client.request(&capability("tea"), "again").unique(UniqueKey::parse("pot")?).submit().await?;
    let retrying = because(&fleet, unique.id().as_str(), |answer| matches!(answer, Answer::Retrying { .. })).await;
    assert!(
        matches!(&retrying.answer, Answer::Retrying { attempt: 2, after: Some(code), .. } if code == "no_milk"),
        "{retrying:?}"
    );
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_it_who_is_before_it_and_that_nobody_is_free() -> Result<()> {
    let fleet = Fleet::start().await?;
    submit(&fleet, "hold", "first").await?;
    let unserved = why(&fleet, "first").await;
    assert_eq!((unserved.answer, unserved.lane), (Answer::Unserved { was_delivered: false }, Some(NORMAL)));
    let latch = Latch::new();
    let builder = fleet.worker("kettle").slots(1).capability("tea", handler(&latch));
    let worker = fleet.run(builder, "tea").await?;
    let running = because(&fleet, "first", |answer| matches!(answer, Answer::Running { .. })).await;
    let Answer::Running { kind, attempt: 1, since, .. } = &running.answer else { panic!("{running:?}") };
    assert!(kind.as_str() == "kettle" && *since <= time::now() + chrono::TimeDelta::seconds(1), "{running:?}");

    submit(&fleet, "x", "second").await?;
    submit(&fleet, "x", "third").await?;
    // A pull that was on its way is taken back when the slot is busy for a moment.
    because(&fleet, "second", |answer| *answer == Answer::AllBusy { agents: 1, slots: 1 }).await;
    let third = because(&fleet, "third", |answer| *answer == Answer::Behind { others: 1 }).await;
    assert_eq!(third.besides, [Answer::AllBusy { agents: 1, slots: 1 }]);
    // By sequence nothing is scanned; the fourth message of the stream.
    let sequence = raw::publish(&fleet, "fleet.request.tea", &[], "\"x\"").await?;
    let by_sequence = why(&fleet, &format!("seq-{sequence}")).await;
    assert_eq!(by_sequence.answer, Answer::Behind { others: 2 });
    latch.open();
    because(&fleet, "third", |answer| *answer == Answer::Completed).await;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_and_a_limit_tell_who_wished_them() -> Result<()> {
    let fleet = Fleet::start().await?;
    let latch = Latch::new();
    let worker = fleet.run(fleet.worker("kettle").slots(4).capability("tea", handler(&latch)), "tea").await?;
    let coordinator = coordinate(&fleet).await?;
    let by = Operator::nearest("ann");
    let reason = Some("no water".to_owned());
    let pause = PauseWish { by: by.clone(), at: time::now(), reason: reason.clone(), until: None };
    fleet.client.pause_queues(&capability("tea"), &[NORMAL], &pause).await?;
    fleet.client.fulfilled(&capability("tea"), &[NORMAL], PATIENCE).await?;
    submit(&fleet, "hold", "first").await?;
    let paused = because(&fleet, "first", |answer| matches!(answer, Answer::Paused { .. })).await;
    let wished = Answer::Paused { by: Some(by.clone()), reason, since: Some(pause.at), until: None };
    assert_eq!((paused.answer, paused.besides), (wished, vec![]));

    let limit = LimitWish { max: 1, by, at: time::now(), reason: None };
    fleet.client.limit_queues(&capability("tea"), &[NORMAL], Some(&limit)).await?;
    fleet.client.resume_queues(&capability("tea"), &[NORMAL]).await?;
    fleet.client.fulfilled(&capability("tea"), &[NORMAL], PATIENCE).await?;
    because(&fleet, "first", |answer| matches!(answer, Answer::Running { .. })).await;
    submit(&fleet, "hold", "second").await?;
    because(&fleet, "second", |answer| *answer == Answer::LimitReached { max: 1, running: 1 }).await;
    fleet.client.limit_queues(&capability("tea"), &[NORMAL], None).await?;
    because(&fleet, "second", |answer| matches!(answer, Answer::Running { .. })).await;
    latch.open();
    worker.stop().await?;
    coordinator.handle().stop();
    assert!(coordinator.stopped().await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_pauses_its_queue_and_a_closing_one_resumes_nothing_that_a_person_paused() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = CapabilityConfig::default().retry(RetryPolicy { attempts_max: 1, backoff: Backoff::fixed(HOUR) });
    let builder = fleet.worker("kettle").capability_with("tea", config, handler(&Latch::new()));
    let breaker = CircuitBreaker::new().named("tap").failures(1).open_for(Duration::from_secs(600));
    let worker = fleet.run(builder.circuit_breaker(breaker), "tea").await?;
    let _coordinator = coordinate(&fleet).await?;
    // What is given up says nothing of what is called; what may be retried does.
    submit(&fleet, "again", "broken").await?;
    let consumer = worker_consumer(&fleet.namespace, &capability("tea"), NORMAL, 1);
    let state = || async { topology::consumer_state(&fleet.connection, &consumer.stream, &consumer.name).await.ok() };
    let paused = until("the consumer is paused, with three at once", PATIENCE, || async {
        state().await.filter(|state| state.is_paused && state.consumer.max_ack_pending == 3)
    })
    .await;
    let named = fleet.client.breakers().await?.pop().unwrap();
    assert_eq!(named.now, State::Open);
    assert!((paused.paused_until.unwrap() - named.breaker.until.unwrap()).num_milliseconds().abs() <= 1);
    submit(&fleet, "x", "kept").await?;
    let kept = why(&fleet, "kept").await;
    assert!(
        matches!(&kept.answer, Answer::BreakerOpen { name, state: State::Open, until: Some(_), after: Some(code) }
            if name.as_str() == "tap" && code == "no_milk"),
        "{kept:?}"
    );

    let pause = PauseWish { by: Operator::nearest("ann"), at: time::now(), reason: None, until: None };
    fleet.client.pause_queues(&capability("tea"), &[NORMAL], &pause).await?;
    fleet.client.fulfilled(&capability("tea"), &[NORMAL], PATIENCE).await?;
    fleet.client.reset_breaker(&BreakerName::parse("tap")?).await?;
    until("what the breaker did is taken back", PATIENCE, || async {
        state().await.filter(|state| state.consumer.max_ack_pending == 10_000)
    })
    .await;
    let still = why(&fleet, "kept").await;
    assert!(matches!(still.answer, Answer::Paused { by: Some(_), .. }) && still.besides.is_empty(), "{still:?}");
    fleet.client.resume_queues(&capability("tea"), &[NORMAL]).await?;
    because(&fleet, "kept", |answer| *answer == Answer::Completed).await;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_told() -> Result<()> {
    let fleet = Fleet::start().await?;
    let builder = fleet.worker("kettle").capability("tea", handler(&Latch::new()));
    let worker = fleet.run(builder.rate_limit(RateLimit::new(1, HOUR)), "tea").await?;
    submit(&fleet, "x", "first").await?;
    because(&fleet, "first", |answer| *answer == Answer::Completed).await;
    submit(&fleet, "x", "second").await?;
    let paced = because(&fleet, "second", |answer| matches!(answer, Answer::RateLimited { .. })).await;
    assert!(matches!(paced.answer, Answer::RateLimited { due: Some(_) }), "{paced:?}");
    worker.stop().await
}

#[tokio::test]
async fn what_a_stranger_has_what_the_broker_gave_up_and_what_is_gone() -> Result<()> {
    let fleet = Fleet::start().await?;
    let tea = capability("tea");
    let consumer = Consumer {
        ack_wait: Duration::from_secs(5),
        max_deliver: Some(2),
        ..worker_consumer(&fleet.namespace, &tea, NORMAL, 1)
    };
    topology::ensure_consumer(&fleet.connection, &consumer).await?;
    let sequence = raw::publish(&fleet, "fleet.request.tea", &[], "1").await?;
    let asked = format!("seq-{sequence}");
    // Nobody says that it has it, and the broker says that somebody does.
    let delivery = take(&fleet, &consumer).await;
    let taken = why(&fleet, &asked).await;
    assert_eq!((taken.answer, taken.besides), (Answer::Taken { silent: Vec::new() }, Vec::new()));
    // An extension is all that tells a program that lives from one that is gone: the broker notes it like a delivery.
    let moved = || async {
        let state = topology::consumer_state(&fleet.connection, &consumer.stream, &consumer.name).await.unwrap();
        state.last_active
    };
    let before = moved().await;
    delivery.extend(&fleet.connection, PATIENCE).await?;
    assert!(moved().await > before, "{before:?}");
    let lost = because(&fleet, &asked, |answer| *answer == Answer::Unserved { was_delivered: true }).await;
    assert_eq!(lost.besides, []);
    // It is delivered once more, and no more after that.
    until("the broker gives it up", PATIENCE, || async {
        let inbox = PullInbox::open(&fleet.connection).await.ok()?;
        inbox.pull(&consumer, PullRequest::Now { batch: 1 }, 1).await.ok()?;
        (why(&fleet, &asked).await.answer == Answer::GivenUp).then_some(())
    })
    .await;
    let other = raw::publish(&fleet, "fleet.bulk.tea", &[], "1").await?;
    topology::purge(&fleet.connection, &consumer.stream, "fleet.bulk.tea", None).await?;
    assert_eq!(why(&fleet, &format!("seq-{other}")).await.answer, Answer::Forgotten);
    let never = fleet.client.why(&id("seq-99"), &WhyAsk::default()).await.unwrap_err();
    assert_eq!(*never.kind(), ErrorKind::NotFound);
    Ok(())
}

const UNSERVED: Answer = Answer::Unserved { was_delivered: false };

#[tokio::test]
async fn a_search_says_how_far_it_looked() -> Result<()> {
    let fleet = Fleet::start().await?;
    for number in 0..30 {
        fleet.client.request(&capability("tea"), &number).id(id(&format!("order-{number}"))).submit().await?;
    }
    fleet.client.request(&capability("coffee"), &1).bulk().id(id("order-x")).submit().await?;
    let ask = |scan_max, name: Option<&str>| WhyAsk { capability: name.map(capability), scan_max, ..WhyAsk::default() };
    let answer = |request: &'static str, ask: WhyAsk| {
        let client = fleet.client.clone();
        async move { client.why(&id(request), &ask).await.unwrap().answer }
    };
    assert_eq!(answer("order-29", ask(10, None)).await, Answer::NotFound { looked_at: 11, was_all: false });
    assert_eq!(answer("order-29", ask(30, Some("tea"))).await, UNSERVED);
    assert_eq!(answer("order-x", ask(10, None)).await, UNSERVED, "a long lane hides no other");
    assert_eq!(answer("nobody", ask(100, None)).await, Answer::NotFound { looked_at: 31, was_all: true });
    assert_eq!(answer("order-1", ask(100, Some("coffee"))).await, Answer::NotFound { looked_at: 1, was_all: true });
    Ok(())
}
