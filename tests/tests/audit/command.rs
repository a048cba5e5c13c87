//! What people see of it.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn what_submit_map_and_run_start_note_is_proved() -> Result<()> {
    let site = Site::start().await?;
    let [one, _] = site.workflows().await?;
    let _worker = site.worker().await?;
    let file = site.file();
    let file = file.to_str().unwrap();
    for arguments in [
        &["submit", "work", "{\"do\":\"echo\"}", "--accepted", file][..],
        &["submit", "work", "{\"do\":\"echo\"}", "--accepted", file, "--wait"],
        &["submit", "work", "1", "--accepted", file, "--unique", "key"],
        &["submit", "work", "1", "--accepted", file, "--id", "order-17", "--delay", "1h"],
        &["submit", "work", "1", "--accepted", file, "--id", "order-17", "--delay", "1h"],
        &["run", "start", one.as_str(), "{}", "--accepted", file, "--id", "run-17"],
    ] {
        let output = site.sortie(arguments).await?;
        assert!(output.status.success(), "{output:?}");
    }
    let mut map = std::process::Command::new(sortie_tests::binaries::path("sortie"));
    map.args(["--server", &site.fleet.url(), "map", "work", "--accepted", file]);
    let mut map = map.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn()?;
    map.stdin.take().unwrap().write_all(b"1\n2\n3\n")?;
    assert!(tokio::task::spawn_blocking(move || map.wait()).await??.success());
    site.at_rest(2).await;
    let proof = site.proved().await?;
    assert_eq!((proof.accepted, proof.again, proof.found.completed), (9, 1, 6), "{proof:?}");
    assert_eq!((proof.found.scheduled, proof.found.waiting), (1, 1), "{proof:?}");
    // A client that was killed within a line.
    let mut torn = std::fs::OpenOptions::new().append(true).open(file)?;
    torn.write_all(b"{\"id\":\"order-18\",\"requ")?;
    let told = site.sortie(&["audit", "--accepted", file]).await?;
    let text = String::from_utf8(told.stdout)?;
    assert!(text.contains("9 accepted\n") && text.contains("note: 1 line torn"), "{text}");
    assert!(text.ends_with("proved: nothing is lost, and nothing is there twice\n"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_none_is_refused_and_a_broker_that_is_none_is_told() -> Result<()> {
    let site = Site::start().await?;
    std::fs::write(site.file(), "[]\n")?;
    let file = site.file();
    let refused = site.sortie(&["audit", "--accepted", file.to_str().unwrap()]).await?;
    let text = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(text.contains("accepted.jsonl, line 1: ") && text.contains("--accepted FILE"), "{text}");
    std::fs::write(site.file(), "")?;
    site.submit("a", json!(1)).await?;
    let other = site.sortie(&["--namespace", "other", "audit", "--accepted", file.to_str().unwrap()]).await?;
    assert_eq!(other.status.code(), Some(64), "{other:?}");
    let mut gone = tokio::process::Command::new(sortie_tests::binaries::path("sortie"));
    let gone = gone.args(["--server", "127.0.0.1:1", "audit", "--accepted", file.to_str().unwrap()]).output().await?;
    assert_eq!(gone.status.code(), Some(69), "{gone:?}");
    Ok(())
}
