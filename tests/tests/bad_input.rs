//! Bad input: each gets its one outcome, none is retried, and none stays in the queue.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use client::ErrorKind;
use protocol::{ContentType, DeadLetter, RequestId, Status, codes, limits};
use serde_json::{Value, json};
use sortie_tests::{Fleet, PATIENCE, count, fleet::capability, raw, until};
use worker::{Backoff, CapabilityConfig, Context, Failure, Kind, RetryPolicy};

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

async fn add(_ctx: Context, number: u32) -> Result<u32, Failure> {
    Ok(number + 1)
}

/// Its outcome is this failure at its first attempt, and its dead letter tells the same.
async fn assert_given_up(fleet: &Fleet, id: &RequestId, code: &str) -> Result<()> {
    let outcome = fleet.client.wait(id, PATIENCE).await?;
    let failure = outcome.failure().unwrap_or_else(|| panic!("{id} has no failure: {outcome:?}"));
    assert_eq!((outcome.status, failure.code.as_str(), outcome.attempt), (Status::Failed, code, 1), "{id}: {failure}");
    let capability = outcome.capability.expect("a capability");
    let at = format!("fleet.dead.{capability}.{id}");
    let letter =
        until("its dead letter", PATIENCE, || async { raw::last(fleet, "FLEET_DEAD", &at).await.ok().flatten() });
    assert_eq!(DeadLetter::read(&letter.await.headers).expect("a story").failure.code, code, "{id}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_read_fail_at_once() -> Result<()> {
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("add").capability("add", add), "add").await?;
    for body in [&b"{\"hi\":"[..], b"one", b"\"1\"", b"-1", b"1 2", b"\xff\xfe\x00", b"", b"[[[["] {
        let id = raw::request(&fleet, "add", &[], body).await?;
        assert_given_up(&fleet, &id, codes::INVALID_INPUT).await?;
    }
    let deep = "[".repeat(100_000);
    let id = raw::request(&fleet, "add", &[], deep).await?;
    assert_given_up(&fleet, &id, codes::INVALID_INPUT).await?;
    let id = raw::request(&fleet, "add", &[("Content-Type", "application/msgpack")], &b"\xc1"[..]).await?;
    assert_given_up(&fleet, &id, codes::INVALID_INPUT).await?;
    count::nothing_waits(&fleet.client).await;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_type_that_nobody_reads_fails_at_once() -> Result<()> {
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    for kind in ["image/png", "text/html; charset=utf-8", "nonsense", ";"] {
        let id = raw::request(&fleet, "echo", &[("Content-Type", kind)], "1").await?;
        match kind {
            // Nothing in front of the parameters names nothing.
            ";" => assert_eq!(fleet.client.wait(&id, PATIENCE).await?.status, Status::Completed),
            _ => assert_given_up(&fleet, &id, codes::CONTENT_TYPE_UNSUPPORTED).await?,
        }
    }
    count::nothing_waits(&fleet.client).await;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_is_null() -> Result<()> {
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let id = raw::request(&fleet, "echo", &[], "").await?;
    assert_eq!(fleet.client.wait(&id, PATIENCE).await?.result::<Value>().unwrap(), Value::Null);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_and_a_large_result_arrive_whole() -> Result<()> {
    let fleet = Fleet::start().await?;
    let grow = |_: Context, length: usize| async move { Ok::<_, Failure>("ä".repeat(length)) };
    let builder = fleet.worker("echo").capability("echo", echo).capability("grow", grow);
    let worker = fleet.run(builder, "echo").await?;
    let large: String = (0..400_000).map(|number| char::from(b'a' + (number % 23) as u8)).collect::<String>().repeat(7);
    let outcome = fleet.client.request(&capability("echo"), &large).call(PATIENCE).await?;
    assert!(outcome.result::<String>().unwrap() == large, "the body is another one");
    // Around the border between a message's body and an object, and for a small request with a large result.
    for length in [limits::BODY_INLINE_BYTES_MAX / 2 - 1, limits::BODY_INLINE_BYTES_MAX / 2, 1 << 20] {
        let outcome = fleet.client.request(&capability("grow"), &length).call(PATIENCE).await?;
        assert_eq!(outcome.result::<String>().unwrap().len(), 2 * length);
    }
    count::nothing_waits(&fleet.client).await;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused_before_it_is_sent() -> Result<()> {
    let fleet = Fleet::start().await?;
    let body = vec![b'1'; limits::BODY_BYTES_MAX + 1];
    let refused = fleet.client.request_encoded(&capability("echo"), ContentType::Json, body).submit().await;
    assert_eq!(*refused.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(count::waiting(&fleet.client).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_there_is_retried_and_then_given_up() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = CapabilityConfig::default()
        .retry(RetryPolicy { attempts_max: 2, backoff: Backoff::fixed(Duration::from_millis(300)) });
    let worker = fleet.run(fleet.worker("echo").capability_with("echo", config, echo), "echo").await?;
    let id = raw::request(&fleet, "echo", &[("Sortie-Payload-Ref", "body-that-never-was")], "").await?;
    let outcome = fleet.client.wait(&id, PATIENCE).await?;
    assert_eq!((outcome.failure().unwrap().code.as_str(), outcome.attempt), (codes::PAYLOAD_MISSING, 2));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_serves_waits_until_somebody_does() -> Result<()> {
    let fleet = Fleet::start().await?;
    assert!(
        fleet.client.serving(&capability("echo")).await?.is_empty(),
        "whoever submits can see that nobody is there"
    );
    let receipt = fleet.client.request(&capability("echo"), &1).submit().await?;
    let pending = receipt.outcome(Duration::from_millis(300)).await;
    assert_eq!(*pending.unwrap_err().kind(), ErrorKind::Pending);
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Completed);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_lie_fail_under_the_sequence() -> Result<()> {
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let long = "x".repeat(10_000);
    let longer = "x".repeat(limits::HEADERS_BYTES_MAX);
    let lies = [
        ("Sortie-Attempt", "-1"),
        ("Sortie-Attempt", "0"),
        ("sortie-attempt", "two"),
        ("Sortie-Attempt", "99999999999999999999"),
        ("Sortie-Max-Attempts", "-3"),
        ("Sortie-Max-Attempts", "1000000"),
        ("Sortie-Snoozes", "-1"),
        ("Sortie-Backoff", "sometimes"),
        ("Sortie-Backoff", "exponential; first=-1s"),
        ("Sortie-Timeout", "-5s"),
        ("Sortie-Timeout", "0s"),
        ("Sortie-Timeout", "4000d"),
        ("Sortie-Timeout", "soon"),
        ("Sortie-Deadline", "yesterday"),
        ("Sortie-Deadline", "9999-99-99T99:99:99Z"),
        ("Sortie-Deadline", "+300000-01-01T00:00:00Z"),
        ("Sortie-Request-Id", "a.b"),
        ("Sortie-Request-Id", "a*b"),
        ("Sortie-Request-Id", ">"),
        ("Sortie-Request-Id", "a b"),
        ("Sortie-Request-Id", ""),
        ("Sortie-Request-Id", "123"),
        ("Sortie-Request-Id", "ümlaut"),
        ("Sortie-Request-Id", "seq-1"),
        ("Sortie-Request-Id", "useq-1"),
        ("Sortie-Request-Id", "run~step~0"),
        ("Sortie-Request-Id", &long),
        ("Sortie-Replay-Of", "a.b"),
        ("Sortie-Reply-To", "fleet.outcome.someone-else"),
        ("Sortie-Reply-To", "fleet.run.>.step.a.0.outcome"),
        ("Sortie-Parent", &long),
        ("Sortie-Payload-Ref", "two words"),
        ("Sortie-Failures", "[{]"),
        ("X-Large", &longer),
    ];
    let mut ids = Vec::new();
    for (name, value) in lies {
        ids.push((name, value, raw::request(&fleet, "echo", &[(name, value), ("X-Tenant", "blue")], "1").await?));
    }
    for (name, value, id) in &ids {
        println!("{name}: {}", limits::truncate(value, 40));
        assert_given_up(&fleet, id, codes::INVALID_HEADER).await?;
    }
    count::nothing_waits(&fleet.client).await;
    let letter = fleet.client.dead_letter(&ids[0].2).await?.unwrap();
    assert_eq!((letter.headers.get("X-Tenant"), &letter.body[..]), (Some("blue"), &b"1"[..]));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_without_any_header_is_a_complete_request() -> Result<()> {
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let id = raw::request(&fleet, "echo", &[], r#"{"hi":1}"#).await?;
    assert_eq!(fleet.client.wait(&id, PATIENCE).await?.result::<Value>().unwrap(), json!({"hi": 1}));
    let subject = format!("fleet.outcome.{id}");
    assert!(raw::last(&fleet, "FLEET_OUTCOMES", &subject).await?.is_some(), "{subject}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_id_is_an_id_only_if_it_can_be_one() -> Result<()> {
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    for unreadable in ["a.b", "two words", "*", "123", "seq-1", &"x".repeat(500)] {
        let id = raw::request(&fleet, "echo", &[("Nats-Msg-Id", unreadable)], "1").await?;
        assert_eq!(fleet.client.wait(&id, PATIENCE).await?.status, Status::Completed, "{unreadable}");
    }
    raw::request(&fleet, "echo", &[("Nats-Msg-Id", "order-17")], "1").await?;
    let id = RequestId::parse("order-17")?;
    assert_eq!(fleet.client.wait(&id, PATIENCE).await?.status, Status::Completed);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_travel_fails_at_once() -> Result<()> {
    let fleet = Fleet::start().await?;
    let unencodable = |_: Context, _: Value| async { Ok::<_, Failure>(BTreeMap::from([(vec![1_u8], 1)])) };
    let huge = |_: Context, _: Value| async { Ok::<_, Failure>("x".repeat(limits::BODY_BYTES_MAX)) };
    let builder = fleet.worker("odd").capability("unencodable", unencodable).capability("huge", huge);
    let worker = fleet.run(builder, "huge").await?;
    let outcome = fleet.client.request(&capability("unencodable"), &1).call(PATIENCE).await?;
    assert_given_up(&fleet, &outcome.id, codes::RESULT_UNENCODABLE).await?;
    let outcome = fleet.client.request(&capability("huge"), &1).call(PATIENCE).await?;
    assert_given_up(&fleet, &outcome.id, codes::RESULT_TOO_LARGE).await?;
    count::nothing_waits(&fleet.client).await;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn messagepack_in_is_messagepack_out() -> Result<()> {
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let input = json!({"name": "ä", "list": [1, 2.5, null]});
    let outcome = fleet.client.request(&capability("echo"), &input).msgpack().call(PATIENCE).await?;
    assert_eq!(outcome.content_type, ContentType::MessagePack);
    assert_eq!(outcome.result::<Value>().unwrap(), input);
    let plain = fleet.client.request(&capability("echo"), &input).call(PATIENCE).await?;
    assert_eq!(plain.content_type, ContentType::Json);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_headers_never_leak_and_foreign_ones_stay() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = CapabilityConfig::default()
        .retry(RetryPolicy { attempts_max: 2, backoff: Backoff::fixed(Duration::from_secs(1)) });
    let handler = |_: Context, _: Value| async { Err::<Value, _>(Failure::new("tea_is_cold", "no")) };
    let worker = fleet.run(fleet.worker("tea").capability_with("tea", config, handler), "tea").await?;
    let headers = [
        ("Nats-Msg-Id", "order-18"),
        ("Nats-Expected-Stream", "FLEET_REQUESTS"),
        ("nats-expected-last-subject-sequence", "0"),
        ("X-Tenant", "blue"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    raw::request(&fleet, "tea", &headers, "1").await?;
    let id = RequestId::parse("order-18")?;
    let waiting = until("its retry waits", PATIENCE, || async {
        raw::last(&fleet, "FLEET_REQUESTS", "fleet.later.order-18").await.ok().flatten()
    });
    let waiting = waiting.await;
    let mut own = raw::broker_headers(&waiting);
    own.sort();
    // The server itself puts the roll-up there; the worker expects that no other retry waits.
    let expected = "nats-expected-last-subject-sequence";
    assert_eq!(own, [expected, "nats-msg-id", "nats-rollup", "nats-schedule", "nats-schedule-target"]);
    assert_eq!(waiting.headers.get("Nats-Msg-Id"), Some("order-18:2.0"));
    assert_eq!(fleet.client.wait(&id, PATIENCE).await?.attempt, 2);
    let letter = until("its dead letter", PATIENCE, || async {
        raw::last(&fleet, "FLEET_DEAD", "fleet.dead.tea.order-18").await.ok().flatten()
    });
    let letter = letter.await;
    assert_eq!(raw::broker_headers(&letter), ["nats-expected-last-subject-sequence"], "the dead letter's own");
    for stored in [&waiting, &letter] {
        assert_eq!(stored.headers.get("X-Tenant"), Some("blue"));
        assert!(stored.headers.get("traceparent").is_some_and(|value| value.ends_with("-01")));
    }
    count::nothing_waits(&fleet.client).await;
    worker.stop().await
}

/// The client library ends its connection over such a block and makes it again: the others hardly notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_headers_that_cannot_be_read_does_not_stop_the_others() -> Result<()> {
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    for block in
        [&b"NATS/1.0\r\nX-Bad: \xff\xfe\r\n\r\n"[..], b"NATS/1.0\r\nno colon\r\n\r\n", b"NATS/1.0\r\nX \x01: 1\r\n\r\n"]
    {
        raw::publish_bytes(&fleet, "fleet.request.echo", block, b"1").await?;
        for number in 0..20 {
            let outcome = fleet.client.request(&capability("echo"), &number).call(PATIENCE).await?;
            assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 1));
        }
    }
    worker.stop().await
}

/// Over this one it panics, and nothing makes the connection again: a worker that went on would do nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_connection_has_ended_for_good_ends() -> Result<()> {
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    raw::publish_bytes(&fleet, "fleet.request.echo", b"NATS/1.0\r\nX-Bad: a\rb\r\n\r\n", b"1").await?;
    let error = tokio::time::timeout(PATIENCE, worker.ended()).await?.unwrap_err();
    assert_eq!(error.downcast::<worker::Error>()?.kind(), Kind::Stuck);
    Ok(())
}

/// Headers that fit, but leave no room for those of an outcome or of a retry.
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_leave_no_room_do_not_keep_a_request_for_ever() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = CapabilityConfig::default()
        .retry(RetryPolicy { attempts_max: 2, backoff: Backoff::fixed(Duration::from_millis(300)) });
    let handler = |_: Context, kind: String| async move {
        match kind.as_str() {
            "fine" => Ok(()),
            "snooze" => Err(Failure::snooze(Duration::from_millis(300))),
            _ => Err(Failure::new("tea_is_cold", "no")),
        }
    };
    let worker = fleet.run(fleet.worker("tea").capability_with("tea", config, handler), "tea").await?;
    let full = "x".repeat(limits::HEADERS_BYTES_MAX - 40);
    for name in ["X-Full", "baggage", "tracestate"] {
        let id = raw::request(&fleet, "tea", &[(name, &full)], "\"fine\"").await?;
        assert_eq!(fleet.client.wait(&id, PATIENCE).await?.status, Status::Completed, "{name}");
        for kind in ["fail", "snooze"] {
            let id = raw::request(&fleet, "tea", &[(name, &full)], format!("\"{kind}\"")).await?;
            let outcome = fleet.client.wait(&id, PATIENCE).await?;
            assert_eq!((outcome.status, outcome.attempt), (Status::Failed, 1), "{name} {kind}");
        }
    }
    // With what is added where an outcome or a dead letter is published, these pass the bound.
    for size in (limits::HEADERS_BYTES_MAX - 320..limits::HEADERS_BYTES_MAX - 120).step_by(20) {
        let baggage = "x".repeat(size);
        let id = raw::request(&fleet, "tea", &[("baggage", &baggage)], "\"fine\"").await?;
        let outcome = fleet.client.wait(&id, PATIENCE).await?;
        assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 1), "{size}");
    }
    count::nothing_waits(&fleet.client).await;
    assert_eq!(count::dead_ids(&fleet.client, &fleet.namespace).await?.len(), 6);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_beyond_all_bounds_is_cut_and_given_up() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = CapabilityConfig::default()
        .retry(RetryPolicy { attempts_max: 3, backoff: Backoff::fixed(Duration::from_millis(300)) });
    let handler = |_: Context, kind: String| async move {
        let long = "ä".repeat(200_000);
        let mut failure = Failure::new("tea_is_cold", "no");
        match kind.as_str() {
            "code" => failure.code = long,
            "no code" => failure.code = String::new(),
            "message" => failure.message = long,
            "causes" => failure.causes = vec![long; 50],
            "details" => failure.details = Some(vec![long; 50].into()),
            _ => failure.attempts = vec![failure.record(1, None, Some(&long), protocol::time::now()); 500],
        }
        Err::<(), _>(failure)
    };
    let worker = fleet.run(fleet.worker("tea").capability_with("tea", config, handler), "tea").await?;
    for kind in ["code", "no code", "message", "causes", "details", "attempts"] {
        let outcome = fleet.client.request(&capability("tea"), kind).call(PATIENCE).await?;
        let failure = outcome.failure().unwrap();
        assert_eq!((outcome.attempt, failure.attempts.len()), (3, 3), "{kind}");
        assert!(failure.code.len() <= 64 && !failure.code.is_empty(), "{kind}");
        let letter =
            until("its dead letter", PATIENCE, || async { fleet.client.dead_letter(&outcome.id).await.ok().flatten() });
        assert_eq!(letter.await.letter.failure.code, failure.code, "{kind}");
    }
    count::nothing_waits(&fleet.client).await;
    worker.stop().await
}
