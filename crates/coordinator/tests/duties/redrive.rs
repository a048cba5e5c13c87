//! Rules that send letters again.

use std::time::Duration;

use broker::{Bucket, due_time, topology};
use protocol::{
    Capability, DeadLetter, Failure, Headers, Lane, Replay, RequestId, Subject, codes, header, replay,
    time::{self, Timestamp},
};
use sortie_coordinator::Config;

use crate::fleet::{Fleet, quick, until};

const LATER: &str = "fleet.later.*";

fn id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

async fn rule(fleet: &Fleet, name: &str, value: &str) {
    let bucket = Bucket::new(&fleet.connection, &fleet.publisher, fleet.names.config.clone());
    bucket.put(&format!("redrive.{name}"), value.to_owned(), None).await.unwrap();
}

async fn bury(fleet: &Fleet, of: &RequestId, code: &str) -> Timestamp {
    let letter = DeadLetter {
        id: of.clone(),
        capability: Capability::parse("echo").unwrap(),
        lane: Lane::Bulk,
        failure: Failure::new(code, "it did not work"),
        attempt: 3,
        instance: None,
        version: None,
        killed: Vec::new(),
        published_at: None,
        dead_at: time::now(),
    };
    let mut original = Headers::new();
    original.set("X-Tenant", "blue");
    original.set("Sortie-Timeout", "5s");
    let headers = letter.headers(&original);
    let headers: Vec<(&str, &str)> = headers.iter().collect();
    let at = format!("fleet.dead.echo.{of}");
    fleet.publish(&at, &headers, "{}").await;
    fleet.reader.last(&fleet.names.dead, &at).await.unwrap().unwrap().time
}

async fn mark(fleet: &Fleet, of: &RequestId) -> Option<Replay> {
    let request = replay::replay_id(of, 1, None);
    let subject = Subject::Replayed { capability: Capability::parse("echo").unwrap(), id: of.clone(), request };
    let found = fleet.reader.last(&fleet.names.dead, &subject.render(&fleet.namespace)).await.unwrap()?;
    serde_json::from_slice(&found.body).ok()
}

async fn marked(fleet: &Fleet, of: &RequestId) -> Replay {
    until("a mark", || mark(fleet, of)).await
}

#[tokio::test]
async fn a_letter_that_a_rule_is_for_is_scheduled_once_and_marked() {
    let fleet = Fleet::start().await;
    rule(&fleet, "slow", r#"{"code":"time*","delay":"fixed; first=1h; cap=1h; jitter=none"}"#).await;
    let old = bury(&fleet, &id("old"), codes::TIMEOUT).await;
    let running = [fleet.coordinate(quick()).await, fleet.coordinate(quick()).await];
    let first = marked(&fleet, &id("old")).await;
    bury(&fleet, &id("other"), "tea_is_cold").await;
    bury(&fleet, &id("new"), codes::TIMEOUT).await;
    marked(&fleet, &id("new")).await;
    assert_eq!(first.rule.as_ref().map(ToString::to_string), Some("slow".to_owned()));
    let due = old + chrono::TimeDelta::hours(1);
    assert_eq!((first.due, &first.request), (Some(due), &replay::replay_id(&id("old"), 1, None)));
    let schedule = fleet.reader.last(&fleet.names.requests, &format!("fleet.later.{}", first.request)).await.unwrap();
    let headers = schedule.unwrap().headers;
    assert_eq!(headers.get(header::NATS_SCHEDULE_TARGET), Some("fleet.bulk.echo"));
    assert_eq!((headers.get(header::REPLAY_OF), headers.get("X-Tenant")), (Some("old"), Some("blue")));
    assert!((due_time(&headers).unwrap() - due).abs() < chrono::TimeDelta::milliseconds(2));
    // Whoever of the two has the lease has looked at all of them by now; nobody has a rule for the other.
    assert_eq!(mark(&fleet, &id("other")).await, None);
    assert_eq!(fleet.count(&fleet.names.requests, LATER).await, 2);
    drop(running);
}

#[tokio::test]
async fn what_was_broken_off_before_its_mark_is_not_sent_twice() {
    let fleet = Fleet::start().await;
    rule(&fleet, "slow", r#"{"code":"timeout","delay":"fixed; first=1h; cap=1h; jitter=none"}"#).await;
    bury(&fleet, &id("a"), codes::TIMEOUT).await;
    let running = fleet.coordinate(quick()).await;
    let before = marked(&fleet, &id("a")).await;
    running.coordinator.handle().stop();
    running.coordinator.stopped().await;
    assert_eq!(topology::purge(&fleet.connection, &fleet.names.dead, "fleet.replayed.>", None).await.unwrap(), 1);
    let _running = fleet.coordinate(quick()).await;
    let after = marked(&fleet, &id("a")).await;
    assert_eq!((&after.request, after.due), (&before.request, before.due));
    assert_eq!(fleet.count(&fleet.names.requests, LATER).await, 1);
}

#[tokio::test]
async fn what_was_sent_again_as_often_as_the_limit_says_or_by_a_person_stays() {
    let fleet = Fleet::start().await;
    rule(&fleet, "all", r#"{"code":"*","limit":2,"delay":"fixed; first=1h; cap=1h; jitter=none"}"#).await;
    let first = replay::replay_id(&id("a"), 1, None);
    let second = replay::replay_id(&first, 1, None);
    // Somebody has replayed this one, with another body.
    let by_hand = replay::replay_id(&id("mended"), 1, Some(b"{}"));
    fleet.publish(&format!("fleet.replayed.echo.mended.{by_hand}"), &[], "").await;
    for of in [&id("mended"), &second, &id("poison-1")] {
        bury(&fleet, of, if of.as_str() == "poison-1" { codes::POISON } else { "cold" }).await;
    }
    bury(&fleet, &first, "cold").await;
    let running = fleet.coordinate(quick()).await;
    marked(&fleet, &first).await;
    running.looks("redrive", 2.0).await;
    for of in [&id("mended"), &second, &id("poison-1")] {
        assert_eq!(mark(&fleet, of).await, None, "{of}");
    }
    assert_eq!(fleet.count(&fleet.names.requests, LATER).await, 1);
}

#[tokio::test]
async fn a_broken_rule_is_told_and_keeps_no_other_back() {
    let fleet = Fleet::start().await;
    bury(&fleet, &id("a"), "cold").await;
    rule(&fleet, "broken", r#"{"code":"*","delay":"soon"}"#).await;
    let running = fleet.coordinate(quick()).await;
    until("it is told", || async { (running.metric("redrive_rules_broken", "") == 1.0).then_some(()) }).await;
    running.looks("redrive", 2.0).await;
    assert_eq!(mark(&fleet, &id("a")).await, None, "without a rule it stays for a person");
    rule(&fleet, "works", r#"{"code":"cold"}"#).await;
    let mark = marked(&fleet, &id("a")).await;
    assert_eq!(mark.rule.map(|rule| rule.to_string()), Some("works".to_owned()));
    assert_eq!(running.metric("redrive_rules_broken", ""), 1.0);
    rule(&fleet, "broken", r#"{"code":"*","since":"2100-01-01T00:00:00Z"}"#).await;
    until("it is mended", || async { (running.metric("redrive_rules_broken", "") == 0.0).then_some(()) }).await;
    bury(&fleet, &id("b"), "other").await;
    running.looks("redrive", 2.0).await;
    assert_eq!(fleet.count(&fleet.names.requests, LATER).await, 1, "its time has not come");
}

#[test]
fn it_is_looked_often_enough() {
    assert!(Config::default().redrive_every <= Duration::from_secs(10));
}
