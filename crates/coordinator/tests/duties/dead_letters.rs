use std::time::Duration;

use broker::{Delivery, Outgoing, topology};
use protocol::{Lane, Status, codes, topology::Source};
use sortie_coordinator::Config;

use crate::{
    deadlines::UNREADABLE,
    fleet::{Fleet, quick, until},
};

const NORMAL: Source = Source::Lane(Lane::Normal);

/// Coordinators that only look, or that only hear.
fn looking() -> Config {
    quick()
}

fn hearing() -> Config {
    Config { dead_letters_every: Duration::from_secs(3600), ..quick() }
}

async fn queue_is_empty(fleet: &Fleet) {
    until("the queue is empty", || async {
        (fleet.count(&fleet.names.requests, "fleet.request.*").await == 0).then_some(())
    })
    .await;
}

async fn assert_given_up(fleet: &Fleet, id: &str) {
    let outcome = fleet.outcome(id).await.expect("an outcome");
    let failure = outcome.failure().expect("a failure");
    assert_eq!((outcome.status, failure.code.as_str()), (Status::Failed, codes::DELIVERIES_EXHAUSTED));
    let letter = fleet.dead_letter("echo", id).await.expect("a dead letter");
    assert_eq!((letter.lane, letter.failure), (Lane::Normal, failure));
}

#[tokio::test]
async fn what_the_broker_gave_up_leaves_the_queue_once_with_outcome_and_dead_letter() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 2).await;
    fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", "a"), ("X-Tenant", "blue")], "{\"n\":1}").await;
    let by_sequence = fleet.publish("fleet.request.echo", &[], "{\"n\":2}").await;
    let lying = fleet.publish("fleet.request.echo", &[("Sortie-Attempt", "-1")], "{\"n\":3}").await;
    fleet.exhaust(&consumer, 3).await;
    // Its advisory got lost: looking is the guarantee.
    topology::purge(&fleet.connection, &fleet.names.advisories, ">", None).await.unwrap();

    let _two = (fleet.coordinate(looking()).await, fleet.coordinate(looking()).await);
    queue_is_empty(&fleet).await;
    for id in ["a".to_owned(), format!("seq-{by_sequence}"), format!("seq-{lying}")] {
        assert_given_up(&fleet, &id).await;
        let (event, count) = fleet.event(&format!("sys.request.dead.{id}")).await.expect("an event");
        assert_eq!((event["capability"].as_str(), count), (Some("echo"), 1));
    }
    assert_eq!(fleet.count(&fleet.names.outcomes, "fleet.outcome.*").await, 3);
    assert_eq!(fleet.count(&fleet.names.dead, "fleet.dead.*.*").await, 3);
    let stored = fleet.reader.last(&fleet.names.dead, "fleet.dead.echo.a").await.unwrap().unwrap();
    assert_eq!((stored.headers.get("X-Tenant"), &stored.body[..]), (Some("blue"), &b"{\"n\":1}"[..]));
}

#[tokio::test]
async fn an_advisory_makes_it_quick() {
    let fleet = Fleet::start().await;
    let _two = (fleet.coordinate(hearing()).await, fleet.coordinate(hearing()).await);
    let consumer = fleet.consumer("echo", NORMAL, 2).await;
    fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", "a")], "{}").await;
    fleet.exhaust(&consumer, 1).await;
    queue_is_empty(&fleet).await;
    assert_given_up(&fleet, "a").await;
    assert_eq!(fleet.count(&fleet.names.dead, "fleet.dead.*.*").await, 1);
}

#[tokio::test]
async fn an_outcome_that_was_first_decides() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 1).await;
    for (id, status) in [("done", "completed"), ("failed", "failed")] {
        fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", id)], "{}").await;
        let body = if status == "failed" { r#"{"code":"tea_is_cold","message":"no"}"# } else { "1" };
        fleet.publish(&format!("fleet.outcome.{id}"), &[("Sortie-Status", status)], body).await;
    }
    fleet.exhaust(&consumer, 2).await;
    let _running = fleet.coordinate(looking()).await;
    queue_is_empty(&fleet).await;
    // The failed one had no dead letter yet; the completed one gets none.
    assert_eq!(fleet.dead_letter("echo", "failed").await.unwrap().failure.code, "tea_is_cold");
    assert_eq!(fleet.dead_letter("echo", "done").await, None);
    assert_eq!(fleet.outcome("done").await.unwrap().status, Status::Completed);
    assert_eq!(fleet.count(&fleet.names.outcomes, "fleet.outcome.*").await, 2);
}

/// Extends a delivery's deadline until this is dropped.
fn working_on(fleet: &Fleet, delivery: Box<Delivery>) -> broker::task::Owned<()> {
    let connection = fleet.connection.clone();
    broker::task::spawn("work", async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            delivery.extend(&connection, Duration::from_secs(5)).await.unwrap();
        }
    })
}

