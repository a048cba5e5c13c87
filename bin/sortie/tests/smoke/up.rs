//! `sortie up`: what it starts, starts again, and ends.

use std::{fs, net::TcpListener};

use broker::{Connection, Options, Outgoing, Publisher};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    command::sortie,
    running::{Running, children, gone, send},
};

/// A folder with a file of agents; `%` stands for the folder.
fn folder(agents: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let agents = agents.replace('%', &folder.path().display().to_string());
    fs::write(folder.path().join("agents.yaml"), format!("agents:\n{agents}")).unwrap();
    folder
}

fn up(folder: &tempfile::TempDir) -> Running {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (store, agents) = (path("store"), path("agents.yaml"));
    Running::start(&["up", "--port", "0", "--store", &store, "--agents", &agents, "--json"])
}

async fn ready(running: &mut Running) -> Value {
    serde_json::from_str(&running.line().await).unwrap()
}

#[tokio::test]
async fn everything_runs_and_one_signal_ends_it_in_order() {
    let folder = folder(
        "- {kind: tick, count: 2, slots: 3, env: {WORD: hello}, run: sh,\n   \
         args: [-c, 'trap \"echo finished; exit 0\" TERM; echo \"$WORD $SORTIE_SLOTS $SORTIE_NAMESPACE $PWD\"; \
         while true; do sleep 0.05; done']}\n",
    );
    let mut running = up(&folder);
    let document = ready(&mut running).await;
    assert_eq!(document["agents"], serde_json::json!(["tick.1", "tick.2"]));
    let url = document["url"].as_str().unwrap();
    assert_eq!(sortie(url, &["topology", "check"]).await.code, 0);
    let here = fs::canonicalize(folder.path()).unwrap();
    let line = running.until("hello 3 fleet").await;
    assert!(line.starts_with("tick.") && line.ends_with(&here.display().to_string()), "{line}");
    running.until("coordinator started").await;
    let started = children(running.pid());
    assert_eq!(started.len(), 4, "server, coordinator and two agents");
    running.signal(Signal::SIGINT);
    let (code, said) = running.end().await;
    assert_eq!(code, Some(0), "{said:#?}");
    let at =
        |what: &str| said.iter().rposition(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {said:#?}"));
    assert!(at("finished") < at("coordinator stopped"), "{said:#?}");
    gone(&started).await;
}

#[tokio::test]
async fn agents_of_ours_get_ready_and_answer() {
    let folder = folder(
        "- {kind: words, run: exec, file: words.yaml, count: 2, slots: 3}\n- {kind: files, run: files, args: [--root, .]}\n",
    );
    let definition = "kind: words\nversion: 1.0.0\ncapabilities: {count-words: {command: [wc, -w], output: text}}\n";
    fs::write(folder.path().join("words.yaml"), definition).unwrap();
    let mut running = up(&folder);
    let document = ready(&mut running).await;
    let kinds: Vec<_> = document["ready"].as_array().unwrap().iter().map(|agent| agent["kind"].clone()).collect();
    assert_eq!(kinds, ["files", "words", "words"]);
    assert_eq!(document["ready"][1]["slots"], 3);
    let url = document["url"].as_str().unwrap();
    let counted = sortie(url, &["submit", "count-words", "\"to be or not\"", "--wait", "--json"]).await;
    assert!(counted.code == 0 && counted.out.contains("\"4\""), "{counted:?}");
    let examined = sortie(url, &["submit", "examine-file", r#"{"path":"words.yaml"}"#, "--wait", "--json"]).await;
    assert!(examined.code == 0 && examined.out.contains("\"yaml\""), "{examined:?}");
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().await.0, Some(0));
}

#[tokio::test]
async fn layers_that_a_file_declares_are_around_its_commands() {
    let folder = folder("- {kind: words, run: exec, file: words.yaml}\n");
    let definition = "kind: words\nversion: 1.0.0\ncapabilities:\n\
        \x20 draw: {command: [cat, /proc/sys/kernel/random/uuid], output: text, layers: {cache: {ttl: 1h}}}\n\
        \x20 fail: {command: ['false'], layers: {retry_rules: [{code_matches: ., then: substitute, value: {mended: 7}}]}}\n";
    fs::write(folder.path().join("words.yaml"), definition).unwrap();
    let mut running = up(&folder);
    let document = ready(&mut running).await;
    let url = document["url"].as_str().unwrap();
    let draw = async |input: &str| {
        let drawn = sortie(url, &["submit", "draw", input, "--wait", "--json"]).await;
        assert_eq!(drawn.code, 0, "{drawn:?}");
        drawn.json()["result"].clone()
    };
    let first = draw("1").await;
    assert!(first.is_string(), "{first}");
    assert_eq!(first, draw("1").await, "it is kept");
    assert_ne!(first, draw("2").await);
    let mended = sortie(url, &["submit", "fail", "1", "--wait", "--json"]).await;
    assert!(mended.code == 0 && mended.json()["result"] == json!({ "mended": 7 }), "{mended:?}");
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().await.0, Some(0));
}

/// Answers one HTTP call, whatever it asks for.
async fn answer_once(listener: tokio::net::TcpListener) -> String {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(socket.read_buf(&mut asked).await.unwrap() > 0, "the call is cut off");
    }
    let body = r#"{"state":"paid"}"#;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    socket.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(asked).unwrap()
}

#[tokio::test]
async fn an_agent_of_http_calls_is_started_with_settings_of_its_own() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = folder(
        "- {kind: shop, run: http, file: shop.yaml, env: {SORTIE_CONFIG: settings.yaml}}\n\
         - {kind: files, run: files, args: [--config, settings.yaml]}\n",
    );
    let definition = format!(
        "kind: shop\nversion: 1.0.0\nallow_private: true\ncapabilities: {{get-order: {{url: 'http://{}/orders/{{order}}'}}}}\n",
        listener.local_addr().unwrap()
    );
    fs::write(folder.path().join("shop.yaml"), definition).unwrap();
    fs::write(folder.path().join("settings.yaml"), "slots: 2\n").unwrap();
    let mut running = up(&folder);
    let document = ready(&mut running).await;
    let agents: Vec<_> =
        document["ready"].as_array().unwrap().iter().map(|one| (&one["kind"], &one["slots"])).collect();
    assert_eq!(agents, [(&json!("files"), &json!(2)), (&json!("shop"), &json!(2))]);
    let url = document["url"].as_str().unwrap();
    let submit = ["submit", "get-order", r#"{"order":"7"}"#, "--wait", "--json"];
    let (answered, asked) = tokio::join!(sortie(url, &submit), answer_once(listener));
    assert!(asked.starts_with("GET /orders/7 "), "{asked}");
    assert!(answered.code == 0 && answered.out.contains("paid"), "{answered:?}");
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().await.0, Some(0));
}

