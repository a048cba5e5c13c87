//! Runs that go to their end.

use anyhow::{Context, Result, ensure};
use client::RunRecord;
use nix::sys::signal::Signal;
use protocol::{Status, WorkflowName, codes};
use serde_json::{Value, json};
use sortie_tests::{raw, until};

use crate::site::{BOUND, Site, run, three_steps};

#[tokio::test]
async fn a_run_of_three_steps_ends_with_its_outcome_and_leaves_nothing() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let three = site.apply(&three_steps()).await?;
    let started = site.fleet.client.start(&three, &json!({ "n": 1, "ms": 0 })).submit().await?;
    let outcome = started.outcome(BOUND).await?;
    assert_eq!(outcome.result::<i64>().unwrap(), 3, "{outcome:?}");
    site.is_empty().await;
    let steps: Vec<String> = ["a", "b", "c"].iter().map(|step| format!("{}~{step}~0", started.run())).collect();
    assert_eq!(
        site.begun.all().into_iter().collect::<Vec<_>>(),
        steps.into_iter().map(|id| (id, 1)).collect::<Vec<_>>()
    );

    let record = site.fleet.client.run_record(started.run()).await?.context("a record")?;
    let RunRecord::Ended(summary) = &record else { panic!("it is over") };
    assert_eq!(
        (summary.workflow.as_str(), summary.version.as_str(), summary.status),
        ("three", "1.0.0", Status::Completed)
    );
    let names: Vec<&str> = record.facts().iter().map(|fact| fact.name.as_str()).collect();
    assert_eq!(names, ["started", "step.a.0.outcome", "step.b.0.outcome", "step.c.0.outcome"]);
    assert!(summary.started_at <= summary.ended_at);
    let ended = site.fleet.client.ended_runs(&client::RunFilter::default()).await?;
    assert_eq!(ended.iter().map(|run| run.run.clone()).collect::<Vec<_>>(), [started.run().clone()]);
    Ok(())
}

/// Where many facts are alive, logs are removed fact by fact, and not by a purge.
#[tokio::test(flavor = "multi_thread")]
async fn among_many_facts_a_run_that_ends_leaves_nothing_either() -> Result<()> {
    const OTHERS: u64 = 2_500;
    let site = Site::start().await?;
    let three = site.apply(&three_steps()).await?;
    let timed = json!({
        "workflow": "timed", "version": "1.0.0", "timeout": "1h",
        "steps": {
            "nap": { "wait": "300ms" },
            "gate": { "needs": ["nap"], "signal": "go", "timeout": "1h", "otherwise": 0 },
            "last": { "needs": ["gate"], "call": "work", "with": { "give": "done" } },
        },
        "output": "${ steps.last.output }",
    });
    let timed = site.apply(&timed).await?;
    for number in 0..OTHERS {
        site.publisher.publish(&broker::Outgoing::new(format!("fleet.run.others.signal.s{number}"), "1")).await?;
    }
    let _coordinator = site.coordinate().await?;
    let client = &site.fleet.client;
    let plain = client.start(&three, &json!({ "n": 1, "ms": 0 })).submit().await?;
    let waits = client.start(&timed, &Value::Null).submit().await?;
    site.fleet.has_timer(waits.run(), "gate~0").await;
    client.signal(waits.run(), &protocol::StepName::parse("go")?, &1, None).await?;
    for started in [plain, waits] {
        let outcome = started.outcome(BOUND).await?;
        assert_eq!(outcome.status, Status::Completed, "{outcome:?}");
    }
    // What is left of a log without its first fact is no run that goes on: a coordinator died while it removed it.
    raw::publish(&site.fleet, "fleet.outcome.half", &[("Sortie-Status", "completed")], "3").await?;
    raw::publish(&site.fleet, "fleet.run.half.step.a.0.outcome", &[("Sortie-Status", "completed")], "1").await?;
    until("it is removed", BOUND, || async {
        let state = broker::topology::stream_state(&site.fleet.connection, &site.names.runs).await.ok()?;
        (state.messages == OTHERS).then_some(())
    })
    .await;
    Ok(())
}

