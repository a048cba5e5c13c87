//! A real nats-server, started, ended and started again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../src/script.rs"]
mod script;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use embedded::{Config, Error, Monitor, Server, SyncInterval};
use nix::{sys::signal, unistd::Pid};

use crate::script::script;

fn greeting(server: &Server) -> String {
    let mut line = String::new();
    BufReader::new(TcpStream::connect(("127.0.0.1", server.port())).unwrap()).read_line(&mut line).unwrap();
    line
}

/// Signal 0 only asks; a process that nobody waited for still counts.
fn exists(pid: u32) -> bool {
    signal::kill(Pid::from_raw(i32::try_from(pid).unwrap()), None).is_ok()
}

#[tokio::test]
async fn a_server_answers_with_jetstream_and_is_gone_when_dropped() {
    let server = Server::start(Config::default()).await.unwrap();
    assert_eq!(server.url(), format!("nats://127.0.0.1:{}", server.port()));
    assert!(greeting(&server).contains("\"jetstream\":true"));
    let (port, pid, store) = (server.port(), server.pid().unwrap(), server.store().to_owned());
    assert!(store.is_dir() && exists(pid));
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!exists(pid), "it is waited for, so not even a zombie stays");
    assert!(!store.exists() && !store.parent().unwrap().exists());
}

#[tokio::test]
async fn a_panic_takes_the_server_along() {
    let server = Server::start(Config::default()).await.unwrap();
    let pid = server.pid().unwrap();
    let result = catch_unwind(AssertUnwindSafe(move || {
        let _held = server;
        panic!("this panic is part of the test");
    }));
    assert!(result.is_err());
    assert!(!exists(pid));
}

#[tokio::test]
async fn a_restart_keeps_port_store_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { store: Some(folder.path().to_owned()), ..Config::default() };
    let mut server = Server::start(config).await.unwrap();
    let (port, pid, name) = (server.port(), server.pid(), server.name().to_owned());
    server.restart().await.unwrap();
    assert_eq!((server.port(), server.name(), server.store()), (port, name.as_str(), folder.path()));
    assert_ne!(server.pid(), pid);
    assert!(greeting(&server).contains(&name));

    server.kill().unwrap();
    assert_eq!(server.pid(), None);
    assert!(!server.is_running());
    server.restart().await.unwrap();
    assert!(greeting(&server).contains(&name));

    server.stop().await.unwrap();
    server.stop().await.unwrap();
    assert!(matches!(server.pause(), Err(Error::NotRunning { .. })));
    drop(server);
    assert!(folder.path().join("jetstream").is_dir(), "a store that was named is kept");
}

#[tokio::test]
async fn two_at_once_have_their_own_ports_and_stores() {
    let (one, two) = tokio::join!(Server::start(Config::default()), Server::start(Config::default()));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.port(), two.port());
    assert_ne!(one.store(), two.store());
}

#[tokio::test]
async fn a_paused_server_is_silent_goes_on_and_can_be_stopped() {
    let mut server = Server::start(Config::default()).await.unwrap();
    server.pause().unwrap();
    let silent = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    silent.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(BufReader::new(silent).read_line(&mut String::new()).is_err());
    server.resume().unwrap();
    assert!(greeting(&server).starts_with("INFO "));
    server.pause().unwrap();
    server.stop().await.unwrap();
    assert!(fs::read_to_string(server.log_path()).unwrap().contains("Server Exiting"), "it was not killed");
}

#[tokio::test]
async fn its_own_end_is_noticed() {
    let config =
        Config { extra: "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"".to_owned(), ..Config::default() };
    let mut server = Server::start(config).await.unwrap();
    server.lame_duck().unwrap();
    let status =
        tokio::time::timeout(Duration::from_secs(20), server.ended()).await.expect("nobody was connected").unwrap();
    assert!(status.success(), "{status}");
    assert!(!server.is_running());
    server.restart().await.unwrap();
}

#[tokio::test]
async fn the_settings_reach_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        log: Some(folder.path().join("server.log")),
        name: Some("by-name".to_owned()),
        monitor: Monitor::FreePort,
        sync_interval: SyncInterval::Always,
        store_bytes_max: Some(3_000_000),
        extra: "max_payload: 2000".to_owned(),
        ..Config::default()
    };
    let server = Server::start(config).await.unwrap();
    assert!(greeting(&server).contains("\"max_payload\":2000"));
    let (status, json) = server.monitor("/jsz?config=true").await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(json["config"]["max_storage"], 3_000_000);
    assert_eq!(json["config"]["sync_always"], true, "{json}");
    let (_, json) = server.monitor("/varz").await.unwrap();
    assert_eq!(json["server_name"], "by-name");
    assert!(fs::read_to_string(folder.path().join("server.log")).unwrap().contains("Server is ready"));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = Server::start(Config { port: Some(port), ..Config::default() }).await.unwrap_err();
    assert!(matches!(&error, Error::PortTaken { address } if address.ends_with(&port.to_string())), "{error}");
}

#[tokio::test]
async fn a_start_that_fails_tells_the_last_words() {
    let error = Server::start(Config { extra: "max_payload: nonsense".to_owned(), ..Config::default() }).await;
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::Died { log, .. } if log.contains("nats-server.conf:6:1")), "{error}");
}

#[tokio::test]
async fn a_bad_binary_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let script = script(folder.path().join("nats-server"), "echo hello");
    for path in [script, folder.path().join("absent")] {
        let error = Server::start(Config { binary: Some(path.clone()), ..Config::default() }).await.unwrap_err();
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains(path.to_str().unwrap()) && !said.contains('\n'), "{said}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_and_killed() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"[ "$1" = --version ] && exec echo 'nats-server: v2.15.1'
echo $$ >"$0.pid"
exec sleep 60"#;
    let script = script(folder.path().join("nats-server"), text);
    // A machine that does other work may not have begun the script by then.
    for start_within in [300, 3_000, 20_000].map(Duration::from_millis) {
        let config = Config { binary: Some(script.clone()), start_within, ..Config::default() };
        let error = Server::start(config).await.unwrap_err();
        assert!(matches!(error, Error::NotReady { .. }), "{error}");
        let said = fs::read_to_string(script.with_extension("pid")).unwrap_or_default();
        if let Ok(pid) = said.trim().parse::<u32>() {
            assert!(!exists(pid));
            return;
        }
    }
    panic!("the script never ran");
}
