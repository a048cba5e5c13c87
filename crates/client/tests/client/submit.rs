use std::time::Duration;

use broker::PayloadStore;
use chrono::TimeDelta;
use protocol::{Backoff, ContentType, Lane, Request, RequestId, TraceContext, UniqueKey, limits, time};
use serde_json::{Value, json};
use sortie_client::{Acceptance, Disposition, ErrorKind};

use crate::fleet::{Fleet, SOON, echo, id};

const REQUESTS: &str = "FLEET_REQUESTS";
const UNIQUE: &str = "FLEET_UNIQUE";

#[tokio::test]
async fn everything_that_was_said_stands_in_the_message() {
    let fleet = Fleet::start().await;
    let trace = TraceContext {
        parent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        state: None,
        baggage: Some("tenant=blue".to_owned()),
    };
    let deadline = time::parse("2099-01-01T00:00:00Z").unwrap();
    let receipt = fleet
        .client
        .request(&echo(), &json!({ "hi": 1 }))
        .urgent()
        .timeout(Duration::from_secs(5))
        .deadline(deadline)
        .attempts(5)
        .backoff(Backoff::fixed(Duration::from_secs(1)))
        .parent(&id("order-1"))
        .trace(trace.clone())
        .header("X-Tenant", "blue")
        .submit()
        .await
        .unwrap();
    assert_eq!(*receipt.acceptance(), Acceptance::Stored { sequence: 1 });

    let message = fleet.last(REQUESTS, "fleet.urgent.echo").await.unwrap();
    assert_eq!(&message.body[..], br#"{"hi":1}"#);
    assert_eq!(message.headers.get("X-Tenant"), Some("blue"));
    assert_eq!(message.headers.get("Nats-Msg-Id"), None, "an id of our own costs the broker no memory");
    let request = Request::read(&message.headers, RequestId::of_sequence(1)).unwrap();
    assert_eq!((&request.id, request.attempts_max, request.deadline), (receipt.id(), Some(5), Some(deadline)));
    assert_eq!((request.timeout, request.parent.as_deref()), (Some(Duration::from_secs(5)), Some("order-1")));
    assert_eq!((request.trace, request.content_type), (trace, ContentType::Json));
}

#[tokio::test]
async fn msgpack_both_ways() {
    let fleet = Fleet::start().await;
    fleet.client.request(&echo(), &json!([1, 2])).bulk().msgpack().submit().await.unwrap();
    let message = fleet.last(REQUESTS, "fleet.bulk.echo").await.unwrap();
    assert_eq!(message.headers.get("Content-Type"), Some("application/msgpack"));
    assert_eq!(ContentType::MessagePack.decode::<Vec<u8>>(&message.body).unwrap(), [1, 2]);
}

#[tokio::test]
async fn what_contradicts_itself_is_refused_at_once_and_nothing_is_sent() {
    let fleet = Fleet::start().await;
    let refused = fleet
        .client
        .request(&echo(), &1)
        .id(id("seq-7"))
        .unique(UniqueKey::parse("k").unwrap())
        .urgent()
        .delay(Duration::from_secs(1))
        .attempts(0)
        .timeout(Duration::ZERO)
        .header("Sortie-Attempt", "7")
        .header("X-Broken", "a\r\nb");
    let error = refused.submit().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    for part in
        ["an id", "a delay", "a lane", "given by the fleet", "attempts", "timeout", "Sortie-Attempt", "X-Broken"]
    {
        assert!(error.to_string().contains(part), "{part} is missing: {error}");
    }
    let error = fleet.client.request(&echo(), &1).header("X", "y".repeat(20_000)).submit().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    let past = fleet.client.request(&echo(), &1).delay(Duration::from_secs(60)).deadline_in(Duration::from_secs(30));
    assert_eq!(*past.submit().await.unwrap_err().kind(), ErrorKind::Invalid);
    let huge = vec![0_u8; limits::BODY_BYTES_MAX + 1];
    let huge = fleet.client.request_encoded(&echo(), ContentType::Json, huge);
    assert_eq!(*huge.submit().await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(fleet.count(REQUESTS).await, 0);
}

#[tokio::test]
async fn one_id_is_one_request_before_and_after_its_outcome() {
    let fleet = Fleet::start().await;
    let submit = || fleet.client.request(&echo(), &1).id(id("order-17"));
    assert_eq!(*submit().submit().await.unwrap().acceptance(), Acceptance::Stored { sequence: 1 });
    assert_eq!(*submit().submit().await.unwrap().acceptance(), Acceptance::Repeated);
    fleet.complete(&id("order-17"), &json!("done")).await;
    let receipt = submit().submit().await.unwrap();
    assert!(matches!(receipt.acceptance(), Acceptance::Done(outcome) if outcome.result::<String>().unwrap() == "done"));
    assert_eq!(receipt.outcome(Duration::ZERO).await.unwrap().result::<String>().unwrap(), "done");
    assert_eq!(submit().call(SOON).await.unwrap().result::<String>().unwrap(), "done");
    assert_eq!(fleet.count(REQUESTS).await, 1);
}

#[tokio::test]
async fn a_delayed_request_waits_where_it_is_seen_and_fires_into_its_lane() {
    let fleet = Fleet::start().await;
    let now = fleet.client.now().await.unwrap();
    let receipt = fleet.client.request(&echo(), &1).urgent().delay(Duration::from_secs(3600)).submit().await.unwrap();
    let waiting = fleet.client.later(10).await.unwrap();
    assert_eq!((&waiting[0].id, waiting[0].lane, waiting[0].attempt), (receipt.id(), Lane::Urgent, 1));
    assert_eq!(waiting[0].capability, Some(echo()));
    let delay = waiting[0].due.unwrap() - now;
    assert!((delay - TimeDelta::hours(1)).abs() < TimeDelta::seconds(10), "{delay}");

    let soon = fleet.client.request(&echo(), &2).at(now + TimeDelta::milliseconds(500)).submit().await.unwrap();
    crate::fleet::until("it fires", async || fleet.last(REQUESTS, "fleet.request.echo").await.is_some()).await;
    let fired = fleet.last(REQUESTS, "fleet.request.echo").await.unwrap();
    let request = Request::read(&fired.headers, RequestId::of_sequence(fired.sequence)).unwrap();
    assert_eq!((&request.id, &fired.body[..]), (soon.id(), &b"2"[..]));
}

#[tokio::test]
async fn a_second_schedule_under_an_id_replaces_nothing() {
    let fleet = Fleet::start().await;
    let submit = |hours: u64| fleet.client.request(&echo(), &1).id(id("a")).delay(Duration::from_secs(hours * 3600));
    assert!(matches!(submit(1).submit().await.unwrap().acceptance(), Acceptance::Stored { .. }));
    let first = fleet.client.later(10).await.unwrap();
    assert_eq!(*submit(2).submit().await.unwrap().acceptance(), Acceptance::Repeated);
    // Without the broker's own memory of ids, too.
    broker::topology::purge(fleet.connection(), REQUESTS, "fleet.later.a", None).await.unwrap();
    let retry = broker::Outgoing::new("fleet.later.a", "retry");
    let due = fleet.client.now().await.unwrap() + TimeDelta::hours(1);
    let retry = broker::scheduled_at(retry, due, "fleet.request.echo");
    broker::Publisher::new(fleet.connection()).publish(&retry).await.unwrap();
    let mut server = fleet.server;
    server.restart().await.unwrap();
    let client = fleet.client;
    let again = client.request(&echo(), &2).id(id("a")).delay(Duration::from_secs(7200)).submit().await.unwrap();
    assert_eq!(*again.acceptance(), Acceptance::Repeated);
    assert_eq!((client.later(10).await.unwrap().len(), first.len()), (1, 1));
}

#[tokio::test]
async fn unique_work_is_refused_while_its_key_is_held_and_names_the_holder() {
    let fleet = Fleet::start().await;
    let key = UniqueKey::parse("tenant-7").unwrap();
    let submit = || fleet.client.request(&echo(), &1).unique(key.clone());
    let receipt = submit().submit().await.unwrap();
    assert_eq!(receipt.id().as_str(), "useq-1");
    let error = submit().submit().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::KeyTaken { holder: Some(receipt.id().clone()) });
    assert!(error.to_string().contains("tenant-7") && error.to_string().contains("useq-1"), "{error}");
    let message = fleet.last(UNIQUE, "fleet.unique.echo.tenant-7").await.unwrap();
    let request = Request::read(&message.headers, RequestId::of_unique_sequence(1)).unwrap();
    assert_eq!(request.id.as_str(), "useq-1");

    broker::topology::purge(fleet.connection(), UNIQUE, "fleet.unique.echo.tenant-7", None).await.unwrap();
    assert_eq!(submit().submit().await.unwrap().id().as_str(), "useq-2");
}

#[tokio::test]
async fn a_repeated_publish_of_unique_work_finds_itself() {
    // What the client relies on when a publish was stored and its acknowledgement was lost.
    let fleet = Fleet::start().await;
    let publisher = broker::Publisher::new(fleet.connection());
    let outgoing = broker::Outgoing::new("fleet.unique.echo.k", "1").with_message_id("req_1");
    let first = publisher.publish(&outgoing).await.unwrap();
    let second = publisher.publish(&outgoing).await.unwrap();
    assert_eq!((second.sequence, second.duplicate), (first.sequence, true));
    let stranger = broker::Outgoing::new("fleet.unique.echo.k", "1").with_message_id("req_2");
    assert_eq!(publisher.publish(&stranger).await.unwrap_err().kind(), broker::Kind::SubjectFull);
}

#[tokio::test]
async fn large_bodies_travel_without_anyone_noticing() {
    let fleet = Fleet::start().await;
    let large = "x".repeat(2 * 1024 * 1024);
    let receipt = fleet.client.request(&echo(), &large).submit().await.unwrap();
    let message = fleet.last(REQUESTS, "fleet.request.echo").await.unwrap();
    let request = Request::read(&message.headers, RequestId::of_sequence(1)).unwrap();
    assert!(message.body.is_empty());
    let store = PayloadStore::new(fleet.connection(), "fleet-payloads");
    let body = store.get(&request.payload_ref.unwrap()).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!(large));

    let mut outcome = protocol::Outcome::completed(receipt.id().clone(), ContentType::Json, Vec::new());
    outcome.payload_ref = Some(store.put(&body).await.unwrap());
    fleet.store(&outcome).await;
    let outcome = receipt.outcome(SOON).await.unwrap();
    assert_eq!((outcome.payload_ref.as_deref(), outcome.result::<String>().unwrap()), (None, large));
    assert!(fleet.client.outcome(receipt.id()).await.unwrap().unwrap().body.len() > 2 * 1024 * 1024);

    let mut gone = protocol::Outcome::completed(id("gone"), ContentType::Json, Vec::new());
    gone.payload_ref = Some("body-nobody-has".to_owned());
    fleet.store(&gone).await;
    let error = fleet.client.outcome(&id("gone")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unreadable);
}