/// A coordinator that is killed between the two leaves an outcome and a log.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_outcome_is_stored_still_tells_that_it_ended_and_is_removed() -> Result<()> {
    let site = Site::start().await?;
    let three = site.apply(&three_steps()).await?;
    let first = site.coordinator_process()?;
    let started = site.fleet.client.start(&three, &json!({ "n": 1, "ms": 1_000 })).submit().await?;
    until("the last step is begun", BOUND, || async {
        site.begun.has(&format!("{}~c~0", started.run())).then_some(())
    })
    .await;
    first.signal(Signal::SIGKILL)?;
    site.has_fact(started.run(), "step.c.0.outcome").await;
    let place = format!("fleet.outcome.{}", started.run());
    let headers = [("Sortie-Request-Id", started.run().as_str()), ("Sortie-Status", "completed")];
    raw::publish(&site.fleet, &place, &headers, "3").await?;
    assert_eq!(site.events("sys.run").await, 0);
    let _next = site.coordinate().await?;
    site.is_empty().await;
    let record = site.fleet.client.run_record(started.run()).await?.context("a record")?;
    let RunRecord::Ended(summary) = &record else { panic!("it is over") };
    assert_eq!((summary.status, summary.facts.len()), (Status::Completed, 4));
    assert_eq!(site.events("sys.run").await, 1);
    Ok(())
}

#[tokio::test]
async fn by_hand_a_run_is_a_publish_and_its_outcome_lies_under_its_sequence() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    site.apply(&three_steps()).await?;
    let sequence = raw::publish(&site.fleet, "fleet.start.three", &[], r#"{"n":5,"ms":0}"#).await?;
    let outcome = site.outcome(&run(&format!("seq-{sequence}"))).await?;
    assert_eq!(outcome.result::<i64>().unwrap(), 7, "{outcome:?}");
    site.is_empty().await;
    Ok(())
}

#[tokio::test]
async fn a_sub_run_answers_the_step_that_asked_for_it_and_fails_it_with_itself() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    site.apply(&three_steps()).await?;
    let outer = site
        .apply(&json!({
            "workflow": "outer", "version": "1.0.0",
            "steps": {
                "inner": { "workflow": "three", "with": { "n": "${ input.n }", "ms": 0 } },
                "missing": { "needs": ["inner"], "workflow": "nowhere", "on_error": "continue" },
            },
            "output": { "inner": "${ steps.inner.output }", "missing": "${ steps.missing.status }" },
        }))
        .await?;
    let started = site.fleet.client.start(&outer, &json!({ "n": 10 })).submit().await?;
    let outcome = started.outcome(BOUND).await?;
    assert_eq!(outcome.result::<Value>().unwrap(), json!({ "inner": 12, "missing": "failed" }), "{outcome:?}");
    site.is_empty().await;
    let record = site.fleet.client.run_record(started.run()).await?.context("a record")?;
    let missing = record.facts().iter().find(|fact| fact.name == "step.missing.0.outcome").context("an outcome")?;
    ensure!(missing.body.as_deref().is_some_and(|body| body.contains(codes::WORKFLOW_UNKNOWN)), "{missing:?}");
    let dead = broker::topology::stream_state(&site.fleet.connection, &site.names.dead).await?;
    assert_eq!(dead.messages, 0, "a step's failure belongs to its run");
    Ok(())
}

#[tokio::test]
async fn what_is_large_goes_from_step_to_step_by_reference() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let large = site
        .apply(&json!({
            "workflow": "large", "version": "1.0.0",
            "steps": {
                "first": { "call": "work", "with": { "give": "${ input }" } },
                "second": { "needs": ["first"], "call": "work", "with": { "give": "${ steps.first.output }" } },
                "size": { "needs": ["second"], "call": "work", "with": { "give": "${ size(steps.second.output) }" } },
            },
            "output": { "size": "${ steps.size.output }", "whole": "${ steps.second.output }" },
        }))
        .await?;
    let input = "x".repeat(700 * 1024);
    let started = site.fleet.client.start(&large, &input).submit().await?;
    let outcome = started.outcome(BOUND).await?;
    let result = outcome.result::<Value>().map_err(|failure| anyhow::anyhow!("{failure}"))?;
    assert_eq!(result["size"], json!(input.len()));
    assert_eq!(result["whole"].as_str().map(str::len), Some(input.len()));
    site.is_empty().await;
    Ok(())
}

