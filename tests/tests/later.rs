//! What waits for its time: delays and retries, visible, holding no slot.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use broker::topology;
use chrono::TimeDelta;
use client::Cancellation;
use protocol::{Lane, Status};
use sortie_tests::{Count, Fleet, Journal, PATIENCE, count, fleet::capability, raw, until};
use worker::{Backoff, CapabilityConfig, Context, Failure, RetryPolicy};

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_request_waits_where_it_can_be_seen_and_runs_once() -> Result<()> {
    let fleet = Fleet::start().await?;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |_: Context, text: String| {
        noted.note(text);
        async { Ok::<_, Failure>(()) }
    };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    let began = Instant::now();
    let delay = Duration::from_secs(5);
    let receipt = fleet.client.request(&capability("tea"), "later").delay(delay).urgent().submit().await?;
    let listed = fleet.client.later(10).await?;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].id, listed[0].lane, listed[0].attempt), (receipt.id(), Lane::Urgent, 1));
    assert_eq!(listed[0].capability, Some(capability("tea")));
    let subject = format!("fleet.later.{}", receipt.id());
    assert!(raw::last(&fleet, "FLEET_REQUESTS", &subject).await?.is_some(), "{subject}");
    let outcome = receipt.outcome(PATIENCE).await?;
    // Schedules are kept to the broker's clock, which is this machine's.
    assert!(began.elapsed() >= delay - Duration::from_millis(50), "{:?}", began.elapsed());
    assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 1));
    let past = fleet.client.now().await? - TimeDelta::hours(1);
    let outcome = fleet.client.request(&capability("tea"), "past").at(past).call(PATIENCE).await?;
    assert_eq!(outcome.status, Status::Completed, "a time in the past is now");
    let soon = fleet.client.now().await? + TimeDelta::milliseconds(400);
    fleet.client.request(&capability("tea"), "soon").at(soon).call(PATIENCE).await?;
    worker.stop().await?;
    assert_eq!(journal.lines(), ["later", "past", "soon"], "each fired once");
    assert!(fleet.client.later(10).await?.is_empty());
    count::nothing_waits(&fleet.client).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_came_back_takes_nothing_from_a_later_one() -> Result<()> {
    let fleet = Fleet::start().await?;
    let retry = RetryPolicy { attempts_max: 9, backoff: Backoff::fixed(Duration::from_secs(3_600)) };
    let handler = |_: Context, _: u32| async { Err::<u32, _>(Failure::new("tea_is_cold", "no")) };
    let builder = fleet.worker("tea").capability_with("tea", CapabilityConfig::default().retry(retry), handler);
    let worker = fleet.run(builder, "tea").await?;
    let waits = |attempt: &'static str| {
        let fleet = &fleet;
        move || async move {
            let found = raw::last(fleet, "FLEET_REQUESTS", "fleet.later.one").await.ok()??;
            let is_idle =
                topology::consumer_state(&fleet.connection, "FLEET_REQUESTS", "tea").await.ok()?.ack_pending == 0;
            (is_idle && found.headers.get("Sortie-Attempt") == Some(attempt)).then_some(found.sequence)
        }
    };
    let deliver = async |attempt: &str| {
        let headers = [("Sortie-Request-Id", "one"), ("Sortie-Attempt", attempt)];
        raw::publish(&fleet, "fleet.request.tea", &headers, "1").await
    };
    deliver("2").await?;
    let third = until("the third attempt waits", PATIENCE, waits("3")).await;
    // As after a start of the server, which forgets that the message was acknowledged.
    let back = deliver("1").await?;
    let worked_off = || async {
        let state = topology::consumer_state(&fleet.connection, "FLEET_REQUESTS", "tea").await.ok()?;
        (state.ack_floor >= back).then_some(())
    };
    until("the first attempt was made once more", PATIENCE, worked_off).await;
    assert_eq!(until("the third attempt still waits", PATIENCE, waits("3")).await, third);
    // Where that place was taken from it all the same, by an older agent, the id of the third attempt is one that is known.
    topology::purge(&fleet.connection, "FLEET_REQUESTS", "fleet.later.one", None).await?;
    deliver("2").await?;
    until("the third attempt waits again", PATIENCE, waits("3")).await;
    worker.stop().await
}

