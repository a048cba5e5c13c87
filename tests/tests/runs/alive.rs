//! What is seen of runs that are alive.

use anyhow::{Context, Result};
use client::{RunFilter, RunRecord};
use serde_json::json;
use sortie_tests::until;

use crate::site::{BOUND, Site, run};

#[tokio::test]
async fn a_live_run_is_listed_and_its_log_is_read() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let gate = json!({ "workflow": "gate", "version": "1.0.0", "steps": { "go": { "signal": "go" } } });
    let gate = site.apply(&gate).await?;
    let client = &site.fleet.client;
    let mut all = Vec::new();
    for id in ["one", "two"] {
        all.push(client.start(&gate, &json!({})).id(&run(id)).submit().await?);
        site.has_fact(&run(id), "started").await;
    }
    let listed = client.live_runs(&RunFilter::default(), 10).await?;
    let listed: Vec<_> = listed.iter().map(|one| (one.run.as_str(), one.workflow.clone())).collect();
    assert_eq!(listed, [("one", Some(gate.clone())), ("two", Some(gate))]);
    let other = RunFilter { workflow: Some("other".parse()?), status: None };
    assert!(client.live_runs(&other, 10).await?.is_empty());
    let record = client.run_record(&run("one")).await?.context("a record")?;
    assert!(matches!(&record, RunRecord::Live(facts) if facts.len() == 1 && facts[0].name == "started"));
    assert!(client.run_record(&run("three")).await?.is_none());
    for started in all {
        client.signal(started.run(), &"go".parse()?, &1, None).await?;
        started.outcome(BOUND).await?;
    }
    // The summary comes behind the outcome.
    until("both are told", BOUND, || async {
        (client.ended_runs(&RunFilter::default()).await.ok()?.len() == 2).then_some(())
    })
    .await;
    Ok(())
}
