//! Settings of the fleet reach running agents.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use anyhow::Result;
use client::Client;
use process::settings::{AgentArgs, Environment};
use protocol::{
    Kind,
    registry::{AgentEntry, Health},
    settings::Scope,
};
use serde_json::{Value, json};
use sortie_tests::{Fleet, PATIENCE, fleet::capability, until};
use worker::{Context, Failure};

fn of_kind() -> Scope {
    Scope::Kind(Kind::parse("words").unwrap())
}

async fn write(client: &Client, scope: &Scope, document: Value) -> Result<()> {
    let revision = client.settings(scope).await?.revision;
    client.settings_write(scope, &document, revision).await?;
    Ok(())
}

async fn agent(client: &Client, is_it: impl Fn(&AgentEntry) -> bool) -> AgentEntry {
    until("the agent says so", PATIENCE, || async { client.agents().await.ok()?.into_iter().find(&is_it) }).await
}

/// What a handler sees of its settings.
async fn seen(ctx: Context, _: Value) -> Result<Value, Failure> {
    let settings = ctx.settings();
    let secret = settings.secret("bank.token")?;
    Ok(json!({
        "colour": settings.get::<String>("colour")?,
        "token": secret.as_ref().map(|secret| secret.expose().len()),
        "shown": secret.map(|secret| secret.to_string()),
        "timeout": ctx.timeout().as_secs(),
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_agent_takes_settings_over_soon() -> Result<()> {
    let fleet = Fleet::start().await?;
    let client = &fleet.client;
    write(client, &of_kind(), json!({ "slots": 4, "capabilities": { "see": { "timeout": "7s" } } })).await?;
    let running = fleet.run(fleet.worker("words").slots(2).capability("see", seen), "see").await?;
    let first = agent(client, |agent| agent.slots == 4).await;
    let see = async || -> Result<Value> {
        Ok(client.request(&capability("see"), &Value::Null).call(PATIENCE).await?.result::<Value>().unwrap())
    };
    assert_eq!(see().await?, json!({ "colour": null, "token": null, "shown": null, "timeout": 7 }));

    let token = tempfile::NamedTempFile::new()?;
    std::fs::write(token.path(), "hunter2\n")?;
    let reference = format!("secret://file{}", token.path().display());
    let custom = json!({ "colour": "blue", "bank": { "token": reference } });
    let began = Instant::now();
    write(client, &Scope::Global, json!({ "slots": 9, "custom": custom })).await?;
    write(client, &of_kind(), json!({ "slots": 6, "heartbeat": "1s" })).await?;
    agent(client, |agent| agent.slots == 6).await;
    until("its own settings are there", PATIENCE, || async { (see().await.ok()?["colour"] == "blue").then_some(()) })
        .await;
    // Two seconds where nothing else runs; by its own look alone it would be a minute.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // A file's last line end is none of the secret, which no way of printing shows; a time-out needs a restart.
    assert_eq!(see().await?, json!({ "colour": "blue", "token": 7, "shown": "***", "timeout": 7 }));
    // By its own interval it would be renewed once in ten seconds.
    for _ in 0..2 {
        let seen_at = agent(client, |agent| agent.slots == 6).await.seen_at;
        let again = agent(client, |agent| agent.seen_at > seen_at).await;
        assert!((again.seen_at - seen_at).num_milliseconds() < 5_000, "{again:?}");
    }

    // Written by hand, and wrong: it changes nothing, and the agent says why.
    let bucket = broker::Bucket::new(&fleet.connection, &broker::Publisher::new(&fleet.connection), "fleet-config");
    bucket.put("settings.kind.words", r#"{"slots":0,"heartbeat":"2s"}"#, None).await?;
    let degraded = agent(client, |agent| agent.health == Health::Degraded).await;
    let reason = degraded.health_reason.unwrap_or_default();
    assert!(reason.contains("settings.kind.words: slots: 0 is not") && degraded.slots == 6, "{reason}");
    // Without a word of its kind, what every agent has.
    bucket.remove("settings.kind.words").await?;
    let healthy = agent(client, |agent| agent.slots == 9).await;
    assert_eq!((healthy.health, healthy.instance), (Health::Healthy, first.instance.clone()));
    write(client, &Scope::Instance(first.instance), json!({ "slots": 1 })).await?;
    agent(client, |agent| agent.slots == 1).await;
    bucket.remove("settings.global").await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_brings_lies_below_and_above_the_fleets_word() -> Result<()> {
    let fleet = Fleet::start().await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "slots: 3\ncustom: { colour: green }\n")?;
    let files = AgentArgs { config: Some(file.path().to_owned()), env_file: None };
    write(&fleet.client, &of_kind(), json!({ "slots": 7, "heartbeat": "5s" })).await?;
    // A configuration of its own has no files beside it: only what is said in code counts.
    let builder = fleet.worker("words").setting("slots", 5).settings_from(files.clone()).capability("see", seen);
    let running = fleet.run(builder, "see").await?;
    assert_eq!(agent(&fleet.client, |_| true).await.slots, 5, "as a variable would");
    running.stop().await?;
    let layers = files.resolve(&Environment::of([("SORTIE_SLOTS", "2")])).unwrap();
    let kind = fleet.client.settings(&of_kind()).await?;
    let merged = protocol::settings::merge(layers.into_iter().chain([(of_kind().layer(), kind.document)]));
    assert_eq!(merged.document, json!({ "slots": 2, "heartbeat": "5s", "custom": { "colour": "green" } }));
    let wrong = fleet.worker("words").setting("slots", 0).capability("see", seen).run().await.unwrap_err();
    assert!(wrong.to_string().contains("slots: 0 is not"), "{wrong}");
    Ok(())
}
