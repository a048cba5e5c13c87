//! Being seen: the registry, the micro service, and the consumers that a worker keeps.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{path::Path, time::Duration};

use anyhow::Result;
use broker::{Reader, topology};
use nix::sys::signal::Signal;
use protocol::{
    Lane, Status,
    control::Inspection,
    registry::{AgentEntry, Health, State},
    topology::{Source, worker_consumer},
};
use serde_json::{Value, json};
use sortie_tests::{Fleet, Latch, PATIENCE, fleet::capability, process::Start, raw, until};
use tokio::process::Command;
use worker::{CapabilityConfig, Config, Context, Failure, Kind};

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

async fn only(fleet: &Fleet) -> Option<AgentEntry> {
    let mut agents = fleet.client.agents().await.ok()?;
    (agents.len() == 1).then(|| agents.remove(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_says_what_it_is_and_does() -> Result<()> {
    let fleet = Fleet::start().await?;
    let latch = Latch::new();
    let passes = latch.clone();
    let wait = move |_: Context, text: String| {
        let latch = passes.clone();
        async move {
            latch.passed().await;
            Ok::<_, Failure>(text.len())
        }
    };
    let config = Config {
        registry_interval: Duration::from_millis(200),
        tags: [("zone".to_owned(), "blue".to_owned())].into(),
        ..fleet.worker_config()
    };
    let builder = fleet.worker("tea").config(config).version("1.2.3").slots(7).capability("echo", echo);
    let described = CapabilityConfig::default().description("waits").slots(2);
    let worker = fleet.run(builder.capability_with("wait", described, wait), "wait").await?;
    let first = only(&fleet).await.expect("one agent");
    assert_eq!((first.kind.as_str(), first.version.as_str(), first.slots, first.slots_busy), ("tea", "1.2.3", 7, 0));
    assert_eq!((first.state, first.health, first.pid), (State::Ready, Health::Healthy, std::process::id()));
    assert_eq!((first.tags["zone"].as_str(), first.host.is_empty()), ("blue", false));
    let served = first.capabilities.iter().find(|served| served.name.as_str() == "wait").unwrap();
    assert_eq!((served.slots, served.description.as_deref()), (Some(2), Some("waits")));
    let digest = served.input_schema.as_deref().unwrap();
    let schema = raw::last(&fleet, "KV_fleet-state", &format!("$KV.fleet-state.schema.{digest}")).await?.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&schema.body)?["type"], "string");

    fleet.client.request(&capability("echo"), &1).call(PATIENCE).await?;
    let running = fleet.client.request(&capability("wait"), "x").submit().await?;
    let renewed = until("it is renewed with what it does", PATIENCE, || async {
        only(&fleet).await.filter(|entry| entry.slots_busy == 1 && entry.counts.completed == 1)
    });
    assert!(renewed.await.seen_at > first.seen_at);
    let inspection = fleet.client.inspect(&first.instance, PATIENCE).await?;
    let [in_hand] = inspection.in_hand.as_slice() else { panic!("{inspection:?}") };
    assert_eq!((&in_hand.id, in_hand.capability.as_str(), in_hand.attempt), (running.id(), "wait", 1));
    assert_eq!(inspection.entry.slots_busy, 1);
    let subject = format!("fleet.event.sys.agent.joined.{}", first.instance);
    assert_eq!(Reader::new(&fleet.connection).page("FLEET_EVENTS", &subject, 1, 10).await?.messages.len(), 1);
    worker.drain();
    until("it drains", PATIENCE, || async { (only(&fleet).await?.state == State::Draining).then_some(()) }).await;
    latch.open();
    worker.stop().await?;
    let silence = fleet.client.inspect(&first.instance, PATIENCE).await.unwrap_err();
    assert_eq!(silence.kind(), &client::ErrorKind::NotFound);
    assert_eq!(running.outcome(PATIENCE).await?.status, Status::Completed);
    assert_eq!(only(&fleet).await.map(|entry| entry.state), Some(State::Stopped));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_is_gone_by_itself() -> Result<()> {
    let fleet = Fleet::start().await?;
    let start = Start { registry_ttl: Duration::from_secs(3), ..Start::new(env!("CARGO_BIN_EXE_test-worker")) };
    let process = start.ready(&fleet).await?;
    let first = only(&fleet).await.expect("one agent");
    until("it is renewed beyond its time", PATIENCE, || async {
        let age = only(&fleet).await?.seen_at - first.seen_at;
        (age > chrono::TimeDelta::seconds(4)).then_some(())
    })
    .await;
    process.signal(Signal::SIGKILL)?;
    until("its entry is gone", Duration::from_secs(8), || async {
        fleet.client.agents().await.ok()?.is_empty().then_some(())
    })
    .await;
    Ok(())
}

async fn nats(fleet: &Fleet, arguments: &[&str]) -> Result<String> {
    let output = Command::new("nats").args(["--server", &fleet.url()]).args(arguments).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "nats {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_agent_is_a_micro_service() -> Result<()> {
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("tea").version("1.2.3").capability("echo", echo), "echo").await?;
    let instance = only(&fleet).await.expect("one agent").instance;
    let ask = |subject: String| async {
        let answer = fleet.connection.request(subject, None, bytes::Bytes::new(), Duration::from_secs(5)).await?;
        anyhow::Ok(serde_json::from_slice::<Value>(&answer.body)?)
    };
    let ping = ask("$SRV.PING".to_owned()).await?;
    assert_eq!((&ping["name"], &ping["version"]), (&json!("tea"), &json!("1.2.3")));
    let info = ask("$SRV.INFO.tea".to_owned()).await?;
    assert_eq!((&info["metadata"]["capabilities"], &info["metadata"]["instance"]), (&json!("echo"), &json!(instance)));
    let inspect = format!("fleet.control.{instance}.inspect");
    let endpoints = info["endpoints"].as_array().expect("endpoints");
    assert_eq!((endpoints.len(), &endpoints[0]["subject"]), (1, &json!(inspect)), "no copy of any request");
    let inspection: Inspection = serde_json::from_value(ask(inspect).await?)?;
    assert_eq!((inspection.entry.state, inspection.in_hand), (State::Ready, Vec::new()));
    if Path::new("/usr/local/bin/nats").exists() {
        assert!(nats(&fleet, &["micro", "list"]).await?.contains("tea"));
        assert!(nats(&fleet, &["micro", "info", "tea"]).await?.contains(instance.as_str()));
        assert!(nats(&fleet, &["micro", "stats", "tea"]).await?.contains("inspect"));
    } else {
        eprintln!("SKIPPED: there is no /usr/local/bin/nats, so `nats micro list|info|stats` were not tried");
    }
    worker.stop().await?;
    assert!(ask("$SRV.PING.tea".to_owned()).await.is_err(), "a worker that left is no service");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_deleted_is_made_again() -> Result<()> {
    let fleet = Fleet::start().await?;
    let latch = Latch::new();
    let passes = latch.clone();
    let handler = move |_: Context, waits: bool| {
        let latch = passes.clone();
        async move {
            if waits {
                latch.passed().await;
            }
            Ok::<_, Failure>(())
        }
    };
    // What runs is delivered once more by the consumer that is made anew, and takes a second slot.
    let worker = fleet.run(fleet.worker("tea").slots(3).capability("tea", handler), "tea").await?;
    let running = fleet.client.request(&capability("tea"), &true).submit().await?;
    fleet.client.request(&capability("tea"), &false).call(PATIENCE).await?;
    for name in ["tea", "tea_urgent", "tea_bulk"] {
        raw::api(&fleet, &format!("CONSUMER.DELETE.FLEET_REQUESTS.{name}"), &Value::Null).await?;
    }
    raw::api(&fleet, "CONSUMER.DELETE.FLEET_UNIQUE.tea_unique", &Value::Null).await?;
    for lane in Lane::ALL {
        let outcome = fleet.client.request(&capability("tea"), &false).lane(lane).call(PATIENCE).await?;
        assert_eq!(outcome.status, Status::Completed, "{lane:?}");
    }
    latch.open();
    assert_eq!(running.outcome(PATIENCE).await?.status, Status::Completed);
    until("all four are there", PATIENCE, || async {
        let mut names = topology::consumer_names(&fleet.connection, "FLEET_REQUESTS").await.ok()?;
        names.extend(topology::consumer_names(&fleet.connection, "FLEET_UNIQUE").await.ok()?);
        (names.len() == 4).then_some(())
    })
    .await;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_refuses_a_consumer_that_is_different() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut consumer = worker_consumer(&fleet.namespace, &capability("tea"), Source::Lane(Lane::Normal), 1);
    consumer.ack_wait = Duration::from_secs(77);
    topology::ensure_consumer(&fleet.connection, &consumer).await?;
    let error = fleet.worker("tea").capability("tea", echo).run().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Drift);
    for part in ["tea", "FLEET_REQUESTS", "ack_wait", "`sortie topology apply`"] {
        assert!(error.to_string().contains(part), "{part} is missing: {error}");
    }
    assert!(fleet.client.agents().await?.is_empty(), "nobody announced itself");
    // What belongs to operators is no drift.
    raw::api(&fleet, "CONSUMER.DELETE.FLEET_REQUESTS.tea", &Value::Null).await?;
    let mut consumer = worker_consumer(&fleet.namespace, &capability("tea"), Source::Lane(Lane::Normal), 1);
    consumer.max_ack_pending = 17;
    topology::ensure_consumer(&fleet.connection, &consumer).await?;
    fleet.run(fleet.worker("tea").capability("tea", echo), "tea").await?.stop().await
}
