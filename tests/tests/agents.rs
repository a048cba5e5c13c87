//! The agents that are shipped, as processes that serve a real server: commands, and files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
};

use anyhow::Result;
use nix::{sys::signal, unistd::Pid};
use protocol::{Outcome, Status, codes};
use serde_json::{Value, json};
use sortie_tests::{
    Fleet, PATIENCE, binaries, fleet::capability, ground::Files, process::WorkerProcess, program, until,
};
use tempfile::TempDir;

const WORDS: &str = r#"
kind: words
version: 1.2.3
capabilities:
  count-words:
    description: Counts the words of a file.
    command: [wc, -w, --]
    args_from: [path]
    output: text
    schema: {input: {type: object, required: [path]}}
  echo:
    command: [cat]
    retry: {attempts: 1}
  talk:
    command: [sh, -c, "cat >/dev/null; echo one >&2; echo two >&2; echo 1"]
  flaky:
    command: [sh, -c, 'echo "$SORTIE_ATTEMPT" >&2; [ "$SORTIE_ATTEMPT" -ge 2 ] && echo $SORTIE_ATTEMPT || exit 75']
    retry: {attempts: 5, backoff: fixed, first: 300ms}
    exit: {75: retry, 65: give_up}
  hopeless:
    command: [sh, -c, "echo no such customer >&2; exit 65"]
    exit: {75: retry, 65: give_up}
  slow:
    command: [sh, -c, 'echo begun >&2; sleep 600 & echo $! > child; wait']
    timeout: 3s
    retry: {attempts: 1}
  endless:
    command: [sh, -c, 'sleep 600 & echo $! > endless; echo begun >&2; wait']
  picky:
    command: [sh, -c, "touch ran; cat"]
    schema: {input: {type: object, required: [n]}, output: {type: integer}}
  crooked:
    command: [echo, not json]
"#;

/// An agent-exec in a folder of its own, and the fleet that it serves.
struct Words {
    fleet: Fleet,
    folder: TempDir,
    agent: WorkerProcess,
}

impl Words {
    async fn start() -> Result<Self> {
        let fleet = Fleet::start().await?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("words.yaml"), WORDS)?;
        let mut command = program::command(&fleet, &binaries::path("agent-exec"));
        command.arg(folder.path().join("words.yaml")).args(["--slots", "3"]).env("SORTIE_LOG", "info");
        command.env("SORTIE_LOG_FORMAT", "json").stderr(fs::File::create(folder.path().join("log"))?);
        let agent = program::serving(&fleet, command, "echo").await?;
        Ok(Self { fleet, folder, agent })
    }

    async fn call(&self, name: &str, input: Value) -> Result<Outcome> {
        Ok(self.fleet.client.request(&capability(name), &input).call(PATIENCE).await?)
    }

    /// What a command wrote into the folder.
    fn written(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join(name)).ok().filter(|text| text.ends_with('\n'))
    }
}

fn code(outcome: &Outcome) -> String {
    outcome.failure().map_or_else(|| outcome.status.to_string(), |failure| failure.code)
}

