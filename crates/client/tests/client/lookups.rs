use std::time::Duration;

use broker::{Bucket, Outgoing, Publisher, task};
use protocol::{
    Capability, Headers, InstanceId, Kind, Lane, Operator, Request, RequestId, Service,
    audit::AuditRecord,
    control::Progress,
    registry::{AgentEntry, CapabilityEntry, Counts, Health, State},
    time, topology,
};
use serde_json::{Value, json};
use sortie_client::{
    ErrorKind, Happening, Watcher,
    dead::{Again, How},
};

use crate::fleet::{Fleet, SOON, echo, id, until};

fn agent(kind: &str, capability: &Capability) -> AgentEntry {
    AgentEntry {
        instance: InstanceId::generate(),
        kind: Kind::parse(kind).unwrap(),
        version: "1.0.0".to_owned(),
        host: "here".to_owned(),
        pid: 1,
        state: State::Ready,
        health: Health::Healthy,
        health_reason: None,
        capabilities: vec![CapabilityEntry {
            name: capability.clone(),
            description: None,
            input_schema: None,
            output_schema: None,
            slots: None,
        }],
        slots: 10,
        slots_busy: 0,
        counts: Counts::default(),
        started_at: time::now(),
        seen_at: time::now(),
        tags: Default::default(),
    }
}

#[tokio::test]
async fn agents_are_listed_and_found_by_what_they_serve() {
    let fleet = Fleet::start().await;
    let bucket = Bucket::new(fleet.connection(), &Publisher::new(fleet.connection()), "fleet-agents");
    let other = Capability::parse("other").unwrap();
    let agents = [agent("words", &other), agent("echoes", &echo())];
    for agent in &agents {
        bucket.put(&agent.key(), serde_json::to_vec(agent).unwrap(), None).await.unwrap();
    }
    bucket.put("nonsense.x", "{}", None).await.unwrap();
    let kinds: Vec<String> = fleet.client.agents().await.unwrap().iter().map(|agent| agent.kind.to_string()).collect();
    assert_eq!(kinds, ["echoes", "words"]);
    assert_eq!(fleet.client.serving(&echo()).await.unwrap(), [agents[1].clone()]);
    let nobody = Capability::parse("nobody").unwrap();
    assert_eq!(fleet.client.serving(&nobody).await.unwrap(), []);
    assert_eq!(fleet.client.service(&echo()).await.unwrap(), Service::Served);
    assert_eq!(fleet.client.service(&nobody).await.unwrap(), Service::Unserved);
    let paused = AgentEntry { state: State::Paused, ..agent("rests", &nobody) };
    bucket.put(&paused.key(), serde_json::to_vec(&paused).unwrap(), None).await.unwrap();
    assert_eq!(fleet.client.service(&nobody).await.unwrap(), Service::Paused);
}

#[tokio::test]
async fn a_program_without_an_entry_serves_too() {
    let fleet = Fleet::start().await;
    let consumer = topology::worker_consumer(&Default::default(), &echo(), topology::Source::Lane(Lane::Bulk), 1);
    broker::topology::ensure_consumer(fleet.connection(), &consumer).await.unwrap();
    assert_eq!(fleet.client.service(&echo()).await.unwrap(), Service::Unserved, "nobody asks for work");
    let pull = fleet.connection().request(
        format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", consumer.stream, consumer.name),
        None,
        r#"{"batch":1,"expires":20000000000}"#.into(),
        SOON,
    );
    tokio::select! {
        _ = pull => panic!("there is no work"),
        () = until("the pull is seen", async || fleet.client.service(&echo()).await.unwrap() == Service::Served) => {}
    }
}

#[tokio::test]
async fn later_is_bounded_and_sorted_by_what_is_due_first() {
    let fleet = Fleet::start().await;
    for hours in [3, 1, 2] {
        let request = fleet.client.request(&echo(), &hours).id(id(&format!("in-{hours}")));
        request.delay(Duration::from_secs(hours * 3600)).submit().await.unwrap();
    }
    let ids = |list: Vec<sortie_client::Scheduled>| list.into_iter().map(|one| one.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(fleet.client.later(100).await.unwrap()), ["in-1", "in-2", "in-3"]);
    assert_eq!(ids(fleet.client.later(2).await.unwrap()), ["in-1", "in-3"]);
}

