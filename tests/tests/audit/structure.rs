//! What is there now, without a file.

use std::time::Duration;

use anyhow::Result;
use broker::{Outgoing, Publisher};
use protocol::RequestId;
use serde_json::{Value, json};
use sortie_tests::until;

use crate::site::{BOUND, Site};

/// The parts of the proof that do not hold.
fn unwell(document: &Value) -> Vec<&str> {
    let findings = document["findings"].as_array().unwrap().iter();
    findings.filter(|finding| finding["severity"] != "ok").filter_map(|finding| finding["check"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_well_is_proved_and_runs_without_a_coordinator_are_not() -> Result<()> {
    let site = Site::start().await?;
    let [_, ask] = site.workflows().await?;
    let coordinator = site.coordinate().await?;
    let worker = site.worker().await?;
    site.submit("dead-1", json!({ "do": "fail" })).await?;
    site.submit_as("later-1", json!(1), |request| request.delay(Duration::from_secs(3600))).await?;
    let run = site.run(&ask, "run-1", json!(null)).await?;
    until("the run has begun", BOUND, || async { site.fleet.client.is_run_alive(&run).await.ok()?.then_some(()) })
        .await;
    site.at_rest(1).await;
    let (code, document) = site.audit(&[]).await?;
    assert_eq!((code, &document["proved"], unwell(&document)), (0, &json!(true), vec![]), "{document}");
    assert_eq!((&document["runs"]["alive"], &document["runs"]["mute"]), (&json!(1), &json!(0)));
    drop(worker);
    coordinator.handle().stop();
    coordinator.stopped().await;
    // What it last asked the broker for stands there for a moment longer.
    let document = until("nobody follows the run", BOUND, || async {
        let (code, document) = site.audit(&[]).await.ok()?;
        (code == 1).then_some(document)
    })
    .await;
    assert_eq!(unwell(&document), ["run-owners"], "{document}");
    assert!(document["findings"].to_string().contains("1 run alive that no coordinator follows"), "{document}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_wait_for_what_is_nowhere_are_told() -> Result<()> {
    let site = Site::start().await?;
    let [one, _] = site.workflows().await?;
    // Of the two that ask for it, one waits for its place.
    let place = json!({ "limit": 1, "then": "queue" });
    let passes = json!({ "workflow": "passes", "version": "1.0.0", "serves": "pass", "concurrency": place,
        "steps": { "go": { "signal": "go" } } });
    let asks = json!({ "workflow": "asks", "version": "1.0.0",
        "steps": { "a": { "call": "pass" }, "b": { "workflow": "ask" }, "c": { "wait": "1h" } } });
    site.workflow(&passes).await?;
    let asks = site.workflow(&asks).await?;
    let _coordinator = site.coordinate().await?;
    site.run(&one, "one-1", json!(null)).await?;
    for run in ["asks-1", "asks-2"] {
        site.run(&asks, run, json!(null)).await?;
    }
    let told = |alive: u64, stranded: u64| {
        let site = &site;
        until("all of it is told", BOUND, move || async move {
            let (code, document) = site.audit(&[]).await.ok()?;
            let runs = &document["runs"];
            (runs["alive"] == alive && runs["stranded"] == stranded).then_some((code, document))
        })
    };
    // Those three, the one that passes, and two that ask for a word.
    site.at_rest(2).await;
    let (code, document) = told(6, 0).await;
    assert_eq!((code, unwell(&document)), (0, vec![]), "{document}");
    site.purge(&site.names.requests, "fleet.request.work").await?;
    site.purge(&site.names.requests, "fleet.start.passes").await?;
    let (code, document) = told(6, 2).await;
    assert_eq!((code, unwell(&document)), (1, vec![]), "{document}");
    let named = document["runs"]["named"].to_string();
    assert!(named.contains("one-1~a~0, which is nowhere"), "{named}");
    let why = site.sortie(&["why", "one-1~a~0"]).await?;
    let advice = String::from_utf8_lossy(&why.stderr);
    assert!(why.status.code() == Some(1) && advice.contains("run one-1 waits for it: `sortie audit`"), "{advice}");
    let waiting = ["asks-1", "asks-2"].iter().filter(|run| named.contains(&format!("{run}~a~0, which is nowhere")));
    assert_eq!(waiting.count(), 1, "{named}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_do_not_say_what_became_of_them_are_told() -> Result<()> {
    let site = Site::start().await?;
    let worker = site.worker().await?;
    for id in ["dead-1", "dead-2", "dead-3"] {
        site.submit(id, json!({ "do": "fail" })).await?;
    }
    site.at_rest(0).await;
    // Sent again, and the mark is gone; the same, and marked; the outcome says something else; no story.
    for id in ["dead-1", "dead-2"] {
        assert!(site.sortie(&["dead", "replay", id]).await?.status.success());
    }
    site.at_rest(0).await;
    drop(worker);
    let purge = |stream: String, subject: &'static str| {
        let site = &site;
        async move { broker::topology::purge(&site.fleet.connection, &stream, subject, None).await }
    };
    purge(site.names.dead.clone(), "fleet.replayed.work.dead-1.*").await?;
    purge(site.names.outcomes.clone(), "fleet.outcome.dead-3").await?;
    let publisher = Publisher::new(&site.fleet.connection);
    publisher.publish(&Outgoing::new("fleet.outcome.dead-3", "1")).await?;
    publisher.publish(&Outgoing::new("fleet.dead.work.stranger", "1")).await?;
    let (code, document) = site.audit(&[]).await?;
    assert_eq!((code, unwell(&document)), (1, vec!["dead-marks"; 3]), "{document}");
    let findings = document["findings"].as_array().unwrap().iter();
    let about: Vec<_> =
        findings.filter(|finding| finding["check"] == "dead-marks").map(|finding| finding["about"].clone()).collect();
    assert_eq!(about, ["fleet.dead.work.stranger", "dead-1", "dead-3"], "{document}");
    // What the finding says makes it go away, and nothing is done twice.
    assert!(site.sortie(&["dead", "replay", "dead-1"]).await?.status.success());
    let (_, document) = site.audit(&[]).await?;
    assert_eq!(unwell(&document).len(), 2, "{document}");
    assert_eq!(site.fleet.client.outcome(&RequestId::parse("stranger")?).await?, None);
    Ok(())
}
