//! `sortie logs` on a real fleet.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{fs, process::Stdio};

use anyhow::Result;
use broker::{Bucket, Publisher};
use protocol::{Status, log_line::Level, registry::State};
use serde_json::{Value, json};
use sortie_tests::{Fleet, PATIENCE, binaries, fleet::capability, process::WorkerProcess, program, raw, until};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

const WORDS: &str = r#"
kind: words
version: 1.0.0
capabilities:
  echo: {command: [cat]}
  talk: {command: [sh, -c, 'cat >/dev/null; echo "no paper" >&2; echo 1']}
  fail: {command: [sh, -c, 'cat >/dev/null; exit 3'], retry: {attempts: 1}}
"#;

struct Words {
    fleet: Fleet,
    agent: WorkerProcess,
    _folder: TempDir,
}

impl Words {
    async fn start() -> Result<Self> {
        let fleet = Fleet::start().await?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("words.yaml"), WORDS)?;
        let mut command = program::command(&fleet, &binaries::path("agent-exec"));
        command.arg(folder.path().join("words.yaml")).stderr(Stdio::null());
        let agent = program::serving(&fleet, command, "echo").await?;
        Ok(Self { fleet, agent, _folder: folder })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binaries::path("sortie"));
        command.args(["--server", &self.fleet.url(), "logs"]).args(arguments).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn text(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        serde_json::from_str(&self.text(&[arguments, &["--json"]].concat()).await).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_about_a_request_is_found_on_whatever_machine() -> Result<()> {
    let words = Words::start().await?;
    let talked = words.fleet.client.request(&capability("talk"), &json!({})).call(PATIENCE).await?;
    let failed = words.fleet.client.request(&capability("fail"), &json!({})).call(PATIENCE).await?;
    assert_eq!((talked.status, failed.status), (Status::Completed, Status::Failed));
    let of_talk = ["--request", talked.id.as_str()];
    let said = until("its line is stored", PATIENCE, || async {
        let lines = words.lines(&of_talk).await;
        lines
            .iter()
            .find(|line| {
                line["message"].as_str().unwrap().contains("no paper")
                    || line["fields"].to_string().contains("no paper")
            })
            .cloned()
    })
    .await;
    let instance = words.fleet.client.agents().await?.remove(0).instance;
    assert_eq!((&said["kind"], &said["instance"]), (&json!("words"), &json!(instance)));
    assert_eq!(
        (&said["request"], &said["capability"], &said["attempt"]),
        (&json!(talked.id), &json!("talk"), &json!(1))
    );
    let given_up = until("what was given up is stored", PATIENCE, || async {
        words.lines(&["--level", "warn"]).await.into_iter().find(|line| line["message"] == "gave up")
    })
    .await;
    assert_eq!((&given_up["request"], &given_up["level"]), (&json!(failed.id), &json!("warn")));
    let tail = &instance.as_str()[instance.as_str().len() - 6..];
    for (arguments, is_there) in [
        (&["--grep", "no p.per"][..], true),
        (&["--grep", "no ink"], false),
        (&["--agent", instance.as_str(), "--grep", "no paper"], true),
        (&["--agent", tail, "--grep", "no paper"], true),
        (&["--agent", "ffffffff", "--grep", "no paper"], false),
        (&["--kind", "words", "--since", "10m", "--grep", "no paper"], true),
        (&["--kind", "coordinator"], false),
        (&["--level", "error", "--grep", "no paper"], false),
    ] {
        assert_eq!(!words.lines(arguments).await.is_empty(), is_there, "{arguments:?}");
    }
    let all = words.lines(&[]).await;
    assert!(all.len() > 2, "{all:?}");
    assert_eq!(words.lines(&["--last", "2"]).await, all[all.len() - 2..]);
    let human = words.text(&of_talk).await;
    assert!(human.contains(&format!("words…{tail}")) && human.contains(talked.id.as_str()), "{human}");
    assert!(words.text(&["--grep", "no ink"]).await.contains("no such line"));
    let wrong = words.command(&["--grep", "("]).output().await?;
    assert_eq!(wrong.status.code(), Some(2));
    let Words { agent, fleet, .. } = words;
    program::drain(agent).await?;
    // The last line leaves before the process does.
    let stored = raw::last(&fleet, "FLEET_LOGS", &format!("fleet.log.words.{instance}")).await?.expect("a line");
    let line: Value = serde_json::from_slice(&stored.body)?;
    assert_eq!(line["message"], "stopped");
    assert_eq!(fleet.client.agents().await?.remove(0).state, State::Stopped);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gives_what_comes_once_and_in_order() -> Result<()> {
    let words = Words::start().await?;
    let mut follower =
        words.command(&["--follow", "--json", "--kind", "mine", "--level", "warn", "--last", "2"]).spawn()?;
    let mut said = BufReader::new(follower.stdout.take().unwrap()).lines();
    let ship = async |number: u32, level: Level| {
        let line = json!({"time": "2030-01-01T00:00:00Z", "level": level, "message": number.to_string(), "kind": "mine",
            "instance": "ins_x"});
        raw::publish(&words.fleet, "fleet.log.mine.ins_x", &[], line.to_string()).await.unwrap();
    };
    for number in 0..40 {
        ship(number, if number % 4 == 3 { Level::Info } else { Level::Warn }).await;
    }
    raw::publish(&words.fleet, "fleet.log.mine.ins_x", &[], "a stranger's text").await?;
    let mut heard = Vec::new();
    while heard.last() != Some(&38) {
        let line = tokio::time::timeout(PATIENCE, said.next_line()).await??.expect("a line");
        let line: Value = serde_json::from_str(&line)?;
        heard.push(line["message"].as_str().unwrap().parse::<u32>()?);
    }
    // It may have begun in the middle: from there on nothing is missing.
    let first = heard[0];
    assert_eq!(heard, (first..39).filter(|number| number % 4 != 3).collect::<Vec<_>>());
    drop(said);
    follower.kill().await?;
    let text = words.text(&["--kind", "mine", "--grep", "stranger"]).await;
    assert!(text.contains("a stranger's text") && text.contains(" info "), "{text}");
    program::drain(words.agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_ship_and_nothing_is_shipped_where_it_is_off() -> Result<()> {
    let fleet = Fleet::start().await?;
    let start = |ships: &'static str| {
        let mut command = program::command(&fleet, &binaries::path("coordinator"));
        command.env("SORTIE_SHIP_LOGS", ships).env("SORTIE_LOG", "error").spawn().map(WorkerProcess::of)
    };
    let logs = || async { broker::topology::stream_state(&fleet.connection, "FLEET_LOGS").await.unwrap().messages };
    let coordinator = start("info")?;
    until("it says that it started", PATIENCE, || async { (logs().await > 0).then_some(()) }).await;
    program::drain(coordinator).await?;
    let page = broker::Reader::new(&fleet.connection).page("FLEET_LOGS", "fleet.log.coordinator.*", 1, 100).await?;
    let all = page.messages.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned());
    let all = all.collect::<Vec<_>>().join("\n");
    assert!(all.contains("coordinator started") && all.contains("coordinator stopped"), "{all}");
    let before = logs().await;
    let silent = start("off")?;
    let locks = Bucket::new(&fleet.connection, &Publisher::new(&fleet.connection), "fleet-locks");
    until("it holds a lease", PATIENCE, || async { locks.list(">").await.ok()?.first().map(|_| ()) }).await;
    program::drain(silent).await?;
    assert_eq!(logs().await, before);
    Ok(())
}
