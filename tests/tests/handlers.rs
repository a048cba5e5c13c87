//! Handlers that panic, hang, ignore their end or hold their thread, and what a handler can ask for.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use broker::Reader;
use protocol::{Status, codes, registry::Health};
use serde_json::{Value, json};
use sortie_tests::{Fleet, Journal, Latch, PATIENCE, fleet::capability, process::Start, raw, until};
use worker::{Backoff, CapabilityConfig, Config, Context, Failure, Kind, RetryPolicy};

fn attempts(attempts_max: u32) -> CapabilityConfig {
    CapabilityConfig::default()
        .retry(RetryPolicy { attempts_max, backoff: Backoff::fixed(Duration::from_millis(300)) })
        .timeout(Duration::from_millis(300))
}

fn quick(fleet: &Fleet) -> Config {
    Config {
        stop_grace: Duration::from_millis(300),
        registry_interval: Duration::from_millis(200),
        ..fleet.worker_config()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_caught_and_retried() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |ctx: Context, _: Value| async move {
        assert!(ctx.attempt() > 1, "the tea is cold");
        Ok::<_, Failure>(ctx.attempt())
    };
    // A handler may panic before it gives a future, too.
    let early = |ctx: Context, _: Value| {
        assert!(ctx.attempt() > 1, "the tea is cold");
        async move { Ok::<_, Failure>(ctx.attempt()) }
    };
    let never = |_: Context, _: Value| async {
        if true {
            panic!("always");
        }
        Ok::<_, Failure>(())
    };
    let builder = fleet.worker("tea").capability_with("tea", attempts(2), handler);
    let builder = builder.capability_with("early", attempts(2), early).capability_with("never", attempts(1), never);
    let worker = fleet.run(builder, "tea").await?;
    for name in ["tea", "early"] {
        let outcome = fleet.client.request(&capability(name), &1).call(PATIENCE).await?;
        assert_eq!((outcome.attempt, outcome.result::<u32>().unwrap()), (2, 2));
    }
    let failure = fleet.client.request(&capability("never"), &1).call(PATIENCE).await?.failure().unwrap();
    assert_eq!((failure.code.as_str(), failure.message.as_str()), (codes::HANDLER_PANICKED, "always"));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_hangs_times_out_and_is_retried() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |ctx: Context, hangs_until: u32| async move {
        if ctx.attempt() < hangs_until {
            std::future::pending::<()>().await;
        }
        Ok::<_, Failure>(ctx.attempt())
    };
    let worker = fleet.run(fleet.worker("tea").slots(1).capability_with("tea", attempts(2), handler), "tea").await?;
    let outcome = fleet.client.request(&capability("tea"), &2).call(PATIENCE).await?;
    assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 2));
    let failure = fleet.client.request(&capability("tea"), &9).call(PATIENCE).await?.failure().unwrap();
    assert_eq!((failure.code.as_str(), failure.attempts.len()), (codes::TIMEOUT, 2));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_heeds_its_cancellation_may_still_give_a_result() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |ctx: Context, _: Value| async move {
        ctx.cancellation().cancelled().await;
        Ok::<_, Failure>("half of it")
    };
    let worker = fleet.run(fleet.worker("tea").capability_with("tea", attempts(1), handler), "tea").await?;
    let outcome = fleet.client.request(&capability("tea"), &1).call(PATIENCE).await?;
    assert_eq!(outcome.result::<String>().unwrap(), "half of it");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ignores_its_cancellation_is_dropped_and_frees_its_slot() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |ctx: Context, ignores: bool| async move {
        let _token = ctx.cancellation();
        if ignores {
            std::future::pending::<()>().await;
        }
        Ok::<_, Failure>(())
    };
    let builder = fleet.worker("tea").config(quick(&fleet)).slots(1).capability_with("tea", attempts(1), handler);
    let worker = fleet.run(builder, "tea").await?;
    let outcome = fleet.client.request(&capability("tea"), &true).call(PATIENCE).await?;
    assert_eq!(outcome.failure().unwrap().code, codes::TIMEOUT);
    let outcome = fleet.client.request(&capability("tea"), &false).call(PATIENCE).await?;
    assert_eq!(outcome.status, Status::Completed, "the slot is free again");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_holds_its_thread_is_recorded_and_keeps_its_slot() -> Result<()> {
    let fleet = Fleet::start().await?;
    let latch = Latch::new();
    let held = latch.clone();
    let handler = move |_: Context, holds: bool| {
        let held = held.clone();
        async move {
            if holds {
                held.hold_thread();
            }
            Ok::<_, Failure>(())
        }
    };
    let builder = fleet.worker("tea").config(quick(&fleet)).slots(2).capability_with("tea", attempts(1), handler);
    let worker = fleet.run_apart(builder, "tea").await?;
    let outcome = fleet.client.request(&capability("tea"), &true).call(PATIENCE).await?;
    assert_eq!(outcome.failure().unwrap().code, codes::TIMEOUT);
    let outcome = fleet.client.request(&capability("tea"), &false).call(PATIENCE).await?;
    assert_eq!(outcome.status, Status::Completed, "the other slot works");
    let entry = || async { fleet.client.agents().await.ok()?.pop() };
    until("its slot counts as held", PATIENCE, || async {
        let entry = entry().await?;
        (entry.slots_busy == 1 && entry.health == Health::Degraded && entry.health_reason.is_some()).then_some(())
    })
    .await;
    latch.open();
    until("its slot is free", PATIENCE, || async {
        let entry = entry().await?;
        (entry.slots_busy == 0 && entry.health == Health::Healthy).then_some(())
    })
    .await;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_slots_are_all_held_ends() -> Result<()> {
    let fleet = Fleet::start().await?;
    let latch = Latch::new();
    let held = latch.clone();
    let handler = move |_: Context, _: Value| {
        let held = held.clone();
        async move {
            held.hold_thread();
            Ok::<_, Failure>(())
        }
    };
    let builder = fleet.worker("tea").config(quick(&fleet)).slots(2).capability_with("tea", attempts(1), handler);
    let worker = fleet.run_apart(builder, "tea").await?;
    for number in 0..2 {
        fleet.client.request(&capability("tea"), &number).submit().await?;
    }
    let error = tokio::time::timeout(PATIENCE, worker.ended()).await?.unwrap_err();
    latch.open();
    assert_eq!(error.downcast::<worker::Error>()?.kind(), Kind::Stuck);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_slots_are_all_held_exits_with_70() -> Result<()> {
    let fleet = Fleet::start().await?;
    let start = Start { slots: 1, ..Start::new(env!("CARGO_BIN_EXE_test-worker")) };
    let process = start.ready(&fleet).await?;
    let headers = [("Sortie-Timeout", "300ms"), ("Sortie-Max-Attempts", "1")];
    let id = raw::request(&fleet, "work", &headers, r#"{"do":"block"}"#).await?;
    assert_eq!(fleet.client.wait(&id, PATIENCE).await?.failure().unwrap().code, codes::TIMEOUT);
    assert_eq!(process.ended(PATIENCE).await?.code(), Some(70));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_whether_it_is_tried_again() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |_: Context, kind: String| async move {
        Err::<Value, _>(match kind.as_str() {
            "give up" => Failure::new("tea_is_cold", "no").give_up(),
            "forbidden" => Failure::new(codes::FORBIDDEN, "no"),
            "retry" => Failure::new(codes::FORBIDDEN, "no").retry(),
            other => Failure::new(other, "no"),
        })
    };
    let builder = fleet.worker("tea").capability_with("tea", attempts(2).give_up_on("no_way"), handler);
    let worker = fleet.run(builder, "tea").await?;
    for (kind, code, attempt) in [
        ("give up", "tea_is_cold", 1),
        ("forbidden", codes::FORBIDDEN, 1),
        ("no_way", "no_way", 1),
        ("retry", codes::FORBIDDEN, 2),
        ("anything", "anything", 2),
    ] {
        let outcome = fleet.client.request(&capability("tea"), kind).call(PATIENCE).await?;
        let failure = outcome.failure().unwrap();
        assert_eq!((failure.code.as_str(), outcome.attempt), (code, attempt), "{kind}");
        assert_eq!(failure.attempts.len() as u32, attempt, "{kind}");
    }
    let request = fleet.client.request(&capability("tea"), "anything").attempts(1);
    assert_eq!(request.call(PATIENCE).await?.attempt, 1, "the request's word comes before the capability's");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_replaces_the_back_off_and_a_snooze_burns_no_attempt() -> Result<()> {
    let fleet = Fleet::start().await?;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |ctx: Context, kind: String| {
        let calls = noted.note(kind.clone());
        async move {
            match kind.as_str() {
                "later" if ctx.attempt() == 1 => Err(Failure::new("busy", "no").retry_after(Duration::from_secs(1))),
                "snooze" if calls < 5 => Err(Failure::snooze(Duration::from_millis(300))),
                _ => Ok(ctx.attempt()),
            }
        }
    };
    let slow = RetryPolicy { attempts_max: 2, backoff: Backoff::fixed(Duration::from_secs(600)) };
    let builder = fleet.worker("tea").capability_with("tea", CapabilityConfig::default().retry(slow), handler);
    let worker = fleet.run(builder, "tea").await?;
    let began = Instant::now();
    let outcome = fleet.client.request(&capability("tea"), "later").call(PATIENCE).await?;
    assert_eq!(outcome.result::<u32>().unwrap(), 2);
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
    let outcome = fleet.client.request(&capability("tea"), "snooze").call(PATIENCE).await?;
    assert_eq!((outcome.result::<u32>().unwrap(), journal.count("snooze")), (1, 3));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capability_takes_no_more_slots_than_its_cap() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let latch = Latch::new();
    let (counted, highest, passes) = (Arc::clone(&running), Arc::clone(&most), latch.clone());
    let capped = move |_: Context, _: Value| {
        let (running, most, latch) = (Arc::clone(&counted), Arc::clone(&highest), passes.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            latch.passed().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Failure>(())
        }
    };
    let free = |_: Context, input: Value| async move { Ok::<_, Failure>(input) };
    let builder = fleet.worker("tea").slots(4);
    let builder = builder.capability_with("capped", CapabilityConfig::default().slots(2), capped);
    let worker = fleet.run(builder.capability("free", free), "capped").await?;
    let mut receipts = Vec::new();
    for number in 0..8 {
        receipts.push(fleet.client.request(&capability("capped"), &number).submit().await?);
    }
    until("two run", PATIENCE, || async { (running.load(Ordering::SeqCst) == 2).then_some(()) }).await;
    for number in 0..20 {
        fleet.client.request(&capability("free"), &number).call(PATIENCE).await?;
    }
    latch.open();
    for receipt in receipts {
        assert_eq!(receipt.outcome(PATIENCE).await?.attempt, 1);
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    worker.stop().await
}

struct Greeting(&'static str);

#[tokio::test(flavor = "multi_thread")]
async fn handlers_share_values_and_keep_state_beyond_the_process() -> Result<()> {
    let fleet = Fleet::start().await?;
    let greet = |ctx: Context, name: String| async move {
        let greeting = ctx.shared::<Greeting>();
        let add = |value: Option<&bytes::Bytes>| -> bytes::Bytes {
            let before: u32 = value.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or(0);
            (before + 1).to_string().into()
        };
        let times = ctx.state().change("greeted", add).await?;
        Ok::<_, Failure>(format!("{} {name} {}", greeting.0, String::from_utf8_lossy(&times)))
    };
    let keep = |ctx: Context, key: String| async move {
        ctx.state().put(&key, key.clone()).await?;
        Ok::<_, Failure>(ctx.state().get(&key).await?.map(|(value, _)| String::from_utf8_lossy(&value).into_owned()))
    };
    for (kind, expected) in [("first", "hello you 1"), ("second", "hello you 2")] {
        let builder = fleet.worker(kind).shared(Greeting("hello"));
        let builder = builder.capability("greet", greet).capability("keep", keep);
        let worker = fleet.run(builder, "greet").await?;
        let outcome = fleet.client.request(&capability("greet"), "you").call(PATIENCE).await?;
        assert_eq!(outcome.result::<String>().unwrap(), expected);
        for key in ["a", "a.b", "*", ">", "two words", "ümlaut", "=2E"] {
            let outcome = fleet.client.request(&capability("keep"), key).call(PATIENCE).await?;
            assert_eq!(outcome.result::<String>().as_deref(), Ok(key));
        }
        for key in ["", &"x".repeat(201)] {
            let outcome = fleet.client.request(&capability("keep"), key).call(PATIENCE).await?;
            assert_eq!(outcome.failure().unwrap().code, codes::INVALID_INPUT, "{key}");
        }
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_retried_attempt_is_stored_once() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |ctx: Context, topic: String| async move {
        ctx.event(&topic, &json!({"order": 17})).await?;
        if ctx.attempt() == 1 { Err(Failure::new("busy", "no")) } else { Ok(()) }
    };
    let worker = fleet.run(fleet.worker("tea").capability_with("tea", attempts(2), handler), "tea").await?;
    let outcome = fleet.client.request(&capability("tea"), "order.paid").call(PATIENCE).await?;
    assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 2));
    let page = Reader::new(&fleet.connection).page("FLEET_EVENTS", "fleet.event.order.paid", 1, 10).await?;
    assert_eq!(page.messages.len(), 1);
    assert_eq!(page.messages[0].headers.get("ce-type"), Some("sortie.order.paid"));
    for topic in ["sys.agent.joined", "sys", "", "a..b", "*", "a b"] {
        let outcome = fleet.client.request(&capability("tea"), topic).call(PATIENCE).await?;
        assert_eq!(outcome.failure().unwrap().code, codes::FORBIDDEN, "{topic}");
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_built_wrong_says_every_fault_and_does_not_begin() -> Result<()> {
    let fleet = Fleet::start().await?;
    let echo = |_: Context, input: Value| async move { Ok::<_, Failure>(input) };
    let builder = fleet.worker("Bad Kind").slots(0).capability("echo", echo).capability("echo", echo);
    let error = builder.capability("No Name", echo).run().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Configuration);
    for fault in ["Bad Kind", "slots", "echo has two handlers", "No Name"] {
        assert!(error.to_string().contains(fault), "{fault} is missing: {error}");
    }
    let builder = fleet.worker("tea").capability("echo", echo);
    let builder = builder.on_start(|| async { Err(Failure::new("no_model", "the model cannot be loaded")) });
    let error = builder.run().await.unwrap_err();
    assert_eq!(error.kind(), Kind::StartHook);
    assert!(error.to_string().contains("the model cannot be loaded"), "{error}");
    assert!(fleet.client.agents().await?.is_empty(), "nobody announced itself");
    Ok(())
}
