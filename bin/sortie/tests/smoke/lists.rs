//! `sortie agents`, `later` and `dead`: what others left on the broker, shown and sent again.

use std::time::Duration;

use broker::{Bucket, Connection, Options, Outgoing, Publisher};
use embedded::{Config, Server};
use protocol::{
    BreakerName, Capability, DeadLetter, Failure, Headers, InstanceId, Kind, Lane, Namespace, RequestId, Subject,
    breaker::{self, Breaker, Opening, Settings},
    registry::{AgentEntry, CapabilityEntry, Counts, Health, State},
    time,
    topology::Names,
};

use crate::command::sortie;

struct Fleet {
    server: Server,
    connection: Connection,
    publisher: Publisher,
    namespace: Namespace,
}

async fn fleet() -> Fleet {
    let server = Server::start(Config::default()).await.unwrap();
    assert_eq!(sortie(&server.url(), &["topology", "apply"]).await.code, 0);
    let connection = Connection::open(Options { servers: vec![server.url()], ..Default::default() }).await.unwrap();
    let publisher = Publisher::new(&connection);
    Fleet { server, connection, publisher, namespace: Namespace::default() }
}

#[tokio::test]
async fn without_streams_the_lists_say_how_to_make_them() {
    let server = Server::start(Config::default()).await.unwrap();
    for list in ["agents", "later", "dead", "breaker"] {
        let ended = sortie(&server.url(), &[list, "list"]).await;
        assert_eq!(ended.code, 64, "{ended:?}");
        assert!(ended.err.contains("sortie topology apply"), "{ended:?}");
    }
}

#[tokio::test]
async fn empty_lists_say_so_and_are_empty_json() {
    let fleet = fleet().await;
    for (list, sentence) in [
        ("agents", "no agent"),
        ("later", "nothing waits"),
        ("dead", "nothing was given up"),
        ("breaker", "no circuit breaker"),
    ] {
        let ended = sortie(&fleet.server.url(), &[list, "list"]).await;
        assert!(ended.code == 0 && ended.out.contains(sentence), "{ended:?}");
        let ended = sortie(&fleet.server.url(), &[list, "list", "--json"]).await;
        assert_eq!((ended.code, ended.json()), (0, serde_json::json!([])));
    }
}

#[tokio::test]
async fn agents_are_listed_with_what_they_serve() {
    let fleet = fleet().await;
    let entry = AgentEntry {
        instance: InstanceId::parse("ins_1").unwrap(),
        kind: Kind::parse("painter").unwrap(),
        version: "1.2.3".into(),
        host: "here".into(),
        pid: 7,
        state: State::Ready,
        health: Health::Degraded,
        health_reason: Some("out of blue".into()),
        capabilities: vec![CapabilityEntry {
            name: Capability::parse("paint").unwrap(),
            description: None,
            input_schema: None,
            output_schema: None,
            slots: None,
        }],
        slots: 4,
        slots_busy: 1,
        counts: Counts { completed: 12, ..Default::default() },
        started_at: time::now(),
        seen_at: time::now(),
        tags: Default::default(),
    };
    let bucket = Bucket::new(&fleet.connection, &fleet.publisher, Names::of(&fleet.namespace).agents);
    let body = serde_json::to_vec(&entry).unwrap();
    bucket.put(&entry.key(), body, Some(Duration::from_secs(30))).await.unwrap();
    let ended = sortie(&fleet.server.url(), &["agents", "list"]).await;
    let line = ended.out.lines().nth(1).unwrap();
    for word in ["painter", "ins_1", "1.2.3", "ready", "degraded: out of blue", "1/4", "12", "paint", "here:7"] {
        assert!(line.contains(word), "{word} in {line}");
    }
    let of = |capability| {
        let url = fleet.server.url();
        async move { sortie(&url, &["agents", "list", "--json", "--capability", capability]).await.json() }
    };
    assert_eq!((of("paint").await[0]["pid"].clone(), of("sing").await), (7.into(), serde_json::json!([])));
}

