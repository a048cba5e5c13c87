//! Looks while everything moves.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use broker::task;
use nix::sys::signal::Signal;
use serde_json::json;
use sortie_tests::{Fleet, process::Start, until};

use crate::site::{BOUND, Site};

/// Looks in the middle of a load.
const LOOKS: u32 = 20;

/// Asks for some of everything, under ids of its own.
async fn load(site: &Site, round: usize) -> Result<()> {
    for number in 0..20 {
        site.submit(&format!("done-{round}-{number}"), json!({ "do": "echo" })).await?;
    }
    for number in 0..10 {
        site.submit(&format!("retry-{round}-{number}"), json!({ "do": "retry" })).await?;
        site.submit_as(&format!("soon-{round}-{number}"), json!({ "do": "echo" }), |request| {
            request.delay(Duration::from_millis(500))
        })
        .await?;
    }
    for number in 0..3 {
        site.submit(&format!("fail-{round}-{number}"), json!({ "do": "fail" })).await?;
        site.unique(&format!("unique-{round}-{number}"), json!({ "do": "retry" })).await?;
        let id = format!("cancel-{round}-{number}");
        let id = site.submit_as(&id, json!(1), |request| request.delay(Duration::from_secs(3600))).await?;
        site.fleet.client.cancel(&id).await?;
    }
    site.submit_as(&format!("hour-{round}"), json!(1), |request| request.delay(Duration::from_secs(3600))).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_proved_in_the_middle_and_at_rest() -> Result<()> {
    let site = Arc::new(Site::start().await?);
    let [one, ask] = site.workflows().await?;
    let _coordinator = site.coordinate().await?;
    let worker = site.worker().await?;
    let rounds = 10;
    let loading = {
        let (site, one) = (Arc::clone(&site), one.clone());
        task::spawn("load", async move {
            for round in 0..rounds {
                load(&site, round).await?;
                site.run(&one, &format!("run-{round}"), json!({ "do": "retry" })).await?;
            }
            anyhow::Ok(())
        })
    };
    site.run(&ask, "asks", json!(null)).await?;
    let mut moving = 0;
    for _ in 0..LOOKS {
        let found = site.proved().await?.found;
        moving += found.scheduled + found.waiting + found.running;
    }
    assert!(moving > 0, "nothing moved while it was looked at");
    loading.join().await.expect("it does not panic")?;
    site.at_rest(rounds as u64).await;
    until("the runs are over", BOUND, || async { (site.proved().await.ok()?.found.runs == 1).then_some(()) }).await;
    let proof = site.proved().await?;
    let (rounds, found) = (rounds as u64, proof.found);
    assert_eq!(proof.accepted, rounds * (20 + 20 + 9 + 1 + 1) + 1);
    assert_eq!((found.completed, found.dead, found.cancelled), (rounds * (20 + 20 + 3 + 1), rounds * 3, rounds * 3));
    assert_eq!((found.scheduled, found.runs, found.waiting, found.running), (rounds, 1, 0, 0));
    let (code, document) = site.audit(&["--accepted", site.file().to_str().unwrap()]).await?;
    assert_eq!((code, &document["proved"], &document["faults"]), (0, &json!(true), &json!([])));
    drop(worker);
    Ok(())
}

/// Runs that one round begins.
const RUNS: usize = 10;

/// Looks while workers are killed again and again.
async fn under_fire(site: Site, rounds: usize) -> Result<()> {
    let site = Arc::new(site);
    site.workflows().await?;
    let deep = json!({ "workflow": "deep", "version": "1.0.0", "steps": {
        "a": { "call": "work", "with": { "do": "retry" } },
        "b": { "needs": ["a"], "workflow": "one", "with": { "do": "echo" } },
        "c": { "needs": ["a"], "foreach": "${ [1, 2, 3] }", "call": "work", "with": { "do": "echo" } },
        "d": { "needs": ["b", "c"], "call": "work", "with": { "do": "retry" } },
    } });
    let deep = site.workflow(&deep).await?;
    let _coordinator = site.coordinate().await?;
    let start = Start::new(env!("CARGO_BIN_EXE_test-worker"));
    start.ready(&site.fleet).await?;
    let killing = {
        let site = Arc::clone(&site);
        task::spawn("killer", async move {
            loop {
                let worker = start.ready(&site.fleet).await?;
                tokio::time::sleep(Duration::from_millis(400)).await;
                worker.signal(Signal::SIGKILL)?;
                worker.ended(BOUND).await?;
            }
            #[allow(unreachable_code, reason = "it ends with the test")]
            anyhow::Ok(())
        })
    };
    let loading = {
        let site = Arc::clone(&site);
        task::spawn("load", async move {
            for round in 0..rounds {
                load(&site, round).await?;
                for number in 0..RUNS {
                    site.run(&deep, &format!("deep-{round}-{number}"), json!(null)).await?;
                }
            }
            anyhow::Ok(())
        })
    };
    let mut alive = 0;
    for _ in 0..LOOKS {
        site.proved().await?;
        let (_, document) = site.audit(&[]).await?;
        let runs = &document["runs"];
        assert_eq!((&runs["stranded"], &runs["mute"]), (&json!(0), &json!(0)), "{document}");
        alive += runs["alive"].as_u64().unwrap_or(0);
        assert!(!killing.is_finished(), "the killer has ended");
    }
    assert!(alive > 0, "no run was alive while it was looked at");
    loading.join().await.expect("it does not panic")?;
    drop(killing);
    let _worker = site.worker().await?;
    site.at_rest(rounds as u64).await;
    site.proved().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_called_lost_while_workers_are_killed() -> Result<()> {
    under_fire(Site::start().await?, 10).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_called_lost_on_three_servers() -> Result<()> {
    under_fire(Site::on(Fleet::start_cluster().await?)?, 4).await
}