/// Waits until the process is no more; a zombie that nobody waits for counts as gone.
async fn gone(id: &str) {
    let stat = format!("/proc/{}/stat", id.trim());
    until("the command's child is gone", PATIENCE, || async {
        match fs::read_to_string(&stat) {
            Ok(stat) => stat.contains(") Z ").then_some(()),
            Err(_) => Some(()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_answers_and_its_stderr_is_progress_and_log() -> Result<()> {
    let words = Words::start().await?;
    fs::write(words.folder.path().join("text"), "one two three\n")?;
    let outcome = words.call("count-words", json!({"path": "text"})).await?;
    assert_eq!(outcome.result::<Value>().unwrap(), json!("3 text"));
    assert_eq!(words.call("echo", json!({"hi": [1, "ü"]})).await?.result::<Value>().unwrap(), json!({"hi": [1, "ü"]}));

    let mut said = Vec::new();
    let asked = Value::Null;
    let request = words.fleet.client.request(&capability("talk"), &asked);
    let outcome = request.follow(PATIENCE, |progress| said.extend(progress.message)).await?;
    assert_eq!((outcome.result::<Value>().unwrap(), said), (json!(1), vec!["one".to_owned(), "two".to_owned()]));

    let entry = words.fleet.client.serving(&capability("echo")).await?.remove(0);
    assert_eq!((entry.kind.as_str(), entry.version.as_str(), entry.slots), ("words", "1.2.3", 3));
    let shown = entry.capabilities.iter().find(|shown| shown.name.as_str() == "count-words").unwrap();
    assert_eq!(shown.description.as_deref(), Some("Counts the words of a file."));
    let declared = json!({"type": "object", "required": ["path"]});
    assert_eq!(shown.input_schema, Some(protocol::schema::digest(&declared)));
    let Words { agent, folder, .. } = words;
    program::drain(agent).await?;
    let log = fs::read_to_string(folder.path().join("log"))?;
    let line = log.lines().find(|line| line.contains(r#""two""#)).expect("a log line of the command's stderr");
    assert!(line.contains("talk") && line.contains(outcome.id.as_str()), "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_whether_to_try_again() -> Result<()> {
    let words = Words::start().await?;
    let flaky = words.call("flaky", json!({})).await?;
    assert_eq!((flaky.attempt, flaky.result::<Value>().unwrap()), (2, json!(2)));
    let hopeless = words.call("hopeless", json!({})).await?;
    let failure = hopeless.failure().unwrap();
    assert_eq!((failure.code.as_str(), hopeless.attempt), (codes::COMMAND_FAILED, 1));
    assert!(serde_json::to_string(&failure)?.contains("no such customer"), "{failure:?}");
    let crooked = words.call("crooked", json!({})).await?;
    assert_eq!((code(&crooked).as_str(), crooked.attempt), (codes::RESULT_UNENCODABLE, 1));
    program::drain(words.agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_files_puts_its_commands_off_until_it_has_some() -> Result<()> {
    let words = Words::start().await?;
    let files = Files::exhaust(words.agent.id()?, 0)?;
    let receipt = words.fleet.client.request(&capability("echo"), &1).submit().await?;
    until("it is put off", PATIENCE, || async {
        let waiting = words.fleet.client.later(10).await.ok()?;
        let found = waiting.into_iter().find(|waiting| waiting.id == *receipt.id())?;
        (found.snoozed_for.as_deref() == Some(codes::RESOURCES_EXHAUSTED)).then_some(())
    })
    .await;
    drop(files);
    let outcome = receipt.outcome(PATIENCE).await?;
    assert_eq!((outcome.attempt, outcome.result::<Value>().unwrap()), (1, json!(1)));
    program::drain(words.agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_schema_refuses_is_not_run() -> Result<()> {
    let words = Words::start().await?;
    let refused = words.call("picky", json!({"m": 1})).await?;
    assert_eq!((code(&refused).as_str(), refused.attempt), (codes::INVALID_INPUT, 1));
    assert!(!words.folder.path().join("ran").exists(), "the command ran on what its schema refuses");
    let wrong = words.call("picky", json!({"n": 1})).await?;
    assert_eq!((code(&wrong).as_str(), wrong.attempt), (codes::INVALID_OUTPUT, 1));
    assert!(words.folder.path().join("ran").exists());
    program::drain(words.agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_the_whole_group() -> Result<()> {
    let words = Words::start().await?;
    let late = words.call("slow", json!({})).await?;
    let failure = late.failure().unwrap();
    assert_eq!((failure.code.as_str(), late.attempt), (codes::TIMEOUT, 1));
    assert_eq!(failure.details, Some(json!({"stderr": "begun\n"})));
    gone(&words.written("child").expect("the command told its child")).await;
    program::drain(words.agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_the_whole_group() -> Result<()> {
    let words = Words::start().await?;
    let receipt = words.fleet.client.request(&capability("endless"), &1).submit().await?;
    let child = until("the command runs", PATIENCE, || async { words.written("endless") }).await;
    assert!(signal::kill(Pid::from_raw(child.trim().parse()?), None).is_ok());
    receipt.cancel().await?;
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Cancelled);
    gone(&child).await;
    program::drain(words.agent).await
}

async fn output(fleet: &Fleet, name: &str, args: &[&Path]) -> Result<Output> {
    let mut command = program::command(fleet, &binaries::path(name));
    let child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    Ok(tokio::time::timeout(PATIENCE, child.wait_with_output()).await??)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_told_at_once_and_exits_64() -> Result<()> {
    let fleet = Fleet::start().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bad.yaml");
    for (text, expected) in [
        ("kind: Words\nversion: 1.0\ncapabilities: {a: {command: []}}\n", ["kind: `Words`", "bad.yaml:3:"]),
        (
            "kind: words\nversion: 1.0.0\ncapabilities: {a: {command: [nope]}, b: {command: [/no]}}\n",
            ["`nope`", "`/no`"],
        ),
    ] {
        fs::write(&file, text)?;
        let output = output(&fleet, "agent-exec", &[&file]).await?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{told}");
        assert!(expected.iter().all(|part| told.contains(part)), "{told}");
    }
    let output = output(&fleet, "agent-files", &[Path::new("--root"), &file]).await?;
    assert_eq!(output.status.code(), Some(64));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_examined_and_listed_below_a_root() -> Result<()> {
    let fleet = Fleet::start().await?;
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("src"))?;
    fs::write(folder.path().join("src/main.rs"), "fn main() {}\n// fleet fleet\n")?;
    fs::write(folder.path().join("notes"), "one two\n")?;
    let mut command = program::command(&fleet, &binaries::path("agent-files"));
    command.arg("--root").arg(folder.path()).args(["--slots", "2"]);
    let agent = program::serving(&fleet, command, "examine-file").await?;
    let call = async |name: &str, input: Value| fleet.client.request(&capability(name), &input).call(PATIENCE).await;

    let list = call("list-files", json!({"path": "."})).await?.result::<Value>().unwrap();
    assert_eq!(list["files"], json!(["notes", "src/main.rs"]));
    let report = call("examine-file", json!({"path": "src/main.rs"})).await?.result::<Value>().unwrap();
    assert_eq!((&report["language"], &report["lines"], &report["words"]), (&json!("rust"), &json!(2), &json!(6)));
    assert_eq!(report["terms"][0], json!({"term": "fleet", "count": 2}));
    for (input, expected) in [
        (json!({"path": "missing"}), "not_found"),
        (json!({"path": "/etc/hostname"}), "forbidden"),
        (json!({"path": "src"}), "not_a_file"),
        (json!({"file": "notes"}), codes::INVALID_INPUT),
    ] {
        let outcome = call("examine-file", input.clone()).await?;
        assert_eq!((code(&outcome).as_str(), outcome.attempt), (expected, 1), "{input}");
    }
    program::drain(agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_says_how_far_it_is_and_stops_when_it_is_cancelled() -> Result<()> {
    let fleet = Fleet::start().await?;
    let folder = tempfile::tempdir()?;
    // Holes take no room on the disk, and longer to read than this test has.
    fs::File::create(folder.path().join("large"))?.set_len(1 << 42)?;
    let mut command = program::command(&fleet, &binaries::path("agent-files"));
    command.arg("--root").arg(folder.path()).args(["--slots", "1"]);
    let agent = program::serving(&fleet, command, "examine-file").await?;
    let examine = capability("examine-file");
    let receipt = fleet.client.request(&examine, &json!({"path": "large"})).submit().await?;
    let mut follower = receipt.progress().await?;
    let progress = tokio::time::timeout(PATIENCE, follower.next()).await?.expect("progress");
    assert!(progress.percent.is_some() && progress.message.unwrap().ends_with("of 4194304.0 MiB"));
    receipt.cancel().await?;
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Cancelled);
    // Its one slot is free again.
    fs::write(folder.path().join("small"), "")?;
    let small = fleet.client.request(&examine, &json!({"path": "small"})).call(PATIENCE).await?;
    assert_eq!(small.status, Status::Completed);
    program::drain(agent).await
}
