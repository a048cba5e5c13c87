//! Agents that live and do not work.

use anyhow::Result;
use nix::sys::signal::Signal;
use serde_json::json;
use sortie_tests::{Fleet, process::Start};

use crate::bystander::{doctor, found, gone, seen};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hangs() -> Result<()> {
    let fleet = Fleet::start().await?;
    let process = Start::new(env!("CARGO_BIN_EXE_test-worker")).ready(&fleet).await?;
    assert!(doctor(&fleet).await.of("answering").is_empty());
    process.signal(Signal::SIGSTOP)?;
    let finding = found(&fleet, "answering").await;
    let agent = fleet.client.agents().await?.remove(0);
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!(agent.instance.as_str())));
    assert!(seen(&finding).contains("does not answer: it hangs"), "{finding}");
    // Who does not hear any more is ended by its process id, which the remedy names.
    assert!(finding["remedy"].as_str().unwrap().contains(&format!("end process {}", agent.pid)), "{finding}");
    process.signal(Signal::SIGKILL)?;
    gone(&fleet, "answering").await;
    Ok(())
}
