use std::time::Duration;

use broker::{Kind, Outgoing, Publisher, scheduled_at, topology};
use embedded::Server;
use protocol::{Namespace, topology::Settings};

use crate::fleet::{Fleet, open, quick, until};

/// Room for the fleet's streams and little more.
const STORE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A server whose store is small. The stream of logs reserves more than that, so it goes before the store shrinks.
async fn small_store(folder: &std::path::Path) -> Server {
    let config = embedded::Config { store: Some(folder.to_owned()), ..embedded::Config::default() };
    let mut server = Server::start(config.clone()).await.unwrap();
    let connection = open(&server.url()).await;
    topology::apply(&connection, &Namespace::default(), &Settings::default()).await.unwrap();
    let gone =
        connection.request("$JS.API.STREAM.DELETE.FLEET_LOGS".to_owned(), None, "".into(), Duration::from_secs(5));
    gone.await.unwrap();
    server.stop().await.unwrap();
    Server::start(embedded::Config { store_bytes_max: Some(STORE_BYTES_MAX), ..config }).await.unwrap()
}

async fn fill(publisher: &Publisher) {
    let filler = Outgoing::new("fleet.audit.test.fill", vec![0_u8; 256 * 1024]);
    for _ in 0..STORE_BYTES_MAX / (256 * 1024) + 2 {
        if publisher.publish(&filler).await.is_err_and(|error| error.kind() == Kind::StoreFull) {
            // The last bytes go to smaller messages.
            let small = Outgoing::new("fleet.audit.test.fill", vec![0_u8; 64]);
            while publisher.publish(&small).await.is_ok() {}
            return;
        }
    }
    panic!("the store was never full");
}

#[tokio::test]
async fn what_fell_due_while_the_store_was_full_fires_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let server = small_store(folder.path()).await;
    let fleet = Fleet::over(open(&server.url()).await);
    // The usual look is far away: what wakes the coordinator is the room. A lease that ran out would make some.
    let (overdue_every, lease_ttl) = (Duration::from_secs(3600), Duration::from_secs(60));
    let config = sortie_coordinator::Config { overdue_every, lease_ttl, ..quick() };
    let two = [fleet.coordinate(config.clone()).await, fleet.coordinate(config).await];
    let sum = |name: &str, duty: &str| two.iter().map(|one| one.metric(name, duty)).sum::<f64>();
    until("the first look", || async { (sum("looks_total", "overdue") >= 1.0).then_some(()) }).await;

    for id in ["a", "b"] {
        let later = Outgoing::new(format!("fleet.later.{id}"), "{}").with_message_id(format!("{id}:2.0"));
        let later = scheduled_at(later, fleet.in_seconds(if id == "a" { 15 } else { 3600 }), "fleet.request.echo");
        fleet.publisher.publish(&later).await.unwrap();
    }
    fill(&fleet.publisher).await;
    until("the refusal is noticed", || async { (sum("store_refused", "") > 0.0).then_some(()) }).await;
    // Due, and past the grace, and still there: the broker could not store what it fired.
    let due = fleet.in_seconds(17);
    until("it is due", || async { (protocol::time::now() > due).then_some(()) }).await;
    assert_eq!(fleet.count(&fleet.names.requests, "fleet.request.echo").await, 0);
    assert_eq!(fleet.count(&fleet.names.requests, "fleet.later.*").await, 2);

    topology::purge(&fleet.connection, &fleet.names.audit, "fleet.audit.test.fill", None).await.unwrap();
    until("it fires", || async { (fleet.count(&fleet.names.requests, "fleet.request.echo").await == 1).then_some(()) })
        .await;
    let fired = fleet.reader.last(&fleet.names.requests, "fleet.request.echo").await.unwrap().unwrap();
    assert_eq!(fired.headers.get("Nats-Scheduler"), Some("fleet.later.a"));
    // Once, and the one that is not due stays.
    assert_eq!(fleet.count(&fleet.names.requests, "fleet.later.*").await, 1);
    assert!(sum("overdue_total", "") >= 1.0);
}

#[tokio::test]
async fn what_recurs_goes_on_after_the_store_was_full_and_a_firing_that_failed_is_made_up_for_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = small_store(folder.path()).await;
    let fleet = Fleet::over(open(&server.url()).await);
    // The usual look is far away: what wakes the coordinator is the room.
    // A coordinator knows of an outage what it saw itself: a lease that ran out meanwhile could go to the other one.
    let (overdue_every, lease_ttl) = (Duration::from_secs(3600), Duration::from_secs(60));
    let config = sortie_coordinator::Config { overdue_every, lease_ttl, ..quick() };
    let two = [fleet.coordinate(config.clone()).await, fleet.coordinate(config).await];
    let sum = |name: &str, duty: &str| two.iter().map(|one| one.metric(name, duty)).sum::<f64>();
    until("the first look", || async { (sum("looks_total", "overdue") >= 1.0).then_some(()) }).await;

    let due = fleet.in_seconds(20);
    let hourly = due.format("%S %M * * * *").to_string();
    for (subject, schedule, target) in [
        ("fleet.cron.hourly", hourly.as_str(), "fleet.request.rare"),
        ("fleet.cron.often", "@every 1s", "fleet.request.often"),
        ("fleet.cron.yearly", "@yearly", "fleet.request.never"),
    ] {
        let headers = [("Nats-Schedule", schedule), ("Nats-Schedule-Target", target), ("X-Tenant", "blue")];
        fleet.publish(subject, &headers, "{}").await;
    }
    until("it fires", || async { (fleet.count(&fleet.names.requests, "fleet.request.often").await > 0).then_some(()) })
        .await;
    fill(&fleet.publisher).await;
    until("the refusal is noticed", || async { (sum("store_refused", "") > 0.0).then_some(()) }).await;
    assert!(protocol::time::now() < due, "the store was not full in time");
    let past = due + chrono::TimeDelta::seconds(4);
    until("it is past", || async { (protocol::time::now() > past).then_some(()) }).await;
    let often = fleet.count(&fleet.names.requests, "fleet.request.often").await;
    assert_eq!(fleet.count(&fleet.names.requests, "fleet.request.rare").await, 0);

    topology::purge(&fleet.connection, &fleet.names.audit, "fleet.audit.test.fill", None).await.unwrap();
    let made_up = until("it is made up for", || async {
        fleet.reader.last(&fleet.names.requests, "fleet.request.rare").await.unwrap()
    })
    .await;
    let id = format!("cron-hourly-{}", due.timestamp());
    assert_eq!(
        (made_up.headers.get("Nats-Msg-Id"), made_up.headers.get("X-Tenant")),
        (Some(id.as_str()), Some("blue"))
    );
    until("the other fires again", || async {
        (fleet.count(&fleet.names.requests, "fleet.request.often").await > often + 1).then_some(())
    })
    .await;
    assert_eq!(fleet.count(&fleet.names.requests, "fleet.request.rare").await, 1, "once");
    assert_eq!(fleet.count(&fleet.names.requests, "fleet.cron.*").await, 3);
    assert_eq!(sum("overdue_total", ""), 2.0, "what does not fall into that time is left alone");
}
