//! Steering queues while agents work: what waits is held back, what is in hand goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use anyhow::Result;
use client::{Fulfilment, QueuesAsk};
use coordinator::Coordinator;
use protocol::{
    Lane, Operator, Status,
    desired::PauseWish,
    time,
    topology::{Source, worker_consumer},
};
use sortie_tests::{Fleet, Journal, Latch, PATIENCE, fleet::capability, until};
use worker::{Context, Failure};

const NORMAL: Source = Source::Lane(Lane::Normal);

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_what_waits_and_not_what_runs_and_a_resume_wakes_idle_agents() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (latch, journal) = (Latch::new(), Journal::new());
    let (passes, noted) = (latch.clone(), journal.clone());
    let handler = move |_: Context, what: String| {
        noted.note(what.clone());
        let latch = passes.clone();
        async move {
            if what == "hold" {
                latch.passed().await;
            }
            Ok::<_, Failure>(what)
        }
    };
    let worker = fleet.run(fleet.worker("kettle").slots(4).capability("tea", handler), "tea").await?;
    let coordinator =
        Coordinator::start(&fleet.connection, coordinator::Config::default(), &Default::default()).await?;
    let tea = capability("tea");
    let held = fleet.client.request(&tea, "hold").submit().await?;
    until("it runs", PATIENCE, || async { (journal.count("hold") == 1).then_some(()) }).await;

    // The worker's long pull waits already: it has three free slots.
    let consumer = worker_consumer(&fleet.namespace, &tea, NORMAL, 1);
    let pulls = || async {
        broker::topology::consumer_state(&fleet.connection, &consumer.stream, &consumer.name)
            .await
            .ok()
            .map(|it| it.waiting)
    };
    until("a pull waits", PATIENCE, || async { pulls().await.filter(|pulls| *pulls > 0) }).await;
    let pause = PauseWish { by: Operator::nearest("ann"), at: time::now(), reason: None, until: None };
    fleet.client.pause_queues(&tea, &[NORMAL], &pause).await?;
    let wished = Instant::now();
    assert_eq!(fleet.client.fulfilled(&tea, &[NORMAL], PATIENCE).await?, [(NORMAL, Fulfilment::InForce)]);
    println!("paused after {:?}", wished.elapsed());
    let waits = fleet.client.request(&tea, "waits").submit().await?;
    let other = fleet.client.request(&tea, "other lane").urgent().submit().await?;
    assert_eq!(other.outcome(PATIENCE).await?.status, Status::Completed, "the other lanes go on");
    latch.open();
    assert_eq!(held.outcome(PATIENCE).await?.status, Status::Completed, "what is in hand goes on");
    let queue = fleet.client.queues(&QueuesAsk { capability: Some(tea.clone()), ..QueuesAsk::default() }).await?;
    let queue = queue.queues.into_iter().find(|queue| queue.lane == NORMAL).unwrap();
    assert_eq!((queue.waiting, queue.running, queue.agents, queue.slots), (1, 0, 1, 4));
    assert!(queue.paused.unwrap().is_in_force && queue.oldest.is_some());
    assert_eq!(journal.count("waits"), 0);

    let resumed = Instant::now();
    fleet.client.resume_queues(&tea, &[NORMAL]).await?;
    assert_eq!(waits.outcome(PATIENCE).await?.status, Status::Completed);
    let took = resumed.elapsed();
    println!("resumed after {took:?}");
    assert!(took < Duration::from_secs(4), "before any heartbeat of the pull that waits: {took:?}");
    worker.stop().await?;
    coordinator.handle().stop();
    assert!(coordinator.stopped().await);
    Ok(())
}
