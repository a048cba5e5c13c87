//! At most so many runs at once.

use anyhow::{Context, Result};
use protocol::{Status, codes};
use serde_json::{Value, json};
use sortie_tests::until;

use crate::site::{BOUND, Site};

fn limited(then: &str) -> Value {
    json!({
        "workflow": format!("limited-{then}"), "version": "1.0.0",
        "concurrency": { "key": "${ input.customer }", "limit": 1, "then": then },
        "steps": { "go": { "signal": "go" } },
    })
}

#[tokio::test]
async fn a_run_beyond_the_limit_waits_for_a_place_and_other_keys_do_not() -> Result<()> {
    let site = Site::start().await?;
    let _two = [site.coordinate().await?, site.coordinate().await?];
    let workflow = site.apply(&limited("queue")).await?;
    let client = &site.fleet.client;
    let first = client.start(&workflow, &json!({ "customer": "ann" })).submit().await?;
    site.has_fact(first.run(), "started").await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(client.start(&workflow, &json!({ "customer": "ann" })).submit().await?);
    }
    let other = client.start(&workflow, &json!({ "customer": "bob" })).submit().await?;
    site.has_fact(other.run(), "started").await;
    let mut done = vec![other.run().clone()];
    for left in (0..waiting.len() + 1).rev() {
        let live = until("one begins", BOUND, || async {
            let live = client.live_runs(&client::RunFilter::default(), 10).await.ok()?;
            // One that is over is there for a moment.
            let live: Vec<_> = live.into_iter().map(|run| run.run).filter(|run| !done.contains(run)).collect();
            assert!(live.len() <= 1, "one of each key at once: {live:?}");
            live.into_iter().next()
        })
        .await;
        client.signal(&live, &"go".parse()?, &Value::Null, None).await?;
        assert_eq!(site.outcome(&live).await?.status, Status::Completed, "{left} left");
        done.push(live);
    }
    client.signal(other.run(), &"go".parse()?, &Value::Null, None).await?;
    other.outcome(BOUND).await?;
    site.is_empty().await;
    for started in waiting {
        assert_eq!(started.outcome(BOUND).await?.status, Status::Completed);
    }
    let state = broker::Bucket::new(&site.fleet.connection, &site.publisher, site.names.state.as_str());
    assert!(state.list("holders.>").await?.is_empty(), "every place was given back");
    Ok(())
}

#[tokio::test]
async fn a_run_beyond_the_limit_is_refused_where_the_workflow_says_so() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let workflow = site.apply(&limited("reject")).await?;
    let client = &site.fleet.client;
    let first = client.start(&workflow, &json!({ "customer": "ann" })).submit().await?;
    site.has_fact(first.run(), "started").await;
    let second = client.start(&workflow, &json!({ "customer": "ann" })).submit().await?;
    let failure = second.outcome(BOUND).await?.failure().context("a failure")?;
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::RUN_LIMIT_REACHED, true));
    client.cancel_run(first.run(), None).await?;
    first.outcome(BOUND).await?;
    let third = client.start(&workflow, &json!({ "customer": "ann" })).submit().await?;
    site.has_fact(third.run(), "started").await;
    Ok(())
}
