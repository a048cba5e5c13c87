//! Triggers: every event does what it should once, whoever of the coordinators is there to see it.

use std::{collections::BTreeSet, time::Duration};

use broker::{Bucket, topology};
use protocol::{TriggerName, trigger};
use serde_json::{Value, json};

use crate::fleet::{Fleet, quick, until};

impl Fleet {
    /// Stores a trigger, as `sortie trigger add` does.
    async fn trigger(&self, name: &str, mut spec: Value) {
        let state = topology::stream_state(&self.connection, &self.names.events).await.unwrap();
        spec["after"] = state.last_sequence.into();
        let bucket = Bucket::new(&self.connection, &self.publisher, self.names.config.clone());
        let key = trigger::key(&TriggerName::parse(name).unwrap());
        bucket.put(&key, spec.to_string(), None).await.unwrap();
    }

    async fn tell(&self, topic: &str, id: &str, data: Value) {
        let headers = [("ce-id", id), ("ce-source", "/shop")];
        self.publish(&format!("fleet.event.{topic}"), &headers, &data.to_string()).await;
    }

    async fn asked(&self, subject: &str) -> Vec<Value> {
        let page = self.reader.page(&self.names.requests, subject, 1, 1_000).await.unwrap();
        page.messages.iter().map(|message| serde_json::from_slice(&message.body).unwrap()).collect()
    }

