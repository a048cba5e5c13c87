//! Outcomes in a run's log that nobody waits for: late ones, second ones, of steps that nobody was asked for.

use anyhow::{Context, Result};
use protocol::{RunId, StepName};
use serde_json::{Value, json};
use sortie_tests::{binaries, raw, stock::said, until};
use tokio::process::Command;

use crate::site::{BOUND, Site};

/// What `sortie` says as data.
async fn sortie(site: &Site, arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new(binaries::path("sortie"));
    command.args(["--server", &site.fleet.url()]).args(arguments).arg("--json").kill_on_drop(true);
    Ok(serde_json::from_str(&said(command).await?)?)
}

/// An outcome by hand, with no expectation: the broker takes it whatever is there.
async fn write(site: &Site, run: &RunId, place: &str, status: &str) -> Result<()> {
    let subject = format!("fleet.run.{run}.step.{place}.outcome");
    raw::publish(&site.fleet, &subject, &[("Sortie-Status", status)], "\"by hand\"").await.map(|_| ())
}

/// The facts of a run that changed nothing, with what they are said to be.
async fn nothings(site: &Site, run: &RunId) -> Result<Vec<(String, String)>> {
    let facts = sortie(site, &["run", "replay", run.as_str()]).await?;
    let facts = facts.as_array().context("facts")?;
    let text = |fact: &Value, key: &str| fact[key].as_str().unwrap_or_default().to_owned();
    let nothings = facts.iter().filter(|fact| fact["changes"] == false);
    Ok(nothings.map(|fact| (text(fact, "fact"), text(fact, "why"))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_that_come_late_twice_or_for_what_nobody_asked_change_nothing_and_the_log_shows_them() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let strange = site
        .apply(&json!({
            "workflow": "strange", "version": "1.0.0",
            "steps": {
                "first": { "call": "work", "with": { "give": 1 } },
                "either": {
                    "race": {
                        "quick": { "call": "work", "with": { "give": "quick" } },
                        "slow": { "call": "work", "with": { "give": "slow", "ms": 600_000 } },
                    },
                },
                "go": { "needs": ["first", "either"], "signal": "go" },
                "last": { "needs": ["go"], "call": "work", "with": { "give": "${ steps.first.output + 1 }" } },
            },
            "output": ["${ steps.first.output }", "${ steps.either.output }", "${ steps.last.output }"],
        }))
        .await?;
    let started = site.fleet.client.start(&strange, &json!({})).submit().await?;
    let run = started.run();
    for fact in ["step.first.0.outcome", "step.either.0.outcome", "step.either.1.outcome"] {
        site.has_fact(run, fact).await;
    }
    let before = sortie(&site, &["run", "show", run.as_str()]).await?;
    let expected = [
        // The same again, and another word on it.
        ("first.0", "completed", "has happened before"),
        ("first.0", "failed", "has happened before"),
        // Which of the two was cancelled is what the race made of it: it comes after its cancellation.
        ("either.1", "completed", "has happened before"),
        // Nobody has been asked for these.
        ("last.0", "completed", "answers what nobody asked"),
        ("last.0", "failed", "answers what nobody asked"),
        ("first.7", "completed", "answers what nobody asked"),
        ("nobody.0", "completed", "names no step of the workflow"),
    ];
    for (place, status, _) in expected {
        write(&site, run, place, status).await?;
    }
    for fact in ["timer.go~0.fired", "nonsense"] {
        raw::publish(&site.fleet, &format!("fleet.run.{run}.{fact}"), &[], "").await?;
    }
    let mut told: Vec<(String, String)> =
        expected.iter().map(|(place, _, why)| (format!("step.{place}.outcome"), (*why).to_owned())).collect();
    told.push(("timer.go~0.fired".to_owned(), "is what nobody waits for any more".to_owned()));
    told.push(("nonsense".to_owned(), "cannot be read".to_owned()));
    assert_eq!(nothings(&site, run).await?, told);
    let mut after = sortie(&site, &["run", "show", run.as_str()]).await?;
    assert_ne!(before["last_sequence"], after["last_sequence"]);
    after["last_sequence"] = before["last_sequence"].clone();
    assert_eq!(after, before, "it looks as before");

    // The step that had an outcome before anybody was asked is asked for all the same.
    site.fleet.client.signal(run, &StepName::parse("go")?, &1, None).await?;
    let outcome = started.outcome(BOUND).await?;
    assert_eq!(outcome.result::<Value>().map_err(|failure| failure.to_string()), Ok(json!([1, "quick", 2])));
    until("its summary is kept", BOUND, || async {
        matches!(site.fleet.client.run_record(run).await, Ok(Some(client::RunRecord::Ended(_)))).then_some(())
    })
    .await;
    // What had the place of the outcome that counts had to make room for it in the stream; its summary still tells of it.
    assert_eq!(nothings(&site, run).await?, told);
    assert_eq!(sortie(&site, &["run", "show", run.as_str()]).await?["status"], "completed");
    let begun = site.begun.all();
    assert_eq!(begun.get(&format!("{run}~last~0")), Some(&1));
    assert_eq!(begun.get(&format!("{run}~first~0")), Some(&1));
    site.is_empty().await;
    Ok(())
}
