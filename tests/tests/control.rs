//! Steering running agents: real processes on a real fleet, idle and under load.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use client::Steering;
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{
    InstanceId, RequestId, Status, codes,
    control::{ControlAnswer, Effect},
    registry::{AgentEntry, Health, State},
};
use serde_json::{Value, json};
use sortie_tests::{
    Count, Fleet, PATIENCE, binaries,
    fleet::capability,
    process::{Start, WorkerProcess},
    program, until,
};

const START: Start =
    Start { binary: env!("CARGO_BIN_EXE_test-worker"), slots: 10, registry_ttl: Duration::from_secs(30) };

/// Longer than any answer may take on a busy machine.
const ANSWERED: Duration = Duration::from_secs(10);

async fn agents(fleet: &Fleet) -> Vec<AgentEntry> {
    let mut agents = fleet.client.agents().await.unwrap();
    agents.retain(|agent| !agent.is_gone());
    agents
}

async fn only(fleet: &Fleet) -> AgentEntry {
    let mut agents = agents(fleet).await;
    assert_eq!(agents.len(), 1, "{agents:?}");
    agents.remove(0)
}

async fn steer(fleet: &Fleet, instance: &InstanceId, steering: Steering) -> ControlAnswer {
    fleet.client.steer(instance, &steering, ANSWERED).await.unwrap()
}