#[tokio::test]
async fn what_is_slow_put_off_or_redelivered_is_not_touched() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 2).await;
    let ids = ["slow", "put-off", "redelivered", "acknowledged", "waiting"];
    for id in ids {
        fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", id)], "{}").await;
    }
    let _slow = working_on(&fleet, fleet.take(&consumer).await);
    fleet.take(&consumer).await.nak(&fleet.connection, Duration::from_secs(60)).await;
    // Delivered for the last time, and worked on.
    fleet.take(&consumer).await.nak(&fleet.connection, Duration::from_millis(1)).await;
    let again = until("it is redelivered", || async {
        let delivery = fleet.take(&consumer).await;
        if delivery.delivered == 2 {
            return Some(delivery);
        }
        delivery.ack(&fleet.connection).await;
        None
    })
    .await;
    let _last = working_on(&fleet, again);
    let left = fleet.count(&fleet.names.requests, "fleet.request.echo").await;

    let running = fleet.coordinate(looking()).await;
    running.looks("dead-letters", 5.0).await;
    assert_eq!(fleet.count(&fleet.names.requests, "fleet.request.echo").await, left);
    assert_eq!(fleet.count(&fleet.names.outcomes, "fleet.outcome.*").await, 0);
    assert_eq!(fleet.count(&fleet.names.dead, "fleet.dead.*.*").await, 0);
    assert_eq!(running.metric("dead_letters_total", ""), 0.0);
}

#[tokio::test]
async fn a_step_leaves_its_failure_to_its_run() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 1).await;
    let reply_to = ("Sortie-Reply-To", "fleet.run.r1.step.scan.0.outcome");
    fleet.publish("fleet.request.echo", &[reply_to], "{}").await;
    fleet.exhaust(&consumer, 1).await;
    let _running = fleet.coordinate(looking()).await;
    queue_is_empty(&fleet).await;
    let fact = fleet.reader.page(&fleet.names.runs, "fleet.run.*.r1.>", 1, 10).await.unwrap().messages;
    assert_eq!(fact.len(), 1);
    assert_eq!(fact[0].headers.get("Sortie-Status"), Some("failed"));
    assert_eq!(fleet.count(&fleet.names.outcomes, "fleet.outcome.*").await, 0);
    assert_eq!(fleet.count(&fleet.names.dead, "fleet.dead.*.*").await, 0);
}

#[tokio::test]
async fn advisories_about_anything_else_are_passed_over() {
    let fleet = Fleet::start().await;
    let subject = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.FLEET_REQUESTS.echo";
    for body in ["", "{}", r#"{"stream":"FLEET_REQUESTS","consumer":"echo","stream_seq":1}"#] {
        fleet.publisher.publish(&Outgoing::new(subject, body)).await.unwrap();
    }
    fleet.publish("fleet.request.echo", &[], "{}").await;
    let _running = fleet.coordinate(hearing()).await;
    until("all are acknowledged", || async {
        let consumer = protocol::topology::advisories_consumer(&fleet.namespace);
        let state = topology::consumer_state(&fleet.connection, &consumer.stream, &consumer.name).await.ok()?;
        (state.ack_floor == 3).then_some(())
    })
    .await;
    assert_eq!(fleet.count(&fleet.names.requests, "fleet.request.echo").await, 1);
    assert_eq!(fleet.count(&fleet.names.outcomes, "fleet.outcome.*").await, 0);
}

#[tokio::test]
async fn what_nobody_can_read_leaves_the_queue_as_an_invalid_header() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 1).await;
    for block in UNREADABLE {
        fleet.publish_bytes("fleet.request.echo", block, b"{}");
    }
    fleet.take_blindly(&consumer, UNREADABLE.len());
    fleet.given_up(&consumer).await;
    for config in [looking(), hearing()] {
        let _running = fleet.coordinate(config).await;
        queue_is_empty(&fleet).await;
    }
    for sequence in 1..=UNREADABLE.len() {
        let id = format!("seq-{sequence}");
        let outcome = fleet.outcome(&id).await.expect("an outcome");
        assert_eq!(outcome.failure().expect("a failure").code, codes::INVALID_HEADER);
        assert_eq!(fleet.dead_letter("echo", &id).await.expect("a dead letter").failure.code, codes::INVALID_HEADER);
    }
}

#[tokio::test]
async fn a_body_that_leaves_no_room_for_the_story_moves_away() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 1).await;
    let body = "x".repeat(1024 * 1024 - 200);
    fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", "big")], &body).await;
    fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", "small")], "{}").await;
    fleet.exhaust(&consumer, 2).await;
    let _running = fleet.coordinate(looking()).await;
    queue_is_empty(&fleet).await;
    assert_given_up(&fleet, "big").await;
    assert_given_up(&fleet, "small").await;
    let letter = fleet.reader.last(&fleet.names.dead, "fleet.dead.echo.big").await.unwrap().unwrap();
    let object = letter.headers.get("Sortie-Payload-Ref").expect("a reference");
    let payloads = broker::PayloadStore::new(&fleet.connection, fleet.names.payloads.clone());
    assert_eq!(payloads.get(object).await.unwrap(), body);
}
