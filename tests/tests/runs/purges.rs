//! How things go that are over: on three nodes no purge may touch what is in somebody's hands, and `broker::topology::purge` says
//! why.

use std::time::Duration;

use anyhow::{Context, Result};
use broker::{Outgoing, Publisher, Subscription, topology};
use coordinator::Config;
use protocol::{CronName, Status, StepName, UniqueKey, cron::CronSpec, topology::Names};
use serde_json::{Value, json};
use sortie_tests::{Fleet, fleet::capability, raw, until};

use crate::site::{BOUND, Site, three_steps};

/// What the broker is asked when it is asked to purge.
const PURGES: &str = "$JS.API.STREAM.PURGE.>";

/// Everything after which something is removed that a consumer may be given: runs that end and one that is cancelled, with their
/// timers; facts of a run that is over; work that is cancelled, or past its deadline where nobody serves it; a schedule.
async fn remove_everything(site: &Site) -> Result<()> {
    let often = Duration::from_secs(1);
    let _coordinator = site.coordinate_with(Config { deadlines_every: often, ..Config::default() }).await?;
    let client = &site.fleet.client;
    let three = site.apply(&three_steps()).await?;
    let gate = json!({
        "workflow": "gated", "version": "1.0.0", "timeout": "1h",
        "steps": {
            "nap": { "wait": "300ms" },
            "gate": { "needs": ["nap"], "signal": "go", "timeout": "1h", "otherwise": 0 },
        },
    });
    let gated = site.apply(&gate).await?;
    let plain = client.start(&three, &json!({ "n": 1, "ms": 0 })).submit().await?;
    let [told, cancelled] =
        [client.start(&gated, &Value::Null).submit().await?, client.start(&gated, &Value::Null).submit().await?];
    for run in [&told, &cancelled] {
        site.fleet.has_timer(run.run(), "run").await;
        site.fleet.has_timer(run.run(), "gate~0").await;
    }
    client.signal(told.run(), &StepName::parse("go")?, &1, None).await?;
    client.cancel_run(cancelled.run(), None).await?;
    for (run, status) in [(&plain, Status::Completed), (&told, Status::Completed), (&cancelled, Status::Cancelled)] {
        assert_eq!(run.outcome(BOUND).await?.status, status);
    }
    raw::publish(&site.fleet, &format!("fleet.run.{}.signal.late", plain.run()), &[], "1").await?;

    let nobody = capability("nobody");
    let unique = client.request(&nobody, &1).unique(UniqueKey::parse("key")?).submit().await?;
    client.cancel(unique.id()).await?;
    let later = client.request(&nobody, &1).delay(BOUND).submit().await?;
    client.cancel(later.id()).await?;
    let late = client.request(&nobody, &1).deadline_in(often).submit().await?;
    assert_eq!(client.wait(late.id(), BOUND).await?.status, Status::Expired);
    let name = CronName::parse("hourly")?;
    let spec: CronSpec =
        serde_json::from_value(json!({ "schedule": "@hourly", "capability": "nobody", "overlap": "skip" }))?;
    client.cron_add(&name, &spec, false).await?;
    until("it is scheduled", BOUND, || async { client.cron(&name).await.ok()??.schedule.map(|_| ()) }).await;
    assert!(client.cron_remove(&name).await?);
    site.is_empty().await;
    Ok(())
}

async fn heard(site: &Site, purges: &mut Subscription) -> Result<Vec<String>> {
    // It comes behind all that was asked before.
    site.fleet.connection.request("$JS.API.STREAM.PURGE.LAST".to_owned(), None, "".into(), BOUND).await?;
    let mut heard = Vec::new();
    loop {
        let purge = tokio::time::timeout(BOUND, purges.next()).await?.context("nothing is heard any more")?;
        if purge.subject.ends_with(".LAST") {
            return Ok(heard);
        }
        heard.push(purge.subject);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_three_nodes_what_is_over_goes_and_nothing_is_purged() -> Result<()> {
    let site = Site::on(Fleet::start_cluster().await?).await?;
    let mut purges = site.fleet.connection.subscribe(PURGES).await?;
    remove_everything(&site).await?;
    assert_eq!(heard(&site, &mut purges).await?, Vec::<String>::new());
    // A schedule that is stored, or fires, is a purge of its subject for the broker itself.
    for consumer in topology::inspect::consumers(&site.fleet.connection, &site.names.runs).await? {
        let filter = consumer.consumer.filter;
        assert!(filter.starts_with("fleet.run."), "{filter} may lie over timers");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_one_node_what_is_over_goes_by_purges() -> Result<()> {
    let site = Site::start().await?;
    let mut purges = site.fleet.connection.subscribe(PURGES).await?;
    remove_everything(&site).await?;
    let heard = heard(&site, &mut purges).await?;
    for stream in [&site.names.runs, &site.names.unique, &site.names.requests] {
        assert!(heard.iter().any(|purge| purge.ends_with(stream.as_str())), "{stream} is not among {heard:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_goes_up_to_where_it_was_said_and_no_further() -> Result<()> {
    let fleet = Fleet::start_cluster().await?;
    let publisher = Publisher::new(&fleet.connection);
    let stream = Names::of(&fleet.namespace).runs;
    let mut last = 0;
    for number in 0..600 {
        for run in ["gone", "kept"] {
            let fact = Outgoing::new(format!("fleet.run.{run}.signal.s{number}"), "1");
            last = publisher.publish(&fact).await?.sequence;
        }
    }
    let purge = |filter: &'static str, below| topology::purge(&fleet.connection, &stream, filter, below);
    assert_eq!(purge("fleet.run.*.gone.>", Some(last - 3)).await?, 598);
    assert_eq!(purge("fleet.run.*.nobody.>", None).await?, 0);
    let left = topology::subject_counts(&fleet.connection, &stream, "fleet.run.*.gone.>").await?;
    let left: Vec<&str> = left.keys().filter_map(|subject| subject.rsplit('.').next()).collect();
    assert_eq!(left, ["s598", "s599"]);
    assert_eq!(purge("fleet.run.*.gone.>", None).await?, 2);
    assert_eq!(topology::stream_state(&fleet.connection, &stream).await?.messages, 600, "the other's");
    Ok(())
}