#[tokio::test]
async fn a_dead_letter_is_listed_shown_and_sent_again() {
    let fleet = fleet().await;
    let letter = DeadLetter {
        id: RequestId::parse("order-17").unwrap(),
        capability: Capability::parse("paint").unwrap(),
        lane: Lane::Urgent,
        failure: Failure::new("no_paint", "the bucket is empty"),
        attempt: 3,
        instance: None,
        version: None,
        killed: Vec::new(),
        published_at: None,
        dead_at: time::now(),
    };
    let subject = Subject::Dead { capability: letter.capability.clone(), id: letter.id.clone() };
    let mut original = Headers::new();
    original.set("X-Tenant", "blue");
    let outgoing = Outgoing::new(subject.render(&fleet.namespace), &br#"{"wall":1}"#[..]);
    fleet.publisher.publish(&outgoing.with_headers(letter.headers(&original))).await.unwrap();

    let url = fleet.server.url();
    let list = sortie(&url, &["dead", "list"]).await;
    assert!(list.out.contains("order-17") && list.out.contains("no_paint"), "{list:?}");
    let show = sortie(&url, &["dead", "show", "order-17"]).await;
    for words in ["the bucket is empty", "header      X-Tenant: blue", r#"{"wall":1}"#] {
        assert!(show.out.contains(words), "{words} in {show:?}");
    }
    let document = sortie(&url, &["dead", "show", "order-17", "--json"]).await.json();
    assert_eq!((&document["body"]["wall"], &document["failure"]["code"]), (&1.into(), &"no_paint".into()));

    let replay = sortie(&url, &["dead", "replay", "order-17", "order-18", "--json"]).await;
    assert_eq!(replay.code, 1, "one of them is not there: {replay:?}");
    let replayed = replay.json();
    let letters = &replayed["letters"];
    assert!(letters[0]["request"].as_str().unwrap().starts_with("rep_"), "{replayed}");
    assert!(letters[1]["refusal"].as_str().unwrap().contains("order-18"), "{replayed}");
    let names = Names::of(&fleet.namespace);
    let waiting = broker::topology::subject_counts(&fleet.connection, &names.requests, "fleet.urgent.paint").await;
    assert_eq!(waiting.unwrap().into_values().sum::<u64>(), 1);
    let missing = sortie(&url, &["dead", "show", "order-18"]).await;
    assert!(missing.code == 1 && missing.err.contains("sortie dead list"), "{missing:?}");
}

#[tokio::test]
async fn a_breaker_is_listed_with_its_reason_and_closed() {
    let fleet = fleet().await;
    let names = Names::of(&fleet.namespace);
    let bucket = Bucket::new(&fleet.connection, &fleet.publisher, names.state);
    let mut open = Breaker::closed(Settings::default(), time::now());
    let opening = Opening::new(InstanceId::parse("ins_1").unwrap(), "shop_down", "nobody answers", time::now());
    open.open(opening, Settings::default());
    open.pauses.insert(Capability::parse("charge").unwrap());
    let key = breaker::key(&BreakerName::parse("shop").unwrap());
    bucket.put(&key, serde_json::to_vec(&open).unwrap(), None).await.unwrap();
    let url = fleet.server.url();
    let list = sortie(&url, &["breaker", "list"]).await;
    let line = list.out.lines().nth(1).unwrap();
    for word in ["shop", "open", "charge", "ins_1", "shop_down: nobody answers"] {
        assert!(line.contains(word), "{word} in {line}");
    }
    let reset = sortie(&url, &["breaker", "reset", "shop", "--json"]).await;
    assert_eq!((reset.code, reset.json()["was"].clone()), (0, "open".into()));
    assert_eq!(sortie(&url, &["breaker", "list", "--json"]).await.json()[0]["now"], "closed");
    let audited =
        broker::topology::subject_counts(&fleet.connection, &names.audit, "fleet.audit.*.breaker-reset").await;
    assert_eq!(audited.unwrap().into_values().sum::<u64>(), 1);
    let missing = sortie(&url, &["breaker", "reset", "shed"]).await;
    assert!(missing.code == 1 && missing.err.contains("sortie breaker list"), "{missing:?}");
}
