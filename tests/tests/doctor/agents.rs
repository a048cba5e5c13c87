//! Agents that live and do not work, and what kills them.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use broker::{Bucket, Publisher};
use nix::sys::signal::Signal;
use protocol::{Status, codes, topology::Names};
use serde_json::json;
use sortie_tests::{Fleet, binaries, fleet::capability, process::Start, stock, until};
use tokio::sync::Notify;

use crate::bystander::{PATIENCE, doctor, entry, found, gone, remedy, repair, seen, sortie, start, why};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hangs() -> Result<()> {
    let fleet = Fleet::start().await?;
    let process = Start::new(env!("CARGO_BIN_EXE_test-worker")).ready(&fleet).await?;
    assert!(doctor(&fleet).await.of("answering").is_empty());
    let lasts = json!({ "do": "sleep", "ms": 60_000 });
    let receipt = fleet.client.request(&capability("work"), &lasts).submit().await?;
    let id = receipt.id().as_str();
    until("it runs", PATIENCE, || async { (why(&fleet, id).await == "running").then_some(()) }).await;
    process.signal(Signal::SIGSTOP)?;
    let finding = found(&fleet, "answering").await;
    let agent = fleet.client.agents().await?.remove(0);
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!(agent.instance.as_str())));
    assert!(seen(&finding).contains("does not answer: it hangs"), "{finding}");
    // Who does not hear any more is ended by its process id, which the remedy names.
    assert!(finding["remedy"].as_str().unwrap().contains(&format!("end process {}", agent.pid)), "{finding}");
    // So is who waits for what it has in hand.
    let told = sortie(&fleet, &["why", id]).await;
    let told = String::from_utf8(told.stdout)?;
    assert!(told.contains(agent.instance.as_str()) && told.contains(&format!("`kill -9 {}`", agent.pid)), "{told}");
    process.signal(Signal::SIGKILL)?;
    gone(&fleet, "answering").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn work_in_the_hands_of_the_last_agent_that_hangs_is_told_also_when_its_entry_is_gone() -> Result<()> {
    let fleet = Fleet::start().await?;
    let lasts = json!({ "do": "sleep", "ms": 8_000 });
    let one = Start { slots: 1, registry_ttl: Duration::from_secs(6), ..Start::new(env!("CARGO_BIN_EXE_test-worker")) };
    let process = one.ready(&fleet).await?;
    let hung = fleet.client.agents().await?.remove(0).pid;
    let mut coordinator = start(&fleet, &["process", "coordinator"]);
    gone(&fleet, "coordinator").await;
    let receipt = fleet.client.request(&capability("work"), &lasts).submit().await?;
    let id = receipt.id().as_str();
    until("it runs", PATIENCE, || async { (why(&fleet, id).await == "running").then_some(()) }).await;
    assert!(doctor(&fleet).await.of("unserved").is_empty());
    process.signal(Signal::SIGSTOP)?;
    found(&fleet, "answering").await;
    // Its entry runs out, and its work is still counted as in hand: what tells is that this does not move.
    gone(&fleet, "answering").await;
    let finding = found(&fleet, "unserved").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!("work")));
    assert!(seen(&finding).contains("1 request in the hands of agents that are gone, last seen "), "{finding}");
    assert!(finding["remedy"].as_str().unwrap().contains("start an agent that serves work"), "{finding}");
    assert_eq!(why(&fleet, id).await, "unserved");
    let queues = sortie(&fleet, &["queues", "--over", "0s", "--capability", "work"]).await;
    let queues = String::from_utf8(queues.stdout)?;
    assert!(queues.contains("nobody serves it: what runs is in the hands of agents that are gone"), "{queues}");
    // A monitoring system hears of it too.
    let check = sortie(&fleet, &["check", "queue", "--warn", "1"]).await;
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    // Which process it was is known as soon as a coordinator has told that it is gone.
    until("it is named", PATIENCE, || async {
        let told = doctor(&fleet).await.of("unserved");
        let finding = told.first()?;
        let is_ended = finding["remedy"].as_str()?.contains(&format!("`kill -9 {hung}`"));
        (is_ended && seen(finding).contains(&format!("process {hung} on "))).then_some(())
    })
    .await;
    // What comes behind it is refused to whoever wants it served.
    let refused = sortie(&fleet, &["submit", "work", "1", "--served"]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let _other = one.ready(&fleet).await?;
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Completed);
    gone(&fleet, "unserved").await;
    process.signal(Signal::SIGKILL)?;
    coordinator.kill().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn work_whose_agents_are_all_paused() -> Result<()> {
    let fleet = Fleet::start().await?;
    let process = Start::new(env!("CARGO_BIN_EXE_test-worker")).ready(&fleet).await?;
    let paused = sortie(&fleet, &["agents", "pause", "--all"]).await;
    assert!(paused.status.success(), "{paused:?}");
    let receipt = fleet.client.request(&capability("work"), &json!({})).submit().await?;
    let finding = found(&fleet, "unserved").await;
    assert_eq!(finding["severity"], "warning", "{finding}");
    assert!(seen(&finding).contains("1 request waiting, and every agent that serves it is paused"), "{finding}");
    assert_eq!(why(&fleet, receipt.id().as_str()).await, "agents_paused");
    repair(&fleet, &finding).await?;
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Completed);
    gone(&fleet, "unserved").await;
    drop(process);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kills_its_workers() -> Result<()> {
    // Its three deaths take half a minute, and are not waited for while somebody builds.
    binaries::path("sortie");
    let fleet = Arc::new(Fleet::start().await?);
    // The dead leave the registry soon: who is gone is told by that.
    let start = Start { registry_ttl: Duration::from_secs(6), ..Start::new(env!("CARGO_BIN_EXE_test-worker")) };
    let _keeper = start.supervise(&fleet, &Arc::new(Notify::new()))?;
    let receipt = fleet.client.request(&capability("work"), &json!({ "do": "die" })).submit().await?;
    // The second worker took it with a mark, and died: the doctor says so before the third does.
    let finding = found(&fleet, "poison").await;
    assert_eq!(finding["about"], receipt.id().as_str(), "{finding}");
    assert!(seen(&finding).contains("fleet.request.work") && seen(&finding).contains("died"), "{finding}");
    assert!(seen(&finding).contains("2 workers died with it") || seen(&finding).contains("3 workers"), "{finding}");
    assert_eq!(remedy(&finding), ["cancel", receipt.id().as_str()]);
    until("why says so too", PATIENCE, || async {
        let told = sortie(&fleet, &["why", receipt.id().as_str()]).await;
        String::from_utf8_lossy(&told.stdout).contains("workers that died; at 3 it is set aside").then_some(())
    })
    .await;
    // Left alone, the third sets it aside; its story is a finding until somebody has read it and dropped it.
    let outcome = receipt.outcome(PATIENCE).await?;
    assert_eq!(
        (outcome.status, outcome.failure().context("a failure")?.code.as_str()),
        (Status::Failed, codes::POISON)
    );
    gone(&fleet, "poison").await;
    let finding = found(&fleet, "dead-letters").await;
    assert!(seen(&finding).contains("work: 1 request given up") && seen(&finding).contains("poison"), "{finding}");
    let story = sortie(&fleet, &remedy(&finding)).await;
    let story = String::from_utf8_lossy(&story.stdout).into_owned();
    assert!(story.contains("workers died") && story.contains("lane        normal"), "{story}");
    assert_eq!(story.matches("\nkilled ").count(), 3, "{story}");
    assert_eq!(why(&fleet, receipt.id().as_str()).await, "dead");
    let dropped = sortie(&fleet, &["dead", "drop", receipt.id().as_str()]).await;
    assert!(dropped.status.success(), "{dropped:?}");
    gone(&fleet, "dead-letters").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_registered_and_takes_nothing() -> Result<()> {
    let fleet = Fleet::start().await?;
    stock::make_consumers(&fleet, "work").await?;
    let receipt = fleet.client.request(&capability("work"), &1).submit().await?;
    // It says that it is ready, and no pull of it is open.
    let idle = entry("work");
    let bucket = Bucket::new(&fleet.connection, &Publisher::new(&fleet.connection), Names::of(&fleet.namespace).agents);
    bucket.put(&idle.key(), serde_json::to_vec(&idle)?, Some(PATIENCE)).await?;
    let finding = found(&fleet, "consuming").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!(idle.instance.as_str())));
    assert!(seen(&finding).contains("10 of 10 slots free, and does not pull: 1 request of work waiting"), "{finding}");
    assert!(doctor(&fleet).await.of("unserved").is_empty(), "an agent lists it");
    let worker = fleet
        .run(
            fleet
                .worker("work")
                .capability("work", |_: worker::Context, input: u32| async move { Ok::<_, worker::Failure>(input) }),
            "work",
        )
        .await?;
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Completed);
    gone(&fleet, "consuming").await;
    worker.stop().await
}