/// Whoever published there forgot the header that makes it a schedule.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_schedule_keeps_no_retry_from_its_place() -> Result<()> {
    let fleet = Fleet::start().await?;
    let retry = RetryPolicy { attempts_max: 2, backoff: Backoff::fixed(Duration::from_millis(500)) };
    let handler = |ctx: Context, _: u32| async move {
        if ctx.attempt() == 1 { Err(Failure::new("tea_is_cold", "no")) } else { Ok(ctx.attempt()) }
    };
    let builder = fleet.worker("tea").capability_with("tea", CapabilityConfig::default().retry(retry), handler);
    let worker = fleet.run(builder, "tea").await?;
    raw::publish(&fleet, "fleet.later.planted", &[("Sortie-Request-Id", "planted")], "1").await?;
    raw::publish(&fleet, "fleet.request.tea", &[("Sortie-Request-Id", "planted")], "1").await?;
    let outcome = fleet.client.wait(&"planted".parse()?, PATIENCE).await?;
    assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 2));
    count::nothing_waits(&fleet.client).await;
    assert!(raw::last(&fleet, "FLEET_REQUESTS", "fleet.later.planted").await?.is_none());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_holds_no_slot_and_can_be_seen() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = CapabilityConfig::default()
        .retry(RetryPolicy { attempts_max: 2, backoff: Backoff::fixed(Duration::from_secs(12)) });
    let handler = |ctx: Context, fails: bool| async move {
        if fails && ctx.attempt() == 1 { Err(Failure::new("tea_is_cold", "no")) } else { Ok(ctx.attempt()) }
    };
    let builder = fleet.worker("tea").slots(1).capability_with("tea", config, handler);
    let worker = fleet.run(builder, "tea").await?;
    let receipt = fleet.client.request(&capability("tea"), &true).bulk().submit().await?;
    let listed =
        until("its retry is listed", PATIENCE, || async { fleet.client.later(10).await.ok()?.into_iter().next() })
            .await;
    assert_eq!((&listed.id, listed.attempt, listed.lane), (receipt.id(), 2, Lane::Bulk));
    assert_eq!(listed.last_failure.as_deref(), Some("tea_is_cold"));
    for _ in 0..20 {
        fleet.client.request(&capability("tea"), &false).call(PATIENCE).await?;
    }
    assert_eq!(fleet.client.later(10).await?.len(), 1, "it waits while others run in the only slot");
    let outcome = receipt.outcome(PATIENCE).await?;
    assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 2));
    worker.stop().await?;
    Count::whole(&fleet.client, &BTreeSet::from([receipt.id().clone()]), PATIENCE).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_request_that_is_cancelled_never_runs() -> Result<()> {
    let fleet = Fleet::start().await?;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |_: Context, text: String| {
        noted.note(text);
        async { Ok::<_, Failure>(()) }
    };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    let receipt = fleet.client.request(&capability("tea"), "never").delay(Duration::from_secs(4)).submit().await?;
    assert_eq!(receipt.cancel().await?, Cancellation::Cancelled);
    assert_eq!(count::waiting(&fleet.client).await?, 0, "its schedule is purged");
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Cancelled);
    // Had it still been there, it would have fired before this one.
    let after = Duration::from_secs(5);
    fleet.client.request(&capability("tea"), "after").delay(after).call(PATIENCE).await?;
    assert_eq!(journal.lines(), ["after"]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_waits_can_be_cancelled() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = CapabilityConfig::default()
        .retry(RetryPolicy { attempts_max: 3, backoff: Backoff::fixed(Duration::from_secs(600)) });
    let handler = |_: Context, _: u32| async { Err::<(), _>(Failure::new("tea_is_cold", "no")) };
    let worker = fleet.run(fleet.worker("tea").capability_with("tea", config, handler), "tea").await?;
    let receipt = fleet.client.request(&capability("tea"), &1).submit().await?;
    until("its retry is listed", PATIENCE, || async { fleet.client.later(10).await.ok()?.into_iter().next() }).await;
    assert_eq!(receipt.cancel().await?, Cancellation::Cancelled);
    // The request itself may not be acknowledged yet when its retry is listed.
    count::nothing_waits(&fleet.client).await;
    worker.stop().await
}

/// A handler that means "never" says the longest wait there is.
#[tokio::test(flavor = "multi_thread")]
async fn an_absurd_wait_is_ten_years() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |_: Context, kind: String| async move {
        Err::<(), _>(match kind.as_str() {
            "snooze" => Failure::snooze(Duration::MAX),
            "a million years" => Failure::snooze(Duration::from_secs(1_000_000 * 31_536_000)),
            _ => Failure::new("busy", "no").retry_after(Duration::MAX),
        })
    };
    let worker = fleet.run(fleet.worker("tea").slots(1).capability("tea", handler), "tea").await?;
    let now = fleet.client.now().await?;
    for kind in ["snooze", "a million years", "retry after"] {
        let receipt = fleet.client.request(&capability("tea"), kind).submit().await?;
        let waiting = until("it waits", PATIENCE, || async { fleet.client.later(10).await.ok()?.into_iter().next() });
        let due = waiting.await.due.expect("a time");
        assert!(due > now + TimeDelta::days(3_600) && due < now + TimeDelta::days(3_700), "{kind}: {due}");
        assert_eq!(receipt.cancel().await?, Cancellation::Cancelled);
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_keeps_the_headers_that_it_does_not_write() -> Result<()> {
    let fleet = Fleet::start().await?;
    let hourly = RetryPolicy { attempts_max: 2, backoff: Backoff::fixed(Duration::from_secs(3_600)) };
    let fails = |_: Context, _: u32| async { Err::<(), _>(Failure::new("not_yet", "once more")) };
    let builder = fleet.worker("echo").capability_with("echo", CapabilityConfig::default().retry(hourly), fails);
    let worker = fleet.run(builder, "echo").await?;
    let kept = [("Sortie-Cron", "nightly@17"), ("Sortie-Unheard-Of", "1"), ("X-Tenant", "blue")];
    let headers = [&[("Sortie-Request-Id", "tick-1"), ("Nats-Msg-Id", "tick-1")][..], &kept].concat();
    raw::request(&fleet, "echo", &headers, "1").await?;
    let retry = until("its retry waits", PATIENCE, || async {
        raw::last(&fleet, "FLEET_REQUESTS", "fleet.later.tick-1").await.ok()?
    })
    .await;
    for (name, value) in kept.into_iter().chain([("Sortie-Attempt", "2"), ("Nats-Msg-Id", "tick-1:2.0")]) {
        assert_eq!(retry.headers.get(name), Some(value), "{name}: {:?}", retry.headers);
    }
    worker.stop().await
}
