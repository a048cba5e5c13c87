//! The consumers that coordinators share: made again by whoever follows them, when somebody deletes one.

use std::time::Duration;

use broker::topology::consumer_state;
use protocol::topology::{Consumer, advisories_consumer, fires_consumer, run_consumer, starts_consumer};

use crate::fleet::{Fleet, quick, until};

impl Fleet {
    async fn has(&self, consumer: &Consumer) -> bool {
        consumer_state(&self.connection, &consumer.stream, &consumer.name).await.is_ok()
    }
}

#[tokio::test]
async fn one_that_is_deleted_is_made_again_and_delivers() {
    let fleet = Fleet::start().await;
    let _coordinator = fleet.coordinate(quick()).await;
    let shared = [
        fires_consumer(&fleet.namespace),
        advisories_consumer(&fleet.namespace),
        starts_consumer(&fleet.namespace),
        run_consumer(&fleet.namespace, 0),
    ];
    for consumer in &shared {
        until("it is made", || async { fleet.has(consumer).await.then_some(()) }).await;
        let delete = format!("$JS.API.CONSUMER.DELETE.{}.{}", consumer.stream, consumer.name);
        // Twice: the second loss is no slower to heal.
        for _ in 0..2 {
            let deleted = fleet.connection.request(delete.clone(), None, Default::default(), Duration::from_secs(5));
            let answer = String::from_utf8(deleted.await.unwrap().body.to_vec()).unwrap();
            assert!(answer.contains("\"success\":true"), "{answer}");
            until("it is made again", || async { fleet.has(consumer).await.then_some(()) }).await;
        }
    }
    fleet.publish("fleet.fire.nobody", &[], "").await;
    until("a firing is handled", || async {
        (fleet.count(&fleet.names.requests, "fleet.fire.*").await == 0).then_some(())
    })
    .await;
}
