use std::time::Duration;

use broker::{Bucket, Publisher};
use protocol::{
    Capability, InstanceId, Kind,
    registry::{AgentEntry, CapabilityEntry, Counts, Health, State},
    time::Timestamp,
};

use crate::fleet::{Fleet, quick, until};

pub(crate) fn agent(instance: &str, state: State) -> AgentEntry {
    AgentEntry {
        instance: InstanceId::parse(instance).unwrap(),
        kind: Kind::parse("echoer").unwrap(),
        version: "1.0.0".to_owned(),
        host: "here".to_owned(),
        pid: 1,
        state,
        health: Health::Healthy,
        health_reason: None,
        capabilities: vec![CapabilityEntry {
            name: Capability::parse("echo").unwrap(),
            description: None,
            input_schema: None,
            output_schema: None,
            slots: None,
        }],
        slots: 1,
        slots_busy: 0,
        counts: Counts::default(),
        started_at: Timestamp::default(),
        seen_at: Timestamp::default(),
        tags: Default::default(),
    }
}

impl Fleet {
    /// Writes an agent's entry, which runs out after this long.
    pub(crate) async fn register(&self, entry: &AgentEntry, ttl: Duration) {
        let bucket = Bucket::new(&self.connection, &Publisher::new(&self.connection), self.names.agents.clone());
        bucket.put(&entry.key(), serde_json::to_vec(entry).unwrap(), Some(ttl)).await.unwrap();
    }
}

#[tokio::test]
async fn unserved_is_told_once_when_it_begins_and_once_when_it_ends() {
    let fleet = Fleet::start().await;
    fleet.publish("fleet.request.echo", &[], "{}").await;
    fleet.publish("fleet.bulk.echo", &[], "{}").await;
    let two = [fleet.coordinate(quick()).await, fleet.coordinate(quick()).await];
    let topic = "sys.capability.unserved.echo";
    let (told, _) = until("it is told", || fleet.event(topic)).await;
    assert_eq!((told["unserved"].as_bool(), told["messages"].as_u64()), (Some(true), Some(2)));
    let holder =
        until("somebody holds it", || async { two.iter().find(|one| one.metric("lease_held", "deadlines") > 0.0) })
            .await;
    assert_eq!(holder.metric("capabilities_unserved", ""), 1.0);
    holder.looks("deadlines", 3.0).await;
    assert_eq!(fleet.event(topic).await.unwrap().1, 1, "told once");

    fleet.register(&agent("a1", State::Ready), Duration::from_secs(60)).await;
    let told = until("its end is told", || async { fleet.event(topic).await.filter(|(_, count)| *count == 2) }).await;
    assert_eq!(told.0["unserved"].as_bool(), Some(false));
    holder.looks("deadlines", 3.0).await;
    assert_eq!(fleet.event(topic).await.unwrap().1, 2);
    assert_eq!(holder.metric("capabilities_unserved", ""), 0.0);
}

#[tokio::test]
async fn another_coordinator_does_not_tell_again_what_was_told() {
    let fleet = Fleet::start().await;
    fleet.publish("fleet.request.echo", &[], "{}").await;
    let topic = "sys.capability.unserved.echo";
    let first = fleet.coordinate(quick()).await;
    until("it is told", || fleet.event(topic)).await;
    drop(first);
    let second = fleet.coordinate(quick()).await;
    second.looks("deadlines", 3.0).await;
    assert_eq!(fleet.event(topic).await.unwrap().1, 1);
}
