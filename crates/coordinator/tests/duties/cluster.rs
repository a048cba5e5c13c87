use std::time::Duration;

use broker::{PullEvent, PullInbox, PullRequest, topology};
use embedded::Cluster;
use protocol::{
    Capability, Lane, Operator, Status,
    desired::{LimitWish, PauseWish, QueueWish},
    topology::{Source, worker_consumer},
};

use crate::fleet::{Fleet, quick, until};

#[tokio::test]
async fn three_nodes_lose_a_leader_and_every_duty_goes_on() {
    let mut cluster = Cluster::start(3).await.unwrap();
    let fleet = Fleet::on_cluster(&cluster).await;
    let two = [fleet.coordinate(quick()).await, fleet.coordinate(quick()).await];
    until("every duty was looked at", || async {
        let looks = |duty: &&str| two.iter().map(|one| one.metric("looks_total", duty)).sum::<f64>() > 0.0;
        ["overdue", "deadlines", "dead-letters", "agents"].iter().all(looks).then_some(())
    })
    .await;
    let consumer = fleet.consumer("echo", Source::Lane(Lane::Normal), 2).await;
    for id in ["a", "b"] {
        fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", id)], "{}").await;
    }
    fleet.exhaust(&consumer, 2).await;

    let state = topology::stream_state(&fleet.connection, &fleet.names.requests).await.unwrap();
    let leader = cluster.index_by_name(&state.leader.unwrap()).unwrap();
    cluster.server_mut(leader).kill().unwrap();
    let past = ("Sortie-Deadline", "2020-01-01T00:00:00Z");
    fleet.publish("fleet.request.other", &[("Sortie-Request-Id", "c"), past], "{}").await;
    for (id, status) in [("a", Status::Failed), ("b", Status::Failed), ("c", Status::Expired)] {
        let outcome = until("an outcome", || async { fleet.outcome_if_any(id).await }).await;
        assert_eq!(outcome.status, status, "{id}");
    }
    cluster.server_mut(leader).restart().await.unwrap();
    cluster.ready().await.unwrap();
    until("the queues are empty", || async { (fleet.count_if_any("fleet.request.*").await? == 0).then_some(()) }).await;
    assert_eq!(fleet.count(&fleet.names.outcomes, "fleet.outcome.*").await, 3);
    assert_eq!(fleet.count(&fleet.names.dead, "fleet.dead.*.*").await, 2);
}

#[tokio::test]
async fn three_nodes_pause_limit_and_resume_a_queue() {
    let cluster = Cluster::start(3).await.unwrap();
    let fleet = Fleet::on_cluster(&cluster).await;
    let source = Source::Lane(Lane::Normal);
    let consumer = worker_consumer(&fleet.namespace, &Capability::parse("echo").unwrap(), source, 3);
    topology::ensure_consumer(&fleet.connection, &consumer).await.unwrap();
    let _coordinator = fleet.coordinate(quick()).await;
    let mut inbox = PullInbox::open(&fleet.connection).await.unwrap();
    let waiting = PullRequest::Wait { expires: Duration::from_secs(60), heartbeat: Duration::from_secs(25) };
    inbox.pull(&consumer, waiting, 1).await.unwrap();
    let is_so = async |what: &str, paused: bool, max: i64| {
        until(what, || async {
            let state = topology::consumer_state(&fleet.connection, &consumer.stream, &consumer.name).await.ok()?;
            (state.is_paused == paused && state.consumer.max_ack_pending == max).then_some(())
        })
        .await;
    };
    let (by, at) = (Operator::nearest("ann"), protocol::time::now());
    let pause = PauseWish { by: by.clone(), at, reason: None, until: None };
    let limit = LimitWish { max: 5, by, at, reason: None };
    let wish = QueueWish { paused: Some(pause), limit: Some(limit.clone()), ..QueueWish::default() };
    fleet.wish(source, &wish).await;
    is_so("paused and limited", true, 5).await;
    fleet.publish("fleet.request.echo", &[], "{}").await;
    fleet.wish(source, &QueueWish { limit: Some(limit), ..QueueWish::default() }).await;
    is_so("resumed, and limited still", false, 5).await;
    // Every replica of the consumer forgot the pause, and the pull that waited all the time is given what is there.
    let delivered = async {
        loop {
            match inbox.next().await {
                Some(PullEvent::Delivered(_)) => break,
                // Another server leads: it knows of no pull.
                Some(PullEvent::Ended { .. }) => inbox.pull(&consumer, waiting, 1).await.unwrap(),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), delivered).await.expect("before the pull's next heartbeat");
    fleet.wish(source, &QueueWish::default()).await;
    is_so("as it was", false, 10_000).await;
}

impl Fleet {
    /// The same while there may be no leader.
    async fn outcome_if_any(&self, id: &str) -> Option<protocol::Outcome> {
        let found = self.reader.last(&self.names.outcomes, &format!("fleet.outcome.{id}")).await.ok()??;
        Some(protocol::Outcome::read(protocol::RequestId::parse(id).unwrap(), &found.headers, &found.body))
    }

    async fn count_if_any(&self, filter: &str) -> Option<u64> {
        let counts = topology::subject_counts(&self.connection, &self.names.requests, filter).await.ok()?;
        Some(counts.values().sum())
    }
}
