//! Runs that are large: of many items, of many steps, of many runs below each other.

use std::time::Instant;

use anyhow::{Context, Result};
use broker::Connection;
use coordinator::{Config, Coordinator};
use prometheus::Registry;
use protocol::{RequestId, Status, codes, limits::RUN_DEPTH_MAX};
use serde_json::{Map, Value, json};

use crate::site::{BOUND, Site};

/// Longer than ten thousand items take in a build without optimisation, on a machine that does other things.
const LARGE_BOUND: std::time::Duration = std::time::Duration::from_secs(300);

const ITEMS: usize = 10_000;

/// Steps that need nobody, and steps of which each needs the one before; with the one that needs all, a thousand.
const WIDE: usize = 500;
const CHAIN: usize = 499;

async fn result(site: &Site, run: &protocol::RunId) -> Result<Value> {
    let outcome = site.fleet.client.wait(&RequestId::from(run), LARGE_BOUND).await?;
    outcome.result::<Value>().map_err(|failure| anyhow::anyhow!("{failure}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_items_of_one_step_give_their_results_in_order() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinator_process()?;
    let each = site
        .apply(&json!({
            "workflow": "each", "version": "1.0.0",
            "steps": {
                "each": {
                    "foreach": "${ input }", "max_parallel": 64, "call": "work",
                    // Of two sizes, so that they do not end in the order in which they are asked.
                    "with": { "give": "${ item * 2 }", "ms": "${ item % 7 }" },
                },
            },
            "output": "${ steps.each.output }",
        }))
        .await?;
    let list: Vec<usize> = (0..ITEMS).collect();
    let began = Instant::now();
    let started = site.fleet.client.start(&each, &list).submit().await?;
    let found = result(&site, started.run()).await?;
    let took = began.elapsed();
    println!("{ITEMS} items took {took:?}: {:.0} a second", ITEMS as f64 / took.as_secs_f64());
    assert_eq!(found, json!(list.iter().map(|item| item * 2).collect::<Vec<_>>()));
    site.is_empty().await;
    let begun = site.begun.all();
    assert_eq!(begun.len(), ITEMS);
    assert!(begun.values().all(|times| *times == 1));
    let record = site.fleet.client.run_record(started.run()).await?.context("a record")?;
    assert_eq!(record.facts().len(), ITEMS + 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_more_than_a_coordinator_keeps_is_not_read_again_for_each_result() -> Result<()> {
    let site = Site::start().await?;
    let registry = Registry::new();
    let connection = Connection::open(site.fleet.worker_config().broker).await?;
    let _coordinator = Coordinator::start(&connection, Config::default(), &registry).await?;
    let heavy = site
        .apply(&json!({
            "workflow": "heavy", "version": "1.0.0",
            "steps": {
                "each": {
                    "foreach": "${ input.items }", "max_parallel": 8, "call": "work", "with": { "give": "${ input.text }" },
                },
            },
        }))
        .await?;
    let items: Vec<usize> = (0..1_000).collect();
    let began = Instant::now();
    let input = json!({ "items": items, "text": "x".repeat(20_000) });
    let started = site.fleet.client.start(&heavy, &input).submit().await?;
    result(&site, started.run()).await?;
    println!("20 MB of results in {} pieces took {:?}", items.len(), began.elapsed());
    let loads = registry.gather().into_iter().find(|metric| metric.name() == "sortie_coordinator_run_loads_total");
    let loads = loads.context("a metric")?.get_metric()[0].get_counter().get_value();
    assert!(loads < 20.0, "its log was read {loads} times");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_steps_of_one_workflow_end_and_give_their_results() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinator_process()?;
    let mut steps = Map::new();
    for number in 0..WIDE {
        steps.insert(format!("w{number}"), json!({ "call": "work", "with": { "give": number } }));
    }
    steps.insert("c0".to_owned(), json!({ "call": "work", "with": { "give": "${ input }" } }));
    for number in 1..CHAIN {
        let before = format!("c{}", number - 1);
        let give = format!("${{ steps.{before}.output + 1 }}");
        steps.insert(format!("c{number}"), json!({ "needs": [before], "call": "work", "with": { "give": give } }));
    }
    let needs: Vec<String> = steps.keys().cloned().collect();
    steps.insert("last".to_owned(), json!({ "needs": needs, "call": "work", "with": { "give": "all" } }));
    assert_eq!(steps.len(), 1_000);
    let wide: Vec<String> = (0..WIDE).map(|number| format!("${{ steps.w{number}.output }}")).collect();
    let output = json!({
        "wide": wide, "chain": format!("${{ steps.c{}.output }}", CHAIN - 1), "last": "${ steps.last.output }",
    });
    let thousand = json!({ "workflow": "thousand", "version": "1.0.0", "steps": steps, "output": output });
    let thousand = site.apply(&thousand).await?;
    let began = Instant::now();
    let started = site.fleet.client.start(&thousand, &1).submit().await?;
    let found = result(&site, started.run()).await?;
    println!("a thousand steps, {CHAIN} of them one after the other, took {:?}", began.elapsed());
    let wide: Vec<usize> = (0..WIDE).collect();
    assert_eq!(found, json!({ "wide": wide, "chain": CHAIN, "last": "all" }));
    site.is_empty().await;
    let began = Instant::now();
    let again = site.fleet.client.start(&thousand, &1).submit().await?;
    result(&site, again.run()).await?;
    println!("the second time, with its definition known, {:?}", began.elapsed());
    let begun = site.begun.all();
    assert_eq!(begun.len(), 2 * 1_000);
    assert!(begun.values().all(|times| *times == 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sub_runs_go_ten_deep_and_without_an_end_as_deep_as_they_may() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinator_process()?;
    let deep = site
        .apply(&json!({
            "workflow": "deep", "version": "1.0.0",
            "steps": {
                "here": { "call": "work", "with": { "give": "${ input.left }" } },
                "under": {
                    "needs": ["here"], "if": "input.left > 0", "workflow": "deep", "with": { "left": "${ input.left - 1 }" },
                },
            },
            "output": "${ input.left > 0 ? [steps.here.output] + steps.under.output : [0] }",
        }))
        .await?;
    let began = Instant::now();
    let started = site.fleet.client.start(&deep, &json!({ "left": 10 })).submit().await?;
    assert_eq!(result(&site, started.run()).await?, json!((0..=10).rev().collect::<Vec<_>>()));
    println!("ten deep and back took {:?}", began.elapsed());
    site.is_empty().await;

    let begun = site.begun.all().len();
    let endless = site.fleet.client.start(&deep, &json!({ "left": 1_000_000 })).submit().await?;
    let outcome = endless.outcome(BOUND).await?;
    let failure = outcome.failure().context("a failure")?;
    assert_eq!((outcome.status, failure.code.as_str()), (Status::Failed, codes::STEP_FAILED));
    let root = failure.causes.last().context("a cause")?;
    assert!(root.contains(codes::RUN_TOO_DEEP) && root.contains("needs a step with an `if`"), "{:?}", failure.causes);
    assert_eq!(site.begun.all().len() - begun, RUN_DEPTH_MAX as usize + 1, "each but the one that is refused");
    site.is_empty().await;
    Ok(())
}
