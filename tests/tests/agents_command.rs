//! `sortie agents` on a real fleet: who is meant, what each answers, and a thousand of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use broker::{Bucket, Publisher, Reader};
use futures_util::{StreamExt, stream};
use protocol::{
    InstanceId, Kind,
    audit::AuditRecord,
    registry::{AgentEntry, CapabilityEntry, Counts, Health, State},
    time,
};
use serde_json::{Value, json};
use sortie_tests::{Fleet, PATIENCE, binaries, fleet::capability, raw, until};
use tokio::process::Command;
use worker::{CapabilityConfig, Config, Context, Failure};

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{} {}", self.out, self.err))
    }
}

async fn sortie(fleet: &Fleet, arguments: &[&str]) -> Ended {
    let mut command = Command::new(binaries::path("sortie"));
    command.args(["--server", &fleet.url()]).args(arguments).env("SORTIE_OPERATOR", "tester").kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn entry(instance: &str, kind: &str, health: Health, slots_busy: usize) -> AgentEntry {
    AgentEntry {
        instance: InstanceId::parse(instance).unwrap(),
        kind: Kind::parse(kind).unwrap(),
        version: "1.2.0".into(),
        host: "box".into(),
        pid: 7,
        state: State::Ready,
        health,
        health_reason: None,
        capabilities: vec![CapabilityEntry {
            name: capability("echo"),
            description: None,
            input_schema: None,
            output_schema: None,
            slots: None,
        }],
        slots: 4,
        slots_busy,
        counts: Counts::default(),
        started_at: time::now(),
        seen_at: time::now(),
        tags: BTreeMap::from([("zone".to_owned(), "blue".to_owned())]),
    }
}

async fn register(fleet: &Fleet, entry: &AgentEntry) -> Result<()> {
    let bucket = Bucket::new(&fleet.connection, &Publisher::new(&fleet.connection), "fleet-agents");
    bucket.put(&entry.key(), serde_json::to_vec(entry)?, Some(Duration::from_secs(1_200))).await?;
    Ok(())
}

async fn echo(_: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_find_the_healthy_and_idle_first() -> Result<()> {
    let fleet = Fleet::start().await?;
    for one in [
        entry("ins_busy", "words", Health::Healthy, 3),
        entry("ins_ill", "words", Health::Degraded, 0),
        entry("ins_idle", "words", Health::Healthy, 0),
        AgentEntry { version: "2.0.0".into(), ..entry("ins_other", "files", Health::Healthy, 0) },
        AgentEntry { state: State::Stopped, ..entry("ins_gone", "words", Health::Healthy, 0) },
    ] {
        register(&fleet, &one).await?;
    }
    let find = |filter: &'static [&'static str]| {
        let fleet = &fleet;
        async move { sortie(fleet, &[&["agents", "find"], filter].concat()).await }
    };
    for (filter, expected) in [
        (&["--kind", "words"][..], "ins_idle ins_busy ins_ill"),
        (&["--kind", "words", "--load-max", "50%"], "ins_idle ins_ill"),
        (&["--kind", "words", "--health", "healthy", "--load-max", "0.9"], "ins_idle ins_busy"),
        (&["--capability", "echo", "--version", "2.0.0"], "ins_other"),
        (&["--tag", "zone=blue", "--state", "ready", "--limit", "1"], "ins_other"),
    ] {
        let found = find(filter).await;
        assert_eq!((found.code, found.out.split_whitespace().collect::<Vec<_>>().join(" ").as_str()), (0, expected));
    }
    for nobody in [&["--tag", "zone=red"][..], &["--capability", "sing"], &["--state", "paused"]] {
        let found = find(nobody).await;
        assert_eq!((found.code, found.out.as_str()), (1, ""), "{nobody:?}");
    }
    let listed = sortie(&fleet, &["agents", "list"]).await;
    let order: Vec<_> = listed.out.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(order, ["ins_other", "ins_idle", "ins_busy", "ins_ill", "ins_gone"]);
    assert_eq!(sortie(&fleet, &["agents", "find", "--health", "well"]).await.code, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn steering_tells_who_is_meant_and_nobody_else() -> Result<()> {
    let fleet = Fleet::start().await?;
    let words = fleet.run(fleet.worker("words").capability("echo", echo), "echo").await?;
    let files = fleet.run(fleet.worker("files").capability("list", echo), "list").await?;
    let state = async |kind: &str| {
        let agents = fleet.client.agents().await.unwrap();
        agents.into_iter().find(|agent| agent.kind.as_str() == kind).map(|agent| agent.state)
    };
    for (arguments, part) in [
        (&["agents", "pause"][..], "--all"),
        (&["agents", "pause", "--all", "--kind", "words"], "exclude each other"),
        (&["agents", "pause", "x", "--kind", "words"], "exclude each other"),
        (&["agents", "set-slots", "0", "--all"], "1..=1000"),
        (&["agents", "pause", "--tag", "zone", "--all"], "zone=blue"),
    ] {
        let refused = sortie(&fleet, arguments).await;
        assert!(refused.code == 2 && refused.err.contains(part), "{arguments:?}: {}", refused.err);
    }
    let nobody = sortie(&fleet, &["agents", "pause", "--kind", "sleepers"]).await;
    assert!(nobody.code == 1 && nobody.err.contains("sleepers") && nobody.err.contains("sortie agents list"));
    let dry = sortie(&fleet, &["agents", "drain", "--all", "--dry-run"]).await;
    assert!(dry.code == 0 && dry.out.contains("2 would be told to drain"), "{}", dry.out);
    assert_eq!(records(&fleet).await?, [], "nothing was done");

    let paused = sortie(&fleet, &["agents", "pause", "--kind", "words", "--json"]).await;
    assert_eq!((paused.code, &paused.json()[0]["effect"]), (0, &json!({"did": "paused", "in_hand": 0})));
    assert_eq!((state("words").await, state("files").await), (Some(State::Paused), Some(State::Ready)));
    let agent = fleet.client.serving(&capability("list")).await?.remove(0);
    let id = agent.instance.as_str();
    let resized = sortie(&fleet, &["agents", "set-slots", "3", &id[id.len() - 8..]]).await;
    assert!(resized.code == 0 && resized.out.contains("3 slots, before 10"), "{}{}", resized.out, resized.err);
    let refused = sortie(&fleet, &["agents", "set-log", "debug", id]).await;
    assert!(refused.code == 1 && refused.out.contains("refused: "), "{}", refused.out);
    let resumed = sortie(&fleet, &["agents", "resume", "--state", "paused"]).await;
    assert!(resumed.code == 0 && resumed.out.contains("pulls again"), "{}", resumed.out);
    assert_eq!(state("words").await, Some(State::Ready));
    let drained = sortie(&fleet, &["agents", "drain", "--all"]).await;
    assert!(drained.code == 0 && drained.out.matches("drains, 0 in hand").count() == 2, "{}", drained.out);
    words.ended().await?;
    files.ended().await?;

    let records = records(&fleet).await?;
    let told: Vec<_> = records.iter().map(|record| (record.verb.as_str(), record.target.as_str())).collect();
    let expected = [
        ("agent-pause", "agents of kind words"),
        ("agent-set-slots", id),
        ("agent-set-log", id),
        ("agent-resume", "agents paused"),
        ("agent-drain", "all agents"),
    ];
    // One agent alone is named by its id, however it was found.
    for (told, expected) in told.iter().zip(expected) {
        assert_eq!(told.0, expected.0);
        assert!(told.1 == expected.1 || told.1.starts_with("ins_"), "{told:?}");
    }
    assert_eq!(told.len(), expected.len());
    assert!(records.iter().all(|record| record.who.as_str() == "tester"));
    assert_eq!(records[1].detail["to"], json!({"slots": 3}));
    assert_eq!(records[4].detail["instances"].as_array().map(Vec::len), Some(2));
    Ok(())
}

async fn records(fleet: &Fleet) -> Result<Vec<AuditRecord>> {
    let page = Reader::new(&fleet.connection).page("FLEET_AUDIT", "fleet.audit.*.*", 1, 100).await?;
    Ok(page.messages.iter().map(|message| serde_json::from_slice(&message.body)).collect::<Result<_, _>>()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_answer_is_told_as_such() -> Result<()> {
    let fleet = Fleet::start().await?;
    register(&fleet, &entry("ins_dead", "words", Health::Healthy, 0)).await?;
    register(&fleet, &entry("ins_hung", "words", Health::Healthy, 0)).await?;
    let hung = fleet.connection.subscribe("fleet.control.ins_hung.*").await?;
    let worker = fleet.run(fleet.worker("words").capability("echo", echo), "echo").await?;
    let told = sortie(&fleet, &["agents", "pause", "--all", "--within", "5s", "--json"]).await;
    let rows = told.json();
    let row = |instance: &str| rows.as_array().unwrap().iter().find(|row| row["instance"] == instance).cloned();
    assert_eq!((told.code, rows.as_array().map(Vec::len)), (1, Some(3)));
    assert_eq!(row("ins_dead").unwrap()["silence"], "no answer: it is not connected");
    assert_eq!(row("ins_hung").unwrap()["silence"], "no answer within 5s");
    assert_eq!(rows.as_array().unwrap().iter().filter(|row| row["effect"]["did"] == "paused").count(), 1);
    drop(hung);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_one_agent_is_shown() -> Result<()> {
    let fleet = Fleet::start().await?;
    let latch = sortie_tests::Latch::new();
    let passes = latch.clone();
    let wait = move |_: Context, text: String| {
        let latch = passes.clone();
        async move {
            latch.passed().await;
            Ok::<_, Failure>(text.len())
        }
    };
    let config = Config { tags: [("zone".to_owned(), "blue".to_owned())].into(), ..fleet.worker_config() };
    let described = CapabilityConfig::default().description("waits a while");
    let builder = fleet.worker("tea").config(config).version("1.2.3").capability_with("wait", described, wait);
    let worker = fleet.run(builder, "wait").await?;
    let running = fleet.client.request(&capability("wait"), "x").submit().await?;
    let instance = fleet.client.agents().await?.remove(0).instance;
    let part = &instance.as_str()[instance.as_str().len() - 6..];
    until("it is in hand", PATIENCE, || async {
        (sortie(&fleet, &["agents", "show", part, "--json"]).await.json()["in_hand"][0]["id"] == running.id().as_str())
            .then_some(())
    })
    .await;
    let shown = sortie(&fleet, &["agents", "show", part]).await;
    for word in [
        instance.as_str(),
        "tea 1.2.3",
        "ready, healthy",
        "1 of 10 busy",
        "zone=blue",
        "waits a while",
        r#""type":"string""#,
        r#""type":"integer""#,
        running.id().as_str(),
        "attempt 1",
    ] {
        assert!(shown.out.contains(word), "{word} in {}", shown.out);
    }
    let json = sortie(&fleet, &["agents", "show", part, "--json"]).await.json();
    let digest = json["entry"]["capabilities"][0]["input_schema"].as_str().unwrap();
    assert_eq!(json["schemas"][digest]["type"], "string");
    let missing = sortie(&fleet, &["agents", "show", "nobody"]).await;
    assert!(missing.code == 1 && missing.err.contains("sortie agents list"), "{}", missing.err);
    latch.open();
    worker.stop().await?;
    let shown = sortie(&fleet, &["agents", "show", part]).await;
    assert!(shown.code == 0 && shown.out.contains("does not answer"), "{}", shown.out);
    register(&fleet, &entry("ins_x1", "words", Health::Healthy, 0)).await?;
    register(&fleet, &entry("ins_x2", "words", Health::Healthy, 0)).await?;
    let several = sortie(&fleet, &["agents", "show", "ins_x"]).await;
    assert!(several.code == 2 && several.err.contains("ins_x1, ins_x2"), "{}", several.err);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_agents_are_listed_without_a_consumer() -> Result<()> {
    // Building it may take its time.
    binaries::path("sortie");
    let fleet = Fleet::start().await?;
    let mut created = fleet.connection.subscribe("$JS.EVENT.ADVISORY.CONSUMER.CREATED.KV_fleet-agents.>").await?;
    stream::iter(0..1_000)
        .for_each_concurrent(100, |number| {
            let fleet = &fleet;
            async move {
                let entry = entry(&format!("ins_{number:04}"), "words", Health::Healthy, number % 5);
                let subject = format!("$KV.fleet-agents.{}", entry.key());
                let body = serde_json::to_vec(&entry).unwrap();
                raw::publish(fleet, &subject, &[("Nats-TTL", "1200s")], body).await.unwrap();
            }
        })
        .await;
    let began = Instant::now();
    assert_eq!(fleet.client.agents().await?.len(), 1_000);
    eprintln!("1,000 agents read in {:?}", began.elapsed());
    let began = Instant::now();
    let listed = sortie(&fleet, &["agents", "list", "--json"]).await;
    eprintln!("`sortie agents list` of 1,000 in {:?}", began.elapsed());
    assert_eq!(listed.json().as_array().map(Vec::len), Some(1_000));
    let idle = sortie(&fleet, &["agents", "find", "--load-max", "0"]).await;
    assert_eq!(idle.out.lines().count(), 200);
    let info = raw::api(&fleet, "STREAM.INFO.KV_fleet-agents", &Value::Null).await?;
    assert_eq!(info["state"]["consumer_count"], 0);
    let any = tokio::time::timeout(Duration::from_millis(200), created.next()).await;
    assert!(any.is_err(), "a consumer was made meanwhile: {any:?}");
    Ok(())
}
