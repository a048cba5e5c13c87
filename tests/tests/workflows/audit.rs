//! The audit of a folder by the built-in agent of files.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::Result;
use protocol::Status;
use serde_json::{Value, json};
use sortie_tests::{binaries, raw};
use tempfile::TempDir;
use tokio::process::Command;

use crate::site::Site;

/// A folder with sources and one for reports, and an agent that may use them.
async fn site() -> Result<(Site, PathBuf)> {
    let folder: TempDir = tempfile::tempdir()?;
    let sources = folder.path().join("src");
    fs::create_dir(&sources)?;
    fs::create_dir(folder.path().join("reports"))?;
    for number in 0..40 {
        fs::write(sources.join(format!("{number}.rs")), "fn fleet() {}\n".repeat(number))?;
    }
    let mut agent = Command::new(binaries::path("agent-files"));
    agent.arg("--root").arg(&sources).arg("--reports").arg(folder.path().join("reports"));
    Ok((Site::with(agent, "write-report", folder).await?, sources))
}

fn leak(sources: &std::path::Path) -> Result<()> {
    Ok(fs::write(sources.join("config.env"), "user=ann\nkey=AKIAIOSFODNN7EXAMPLE\n")?)
}

#[tokio::test]
async fn a_clean_folder_has_its_report_without_anybody_being_asked() -> Result<()> {
    let (site, sources) = site().await?;
    let audit = site.apply(&["repo-audit.yaml"]).await?;
    let over = site.run(&audit, "audit-1", &json!({ "path": sources })).await?;
    let output = over.output();
    assert_eq!((&output["files"], &output["examined"], &output["secrets"]), (&json!(40), &json!(40), &json!(0)));
    assert_eq!(output["report"]["files"], 40);
    let report = fs::read_to_string(site.path().join("reports/audit.md"))?;
    assert!(report.contains("40 files were examined.") && report.contains("None were found."), "{report}");
    let outcomes = over.outcomes();
    assert_eq!((outcomes.first(), outcomes.last()), (Some(&"files.0"), Some(&"report.0")));
    let examined: BTreeSet<&str> = outcomes.iter().copied().filter(|one| one.starts_with("examine.")).collect();
    assert_eq!((examined.len(), outcomes.len()), (40, 43), "each once: {outcomes:?}");
    Ok(())
}

#[tokio::test]
async fn a_report_on_secrets_waits_for_somebody_who_approves() -> Result<()> {
    let (site, sources) = site().await?;
    leak(&sources)?;
    let audit = site.apply(&["repo-audit.yaml"]).await?;
    let started = site.start(&audit, "audit-2", &json!({ "path": sources, "report": "mine.md" })).await?;
    site.fleet.has_timer(started.run(), "gate~0").await;
    let report = site.path().join("reports/mine.md");
    assert!(!report.exists(), "nobody has approved");
    raw::publish(&site.fleet, "fleet.run.audit-2.signal.approve", &[], r#"{"approved":true,"by":"ann"}"#).await?;
    let over = site.over(started.run()).await?;
    assert_eq!((&over.output()["secrets"], &over.output()["report"]["name"]), (&json!(1), &json!("mine.md")));
    let text = fs::read_to_string(report)?;
    assert!(text.contains("| `config.env` | 2 | AWS access key |") && text.contains("Approved by ann."), "{text}");
    assert!(!text.contains("AKIA"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_report_that_is_not_approved_is_not_written() -> Result<()> {
    let (site, sources) = site().await?;
    leak(&sources)?;
    let audit = site.apply(&["repo-audit.yaml"]).await?;
    let started = site.start(&audit, "audit-3", &json!({ "path": sources })).await?;
    site.fleet.has_timer(started.run(), "gate~0").await;
    raw::publish(&site.fleet, "fleet.run.audit-3.signal.approve", &[], r#"{"approved":false,"by":"ann"}"#).await?;
    let over = site.over(started.run()).await?;
    assert_eq!((over.outcome.status, &over.output()["report"]), (Status::Completed, &Value::Null));
    assert_eq!(fs::read_dir(site.path().join("reports"))?.count(), 0);
    Ok(())
}