#[tokio::test]
async fn what_crashes_is_started_again_and_given_up_and_the_others_go_on() {
    let folder = folder(
        "- {kind: crash, run: sh, args: [-c, 'echo alas; exit 3']}\n\
         - {kind: again, run: sh, args: [-c, 'echo x >> %/starts; exec false']}\n\
         - {kind: restless, run: sh, args: [-c, 'echo x >> %/turns; exit 75']}\n\
         - {kind: steady, run: sleep, args: [1000]}\n",
    );
    let mut running = up(&folder);
    running.until("crash.1 exited with 3 and is given up: it crashed 5 times in a row").await;
    assert_eq!(running.said.iter().filter(|line| line.ends_with("| alas")).count(), 5);
    running.until("restless.1 exited with 75; starting it again in 3200ms").await;
    running.until("again.1 exited with 1 and is given up").await;
    assert!(fs::read_to_string(folder.path().join("turns")).unwrap().lines().count() >= 6);
    assert!(children(running.pid()).len() >= 3, "server, coordinator and the steady one");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.end().await.0, Some(0));
    assert_eq!(fs::read_to_string(folder.path().join("starts")).unwrap().lines().count(), 5);
}

#[tokio::test]
async fn a_second_signal_ends_what_does_not_listen() {
    let folder =
        folder("- {kind: deaf, run: sh, args: [-c, \"trap '' TERM; echo deaf; while true; do sleep 1000; done\"]}\n");
    let mut running = up(&folder);
    ready(&mut running).await;
    running.until("| deaf").await;
    let started = children(running.pid());
    running.signal(Signal::SIGINT);
    running.until("stopping").await;
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().await.0, Some(130));
    gone(&started).await;
}

#[tokio::test]
async fn a_server_that_dies_comes_back_with_what_it_had() {
    let folder = folder("- {kind: steady, run: sleep, args: [1000]}\n");
    let mut running = up(&folder);
    let url = ready(&mut running).await["url"].as_str().unwrap().to_owned();
    let connection = Connection::open(Options { servers: vec![url.clone()], ..Default::default() }).await.unwrap();
    Publisher::new(&connection).publish(&Outgoing::new("fleet.request.paint", &b"{}"[..])).await.unwrap();
    let is_server = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().starts_with("nats-server");
    let server = children(running.pid()).into_iter().find(is_server).unwrap();
    send(server, Signal::SIGKILL);
    running.until("nats-server ended").await;
    running.until("nats-server runs again").await;
    let again = Connection::open(Options { servers: vec![url], ..Default::default() }).await.unwrap();
    assert_eq!(broker::topology::stream_state(&again, "FLEET_REQUESTS").await.unwrap().messages, 1);
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().await.0, Some(0));
}

#[tokio::test]
async fn children_do_not_outlive_a_killed_parent() {
    let probe = std::process::Command::new("setpriv").args(["--pdeathsig", "KILL", "--", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: without util-linux's setpriv nothing ends the children of a process killed with SIGKILL");
        return;
    }
    let folder = folder("- {kind: steady, run: sleep, args: [1000]}\n");
    let mut running = up(&folder);
    ready(&mut running).await;
    let started = children(running.pid());
    assert_eq!(started.len(), 3);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().await.0, None);
    gone(&started).await;
}

#[tokio::test]
async fn what_cannot_work_is_told_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = folder("- {kind: A, run: exec}\n- {kind: b, rum: files}\n");
    let store = folder.path().join("store").display().to_string();
    let (code, said) = Running::start(&["up", "--port", &port, "--store", &store]).end().await;
    assert_eq!(code, Some(64), "{said:?}");
    assert!(said.join("\n").contains("is in use") && said.join("\n").contains("--port"), "{said:?}");
    let (code, said) = up(&folder).end().await;
    assert_eq!(code, Some(64), "{said:?}");
    for fault in ["agents.0.kind", "agents.0.file", "agents.1.rum", "agents.1.run"] {
        assert!(said.join("\n").contains(fault), "{fault} in {said:?}");
    }
    let (code, _) = Running::start(&["up", "--server", "nats://127.0.0.1:9"]).end().await;
    assert_eq!(code, Some(2));
}

#[tokio::test]
async fn a_store_belongs_to_one_at_a_time() {
    let folder = folder("- {kind: steady, run: sleep, args: [1000]}\n");
    let mut running = up(&folder);
    ready(&mut running).await;
    let (code, said) = up(&folder).end().await;
    assert_eq!(code, Some(64), "{said:?}");
    assert!(said.join("\n").contains("another `sortie up`"), "{said:?}");
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().await.0, Some(0));
}