#[tokio::test]
async fn missing_streams_are_told_at_once_with_what_to_do() {
    let fleet = Fleet::without_streams().await;
    let began = tokio::time::Instant::now();
    let submitted = fleet.client.request(&echo(), &1).submit().await.map(|_| ());
    let delayed = fleet.client.request(&echo(), &1).delay(SOON).submit().await.map(|_| ());
    let unique = fleet.client.request(&echo(), &1).unique(UniqueKey::parse("k").unwrap()).submit().await.map(|_| ());
    let waited = fleet.client.wait(&id("a"), SOON).await.map(|_| ());
    let cancelled = fleet.client.cancel(&id("seq-1")).await.map(|_| ());
    let listed = fleet.client.later(1).await.map(|_| ());
    let agents = fleet.client.agents().await.map(|_| ());
    let dead = fleet.client.dead_letters(None, 1).await.map(|_| ());
    for result in [submitted, delayed, unique, waited, cancelled, listed, agents, dead] {
        let error = result.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::StreamsMissing, "{error}");
        assert!(error.to_string().contains("sortie topology apply"), "{error}");
    }
    assert!(began.elapsed() < SOON);
}

#[tokio::test]
async fn a_full_store_is_told_at_once() {
    let config = embedded::Config { store_bytes_max: Some(600_000), ..embedded::Config::default() };
    let fleet = Fleet::without_streams_on(config).await;
    // The whole topology would not fit: it reserves room for logs.
    let stream = json!({ "name": REQUESTS, "subjects": ["fleet.request.*"], "retention": "workqueue" });
    let subject = format!("$JS.API.STREAM.CREATE.{REQUESTS}");
    fleet.connection().request(subject, None, stream.to_string().into(), SOON).await.unwrap();
    for _ in 0..20 {
        let request = fleet.client.request_encoded(&echo(), ContentType::Json, vec![b'1'; 100_000]);
        if let Err(error) = request.submit().await {
            assert_eq!((error.kind(), error.disposition()), (&ErrorKind::StoreFull, Disposition::Retry), "{error}");
            return;
        }
    }
    panic!("the store was never full");
}
