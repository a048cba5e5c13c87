//! Messages whose headers break the client library, planted wherever coordinators pull: they stop nobody's runs.

use anyhow::{Context, Result};
use broker::{Bucket, topology};
use coordinator::{Config, Coordinator};
use futures_util::future::join_all;
use prometheus::Registry;
use protocol::{
    DeadLetter, RunId, Status, codes, cron,
    topology::{advisories_consumer, fires_consumer, starts_consumer, triggers_consumer},
    trigger,
};
use serde_json::{Value, json};
use sortie_tests::{binaries, raw, until};
use tokio::process::Command;

use crate::site::{BOUND, Site, run, three_steps};

/// The client library drops the connection over the first ones, and ends over the last.
const UNREADABLE: [&[u8]; 3] =
    [b"NATS/1.0\r\nX: \xff\r\n\r\n", b"NATS/1.0\r\nnonsense\r\n\r\n", b"NATS/1.0\r\nX: a\rb\r\n\r\n"];

/// Runs beside the poisoned ones: enough for every partition.
const OTHERS: usize = 40;

/// Waits to be told, and then asks.
fn gate() -> Value {
    json!({
        "workflow": "gate", "version": "1.0.0",
        "steps": {
            "go": { "signal": "go" },
            "last": { "needs": ["go"], "call": "work", "with": { "give": "${ steps.go.output }" } },
        },
        "output": "${ steps.last.output }",
    })
}

impl Site {
    /// A coordinator, and the connection that it was given.
    async fn coordinate_over(&self) -> Result<(Coordinator, broker::Connection)> {
        let connection = broker::Connection::open(self.fleet.worker_config().broker).await?;
        Ok((Coordinator::start(&connection, Config::default(), &Registry::new()).await?, connection))
    }

    async fn plant(&self, subject: &str, block: &[u8], body: &str) -> Result<()> {
        raw::publish_bytes(&self.fleet, subject, block, body.as_bytes()).await
    }

    /// Runs of three steps from start to end.
    async fn others_end(&self, batch: &str) -> Result<()> {
        let three = self.apply(&three_steps()).await?;
        let ends = (0..OTHERS).map(|number| {
            let (id, three) = (run(&format!("other-{batch}-{number}")), three.clone());
            async move {
                let started =
                    self.fleet.client.start(&three, &json!({ "n": number, "ms": 0 })).id(&id).submit().await?;
                let outcome = started.outcome(BOUND).await?;
                anyhow::ensure!(outcome.status == Status::Completed, "{outcome:?}");
                anyhow::Ok(())
            }
        });
        for end in join_all(ends).await {
            end?;
        }
        Ok(())
    }

    async fn waiting(&self, ids: &[RunId]) -> Result<()> {
        let gate = self.apply(&gate()).await?;
        for id in ids {
            self.fleet.client.start(&gate, &json!({})).id(id).submit().await?;
        }
        for id in ids {
            self.has_fact(id, "started").await;
        }
        Ok(())
    }

