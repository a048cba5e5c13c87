//! Workflows that wait: for somebody, or for something to be ready.

use std::fs;

use anyhow::{Context, Result};
use protocol::{Status, codes};
use serde_json::json;
use sortie_tests::{raw, until};

use crate::site::{BOUND, Site};

#[tokio::test]
async fn a_manager_who_approves_in_time_is_all_it_takes() -> Result<()> {
    let site = Site::with_commands("expense.agent.yaml", "pay-expense", "EXPENSE_DIR").await?;
    let expense = site.apply(&["expense.yaml"]).await?;
    let input = json!({ "employee": "ann", "cents": 4_200, "purpose": "a chair" });
    let started = site.start(&expense, "chair", &input).await?;
    site.fleet.has_timer(started.run(), "manager~0").await;
    raw::publish(&site.fleet, "fleet.run.chair.signal.manager", &[], r#"{"approved":true,"by":"bob"}"#).await?;
    let over = site.over(started.run()).await?;
    assert_eq!(over.output(), json!({ "paid": true, "by": "bob" }));
    assert_eq!(over.outcomes(), ["ask.0", "pay.0"]);
    assert_eq!(site.lines("paid"), ["ann 4200"]);
    assert_eq!(site.lines("mail"), ["manager: ann asks for 4200 cents: a chair (run chair)"]);
    Ok(())
}

#[tokio::test]
async fn a_silent_manager_is_passed_over_and_the_director_decides() -> Result<()> {
    let site = Site::with_commands("expense.agent.yaml", "pay-expense", "EXPENSE_DIR").await?;
    let expense = site.apply_hurried("expense.yaml", &[("timeout: 4h", "timeout: 1s")]).await?;
    let input = json!({ "employee": "ann", "cents": 4_200, "purpose": "a desk" });
    let started = site.start(&expense, "desk", &input).await?;
    site.fleet.has_timer(started.run(), "director~0").await;
    raw::publish(&site.fleet, "fleet.run.desk.signal.director", &[], r#"{"approved":false,"by":"eve"}"#).await?;
    let over = site.over(started.run()).await?;
    assert_eq!(over.output(), json!({ "paid": false, "by": "eve" }));
    assert_eq!(over.outcomes(), ["ask.0", "escalate.0", "refuse.0"]);
    let happened = |fact: &str| over.facts.iter().position(|name| name == fact).context(fact.to_owned());
    assert!(happened("timer.manager~0.fired")? < happened("step.escalate.0.outcome")?, "{:?}", over.facts);
    assert!(happened("signal.director")? < happened("step.refuse.0.outcome")?, "{:?}", over.facts);
    assert_eq!(site.lines("paid"), Vec::<String>::new());
    assert_eq!(site.lines("mail").last().map(String::as_str), Some("ann: a desk is not paid"));
    Ok(())
}

#[tokio::test]
async fn a_build_is_looked_at_until_it_has_ended() -> Result<()> {
    let site = Site::with_commands("builds.agent.yaml", "stop-build", "BUILD_DIR").await?;
    let build = site.apply_hurried("build.yaml", &[("pause: 10s", "pause: 300ms")]).await?;
    let started = site.start(&build, "build-1", &json!({ "build": "main-42" })).await?;
    until("it was looked at three times", BOUND, || async {
        let journal = site.lines("main-42/journal");
        (journal.iter().filter(|line| *line == "look").count() >= 3).then_some(())
    })
    .await;
    fs::write(site.path().join("main-42/result"), "passed\n")?;
    let over = site.over(started.run()).await?;
    let looks = over.outcomes().iter().filter(|outcome| outcome.starts_with("watch.")).count();
    assert!(looks >= 3, "{:?}", over.facts);
    assert_eq!(over.output(), json!({ "state": "passed", "looks": looks }));
    assert_eq!(site.event("builds.ended").await?, json!({ "build": "main-42", "state": "passed" }));
    assert_eq!(site.lines("main-42/journal").iter().filter(|line| *line != "look").collect::<Vec<_>>(), ["begin"]);
    Ok(())
}

#[tokio::test]
async fn a_build_that_takes_too_long_is_stopped() -> Result<()> {
    let site = Site::with_commands("builds.agent.yaml", "stop-build", "BUILD_DIR").await?;
    let times = [("pause: 10s", "pause: 300ms"), ("timeout: 30m", "timeout: 3s")];
    let build = site.apply_hurried("build.yaml", &times).await?;
    let over = site.run(&build, "build-2", &json!({ "build": "main-43" })).await?;
    assert_eq!(over.outcome.failure().context("a failure")?.code, codes::RUN_TIMEOUT, "{:?}", over.outcome);
    assert_ne!(over.outcome.status, Status::Completed);
    assert_eq!(over.outcomes().last(), Some(&"undo_begin.0"));
    let journal = site.lines("main-43/journal");
    assert_eq!(
        (journal.first().map(String::as_str), journal.last().map(String::as_str)),
        (Some("begin"), Some("stop"))
    );
    assert_eq!(journal.iter().filter(|line| *line == "stop").count(), 1);
    Ok(())
}