/// A worker of `echo` as another user of the broker.
async fn echo_as(fleet: &Fleet, user: &str) -> Result<sortie_tests::fleet::RunningWorker> {
    let mut config = fleet.worker_config();
    config.broker.user_password = Some((user.to_owned(), "right".to_owned()));
    config.registry_interval = Duration::from_secs(1);
    let echo = |_: worker::Context, input: u32| async move { Ok::<_, worker::Failure>(input) };
    fleet.run(worker::Worker::builder("echo").config(config).capability("echo", echo), "echo").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_user_may_not_do_what_agents_do() -> Result<()> {
    let users = r#"
        authorization { users: [
          { user: fleet, password: right }
          { user: mute, password: right, permissions: { publish: { deny: ["fleet.outcome.>"] } } }
          { user: deaf, password: right, permissions: { subscribe: { deny: ["fleet.control.>"] } } }
        ] }
        no_auth_user: fleet"#;
    let fleet = Fleet::start_with(embedded::Config { extra: users.to_owned(), ..Default::default() }).await?;
    let mute = echo_as(&fleet, "mute").await?;
    assert!(doctor(&fleet).await.of("health").is_empty());
    let receipt = fleet.client.request(&capability("echo"), &1).submit().await?;
    let finding = found(&fleet, "health").await;
    assert_eq!(finding["severity"], "error", "{finding}");
    let refused = format!("this user may not publish on fleet.outcome.{}", receipt.id());
    assert!(seen(&finding).contains("is unhealthy: the broker refuses what it must store"), "{finding}");
    assert!(seen(&finding).contains(&refused), "{finding}");
    assert!(finding["remedy"].as_str().unwrap().contains("nats-config/dev.conf"), "{finding}");
    let listed = String::from_utf8(sortie(&fleet, &["agents", "list"]).await.stdout)?;
    assert!(listed.contains("unhealthy"), "{listed}");
    mute.stop().await?;

    let deaf = echo_as(&fleet, "deaf").await?;
    let finding = found(&fleet, "answering").await;
    assert!(
        seen(&finding).contains("it is not connected, or its user may not subscribe to fleet.control."),
        "{finding}"
    );
    assert!(finding["remedy"].as_str().unwrap().contains("start it again"), "{finding}");
    assert!(finding["remedy"].as_str().unwrap().contains("give its user"), "{finding}");
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Completed, "it works all the same");
    deaf.stop().await
}