    /// Waits until the events that are there now are all worked off.
    async fn events_are_done(&self) {
        let events = &self.names.events;
        until("events are worked off", || async {
            let state = topology::consumer_state(&self.connection, events, "coordinator_triggers").await.ok()?;
            (state.pending == 0 && state.ack_pending == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn each_event_asks_once_whichever_coordinators_die() {
    let fleet = Fleet::start().await;
    fleet.tell("order.paid", "before", json!({ "number": -1 })).await;
    fleet.trigger("paid", json!({ "on": "order.*", "then": { "request": { "capability": "ship" } } })).await;
    let first = fleet.coordinate(quick()).await;
    let mut others = vec![fleet.coordinate(quick()).await];
    for number in 0..300 {
        fleet.tell("order.paid", &number.to_string(), json!({ "number": number })).await;
        // Published again, as whoever did not hear that it was stored.
        if number % 10 == 0 {
            fleet.tell("order.paid", &number.to_string(), json!({ "number": number })).await;
        }
        fleet.tell("invoice.paid", &number.to_string(), json!({ "number": -2 })).await;
        if number == 100 {
            others.push(fleet.coordinate(quick()).await);
        }
        if number == 150 {
            // As if it were killed: what it had in hand is delivered to the others.
            others.remove(0);
        }
    }
    drop(first);
    until("every event has asked", || async { (fleet.asked("fleet.request.ship").await.len() >= 300).then_some(()) })
        .await;
    fleet.events_are_done().await;
    let asked = fleet.asked("fleet.request.ship").await;
    let numbers: BTreeSet<i64> = asked.iter().map(|body| body["number"].as_i64().unwrap()).collect();
    assert_eq!((asked.len(), numbers), (300, (0..300).collect()));
}

#[tokio::test]
async fn an_event_that_follows_its_trigger_is_never_missed() {
    let fleet = Fleet::start().await;
    let _running = fleet.coordinate(quick()).await;
    fleet.trigger("first", json!({ "on": "none", "then": { "request": { "capability": "note" } } })).await;
    for number in 0..25 {
        let (topic, id) = (format!("born.{number}"), number.to_string());
        fleet
            .trigger(&format!("t{number}"), json!({ "on": topic, "then": { "request": { "capability": "note" } } }))
            .await;
        fleet.tell(&topic, &id, json!(number)).await;
    }
    let asked = until("every trigger has asked", || async {
        let asked = fleet.asked("fleet.request.note").await;
        (asked.len() == 25).then_some(asked)
    });
    assert_eq!(asked.await, (0..25).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn conditions_choose_and_runs_are_told() {
    let fleet = Fleet::start().await;
    let running = fleet.coordinate(quick()).await;
    let signal = json!({ "signal": { "name": "paid", "run": "${ event.data.run }" } });
    fleet.trigger("paid", json!({
        "on": "order.paid", "if": "event.data.sum > 100", "with": { "sum": "${ event.data.sum }" }, "then": signal,
    })).await;
    // What is broken does nothing, and keeps nobody back.
    fleet.trigger("broken", json!({ "on": "order.paid", "if": "event.data.", "then": { "start": "audit" } })).await;
    for (id, data) in [
        ("1", json!({ "sum": 7, "run": "order-1" })),
        ("2", json!({ "sum": 700, "run": "not.a.run" })),
        ("3", json!("no object")),
        ("4", json!({ "sum": 700, "run": "order-4" })),
    ] {
        fleet.tell("order.paid", id, data).await;
    }
    let told = until("the run is told", || async {
        fleet.reader.last(&fleet.names.runs, "fleet.run.*.order-4.signal.paid").await.unwrap()
    });
    assert_eq!(told.await.body.as_ref(), br#"{"sum":700}"#);
    fleet.events_are_done().await;
    assert_eq!(fleet.count(&fleet.names.runs, "fleet.run.>").await, 1);
    assert_eq!(fleet.asked("fleet.start.audit").await.len(), 0);
    assert_eq!((running.metric("triggers_total", "done"), running.metric("triggers_total", "failed")), (1.0, 2.0));
}

#[tokio::test]
async fn without_triggers_no_event_is_read() {
    let fleet = Fleet::start().await;
    let running = fleet.coordinate(quick()).await;
    fleet.tell("order.paid", "1", json!(1)).await;
    running.looks("crons", 2.0).await;
    assert!(topology::consumer_state(&fleet.connection, &fleet.names.events, "coordinator_triggers").await.is_err());
}

#[tokio::test]
async fn a_consumer_that_was_deleted_goes_on_where_it_was() {
    let fleet = Fleet::start().await;
    fleet.trigger("paid", json!({ "on": "order.paid", "then": { "request": { "capability": "ship" } } })).await;
    let _two = [fleet.coordinate(quick()).await, fleet.coordinate(quick()).await];
    for number in 0..20 {
        fleet.tell("order.paid", &number.to_string(), json!(number)).await;
    }
    let events = &fleet.names.events;
    let noted = until("it is noted that all are worked off", || async {
        // Every turn notes, and one that brings nothing does too.
        let last = topology::stream_state(&fleet.connection, events).await.ok()?.last_sequence;
        let key = format!("$KV.{}.{}", fleet.names.state, trigger::ACKNOWLEDGED_KEY);
        let found = fleet.reader.last(&format!("KV_{}", fleet.names.state), &key).await.ok()??;
        let noted: trigger::Acknowledged = serde_json::from_slice(&found.body).ok()?;
        (noted.through >= last).then_some(noted.through)
    })
    .await;
    let delete = format!("$JS.API.CONSUMER.DELETE.{events}.coordinator_triggers");
    fleet.connection.request(delete, None, Default::default(), Duration::from_secs(5)).await.unwrap();
    fleet.tell("order.paid", "next", json!(20)).await;
    let asked = || async { (fleet.asked("fleet.request.ship").await.len() == 21).then_some(()) };
    until("the next one has asked", asked).await;
    let state = topology::consumer_state(&fleet.connection, events, "coordinator_triggers").await.unwrap();
    let last = topology::stream_state(&fleet.connection, events).await.unwrap().last_sequence;
    assert!(state.deliveries <= last - noted, "{} events were delivered again", state.deliveries);
}

#[tokio::test]
async fn an_event_whose_body_is_nowhere_keeps_no_other_back() {
    let fleet = Fleet::start().await;
    fleet.trigger("paid", json!({ "on": "order.*", "then": { "request": { "capability": "ship" } } })).await;
    let _running = fleet.coordinate(quick()).await;
    for reference in ["nope", &"x".repeat(5_000)] {
        fleet.publish("fleet.event.order.paid", &[("ce-id", "lost"), ("Sortie-Payload-Ref", reference)], "").await;
    }
    fleet.tell("order.paid", "good", json!({ "number": 7 })).await;
    until("the good one asks", || async { (!fleet.asked("fleet.request.ship").await.is_empty()).then_some(()) }).await;
    fleet.events_are_done().await;
    assert_eq!(fleet.asked("fleet.request.ship").await.len(), 1);
}
