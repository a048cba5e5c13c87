//! Faults that are planted by hand.

use std::time::Duration;

use anyhow::Result;
use broker::{Outgoing, Publisher};
use chrono::TimeDelta;
use client::Fault;
use protocol::{
    Status,
    accepted::{Accepted, Asked},
};
use serde_json::json;
use sortie_tests::{fleet::capability, until};

use crate::site::{BOUND, Site};

/// One of each kind, brought to where it stays: nothing moves any more.
async fn one_of_each(site: &Site) -> Result<()> {
    let worker = site.worker().await?;
    for id in ["done-1", "done-2"] {
        site.submit(id, json!({ "do": "echo" })).await?;
    }
    for id in ["dead-1", "dead-2"] {
        site.submit(id, json!({ "do": "fail" })).await?;
    }
    for id in ["later-1", "later-2"] {
        site.submit_as(id, json!(1), |request| request.delay(Duration::from_secs(3600))).await?;
    }
    site.at_rest(2).await;
    drop(worker);
    for id in ["queued-1", "queued-2"] {
        site.submit(id, json!(1)).await?;
    }
    site.unique("key-1", json!(1)).await?;
    let proof = site.proved().await?;
    let found = proof.found;
    // A worker that has just died may still have been given some.
    let queued = found.waiting + found.running;
    assert_eq!((proof.accepted, found.completed, found.dead, found.scheduled, queued), (9, 2, 2, 2, 3));
    Ok(())
}

/// The one fault that there is, by its kind and id, as both the client and the command find it.
async fn only_fault(site: &Site) -> Result<(String, String)> {
    let (proof, faults) = site.prove().await?;
    assert!(!proof.holds());
    let (code, document) = site.audit(&["--accepted", site.file().to_str().unwrap()]).await?;
    assert_eq!((code, &document["proved"], faults.len()), (1, &json!(false), 1), "{document} {faults:?}");
    assert_eq!(document["faults"], json!(faults));
    let text = |name: &str| document["faults"][0][name].as_str().unwrap().to_owned();
    Ok((text("fault"), text("id")))
}

async fn planted(stream: impl Fn(&Site) -> String, subject: &str, kind: &str, id: &str) -> Result<()> {
    let site = Site::start().await?;
    one_of_each(&site).await?;
    site.purge(&stream(&site), subject).await?;
    assert_eq!(only_fault(&site).await?, (kind.to_owned(), id.to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_deleted() -> Result<()> {
    planted(|site| site.names.outcomes.clone(), "fleet.outcome.done-2", "lost", "done-2").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_deleted() -> Result<()> {
    planted(|site| site.names.requests.clone(), "fleet.later.later-1", "lost", "later-1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_deleted() -> Result<()> {
    planted(|site| site.names.dead.clone(), "fleet.dead.work.dead-2", "unburied", "dead-2").await
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_work_is_deleted() -> Result<()> {
    planted(|site| site.names.unique.clone(), "fleet.unique.work.key-1", "lost", "useq-1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_request_is_deleted() -> Result<()> {
    let site = Site::start().await?;
    site.submit("first", json!(1)).await?;
    site.purge(&site.names.requests, "fleet.request.work").await?;
    site.submit("second", json!(1)).await?;
    assert_eq!(only_fault(&site).await?, ("lost".to_owned(), "first".to_owned()));
    let told = site.sortie(&["audit", "--accepted", site.file().to_str().unwrap()]).await?;
    let text = String::from_utf8(told.stdout)?;
    assert!(text.starts_with("LOST first (request for work, accepted 20"), "{text}");
    assert!(text.contains(", FLEET_REQUESTS 1)\n") && text.ends_with("not proved\n"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_run_is_deleted() -> Result<()> {
    let site = Site::start().await?;
    let [_, ask] = site.workflows().await?;
    let coordinator = site.coordinate().await?;
    let run = site.run(&ask, "run-1", json!(null)).await?;
    until("the run has begun", BOUND, || async { site.fleet.client.is_run_alive(&run).await.ok()?.then_some(()) })
        .await;
    site.at_rest(0).await;
    assert_eq!(site.proved().await?.found.runs, 1);
    coordinator.handle().stop();
    coordinator.stopped().await;
    broker::topology::purge(&site.fleet.connection, &site.names.runs, "fleet.run.*.run-1.>", None).await?;
    assert_eq!(only_fault(&site).await?, ("lost".to_owned(), "run-1".to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_outcome_is_stored() -> Result<()> {
    let site = Site::start().await?;
    one_of_each(&site).await?;
    // One that is not in the file, too: exactly one outcome is promised to all.
    let publisher = Publisher::new(&site.fleet.connection);
    for id in ["done-1", "stranger", "stranger"] {
        publisher.publish(&Outgoing::new(format!("fleet.outcome.{id}"), "2")).await?;
    }
    let (proof, faults) = site.prove().await?;
    let twice: Vec<String> = faults
        .iter()
        .map(|fault| match fault {
            Fault::Twice { id, outcomes: 2 } => id.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((proof.faults.twice, twice), (2, vec!["done-1".to_owned(), "stranger".to_owned()]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_longer_ago_than_outcomes_are_kept_is_not_called_lost() -> Result<()> {
    let site = Site::start().await?;
    let id = site.submit("old", json!(1)).await?;
    let now = site.fleet.client.now().await?;
    for (id, hours) in [("older", 25), ("younger", 23)] {
        let id = protocol::RequestId::parse(id)?;
        let asked = Asked::Request(capability("work"));
        let stream = site.names.requests.clone();
        site.noted.note(&Accepted { id, asked, stream, sequence: None, at: now - TimeDelta::hours(hours) })?;
    }
    let (proof, faults) = site.prove().await?;
    assert_eq!((proof.found.too_old, proof.found.waiting, proof.faults.lost), (1, 1, 1), "{proof:?}");
    assert!(matches!(&faults[0], Fault::Lost { accepted } if accepted.id.as_str() == "younger"), "{faults:?}");
    assert_eq!(site.fleet.client.outcome(&id).await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_an_operator_drops_is_no_fault() -> Result<()> {
    let site = Site::start().await?;
    one_of_each(&site).await?;
    let dropped = site.sortie(&["dead", "drop", "dead-1"]).await?;
    assert!(dropped.status.success(), "{dropped:?}");
    let found = site.proved().await?.found;
    assert_eq!((found.dead, found.dropped), (1, 1));
    // The other one's was not named.
    site.purge(&site.names.dead, "fleet.dead.work.dead-2").await?;
    assert_eq!(only_fault(&site).await?, ("unburied".to_owned(), "dead-2".to_owned()));
    let outcome = site.fleet.client.outcome(&protocol::RequestId::parse("dead-2")?).await?;
    assert_eq!(outcome.map(|outcome| outcome.status), Some(Status::Failed));
    Ok(())
}
