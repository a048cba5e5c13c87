//! The nightly job: a cron starts it, and it catches up on what was missed.

use std::fs;

use anyhow::{Context, Result};
use protocol::RunId;
use serde_json::{Value, json};

use crate::site::{Over, Site};

/// Fires the cron, and waits until the run is over that it starts.
async fn fire(site: &Site) -> Result<(RunId, Over)> {
    let fired = site.sortie(&["cron", "fire", "nightly", "--json"]).await?;
    assert_eq!(fired.code, 0, "{}", fired.err);
    let fired: Value = serde_json::from_str(&fired.out)?;
    let run = RunId::parse(fired["request"].as_str().context("an id")?)?;
    let over = site.over(&run).await?;
    Ok((run, over))
}

#[tokio::test]
async fn a_cron_starts_the_job_which_closes_every_day_that_was_missed_and_each_once() -> Result<()> {
    let site = Site::with_commands("books.agent.yaml", "close-day", "BOOKS_DIR").await?;
    site.apply(&["nightly.yaml"]).await?;
    let sales = site.path().join("sales");
    fs::create_dir(&sales)?;
    for (day, amounts) in [("2026-01-07", "100\n250\n"), ("2026-01-08", ""), ("2026-01-09", "42\n")] {
        fs::write(sales.join(day), amounts)?;
    }
    // A day that is not over yet, however late this test runs.
    fs::write(sales.join("9999-01-01"), "1\n")?;
    fs::create_dir(site.path().join("closed"))?;
    fs::write(site.path().join("closed/2026-01-07"), "350\n")?;
    let added = site.sortie(&["cron", "add", "nightly", "close-books", "--schedule", "0 30 2 * * *"]).await?;
    assert_eq!(added.code, 0, "{}", added.err);
    let (first, over) = fire(&site).await?;
    assert_eq!(over.output(), json!({ "days": ["2026-01-08", "2026-01-09"], "cents": 42 }));
    assert_eq!(over.outcomes(), ["days.0", "close.0", "close.1"], "the oldest first");
    assert_eq!(site.event("books.closed").await?, json!({ "days": ["2026-01-08", "2026-01-09"] }));
    assert_eq!(site.lines("closed/2026-01-09"), ["42"]);

    // Two nights without anybody: the next run closes both days.
    for day in ["2026-01-10", "2026-01-11"] {
        fs::write(sales.join(day), "5\n")?;
    }
    let (second, over) = fire(&site).await?;
    assert_ne!(first, second);
    assert_eq!(over.output(), json!({ "days": ["2026-01-10", "2026-01-11"], "cents": 10 }));
    let (_, over) = fire(&site).await?;
    assert_eq!((over.output(), over.outcomes()), (json!({ "days": [], "cents": 0 }), vec!["days.0"]));
    Ok(())
}