#[tokio::test]
async fn the_same_start_twice_is_one_run() -> Result<()> {
    let site = Site::start().await?;
    let three = site.apply(&three_steps()).await?;
    let (id, input) = (run("order-1"), json!({ "n": 1, "ms": 0 }));
    let headers = [("Sortie-Request-Id", "order-1")];
    site.fleet.client.start(&three, &input).id(&id).submit().await?;
    // By hand it is queued once more; whoever takes it finds the run, or its outcome.
    raw::publish(&site.fleet, "fleet.start.three", &headers, input.to_string()).await?;
    let _coordinator = site.coordinate().await?;
    assert_eq!(site.outcome(&id).await?.result::<i64>().unwrap(), 3);
    site.is_empty().await;
    raw::publish(&site.fleet, "fleet.start.three", &headers, input.to_string()).await?;
    site.is_empty().await;
    let again = site.fleet.client.start(&three, &input).id(&id).submit().await?;
    assert!(matches!(again.acceptance(), client::Acceptance::Done(_)));
    assert_eq!(site.begun.all().values().copied().collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(site.events("sys.run").await, 1);
    Ok(())
}

/// As where a start was handled twice, and the second time took longer than the whole run.
#[tokio::test]
async fn a_run_that_begins_again_after_its_end_is_ended_and_does_nothing() -> Result<()> {
    let site = Site::start().await?;
    let three = site.apply(&three_steps()).await?;
    let _coordinator = site.coordinate().await?;
    let started = site.fleet.client.start(&three, &json!({ "n": 1, "ms": 0 })).submit().await?;
    assert_eq!(site.outcome(started.run()).await?.result::<i64>().unwrap(), 3);
    site.is_empty().await;
    let summary = site.fleet.client.run_summary(started.run()).await?.unwrap();
    let first = &summary.facts[0];
    assert_eq!(first.name, "started");
    let ours = first.headers.iter().filter(|(name, _)| !name.starts_with("Nats-"));
    let headers: Vec<(&str, &str)> = ours.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let subject = format!("fleet.run.{}.started", started.run());
    raw::publish(&site.fleet, &subject, &headers, first.body.clone().unwrap()).await?;
    site.is_empty().await;
    assert_eq!(site.begun.all().values().copied().collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(site.events("sys.run").await, 1);
    assert_eq!(site.outcome(started.run()).await?.result::<i64>().unwrap(), 3);
    Ok(())
}

#[tokio::test]
async fn a_new_version_never_touches_a_run_that_has_begun() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let waits = |version: &str, give: i64| {
        json!({
            "workflow": "waits", "version": version,
            "steps": {
                "go": { "signal": "go" },
                "last": { "needs": ["go"], "call": "work", "with": { "give": give } },
            },
            "output": "${ steps.last.output }",
        })
    };
    let name: WorkflowName = site.apply(&waits("1.0.0", 1)).await?;
    let old = site.fleet.client.start(&name, &json!({})).submit().await?;
    site.has_fact(old.run(), "started").await;
    site.apply(&waits("2.0.0", 2)).await?;
    let new = site.fleet.client.start(&name, &json!({})).submit().await?;
    site.has_fact(new.run(), "started").await;
    for started in [&old, &new] {
        site.fleet.client.signal(started.run(), &"go".parse()?, &Value::Null, None).await?;
    }
    assert_eq!(old.outcome(BOUND).await?.result::<i64>().unwrap(), 1);
    assert_eq!(new.outcome(BOUND).await?.result::<i64>().unwrap(), 2);
    until("both are told", BOUND, || async { (site.events("sys.run.waits").await == 2).then_some(()) }).await;
    Ok(())
}

#[tokio::test]
async fn a_run_done_again_keeps_what_completed() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let mut definition = three_steps();
    definition["steps"]["c"]["with"]["fail"] = json!("${ input.fail }");
    let three = site.apply(&definition).await?;
    let input = json!({ "n": 1, "ms": 0, "fail": "no_luck" });
    let failed = site.fleet.client.start(&three, &input).submit().await?;
    assert_eq!(failed.outcome(BOUND).await?.status, Status::Failed);
    site.is_empty().await;
    let input = json!({ "n": 1, "ms": 0, "fail": null });
    let again = site.fleet.client.start(&three, &input).retry_of(failed.run(), None).submit().await?;
    assert_eq!(again.outcome(BOUND).await?.result::<i64>().unwrap(), 3);
    let from = site.fleet.client.start(&three, &input).retry_of(failed.run(), Some(&"b".parse()?)).submit().await?;
    assert_eq!(from.outcome(BOUND).await?.result::<i64>().unwrap(), 3);
    let begun = site.begun.all();
    let of = |run: &protocol::RunId| begun.keys().filter(|id| id.starts_with(run.as_str())).count();
    assert_eq!((of(failed.run()), of(again.run()), of(from.run())), (3, 1, 2));

    // With the input that it had, it fails as it did; and of a run that nobody knows nothing is done again.
    let same = site.fleet.client.retry_run(&three, failed.run(), None).submit().await?;
    assert_eq!(same.outcome(BOUND).await?.status, Status::Failed);
    let none = site.fleet.client.retry_run(&three, &run("nobody"), None).submit().await?;
    assert_eq!(none.outcome(BOUND).await?.failure().context("a failure")?.code, codes::NOT_FOUND);
    site.is_empty().await;
    Ok(())
}
