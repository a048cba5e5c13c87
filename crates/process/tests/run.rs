//! A process from outside: its exit code, its messages, its signals.
//!
//! The children are this same test binary, told by a variable what to be.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the children are told apart by a variable")]

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use clap::Parser;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sortie_process::{ExitCode, Problem, ProcessArgs, Program, run};

const CHILD: &str = "SORTIE_TEST_CHILD";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    process: ProcessArgs,
}

/// What the children are. In the test run itself there is no variable, and nothing happens.
#[test]
fn child() {
    let Ok(what) = env::var(CHILD) else { return };
    let args = Cli::parse_from(["child"]).process;
    let program = match what.as_str() {
        "command" => Program::command("child", "1.0.0"),
        _ => Program::service("child", "1.0.0"),
    };
    run(program, &args, |process| async move {
        match what.as_str() {
            "fails" => Err(Problem::new(ExitCode::Again, "not yet").advise("start me again")),
            "panics" => panic!("a broken invariant"),
            "drains" => {
                println!("up");
                process.shutdown.begun().await;
                println!("drained");
                Ok(ExitCode::Done)
            }
            _ => {
                println!("up");
                std::future::pending().await
            }
        }
    })
}

fn start(what: &str, environment: &[(&str, &str)]) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--quiet"])
        .env_clear()
        .env(CHILD, what)
        .env("SORTIE_LOG_FORMAT", "human")
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn end(child: Child) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Reads the child's output until it says this.
fn wait_for(output: &mut impl BufRead, what: &str) {
    let mut line = String::new();
    while !line.contains(what) {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child never said `{what}`");
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn a_problem_is_told_once_and_is_the_exit_code() {
    let (code, _, stderr) = end(start("fails", &[]));
    assert_eq!(code, Some(75));
    assert_eq!(stderr, "child: not yet\n  start me again\n");
}

#[test]
fn machines_get_the_problem_as_one_event() {
    let (code, _, stderr) = end(start("fails", &[("SORTIE_LOG_FORMAT", "json")]));
    assert_eq!(code, Some(75));
    let event: serde_json::Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!((&event["message"], &event["exit.code"]), (&"not yet".into(), &75.into()), "{event}");
    assert_eq!((&event["advice"], &event["level"]), (&"start me again".into(), &"ERROR".into()), "{event}");
}

#[test]
fn bad_settings_end_with_64_before_anything_runs() {
    let (code, stdout, stderr) = end(start("drains", &[("SORTIE_SERVER", "ftp://x"), ("SORTIE_LOG_FORMAT", "xml")]));
    assert_eq!(code, Some(64));
    assert!(!stdout.contains("up"));
    assert!(stderr.contains("SORTIE_SERVER") && stderr.contains("SORTIE_LOG_FORMAT"), "{stderr}");
}

#[test]
fn a_panic_is_an_internal_fault() {
    let (code, _, stderr) = end(start("panics", &[]));
    assert_eq!(code, Some(70));
    assert!(stderr.contains("a broken invariant"), "{stderr}");
    let (code, _, stderr) = end(start("panics", &[("SORTIE_LOG_FORMAT", "json")]));
    assert_eq!(code, Some(70));
    let event: serde_json::Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(event["panic.message"], "a broken invariant", "{event}");
}

/// Whether this run was told to survive its terminal, as `nohup` does it: the children inherit that.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1
}

#[test]
fn the_first_signal_drains() {
    let mut signals = vec![Signal::SIGTERM, Signal::SIGINT];
    if hangup_is_ignored() {
        println!("SKIPPED: SIGHUP, which this run ignores");
    } else {
        signals.push(Signal::SIGHUP);
    }
    for first in signals {
        let mut child = start("drains", &[]);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        wait_for(&mut output, "up");
        signal(&child, first);
        wait_for(&mut output, "drained");
        assert_eq!(end(child).0, Some(0), "{first}");
    }
}

#[test]
fn the_second_signal_ends_at_once() {
    let mut child = start("stuck", &[]);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    wait_for(&mut output, "up");
    signal(&child, Signal::SIGTERM);
    wait_for(&mut BufReader::new(child.stderr.as_mut().unwrap()), "stopping");
    signal(&child, Signal::SIGINT);
    assert_eq!(end(child).0, Some(130));
}

#[test]
fn a_command_leaves_at_the_first_signal() {
    let mut child = start("command", &[]);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    wait_for(&mut output, "up");
    signal(&child, Signal::SIGTERM);
    assert_eq!(end(child).0, Some(143));
}