    /// Waits until everything that these consumers delivered is acknowledged.
    async fn is_done(&self) {
        let namespace = &self.fleet.namespace;
        let all = [starts_consumer, triggers_consumer, fires_consumer, advisories_consumer].map(|of| of(namespace));
        until("everything is acknowledged", BOUND, || async {
            for consumer in &all {
                let state = topology::consumer_state(&self.fleet.connection, &consumer.stream, &consumer.name).await;
                if state.is_ok_and(|state| state.ack_pending + state.pending > 0) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    async fn sortie(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let mut command = Command::new(binaries::path("sortie"));
        command.args(["--server", &self.fleet.url()]).args(arguments).env("SORTIE_OPERATOR", "tester");
        let output = tokio::time::timeout(BOUND, command.kill_on_drop(true).output()).await.context("it hangs")??;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code().context("a code")?, String::from_utf8_lossy(&text).into_owned()))
    }
}

fn poisoned() -> Vec<RunId> {
    (0..UNREADABLE.len()).map(|number| run(&format!("poisoned-{number}"))).collect()
}

#[tokio::test]
async fn a_fact_that_cannot_be_read_stops_neither_its_run_nor_another() -> Result<()> {
    let site = Site::start().await?;
    let (_coordinator, connection) = site.coordinate_over().await?;
    site.waiting(&poisoned()).await?;
    for (id, block) in poisoned().iter().zip(UNREADABLE) {
        for fact in ["signal.go", "cancel", "whatever"] {
            site.plant(&format!("fleet.run.{id}.{fact}"), block, "0").await?;
        }
    }
    site.others_end("a").await?;
    for id in &poisoned() {
        site.fleet.client.signal(id, &"go".parse()?, &7, None).await?;
    }
    for id in &poisoned() {
        assert_eq!(site.outcome(id).await?.result::<i64>().unwrap(), 7, "only what can be read counts");
    }
    site.is_empty().await;
    for id in &poisoned() {
        let record = site.fleet.client.run_record(id).await?.context("a record")?;
        let count = |name: &str| record.facts().iter().filter(|fact| fact.name == name).count();
        assert_eq!(
            (count("signal.go"), count("cancel"), count("whatever")),
            (2, 1, 1),
            "all is kept of it: {record:?}"
        );
    }
    let link = *connection.link().borrow();
    assert_eq!((link.is_up, link.generation), (true, 1), "what a coordinator publishes over does not break");
    Ok(())
}

#[tokio::test]
async fn an_outcome_that_cannot_be_read_fails_its_step() -> Result<()> {
    let site = Site::start().await?;
    let (coordinator, _connection) = site.coordinate_over().await?;
    let one = json!({
        "workflow": "one", "version": "1.0.0",
        "steps": { "a": { "call": "nobody-serves-it" } },
    });
    let one = site.apply(&one).await?;
    let late: Vec<RunId> = poisoned().iter().map(|id| run(&format!("late-{id}"))).collect();
    let all = [poisoned(), late.clone()].concat();
    for id in &all {
        site.fleet.client.start(&one, &json!({})).id(id).submit().await?;
    }
    until("all are asked for", BOUND, || async {
        let counts = topology::subject_counts(&site.fleet.connection, &site.names.requests, "fleet.request.*").await;
        (counts.ok()?.into_values().sum::<u64>() == all.len() as u64).then_some(())
    })
    .await;
    // The place of the outcome is taken with it: no other one can be stored there.
    let plant = async |ids: &[RunId]| -> Result<()> {
        for (id, block) in ids.iter().zip(UNREADABLE) {
            site.plant(&format!("fleet.run.{id}.step.a.0.outcome"), block, r#"{"n":1}"#).await?;
        }
        Ok(())
    };
    let fail = async |ids: &[RunId]| -> Result<()> {
        for id in ids {
            let outcome = site.outcome(id).await?;
            let failure = outcome.failure().context("a failure")?;
            assert_eq!(outcome.status, Status::Failed);
            assert!(failure.to_string().contains("headers cannot be read"), "{failure:?}");
        }
        Ok(())
    };
    plant(&poisoned()).await?;
    fail(&poisoned()).await?;
    coordinator.handle().stop();
    assert!(coordinator.stopped().await);
    plant(&late).await?;
    let _next = site.coordinate().await?;
    fail(&late).await?;
    site.others_end("a").await
}

#[tokio::test]
async fn whoever_takes_a_partition_takes_what_cannot_be_read_with_it() -> Result<()> {
    let site = Site::start().await?;
    let (coordinator, _connection) = site.coordinate_over().await?;
    site.waiting(&poisoned()).await?;
    coordinator.handle().stop();
    assert!(coordinator.stopped().await);
    for (id, block) in poisoned().iter().zip(UNREADABLE) {
        site.plant(&format!("fleet.run.{id}.signal.go"), block, "0").await?;
    }
    // It is the first thing that they are given, and nothing follows it.
    let first = site.coordinate().await?;
    let _second = site.coordinate().await?;
    site.others_end("a").await?;
    for id in &poisoned() {
        site.fleet.client.signal(id, &"go".parse()?, &7, None).await?;
    }
    drop(first);
    for id in &poisoned() {
        assert_eq!(site.outcome(id).await?.result::<i64>().unwrap(), 7);
    }
    site.others_end("b").await?;
    site.is_empty().await;
    Ok(())
}

#[tokio::test]
async fn a_start_that_cannot_be_read_becomes_a_dead_letter() -> Result<()> {
    let site = Site::start().await?;
    let (_coordinator, connection) = site.coordinate_over().await?;
    site.apply(&three_steps()).await?;
    for block in UNREADABLE {
        site.plant("fleet.start.three", block, r#"{"n":1,"ms":0}"#).await?;
    }
    site.others_end("a").await?;
    for sequence in 1..=UNREADABLE.len() {
        let id = format!("seq-{sequence}");
        let outcome = site.outcome(&run(&id)).await?;
        assert_eq!(outcome.failure().context("a failure")?.code, codes::INVALID_HEADER);
        let letter = raw::last(&site.fleet, &site.names.dead, &format!("fleet.dead.three.{id}")).await?;
        let letter = DeadLetter::read(&letter.context("a letter")?.headers).context("a story")?;
        assert_eq!(letter.failure.code, codes::INVALID_HEADER);
    }
    site.is_empty().await;
    site.is_done().await;
    let link = *connection.link().borrow();
    assert_eq!((link.is_up, link.generation), (true, 1));
    Ok(())
}

#[tokio::test]
async fn events_and_firings_that_cannot_be_read_start_nothing_and_keep_no_other_back() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let three = site.apply(&three_steps()).await?;
    let bucket = Bucket::new(&site.fleet.connection, &site.publisher, site.names.config.as_str());
    let spec = json!({ "on": "order.*", "then": { "start": three }, "after": 0 });
    bucket.put(&trigger::key(&"paid".parse()?), spec.to_string(), None).await?;
    let solo = json!({ "schedule": "@yearly", "capability": "work", "overlap": "skip", "body": { "give": 1 } });
    bucket.put(&cron::key(&"solo".parse()?), solo.to_string(), None).await?;
    for block in UNREADABLE {
        site.plant("fleet.event.order.paid", block, r#"{"n":1,"ms":0}"#).await?;
        site.plant("fleet.fire.solo", block, "").await?;
    }
    raw::publish(&site.fleet, "fleet.event.order.paid", &[("ce-id", "good")], r#"{"n":5,"ms":0}"#).await?;
    until("one run is told of", BOUND, || async { (site.events("sys.run.three").await == 1).then_some(()) }).await;
    raw::publish(&site.fleet, "fleet.fire.solo", &[], "").await?;
    until("the good one is let through", BOUND, || async {
        site.begun.all().keys().any(|id| id.starts_with("useq-")).then_some(())
    })
    .await;
    site.is_done().await;
    assert_eq!(site.events("sys.run.three").await, 1);
    assert_eq!(site.begun.all().keys().filter(|id| id.starts_with("useq-")).count(), 1);
    Ok(())
}

#[tokio::test]
async fn the_command_line_shows_a_run_with_such_a_fact() -> Result<()> {
    let site = Site::start().await?;
    let (coordinator, _connection) = site.coordinate_over().await?;
    site.waiting(&poisoned()).await?;
    coordinator.handle().stop();
    assert!(coordinator.stopped().await);
    for (id, block) in poisoned().iter().zip(UNREADABLE) {
        site.plant(&format!("fleet.run.{id}.signal.go"), block, "0").await?;
        let (code, text) = site.sortie(&["run", "show", id.as_str()]).await?;
        assert!(code == 0 && text.contains("signal go"), "{text}");
        let (code, text) = site.sortie(&["run", "replay", id.as_str()]).await?;
        assert!(code == 0 && text.contains("headers cannot be read"), "{text}");
    }
    // The first fact, which a list reads.
    for (number, block) in UNREADABLE.iter().enumerate() {
        site.plant(&format!("fleet.run.never-{number}.started"), block, "0").await?;
    }
    let (code, text) = site.sortie(&["run", "list"]).await?;
    assert!(code == 0 && poisoned().iter().all(|id| text.contains(id.as_str())), "{text}");
    Ok(())
}
