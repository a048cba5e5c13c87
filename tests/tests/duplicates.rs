//! One request, however often it is published or delivered, has one outcome.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use broker::{Outgoing, Publisher};
use client::Acceptance;
use protocol::{DeadLetter, Failure as Story, Outcome, RequestId, Status, codes};
use sortie_tests::{Count, Fleet, Journal, Latch, PATIENCE, count, fleet::capability, raw, until};
use worker::{Context, Failure};

async fn assert_one_outcome(fleet: &Fleet, id: &RequestId) -> Result<Outcome> {
    let outcome = fleet.client.wait(id, PATIENCE).await?;
    count::nothing_waits(&fleet.client).await;
    let count = Count::of(&fleet.client, &BTreeSet::from([id.clone()])).await?;
    count.assert_whole();
    assert_eq!(count.foreign, 0);
    Ok(outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_publishes_under_one_id_have_one_outcome() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (journal, latch) = (Journal::new(), Latch::new());
    let (noted, passes) = (journal.clone(), latch.clone());
    let handler = move |_: Context, number: u32| {
        noted.note(number.to_string());
        let latch = passes.clone();
        async move {
            latch.passed().await;
            Ok::<_, Failure>(number)
        }
    };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    let id = RequestId::parse("order-1")?;
    // Without a message id the broker cannot tell that it is the same.
    for number in ["1", "2"] {
        raw::request(&fleet, "tea", &[("Sortie-Request-Id", id.as_str())], number).await?;
    }
    until("both run", PATIENCE, || async { (journal.len() == 2).then_some(()) }).await;
    latch.open();
    let outcome = assert_one_outcome(&fleet, &id).await?;
    // A third one after the end, which the broker does not take for a copy of the others.
    let headers = [("Sortie-Request-Id", id.as_str()), ("Nats-Msg-Id", "once-more")];
    raw::request(&fleet, "tea", &headers, "3").await?;
    assert_eq!(assert_one_outcome(&fleet, &id).await?.body, outcome.body);
    assert_eq!(journal.count("3"), 0, "it is known to be done");
    let again = fleet.client.request(&capability("tea"), &4).id(id.clone()).submit().await?;
    assert!(matches!(again.acceptance(), Acceptance::Done(done) if done.body == outcome.body), "{again:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_submits_under_one_id_are_one_message() -> Result<()> {
    let fleet = Fleet::start().await?;
    let id = RequestId::parse("order-2")?;
    let first = fleet.client.request(&capability("tea"), &1).id(id.clone()).submit().await?;
    assert!(matches!(first.acceptance(), Acceptance::Stored { .. }));
    let second = fleet.client.request(&capability("tea"), &1).id(id.clone()).submit().await?;
    assert_eq!(*second.acceptance(), Acceptance::Repeated);
    assert_eq!(count::waiting(&fleet.client).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_given_to_two_workers_has_one_outcome() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (journal, latch) = (Journal::new(), Latch::new());
    let (noted, passes) = (journal.clone(), latch.clone());
    let handler = move |ctx: Context, fails: bool| {
        noted.note(ctx.instance().as_str());
        let latch = passes.clone();
        async move {
            latch.passed().await;
            if fails { Err(Failure::new("tea_is_cold", "no").give_up()) } else { Ok(ctx.attempt()) }
        }
    };
    let first = fleet.run(fleet.worker("first").slots(2).capability("tea", handler.clone()), "tea").await?;
    let second = fleet.run(fleet.worker("second").slots(2).capability("tea", handler), "tea").await?;
    let mut ids = Vec::new();
    for (number, body) in ["true", "false"].into_iter().enumerate() {
        let id = raw::request(&fleet, "tea", &[], body).await?;
        until("it runs", PATIENCE, || async { (journal.len() == 2 * number + 1).then_some(()) }).await;
        // A nak of a delivery that somebody still works on: whoever pulls gets it at once.
        let sequence = id.as_str().trim_start_matches("seq-");
        let stale = format!("$JS.ACK.FLEET_REQUESTS.tea.1.{sequence}.1.0.0");
        fleet.connection.publish_core(Outgoing::new(stale, "-NAK")).await?;
        until("it runs twice", PATIENCE, || async { (journal.len() == 2 * number + 2).then_some(()) }).await;
        ids.push(id);
    }
    latch.open();
    assert_eq!(fleet.client.wait(&ids[0], PATIENCE).await?.status, Status::Failed);
    assert_eq!(fleet.client.wait(&ids[1], PATIENCE).await?.status, Status::Completed);
    first.stop().await?;
    second.stop().await?;
    let count = Count::whole(&fleet.client, &ids.into_iter().collect(), PATIENCE).await;
    assert_eq!((count.foreign, count.dead), (0, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_outcome_without_its_dead_letter_gets_it_before_the_message_goes() -> Result<()> {
    let fleet = Fleet::start().await?;
    let publisher = Publisher::new(&fleet.connection);
    // Its author died between the two.
    let id = RequestId::parse("order-3")?;
    let failure = Story::new("tea_is_cold", "it was left standing");
    let outcome = Outcome::not_completed(id.clone(), Status::Failed, &failure);
    let outgoing = Outgoing::new("fleet.outcome.order-3", outcome.body.clone()).with_headers(outcome.headers());
    publisher.publish(&outgoing).await?;
    let headers = [("Sortie-Request-Id", id.as_str()), ("Nats-Msg-Id", "order-3"), ("X-Tenant", "blue")];
    raw::request(&fleet, "tea", &headers, "7").await?;
    // The same for one that was done: it only goes.
    let done = Outcome::completed(RequestId::parse("order-4")?, protocol::ContentType::Json, b"1".to_vec());
    publisher.publish(&Outgoing::new("fleet.outcome.order-4", "1").with_headers(done.headers())).await?;
    raw::request(&fleet, "tea", &[("Nats-Msg-Id", "order-4")], "7").await?;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |_: Context, _: u32| {
        noted.note("begun");
        async { Ok::<_, Failure>(()) }
    };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    count::nothing_waits(&fleet.client).await;
    let stored = raw::last(&fleet, "FLEET_DEAD", "fleet.dead.tea.order-3").await?.expect("a dead letter");
    let letter = DeadLetter::read(&stored.headers).expect("its story");
    assert_eq!((letter.failure.code.as_str(), &stored.body[..]), ("tea_is_cold", &b"7"[..]));
    assert_eq!(stored.headers.get("X-Tenant"), Some("blue"));
    assert_eq!(count::dead_ids(&fleet.client, &fleet.namespace).await?, [id]);
    assert!(journal.is_empty(), "neither ran");
    worker.stop().await
}

/// A request that many know under one id, from the first publish to long after its end.
#[tokio::test(flavor = "multi_thread")]
async fn many_publishes_at_once_have_one_outcome() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |ctx: Context, number: u32| async move {
        if ctx.attempt() < 3 {
            Err(Failure::new(codes::OVERLOADED, "no").retry_after(Duration::ZERO))
        } else {
            Ok(number)
        }
    };
    let builder = |kind| fleet.worker(kind).slots(3).capability("tea", handler);
    let first = fleet.run(builder("first"), "tea").await?;
    let second = fleet.run(builder("second"), "tea").await?;
    let id = RequestId::parse("order-5")?;
    for number in 0..30 {
        raw::request(&fleet, "tea", &[("Sortie-Request-Id", id.as_str())], number.to_string()).await?;
    }
    let outcome = assert_one_outcome(&fleet, &id).await?;
    assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 3));
    first.stop().await?;
    second.stop().await
}
