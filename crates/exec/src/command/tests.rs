//! Real programs, good ones and bad ones.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    future::pending,
    sync::Mutex,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::*;

struct Bench {
    folder: TempDir,
    lines: Mutex<Vec<String>>,
    timeout: Duration,
    reaper: Reaper,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            lines: Mutex::default(),
            timeout: Duration::from_secs(30),
            reaper: Reaper::default(),
        }
    }

    fn command(&self, definition: &str) -> Command {
        let text = format!(
            "{{kind: k, version: 1.0.0, env: {{CHOSEN: 'yes'}}, pass_env: [OWN], capabilities: {{c: {definition}}}}}"
        );
        let mut definition = Definition::parse(&text).unwrap();
        definition.directory = Some(self.folder.path().to_owned());
        let of_agent = |name: &str| match name {
            "PATH" => own("PATH"),
            "HOME" => Some("/home/agent".into()),
            "OWN" | "SECRET" => Some(name.to_lowercase().into()),
            _ => None,
        };
        let capability = definition.capabilities.values().next().unwrap();
        Command::new(&definition, capability, &of_agent, &self.reaper)
    }

    fn call(&self) -> Call {
        Call {
            request: RequestId::parse("req_1").unwrap(),
            attempt: 2,
            capability: Capability::parse("c").unwrap(),
            deadline: Some(protocol::time::parse("2026-11-20T07:17:00Z").unwrap()),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            timeout: self.timeout,
        }
    }

    async fn run_until(
        &self,
        definition: &str,
        input: Value,
        cancelled: impl Future<Output = ()> + Send,
    ) -> Result<Value, Failure> {
        let on_line = |line: &str| self.lines.lock().unwrap().push(line.to_owned());
        self.command(definition).run(&self.call(), &input, &on_line, cancelled).await
    }

    async fn run(&self, definition: &str, input: Value) -> Result<Value, Failure> {
        self.run_until(definition, input, pending()).await
    }

    async fn sh(&self, output: &str, script: &str) -> Result<Value, Failure> {
        self.run(&shell(output, script), json!({})).await
    }

    /// The process that wrote its number into this file of the folder.
    async fn pid(&self, file: &str) -> i32 {
        let path = self.folder.path().join(file);
        until(|| std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok())).await
    }
}

fn shell(output: &str, script: &str) -> String {
    json!({"command": ["sh", "-c", script], "output": output}).to_string()
}

/// Waits for a fact, ten seconds at most.
async fn until<T>(mut fact: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "waited in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A process that is there and no zombie: nobody but the system's first process waits for a grandchild.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
async fn stdout_is_the_result() {
    let bench = Bench::new();
    let input = json!({"text": "one two three"});
    assert_eq!(bench.run("{command: [cat]}", input.clone()).await.unwrap(), input);
    assert_eq!(bench.run("{command: [wc, -w], output: text}", input).await.unwrap().as_str().unwrap().trim(), "3");
    assert_eq!(bench.sh("lines", "echo a; echo b").await.unwrap(), json!(["a", "b"]));
    let python = json!({"command": ["python3", "-c", "import json,sys; print(json.load(sys.stdin)['n'] * 2)"]});
    assert_eq!(bench.run(&python.to_string(), json!({"n": 21})).await.unwrap(), json!(42));
}

#[tokio::test]
async fn arguments_go_through_no_shell() {
    let bench = Bench::new();
    let command = r#"{command: [printf, '%s\n'], args_from: [a, b, c, d], output: lines}"#;
    let input = json!({"a": "; rm -rf .", "b": "$(touch pwned)", "c": "`touch pwned`", "d": "* '\" && \\ | ../.."});
    let result = bench.run(command, input.clone()).await.unwrap();
    assert_eq!(result, json!([input["a"], input["b"], input["c"], input["d"]]));
    assert_eq!(std::fs::read_dir(bench.folder.path()).unwrap().count(), 0);

    let dashed = "{command: [printf, --, '%s'], args_from: [a], output: text}";
    assert_eq!(bench.run(dashed, json!({"a": "--version"})).await.unwrap(), json!("--version"));
    let failure = bench.run(command, json!({"a": 1})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::INVALID_INPUT, false));
}

