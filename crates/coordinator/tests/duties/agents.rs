use std::time::Duration;

use protocol::registry::State;

use crate::{
    fleet::{Fleet, quick, until},
    unserved::agent,
};

async fn join(fleet: &Fleet, instance: &str, ttl: Duration) {
    let entry = agent(instance, State::Ready);
    fleet.register(&entry, ttl).await;
    let subject = format!("fleet.event.sys.agent.joined.{instance}");
    fleet.publish(&subject, &[], &serde_json::to_string(&entry).unwrap()).await;
}

#[tokio::test]
async fn an_agent_that_is_there_no_more_is_told_gone_once() {
    let fleet = Fleet::start().await;
    // Before any coordinator is there, and after.
    join(&fleet, "early", Duration::from_secs(1)).await;
    join(&fleet, "lives", Duration::from_secs(60)).await;
    let two = [fleet.coordinate(quick()).await, fleet.coordinate(quick()).await];
    join(&fleet, "late", Duration::from_secs(1)).await;
    join(&fleet, "stops", Duration::from_secs(60)).await;
    fleet.register(&agent("stops", State::Stopped), Duration::from_secs(60)).await;
    for (instance, reason) in [("early", "lost"), ("late", "lost"), ("stops", "stopped")] {
        let topic = format!("sys.agent.gone.{instance}");
        let (told, count) = until("it is told gone", || fleet.event(&topic)).await;
        assert_eq!((told["reason"].as_str(), told["kind"].as_str(), count), (Some(reason), Some("echoer"), 1));
        assert_eq!(told["last"]["pid"].as_u64(), Some(1));
    }
    assert_eq!(fleet.event("sys.agent.gone.lives").await, None);
    assert_eq!(two.iter().map(|one| one.metric("agents_gone_total", "")).sum::<f64>(), 3.0);

    // Another coordinator finds nothing new.
    drop(two);
    let third = fleet.coordinate(quick()).await;
    third.looks("agents", 3.0).await;
    assert_eq!(fleet.count(&fleet.names.events, "fleet.event.sys.agent.gone.*").await, 3);
    assert_eq!(third.metric("agents_gone_total", ""), 0.0);
}
