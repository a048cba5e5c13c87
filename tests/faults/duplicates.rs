//! The broker gives work out again before anybody could have done it: the ack deadlines of the queues, and those of the runs,
//! are far too short for a while, so that several agents do the same at the same time.

use std::time::Duration;

use anyhow::{Context, Result};
use protocol::topology::{Consumer, RUN_PARTITIONS, Source, run_consumer, worker_consumer};
use rand::RngExt;
use serde_json::{Value, json};
use sortie_tests::{Fleet, fleet::capability, raw};

use crate::{crew, report::Row, trial::Trial};

pub(crate) async fn run(trial: Trial) -> Result<Row> {
    let fleet = Fleet::start().await?;
    let posts = crew::usual(&fleet.url());
    let mut fire = trial.light(fleet, posts).await?;
    let queues = Source::ALL.map(|source| worker_consumer(&fire.fleet.namespace, &capability("work"), source, 1));
    let runs = (0..RUN_PARTITIONS).map(|partition| run_consumer(&fire.fleet.namespace, partition)).collect::<Vec<_>>();
    while fire.burns() {
        let (what, consumers) = match fire.dice.random_range(0..4) {
            0 => ("deadlines of runs too short", &runs[..]),
            _ => ("deadlines of queues too short", &queues[..]),
        };
        // An attempt takes up to 60 ms: it is given out once or twice while it is worked on, seldom more. A third time would
        // be taken for a message that kills.
        let short = Duration::from_millis(fire.dice.random_range(30..60));
        fire.strike(what);
        for consumer in consumers {
            set_deadline(&fire.fleet, consumer, short).await?;
        }
        fire.pause(Duration::from_millis(500)..Duration::from_millis(2_500)).await;
        for consumer in consumers {
            set_deadline(&fire.fleet, consumer, consumer.ack_wait).await?;
        }
        fire.recovered(what).await?;
        fire.pause(Duration::from_millis(100)..Duration::from_millis(500)).await;
    }
    let row = fire.prove().await?;
    anyhow::ensure!(row.begun_again > 0, "nothing was delivered twice: {row}");
    Ok(row)
}

/// Sets the ack deadline of a consumer that is there, as nobody should.
async fn set_deadline(fleet: &Fleet, consumer: &Consumer, ack_wait: Duration) -> Result<()> {
    let name = format!("{}.{}", consumer.stream, consumer.name);
    let mut config =
        raw::api(fleet, &format!("CONSUMER.INFO.{name}"), &Value::Null).await.context(name.clone())?["config"].take();
    config["ack_wait"] = u64::try_from(ack_wait.as_nanos())?.into();
    let question = json!({ "stream_name": consumer.stream, "config": config, "action": "update" });
    raw::api(fleet, &format!("CONSUMER.DURABLE.CREATE.{name}"), &question).await.context(name)?;
    Ok(())
}
