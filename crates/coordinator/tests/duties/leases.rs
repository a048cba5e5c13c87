use std::time::{Duration, Instant};

use broker::Kind;
use prometheus::Registry;
use protocol::Namespace;
use sortie_coordinator::{Config, Coordinator};

use crate::fleet::{Fleet, Running, quick, until};

const DUTIES: [&str; 6] = ["overdue", "deadlines", "dead-letters", "agents", "wishes", "gauges"];

async fn holds_all(one: &Running) {
    until("it holds every lease", || async {
        DUTIES.iter().all(|duty| one.metric("lease_held", duty) == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_killed_coordinators_duties_move_to_another() {
    let fleet = Fleet::start().await;
    let first = fleet.coordinate(quick()).await;
    holds_all(&first).await;
    let second = fleet.coordinate(quick()).await;
    let third = fleet.coordinate(quick()).await;
    first.looks("deadlines", 3.0).await;
    for other in [&second, &third] {
        assert!(DUTIES.iter().all(|duty| other.metric("looks_total", duty) == 0.0), "one holder at a time");
    }
    // Nothing is given back: the leases run out.
    drop(first);
    until("each duty is held by one", || async {
        let held = |duty: &&str| second.metric("lease_held", duty) + third.metric("lease_held", duty) == 1.0;
        DUTIES.iter().all(held).then_some(())
    })
    .await;
    fleet
        .publish("fleet.request.echo", &[("Sortie-Request-Id", "a"), ("Sortie-Deadline", "2020-01-01T00:00:00Z")], "")
        .await;
    until("the work goes on", || fleet.outcome("a")).await;
}

#[tokio::test]
async fn a_stopped_coordinator_gives_its_leases_back() {
    let fleet = Fleet::start().await;
    let config = Config { lease_ttl: Duration::from_secs(600), ..quick() };
    let first = fleet.coordinate(config.clone()).await;
    holds_all(&first).await;
    let second = fleet.coordinate(config).await;
    first.coordinator.handle().stop();
    assert!(first.coordinator.stopped().await);
    holds_all(&second).await;
}

#[tokio::test]
async fn without_its_streams_a_coordinator_says_what_to_do() {
    let fleet = Fleet::start().await;
    let namespace = Namespace::parse("other").unwrap();
    let config = Config { namespace, topology_within: Duration::from_millis(200), ..quick() };
    let began = Instant::now();
    let error = Coordinator::start(&fleet.connection, config, &Registry::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("sortie topology apply"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}
