//! A server does not outlive a process that is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the process that is killed is told apart by a variable")]
#![cfg(target_os = "linux")]

use std::{
    env,
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use embedded::{Config, Server};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Set in the process that is going to be killed.
const HOLDER: &str = "SORTIE_TEST_HOLDS_A_SERVER";

#[tokio::test]
async fn a_killed_process_takes_its_server_along() {
    if env::var_os(HOLDER).is_some() {
        let server = Server::start(Config::default()).await.unwrap();
        println!("\nport {}", server.port());
        return std::future::pending().await;
    }
    if !Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: without util-linux's setpriv a server outlives a process that is killed");
        return;
    }
    let left_behind = tempfile::tempdir().unwrap();
    let mut holder = tokio::process::Command::new(env::current_exe().unwrap())
        .args(["a_killed_process_takes_its_server_along", "--exact", "--nocapture"])
        .env(HOLDER, "yes")
        .env("TMPDIR", left_behind.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let reading = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it names its port");
            if let Some(port) = line.strip_prefix("port ") {
                return port.parse::<u16>().unwrap();
            }
        }
    };
    let port = tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it starts a server");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    holder.kill().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(Instant::now() < deadline, "the server lives on");
        thread::yield_now();
    }
}
