//! Workflows that go to their end by themselves.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

use anyhow::Result;
use protocol::Status;
use serde_json::json;
use sortie_tests::binaries;
use tokio::process::Command;

use crate::site::{Site, shipped};

/// Every shipped workflow. Each is run by a test here, alone or as a part of another.
const SHIPPED: [&str; 10] = [
    "build.yaml",
    "expense.yaml",
    "log-digest.yaml",
    "nightly.yaml",
    "order.yaml",
    "release-index.yaml",
    "release-pack.yaml",
    "release-publish.yaml",
    "release.yaml",
    "repo-audit.yaml",
];

#[tokio::test]
async fn every_shipped_file_is_right_and_has_a_test() -> Result<()> {
    let names = fs::read_dir(shipped(""))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<std::io::Result<BTreeSet<String>>>()?;
    let workflows: Vec<&String> =
        names.iter().filter(|name| name.ends_with(".yaml") && !name.ends_with(".agent.yaml")).collect();
    assert_eq!(workflows, SHIPPED);
    let mut command = Command::new(binaries::path("sortie"));
    command.args(["workflow", "validate", "--offline"]).args(SHIPPED.map(shipped)).kill_on_drop(true);
    let output = command.output().await?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{out}{err}");
    assert_eq!(out.lines().count(), SHIPPED.len());
    Ok(())
}

#[tokio::test]
async fn log_digest_counts_every_log_and_merges_what_could_be_counted() -> Result<()> {
    let site = Site::with_commands("logs.agent.yaml", "write-digest", "LOGS_DIR").await?;
    let digest = site.apply(&["log-digest.yaml"]).await?;
    let logs = site.path().join("logs");
    fs::create_dir(&logs)?;
    fs::write(logs.join("a.log"), "INFO up\nERROR disk\nERROR disk\nWARN hot\n")?;
    fs::write(logs.join("b.log"), "INFO up\n")?;
    fs::write(logs.join("c.log"), "ERROR net\nWARN hot\n")?;
    // A log that was rotated away in the same moment.
    symlink("gone", logs.join("d.log"))?;
    fs::write(logs.join("notes.txt"), "ERROR is a word\n")?;
    let over = site.run(&digest, "digest-1", &json!({ "folder": logs })).await?;
    let file = logs.join("digest.md");
    assert_eq!(over.output(), json!({ "file": file, "logs": 4, "errors": 3, "warnings": 2 }));
    let text = fs::read_to_string(&file)?;
    assert!(text.contains("4 logs (") && text.contains("Errors in: a.log, c.log"), "{text}");
    let outcomes = over.outcomes();
    assert_eq!((outcomes.first(), outcomes.last()), (Some(&"logs.0"), Some(&"digest.0")));
    let between: BTreeSet<&str> = outcomes[1..outcomes.len() - 1].iter().copied().collect();
    assert_eq!(between, BTreeSet::from(["count.0", "count.1", "count.2", "count.3", "size.0"]));
    assert_eq!(outcomes.len(), 7, "each once: {outcomes:?}");
    Ok(())
}

#[tokio::test]
async fn release_is_a_chain_whose_last_link_answers_the_first() -> Result<()> {
    let site = Site::with_commands("release.agent.yaml", "index-site", "RELEASE_DIR").await?;
    let chain = ["release.yaml", "release-pack.yaml", "release-publish.yaml", "release-index.yaml"];
    let release = site.apply(&chain).await?;
    let tool = site.path().join("tool");
    for folder in ["src", "site"] {
        fs::create_dir_all(tool.join(folder))?;
    }
    fs::write(tool.join("src/main.c"), "int main() {}\n")?;
    let over = site.run(&release, "release-1", &json!({ "folder": tool, "version": "1.2.0" })).await?;
    let output = over.output();
    assert_eq!(output["published"], json!(["tool-1.2.0.tar"]));
    assert_eq!(over.outcomes(), ["pack.0", "publish.0"]);
    let told = site.event("releases.published").await?;
    assert_eq!((&told["version"], &told["sha256"]), (&json!("1.2.0"), &output["sha256"]));
    assert_eq!(output["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(fs::read(tool.join("site/tool-1.2.0.tar"))?, fs::read(tool.join("packages/tool-1.2.0.tar"))?);
    assert_eq!(fs::read_to_string(tool.join("site/index.txt"))?, "tool-1.2.0.tar\n");

    // A folder without a site: the failure comes up the chain, and the package goes.
    fs::remove_dir_all(tool.join("site"))?;
    let over = site.run(&release, "release-2", &json!({ "folder": tool, "version": "1.3.0" })).await?;
    assert_eq!(over.outcome.status, Status::Failed);
    assert_eq!(over.outcomes(), ["pack.0", "publish.0", "undo_pack.0"]);
    let packages: Vec<_> = fs::read_dir(tool.join("packages"))?.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(packages, ["tool-1.2.0.tar"]);
    Ok(())
}
