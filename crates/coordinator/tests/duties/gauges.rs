use std::time::Duration;

use protocol::{registry::State, topology::Source};

use crate::{
    fleet::{Fleet, Running, quick, until},
    unserved::agent,
};

async fn shows(one: &Running, name: &str, labels: &[&str], expected: f64) {
    until(&format!("{name}{labels:?} is {expected}"), || async {
        (one.figure(name, labels) == Some(expected)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_holder_of_the_duty_shows_the_fleet_in_figures() {
    let fleet = Fleet::start().await;
    let one = fleet.coordinate(quick()).await;
    for _ in 0..3 {
        fleet.publish("fleet.request.echo", &[], "1").await;
    }
    fleet.publish("fleet.unique.echo.key", &[], "1").await;
    let later = [("Nats-Schedule", "@at 2099-01-01T00:00:00Z"), ("Nats-Schedule-Target", "fleet.request.echo")];
    fleet.publish("fleet.later.a", &later, "1").await;
    fleet.publish("fleet.start.audit", &[], "1").await;
    fleet.publish("fleet.dead.echo.b", &[], "1").await;
    fleet.register(&agent("ready", State::Ready), Duration::from_secs(60)).await;
    fleet.register(&agent("stopped", State::Stopped), Duration::from_secs(60)).await;

    shows(&one, "queue_pending", &["echo", "normal"], 3.0).await;
    shows(&one, "queue_pending", &["echo", "unique"], 1.0).await;
    shows(&one, "scheduled", &[], 1.0).await;
    // A start of a workflow that nobody has brought is given up, too.
    shows(&one, "dead_letters_kept", &[], 2.0).await;
    shows(&one, "agents", &["ready"], 1.0).await;
    shows(&one, "agents", &["stopped"], 1.0).await;
    shows(&one, "agents", &["draining"], 0.0).await;
    shows(&one, "agents_serving", &["echo"], 1.0).await;
    until("the store is measured", || async { one.figure("store_bytes", &[]).filter(|bytes| *bytes > 0.0) }).await;
    assert_eq!(one.figure("store_bytes_max", &[]), Some(0.0), "an account without a bound");
    let first =
        until("it ages", || async { one.figure("queue_oldest_seconds", &["echo", "normal"]).filter(|age| *age > 0.0) });
    let first = first.await;
    until("it ages on", || async {
        one.figure("queue_oldest_seconds", &["echo", "normal"]).filter(|age| *age > first)
    })
    .await;

    // One is taken: the age is that of the next, which nobody has.
    let consumer = fleet.consumer("echo", Source::ALL[1], 100).await;
    let taken = fleet.take(&consumer).await;
    shows(&one, "queue_in_flight", &["echo", "normal"], 1.0).await;
    shows(&one, "queue_pending", &["echo", "normal"], 2.0).await;
    drop(taken);

    // An empty queue is 0, and not unknown.
    broker::topology::purge(&fleet.connection, &fleet.names.requests, "fleet.request.echo", None).await.unwrap();
    shows(&one, "queue_pending", &["echo", "normal"], 0.0).await;
    shows(&one, "queue_oldest_seconds", &["echo", "normal"], 0.0).await;

    // What nobody holds any more, nobody says.
    let second = fleet.coordinate(quick()).await;
    assert_eq!(second.figure("queue_pending", &["echo", "unique"]), None);
    one.coordinator.handle().stop();
    shows(&second, "queue_pending", &["echo", "unique"], 1.0).await;
    shows(&second, "dead_letters_kept", &[], 2.0).await;
    until("the first forgets", || async {
        let is_forgotten = one.figure("queue_pending", &["echo", "unique"]).is_none();
        (is_forgotten && one.figure("dead_letters_kept", &[]) == Some(0.0)).then_some(())
    })
    .await;
}