#[tokio::test]
async fn a_dead_letter_is_shown_and_sent_again_as_it_was() {
    let fleet = Fleet::start().await;
    let mut original = Headers::new();
    for (name, value) in [
        ("X-Tenant", "blue"),
        ("Content-Type", "application/msgpack"),
        ("Sortie-Timeout", "5s"),
        ("Sortie-Max-Attempts", "7"),
        ("Sortie-Attempt", "3"),
        ("Sortie-Deadline", "2020-01-01T00:00:00Z"),
        ("Nats-Schedule", "@at 2020-01-01T00:00:00Z"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        original.set(name, value);
    }
    for number in 0..100 {
        fleet.give_up(&id(&format!("order-{number}")), &original, b"\x01").await;
    }
    let latest = fleet.client.dead_letters(Some(&echo()), 2).await.unwrap();
    assert_eq!(latest.iter().map(|letter| letter.id.as_str()).collect::<Vec<_>>(), ["order-98", "order-99"]);
    assert_eq!(fleet.client.dead_letters(None, 1000).await.unwrap().len(), 100);
    assert_eq!(fleet.client.dead_letters(Some(&Capability::parse("other").unwrap()), 9).await.unwrap(), []);
    let shown = fleet.client.dead_letter(&id("order-7")).await.unwrap().unwrap();
    assert_eq!((shown.letter.attempt, &shown.body[..]), (3, &b"\x01"[..]));
    assert!(fleet.client.dead_letter(&id("nobody")).await.unwrap().is_none());
    assert_eq!(*fleet.client.replay(&id("nobody"), &Again::default()).await.unwrap_err().kind(), ErrorKind::NotFound);

    let replayed = fleet.client.replay(&id("order-7"), &Again::default()).await.unwrap();
    assert_eq!(replayed.how, How::Sent);
    let message = fleet.last("FLEET_REQUESTS", "fleet.urgent.echo").await.unwrap();
    let request = Request::read(&message.headers, RequestId::of_sequence(1)).unwrap();
    assert_eq!((&request.id, request.replay_of), (&replayed.replay.request, Some(id("order-7"))));
    assert_eq!((request.attempt, request.attempts_max, request.deadline), (1, Some(7), None));
    assert_eq!((request.timeout, &message.body[..]), (Some(Duration::from_secs(5)), &b"\x01"[..]));
    assert!(request.trace.parent.is_some());
    assert_eq!(message.headers.get("X-Tenant"), Some("blue"));
    assert_eq!(message.headers.get("Content-Type"), Some("application/msgpack"));
    assert_eq!(message.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("traceparent")).count(), 1);
    assert_eq!(fleet.count("FLEET_DEAD").await, 101, "nothing is deleted, and the replay is marked");
}

#[tokio::test]
async fn a_large_dead_letter_keeps_its_body() {
    let fleet = Fleet::start().await;
    let receipt = fleet.client.request(&echo(), &"x".repeat(1024 * 1024)).submit().await.unwrap();
    let message = fleet.last("FLEET_REQUESTS", "fleet.request.echo").await.unwrap();
    fleet.give_up(receipt.id(), &message.headers, b"").await;
    let shown = fleet.client.dead_letter(receipt.id()).await.unwrap().unwrap();
    assert_eq!(shown.body.len(), 1024 * 1024 + 2);
    fleet.client.replay(receipt.id(), &Again::default()).await.unwrap();
    let again = fleet.last("FLEET_REQUESTS", "fleet.urgent.echo").await.unwrap();
    assert_eq!(again.headers.get("Sortie-Payload-Ref"), message.headers.get("Sortie-Payload-Ref"));
    assert!(again.body.is_empty());
}

async fn next(watcher: &mut Watcher) -> Happening {
    tokio::time::timeout(SOON, watcher.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_watcher_sees_what_happens_to_its_capability() {
    let fleet = Fleet::start().await;
    let mut all = fleet.client.watch(None).await.unwrap();
    let mut one = fleet.client.watch(Some(&echo())).await.unwrap();
    let other = Capability::parse("other").unwrap();
    let strange = fleet.client.request(&other, &1).submit().await.unwrap();
    assert!(matches!(next(&mut all).await, Happening::Asked { capability, .. } if capability == other));
    let receipt = fleet.client.request(&echo(), &1).urgent().submit().await.unwrap();
    let asked = Happening::Asked { id: Some(receipt.id().clone()), capability: echo(), lane: Lane::Urgent, key: None };
    assert_eq!((next(&mut one).await, next(&mut all).await), (asked.clone(), asked));

    let progress = Progress { percent: Some(50.0), ..Progress::default() };
    for id in [strange.id(), receipt.id()] {
        let body = serde_json::to_vec(&progress).unwrap();
        fleet.connection().publish_core(Outgoing::new(format!("fleet.progress.{id}"), body)).await.unwrap();
    }
    assert_eq!(next(&mut one).await, Happening::Progressed { id: receipt.id().clone(), progress });
    assert!(matches!(next(&mut all).await, Happening::Progressed { id, .. } if id == *strange.id()));
    assert!(matches!(next(&mut all).await, Happening::Progressed { .. }));

    fleet.complete(strange.id(), &json!(1)).await;
    fleet.complete(receipt.id(), &json!(2)).await;
    assert!(matches!(next(&mut one).await, Happening::Ended(outcome) if outcome.id == *receipt.id()));
    let event = Outgoing::new("fleet.event.sys.request.dead.x", r#"{"capability":"echo"}"#);
    Publisher::new(fleet.connection()).publish(&event).await.unwrap();
    let Happening::Event { topic, data } = next(&mut one).await else { panic!("an event names the capability") };
    assert_eq!((topic.as_str(), data.get("capability").and_then(Value::as_str)), ("sys.request.dead.x", Some("echo")));
}

#[tokio::test]
async fn a_watcher_ends_with_nobody_waiting_for_it() {
    let fleet = Fleet::start().await;
    let mut watcher = fleet.client.watch(None).await.unwrap();
    let watching = task::spawn("watching", async move { watcher.next().await });
    fleet.complete(&id("a"), &json!(1)).await;
    assert!(matches!(watching.join().await, Some(Some(Happening::Ended(_)))));
}

#[tokio::test]
async fn an_act_is_recorded_under_who_did_it() {
    let fleet = Fleet::start().await;
    let who = Operator::nearest("root@host");
    fleet.client.audit(&who, "queue-pause", "echo", json!({ "reason": "too hot" })).await.unwrap();
    let reader = broker::Reader::new(fleet.connection());
    let stored = reader.last("FLEET_AUDIT", "fleet.audit.root-host.queue-pause").await.unwrap().unwrap();
    let record: AuditRecord = serde_json::from_slice(&stored.body).unwrap();
    assert_eq!((record.who, record.target.as_str()), (who, "echo"));
    assert_eq!(record.detail, json!({ "reason": "too hot" }));
}