#[tokio::test]
async fn the_environment_is_clean() {
    let bench = Bench::new();
    let result = bench.run("{command: [env], output: lines}", json!({})).await.unwrap();
    let mut found: Vec<String> = serde_json::from_value(result).unwrap();
    found.retain(|line| !line.starts_with("PATH="));
    found.sort();
    assert_eq!(
        found,
        [
            "CHOSEN=yes",
            "HOME=/home/agent",
            "OWN=own",
            "SORTIE_ATTEMPT=2",
            "SORTIE_CAPABILITY=c",
            "SORTIE_DEADLINE=2026-11-20T07:17:00.000Z",
            "SORTIE_REQUEST_ID=req_1",
            "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ]
    );
}

#[tokio::test]
async fn a_command_runs_in_its_directory() {
    let bench = Bench::new();
    let here = bench.folder.path().canonicalize().unwrap();
    assert_eq!(bench.sh("text", "pwd -P").await.unwrap(), json!(here.to_str().unwrap()));
    // Written by another process: a child that some other test forks meanwhile would hold our own handle, and the
    // system runs no file that is open for writing.
    bench.sh("text", r#"printf '#!/bin/sh\necho "\\"from a file\\""\n' > tool.sh"#).await.unwrap();
    let failure = bench.run("{command: [./tool.sh]}", json!({})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::COMMAND_NOT_FOUND, false), "{failure}");
    bench.sh("text", "chmod +x tool.sh").await.unwrap();
    assert_eq!(bench.run("{command: [./tool.sh]}", json!({})).await.unwrap(), json!("from a file"));
}

#[tokio::test]
async fn what_cannot_run_is_seen_beforehand_and_gives_up() {
    let bench = Bench::new();
    let failure = bench.run("{command: [no-such-program]}", json!({})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::COMMAND_NOT_FOUND, false));
    assert!(failure.message.contains("no-such-program"), "{failure}");
    assert!(bench.command("{command: [no-such-program]}").obstacle().is_some());
    assert_eq!(bench.command("{command: [sh]}").obstacle(), None);
    let lost = "{command: [sh], directory: /no/such/folder}";
    assert!(bench.command(lost).obstacle().unwrap().contains("/no/such/folder"));
    let failure = bench.run(lost, json!({})).await.unwrap_err();
    assert!(failure.code == codes::COMMAND_NOT_FOUND && failure.message.contains("directory"), "{failure}");
    std::fs::write(bench.folder.path().join("garbage"), "\x7fELF?").unwrap();
    assert!(bench.command("{command: [./garbage]}").obstacle().is_some());
}

#[tokio::test]
async fn want_of_files_processes_or_memory_burns_no_attempt() {
    let command = Bench::new().command("{command: [cat]}");
    for errno in [Errno::EMFILE, Errno::ENFILE, Errno::EAGAIN, Errno::ENOMEM] {
        let failure = command.unstarted(&errno.into());
        assert_eq!(
            (failure.code.as_str(), failure.snoozed()),
            (codes::RESOURCES_EXHAUSTED, Some(EXHAUSTED_FOR)),
            "{failure}"
        );
    }
    assert_eq!(command.unstarted(&Errno::EIO.into()).snoozed(), None);
}

#[tokio::test]
async fn exit_codes_and_signals() {
    let bench = Bench::new();
    let script = "echo working >&2; echo cannot >&2; exit 65";
    let command = json!({"command": ["sh", "-c", script], "exit": {"65": "give_up"}}).to_string();
    let failure = bench.run(&command, json!({})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::COMMAND_FAILED, false));
    assert_eq!(failure.message, "`sh` ended with exit code 65: cannot");
    assert_eq!(failure.details.unwrap(), json!({"exit_code": 65, "signal": null, "stderr": "working\ncannot\n"}));
    assert_eq!(*bench.lines.lock().unwrap(), ["working", "cannot"]);

    let failure = bench.sh("text", "exit 3").await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::COMMAND_FAILED, true));
    let failure = bench.sh("text", "kill -9 $$").await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::COMMAND_KILLED, true));
    assert_eq!(failure.details.unwrap()["signal"], json!(9));
}

#[tokio::test]
async fn bad_stdout() {
    let bench = Bench::new();
    for (output, script) in
        [("text", r"printf '\377\376'"), ("lines", r"printf 'a\n\377\n'"), ("json", "echo hello"), ("json", "true")]
    {
        let failure = bench.sh(output, script).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), (codes::RESULT_UNENCODABLE, false), "{failure}");
    }
}

#[tokio::test]
async fn endless_stdout_is_stopped_at_the_bound() {
    let bench = Bench::new();
    let command = "{command: [sh, -c, 'echo $$ > pid; exec yes'], output: text, output_bytes_max: 100000}";
    let failure = bench.run(command, json!({})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::RESULT_TOO_LARGE, false));
    assert!(!lives(bench.pid("pid").await));
    let exact = "{command: [head, -c, '100000', /dev/zero], output: text, output_bytes_max: 100000}";
    assert_eq!(bench.run(exact, json!({})).await.unwrap().as_str().unwrap().len(), 100_000);
    let more = "{command: [head, -c, '100001', /dev/zero], output: text, output_bytes_max: 100000}";
    assert_eq!(bench.run(more, json!({})).await.unwrap_err().code, codes::RESULT_TOO_LARGE);
}

