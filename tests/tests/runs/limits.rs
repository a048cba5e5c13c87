//! At most so many runs at once.

use std::time::Instant;

use anyhow::{Context, Result};
use protocol::{RequestId, Status, codes, run::RunHolders};
use serde_json::{Value, json};
use sortie_tests::{fleet::capability, until};

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

#[tokio::test(flavor = "multi_thread")]
async fn those_that_wait_begin_in_the_order_in_which_they_came() -> Result<()> {
    const WAITING: usize = 30;
    let site = Site::start().await?;
    let _two = [site.coordinate().await?, site.coordinate().await?];
    let mut definition = limited("queue");
    definition["serves"] = json!("limited");
    definition["steps"] = json!({
        "go": { "signal": "go", "if": "has(input.first)" },
        "a": { "needs": ["go"], "call": "work", "with": { "give": "${ input.number }" } },
    });
    definition["output"] = json!("${ steps.a.output }");
    let workflow = site.apply(&definition).await?;
    let client = &site.fleet.client;
    let first = client.start(&workflow, &json!({ "customer": "ann", "first": true, "number": 99 })).submit().await?;
    site.has_fact(first.run(), "started").await;
    let mut waiting = Vec::new();
    for number in 0..WAITING {
        let input = json!({ "customer": "ann", "number": number });
        // A request that the workflow serves stands in the same line.
        waiting.push(match number % 10 {
            9 => client.request(&capability("limited"), &input).submit().await?.id().clone(),
            _ => RequestId::from(client.start(&workflow, &input).submit().await?.run()),
        });
    }
    // One that no longer waits keeps nobody.
    client.cancel(&waiting[3]).await?;
    let cancelled = waiting.remove(3);
    let state = broker::Bucket::new(&site.fleet.connection, &site.publisher, site.names.state.as_str());
    until("all stand in line", BOUND, || async {
        let entry = state.list("holders.>").await.ok()?.pop()?;
        let holders: RunHolders = serde_json::from_slice(&entry.value?).ok()?;
        let in_line = holders.waiting.iter().filter(|one| one.run.as_str() != cancelled.as_str()).count();
        (in_line == waiting.len()).then_some(())
    })
    .await;
    client.signal(first.run(), &"go".parse()?, &Value::Null, None).await?;
    let began = Instant::now();
    for id in &waiting {
        assert_eq!(client.wait(id, BOUND).await?.status, Status::Completed);
    }
    println!("{} waiting runs, one at a time: {:?}", waiting.len(), began.elapsed());
    let page = site.reader.page(&site.names.outcomes, "fleet.outcome.*", 1, 100).await?;
    let ended = page.messages.iter().filter_map(|message| message.subject.rsplit('.').next());
    let ended: Vec<&str> = ended.filter(|id| *id != first.run().as_str() && *id != cancelled.as_str()).collect();
    assert_eq!(ended, waiting.iter().map(RequestId::as_str).collect::<Vec<_>>());
    site.is_empty().await;
    assert!(state.list("holders.>").await?.is_empty(), "every place was given back");
    Ok(())
}