/// Says anything to an agent, as a stranger would.
async fn say(fleet: &Fleet, instance: &str, verb: &str, body: &str) -> ControlAnswer {
    let subject = format!("fleet.control.{instance}.{verb}");
    let answer = fleet.connection.request(subject, None, Bytes::from(body.to_owned()), ANSWERED).await.unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

/// Many at once: the agent works them off meanwhile.
async fn submit(fleet: &Fleet, count: u32, ms: impl Fn(u32) -> u32) -> Result<BTreeSet<RequestId>> {
    let submitted = stream::iter(0..count).map(|number| {
        let input = json!({"do": "sleep", "ms": ms(number), "number": number});
        async move {
            let receipt = fleet.client.request(&capability("work"), &input).submit().await?;
            anyhow::Ok(receipt.id().clone())
        }
    });
    submitted.buffer_unordered(64).try_collect().await
}

/// Every one completed, at the first attempt.
async fn assert_nothing_lost_nor_burnt(fleet: &Fleet, accepted: &BTreeSet<RequestId>) -> Result<()> {
    let count = Count::whole(&fleet.client, accepted, Duration::from_secs(60)).await;
    assert_eq!((count.with(Status::Completed), count.dead), (accepted.len(), 0));
    for id in accepted {
        assert_eq!(fleet.client.outcome(id).await?.map(|outcome| outcome.attempt), Some(1), "{id}");
    }
    Ok(())
}

async fn completed(fleet: &Fleet) -> u64 {
    broker::topology::stream_state(&fleet.connection, "FLEET_OUTCOMES").await.unwrap().messages
}

async fn nothing_in_hand(fleet: &Fleet, instance: &InstanceId) {
    until("nothing is in hand", PATIENCE, || async {
        fleet.client.inspect(instance, ANSWERED).await.ok()?.in_hand.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_ends_what_it_has_and_begins_nothing_until_it_is_resumed() -> Result<()> {
    let fleet = Fleet::start().await?;
    let process = START.ready(&fleet).await?;
    let agent = only(&fleet).await;
    let accepted = submit(&fleet, 500, |number| 100 + number % 40).await?;
    until("it works", PATIENCE, || async { (completed(&fleet).await > 20).then_some(()) }).await;
    let answer = steer(&fleet, &agent.instance, Steering::Pause).await;
    assert!(matches!(answer.effect, Some(Effect::Paused { in_hand: 0..=10 })), "{answer:?}");
    assert_eq!((answer.state, answer.refusal), (State::Paused, None));
    let entry = only(&fleet).await;
    assert_eq!((entry.state, entry.health), (State::Paused, Health::Healthy), "the registry says so at once");
    nothing_in_hand(&fleet, &agent.instance).await;
    let done = completed(&fleet).await;
    assert!(done < 500, "all was done before the pause: {done}");
    // What was handed back comes again within its delay; a pull that was left open would bring it now.
    let input = json!({"do": "echo"});
    let late = fleet.client.request(&capability("work"), &input).submit().await?;
    assert!(late.outcome(Duration::from_secs(1)).await.is_err());
    assert_eq!(completed(&fleet).await, done, "nothing begins while it is paused");
    assert_eq!(steer(&fleet, &agent.instance, Steering::Pause).await.state, State::Paused, "twice is once");

    let answer = steer(&fleet, &agent.instance, Steering::Resume).await;
    assert_eq!((answer.effect, answer.state), (Some(Effect::Resumed), State::Ready));
    assert_eq!(only(&fleet).await.state, State::Ready);
    let mut accepted = accepted;
    accepted.insert(late.id().clone());
    assert_nothing_lost_nor_burnt(&fleet, &accepted).await?;
    program::drain(process).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_by_word_is_one_by_sigterm() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut process = START.ready(&fleet).await?;
    let mut accepted = BTreeSet::new();
    for _ in 0..3 {
        accepted.extend(submit(&fleet, 170, |number| 130 + number % 30).await?);
        until("it works", PATIENCE, || async {
            let agent = agents(&fleet).await.into_iter().find(|agent| !agent.is_leaving())?;
            let in_hand = fleet.client.inspect(&agent.instance, ANSWERED).await.ok()?.in_hand;
            (!in_hand.is_empty()).then_some(())
        })
        .await;
        let agent = agents(&fleet).await.into_iter().find(|agent| !agent.is_leaving()).expect("one that works");
        let answer = steer(&fleet, &agent.instance, Steering::Drain).await;
        assert!(matches!(answer.effect, Some(Effect::Draining { .. })), "{answer:?}");
        assert_eq!(answer.state, State::Draining);
        assert_eq!(process.ended(PATIENCE).await?.code(), Some(0));
        process = START.ready(&fleet).await?;
    }
    assert_nothing_lost_nor_burnt(&fleet, &accepted).await?;
    program::drain(process).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_after_a_drain_by_word_does_not_cut_it_short() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (process, _folder) = exec(&fleet, &[]).await?;
    let instance = only(&fleet).await.instance;
    let slow = fleet.client.request(&capability("slow"), &json!({"seconds": 6})).submit().await?;
    until("it runs", PATIENCE, || async {
        (fleet.client.inspect(&instance, ANSWERED).await.ok()?.in_hand.len() == 1).then_some(())
    })
    .await;
    steer(&fleet, &instance, Steering::Drain).await;
    for verb in [Steering::Pause, Steering::Resume, Steering::Restart] {
        let refusal = steer(&fleet, &instance, verb).await.refusal.expect("a refusal");
        assert_eq!(refusal.code, codes::DRAINING);
    }
    program::drain(process).await?;
    assert_eq!(slow.outcome(PATIENCE).await?.status, Status::Completed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_the_registry_answers_from_that_moment() -> Result<()> {
    let fleet = Fleet::start().await?;
    for _ in 0..10 {
        let starting = START.spawn(&fleet)?;
        let agent = until("it is in the registry", PATIENCE, || async {
            let agents = agents(&fleet).await;
            agents.into_iter().find(|agent| !agent.is_leaving())
        })
        .await;
        assert_eq!(fleet.client.inspect(&agent.instance, ANSWERED).await?.entry.instance, agent.instance);
        program::drain(starting).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_drains_and_asks_to_be_started_again() -> Result<()> {
    let fleet = Fleet::start().await?;
    for of_ours in [true, false] {
        let (process, _folder) = match of_ours {
            true => exec(&fleet, &[]).await?,
            false => (START.ready(&fleet).await?, tempfile::tempdir()?),
        };
        let instance = only(&fleet).await.instance;
        let answer = steer(&fleet, &instance, Steering::Restart).await;
        assert!(matches!(answer.effect, Some(Effect::Restarting { in_hand: 0 })), "{answer:?}");
        assert_eq!(process.ended(PATIENCE).await?.code(), Some(75));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_change_while_requests_run() -> Result<()> {
    let fleet = Fleet::start().await?;
    let process = START.ready(&fleet).await?;
    let instance = only(&fleet).await.instance;
    let accepted = submit(&fleet, 500, |number| 120 + number % 40).await?;
    let busy = |wanted: fn(usize) -> bool| {
        let (fleet, instance) = (&fleet, &instance);
        until("as many are in hand as there are slots", PATIENCE, move || async move {
            let inspection = fleet.client.inspect(instance, ANSWERED).await.ok()?;
            wanted(inspection.in_hand.len()).then_some(())
        })
    };
    busy(|count| count >= 8).await;
    let answer = steer(&fleet, &instance, Steering::SetSlots(2)).await;
    let Some(Effect::Slots { before: 10, now: 2, busy: were_busy }) = answer.effect else { panic!("{answer:?}") };
    assert!(were_busy > 2, "nothing was stopped: {were_busy}");
    assert_eq!(only(&fleet).await.slots, 2);
    busy(|count| count <= 2).await;
    for _ in 0..10 {
        // More may be in hand: one may be storing its end while the next one runs.
        assert!(fleet.client.inspect(&instance, ANSWERED).await?.entry.slots_busy <= 2);
    }
    steer(&fleet, &instance, Steering::SetSlots(40)).await;
    busy(|count| count > 12).await;
    let entry = fleet.client.inspect(&instance, ANSWERED).await?.entry;
    assert_eq!((entry.slots, entry.state, entry.health), (40, State::Ready, Health::Healthy));
    steer(&fleet, &instance, Steering::SetSlots(1)).await;
    steer(&fleet, &instance, Steering::SetSlots(1_000)).await;
    assert_nothing_lost_nor_burnt(&fleet, &accepted).await?;
    program::drain(process).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_met_with_silence() -> Result<()> {
    let fleet = Fleet::start().await?;
    let process = START.ready(&fleet).await?;
    let agent = only(&fleet).await;
    let instance = agent.instance.as_str();
    for (verb, body, code, part) in [
        ("explode", "", codes::UNKNOWN_VERB, "set-slots"),
        ("set-slots", r#"{"slots": 0}"#, codes::INVALID_INPUT, "1 to 1000"),
        ("set-slots", r#"{"slots": 1001}"#, codes::INVALID_INPUT, "1 to 1000"),
        ("set-slots", "seven", codes::INVALID_INPUT, r#"{"slots": 4}"#),
        ("set-slots", "", codes::INVALID_INPUT, r#"{"slots": 4}"#),
        ("set-slots", r#"{"slots": 1, "now": true}"#, codes::INVALID_INPUT, "now"),
        ("pause", r#"{"seconds": 3}"#, codes::INVALID_INPUT, "nothing"),
        ("drain", "\u{1}", codes::INVALID_INPUT, "nothing"),
        ("cancel", "{}", codes::INVALID_INPUT, "ids"),
        ("set-log", r#"{"level": "debug"}"#, codes::UNSUPPORTED, "log itself"),
    ] {
        for to in [instance, "all"] {
            let answer = say(&fleet, to, verb, body).await;
            let refusal = answer.refusal.expect("a refusal");
            assert_eq!((refusal.code.as_str(), &answer.effect, answer.state), (code, &None, State::Ready), "{verb}");
            assert!(refusal.message.contains(part), "{verb} {body}: {}", refusal.message);
            assert_eq!(answer.instance, agent.instance);
        }
    }
    assert_eq!(only(&fleet).await.slots, 10);
    let answer = say(&fleet, instance, "cancel", r#"{"ids": ["nobody-has-it"]}"#).await;
    assert_eq!(answer.effect, Some(Effect::Cancelled { running: 0 }));
    let gone = InstanceId::generate();
    let error = fleet.client.steer(&gone, &Steering::Pause, ANSWERED).await.unwrap_err();
    assert_eq!(error.kind(), &client::ErrorKind::NotFound);
    program::drain(process).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_hear_what_is_said_to_all() -> Result<()> {
    let fleet = Fleet::start().await?;
    let processes = [START.ready(&fleet).await?, START.ready(&fleet).await?, START.ready(&fleet).await?];
    fleet.connection.publish_core(broker::Outgoing::new("fleet.control.all.pause", "")).await?;
    until("all are paused", PATIENCE, || async {
        agents(&fleet).await.iter().all(|agent| agent.state == State::Paused).then_some(())
    })
    .await;
    for process in processes {
        program::drain(process).await?;
    }
    Ok(())
}

const COMMANDS: &str = r#"
kind: words
version: 1.2.3
capabilities:
  echo: {command: [cat]}
  slow: {command: [sh, -c, 'read input; sleep 6; echo "$input"']}
"#;

/// An agent-exec, whose process is set up as every binary of ours.
async fn exec(fleet: &Fleet, environment: &[(&str, &str)]) -> Result<(WorkerProcess, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("words.yaml");
    std::fs::write(&file, COMMANDS)?;
    let mut command = program::command(fleet, &binaries::path("agent-exec"));
    command.arg(file).envs(environment.iter().copied());
    command.stderr(std::fs::File::create(log_of(folder.path()))?);
    Ok((program::serving(fleet, command, "echo").await?, folder))
}

fn log_of(folder: &Path) -> std::path::PathBuf {
    folder.join("log")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_changes_while_it_runs() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (process, folder) = exec(&fleet, &[("SORTIE_LOG", "error"), ("SORTIE_LOG_FORMAT", "json")]).await?;
    let instance = only(&fleet).await.instance;
    let printed = || std::fs::read_to_string(log_of(folder.path())).unwrap();
    let set = |level: &str| steer(&fleet, &instance, Steering::SetLog(level.to_owned()));
    assert_eq!(printed(), "", "at level error it says nothing");
    let answer = set("debug,async_nats=off").await;
    let now = "debug,async_nats=off".to_owned();
    assert_eq!(answer.effect, Some(Effect::Log { before: "error".to_owned(), now }), "{:?}", answer.refusal);
    until("it prints what it did", PATIENCE, || async { printed().contains("steered").then_some(()) }).await;
    let lines: Vec<Value> = printed().lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert!(!lines.is_empty());
    let refusal = set("loud").await.refusal.expect("a refusal");
    assert_eq!(refusal.code, codes::INVALID_INPUT);
    assert!(refusal.message.contains("loud"), "{}", refusal.message);
    assert_eq!(
        set("default").await.effect.map(|effect| matches!(effect, Effect::Log { now, .. } if now == "error")),
        Some(true)
    );
    let length = printed().len();
    set("default").await;
    assert_eq!(printed().len(), length, "silent again");
    program::drain(process).await
}