#[tokio::test]
async fn a_command_need_not_read_its_input() {
    let bench = Bench::new();
    let huge = json!({"text": "x".repeat(16 << 20)});
    assert_eq!(bench.run("{command: ['true'], output: text}", huge.clone()).await.unwrap(), json!(""));
    let command = shell("text", "head -c 5");
    assert_eq!(bench.run(&command, huge.clone()).await.unwrap(), json!("{\"tex"));
    // Reads and writes at the same time, more than a pipe holds.
    let echo = "{command: [cat], output_bytes_max: 20000000}";
    assert_eq!(bench.run(echo, huge.clone()).await.unwrap(), huge);
}

#[tokio::test]
async fn a_flood_on_stderr_blocks_nothing() {
    let bench = Bench::new();
    let result = bench.sh("text", "yes complaint | head -c 20000000 >&2; echo done").await;
    assert_eq!(result.unwrap(), json!("done"));
    let lines = bench.lines.lock().unwrap();
    assert!(lines.len() < LINES_MAX, "{}", lines.len());
    assert!(lines.last().unwrap().contains("left out"), "{:?}", lines.last());
}

#[tokio::test]
async fn lines_come_while_the_command_runs() {
    let bench = Bench::new();
    let run = bench.sh("text", "echo started >&2; while [ ! -e go ]; do sleep 0.01; done; echo done");
    let go = async {
        until(|| bench.lines.lock().unwrap().first().cloned()).await;
        std::fs::write(bench.folder.path().join("go"), "").unwrap();
    };
    let (result, ()) = tokio::join!(run, go);
    assert_eq!(result.unwrap(), json!("done"));
}

const FAMILY: &str = "sleep 1000 & echo $! > grandchild; echo $$ > child; wait";

#[tokio::test]
async fn a_timeout_ends_grandchildren_too() {
    let mut bench = Bench::new();
    bench.timeout = Duration::from_secs(5);
    let failure = bench.sh("text", FAMILY).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::TIMEOUT, true));
    for file in ["child", "grandchild"] {
        let pid = bench.pid(file).await;
        assert!(!lives(pid), "{file} {pid} lives");
    }
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_after_the_grace() {
    let mut bench = Bench::new();
    bench.timeout = Duration::from_secs(5);
    let started = Instant::now();
    let stubborn = "trap '' TERM; echo $$ > child; while :; do sleep 1000 & wait; done";
    assert_eq!(bench.sh("text", stubborn).await.unwrap_err().code, codes::TIMEOUT);
    assert!(started.elapsed() >= bench.timeout + GRACE);
    assert!(!lives(bench.pid("child").await));
}

#[tokio::test]
async fn sigterm_lets_a_command_tidy_up() {
    let mut bench = Bench::new();
    bench.timeout = Duration::from_secs(5);
    let tidy = "trap 'echo x > tidied; exit 1' TERM; while :; do sleep 0.01; done";
    assert_eq!(bench.sh("text", tidy).await.unwrap_err().code, codes::TIMEOUT);
    assert!(bench.folder.path().join("tidied").exists());
}

#[tokio::test]
async fn cancelling_ends_the_group() {
    let bench = Bench::new();
    let cancelled = async {
        bench.pid("child").await;
    };
    let failure = bench.run_until(&shell("text", FAMILY), json!({}), cancelled).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::CANCELLED, false));
    assert!(!lives(bench.pid("child").await) && !lives(bench.pid("grandchild").await));
}

#[tokio::test]
async fn dropping_the_attempt_ends_the_group() {
    let bench = Bench::new();
    let script = format!("trap '' TERM; {FAMILY}");
    tokio::select! {
        _ = bench.sh("text", &script) => panic!("it waits for ever"),
        _ = bench.pid("child") => {}
    }
    let (child, grandchild) = (bench.pid("child").await, bench.pid("grandchild").await);
    assert!(lives(child), "SIGTERM is ignored, the grace is not over");
    bench.reaper.finish().await;
    until(|| (!lives(child) && !lives(grandchild)).then_some(())).await;
}

#[test]
fn the_end_of_the_runtime_ends_the_group() {
    let bench = Bench::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let script = format!("trap '' TERM; {FAMILY}");
    let pid = runtime.block_on(async {
        tokio::select! {
            _ = bench.sh("text", &script) => panic!("it waits for ever"),
            pid = bench.pid("child") => pid,
        }
    });
    drop(runtime);
    let started = Instant::now();
    while lives(pid) {
        assert!(started.elapsed() < Duration::from_secs(10), "{pid} lives");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn what_a_command_leaves_running_neither_hangs_the_attempt_nor_lives_on() {
    let bench = Bench::new();
    let started = Instant::now();
    let result = bench.sh("text", "sleep 1000 & echo $! > grandchild; echo done").await;
    assert_eq!(result.unwrap(), json!("done"));
    assert!(started.elapsed() < DRAIN + Duration::from_secs(5));
    let pid = bench.pid("grandchild").await;
    until(|| (!lives(pid)).then_some(())).await;
}
