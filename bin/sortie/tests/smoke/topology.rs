//! `sortie topology` against a server of its own.

use std::time::Duration;

use crate::command::sortie;
use broker::{Connection, Options};
use embedded::{Config, Server};
use serde_json::{Value, json};

async fn ask(connection: &Connection, what: &str, question: &Value) -> Value {
    let body = question.to_string().into();
    let answer = connection.request(format!("$JS.API.{what}"), None, body, Duration::from_secs(5)).await.unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

async fn connect(server: &Server) -> Connection {
    Connection::open(Options { servers: vec![server.url()], ..Default::default() }).await.unwrap()
}

#[tokio::test]
async fn apply_makes_what_plan_shows_and_then_check_agrees() {
    let server = Server::start(Config::default()).await.unwrap();
    let url = server.url();
    let plan = sortie(&url, &["topology", "plan"]).await;
    assert_eq!(plan.code, 0, "{plan:?}");
    assert!(plan.out.contains("create  FLEET_REQUESTS") && plan.out.contains("0 as they should be"), "{plan:?}");
    let missing = sortie(&url, &["topology", "check"]).await;
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(missing.err.contains("sortie topology plan"), "{missing:?}");

    let apply = sortie(&url, &["topology", "apply", "--capability", "resize", "--json"]).await;
    assert_eq!(apply.code, 0, "{apply:?}");
    let created = apply.json()["changes"].as_array().unwrap().len();
    let again = sortie(&url, &["topology", "apply"]).await;
    assert!(again.out.contains(&format!("{created} as they should be")), "{again:?}");
    assert_eq!(sortie(&url, &["topology", "check", "--capability", "resize"]).await.code, 0);
    let names = ask(&connect(&server).await, "CONSUMER.NAMES.FLEET_REQUESTS", &json!({})).await;
    assert_eq!(names["consumers"], json!(["resize", "resize_bulk", "resize_urgent"]));
}

#[tokio::test]
async fn what_one_apply_was_told_the_next_one_keeps() {
    let server = Server::start(Config::default()).await.unwrap();
    let url = server.url();
    assert_eq!(sortie(&url, &["topology", "apply", "--outcomes-kept", "1h"]).await.code, 0);
    let again = sortie(&url, &["topology", "apply", "--json"]).await;
    assert_eq!(again.json()["settings"]["outcomes_kept"], "1h");
    assert_eq!(again.json()["agrees"], true);
    let other = sortie(&url, &["topology", "check", "--outcomes-kept", "2h", "--json"]).await;
    assert_eq!(other.code, 1, "{other:?}");
    let changes = other.json();
    let drifted: Vec<_> = changes["changes"].as_array().unwrap().iter().filter(|c| c["action"] == "update").collect();
    assert_eq!(drifted.len(), 1);
    let drift = &drifted[0]["drift"][0];
    assert_eq!((&drift["field"], &drift["found"], &drift["expected"]), (&json!("max_age"), &json!("1h"), &json!("2h")));
}

#[tokio::test]
async fn a_limit_on_what_holds_promises_is_an_error_by_name() {
    let server = Server::start(Config::default()).await.unwrap();
    let url = server.url();
    assert_eq!(sortie(&url, &["topology", "apply"]).await.code, 0);
    let connection = connect(&server).await;
    let mut config = ask(&connection, "STREAM.INFO.FLEET_REQUESTS", &json!({})).await["config"].take();
    config["max_msgs"] = json!(1_000);
    let updated = ask(&connection, "STREAM.UPDATE.FLEET_REQUESTS", &config).await;
    assert_eq!(updated["error"], Value::Null, "{updated}");
    let check = sortie(&url, &["topology", "check"]).await;
    assert_eq!(check.code, 1);
    assert!(check.err.contains("ERROR") && check.err.contains("FLEET_REQUESTS has max_messages 1000"), "{check:?}");
    assert!(check.out.contains("breaks a promise"), "{check:?}");
    assert_eq!(sortie(&url, &["topology", "apply"]).await.code, 0);
    assert_eq!(sortie(&url, &["topology", "check"]).await.code, 0);
}

#[tokio::test]
async fn a_consumer_that_differs_is_told_and_left_alone() {
    let server = Server::start(Config::default()).await.unwrap();
    let url = server.url();
    assert_eq!(sortie(&url, &["topology", "apply"]).await.code, 0);
    let connection = connect(&server).await;
    let other = json!({ "stream_name": "FLEET_REQUESTS", "config": {
        "durable_name": "echo", "name": "echo", "ack_policy": "explicit", "filter_subject": "fleet.request.echo",
        "ack_wait": 1_000_000_000, "max_deliver": 100, "max_waiting": 4096 } });
    let made = ask(&connection, "CONSUMER.CREATE.FLEET_REQUESTS.echo.fleet.request.echo", &other).await;
    assert_eq!(made["error"], Value::Null, "{made}");
    let check = sortie(&url, &["topology", "check"]).await;
    assert_eq!(check.code, 1, "{check:?}");
    assert!(check.out.contains("ack_wait") && check.out.contains("nats consumer rm FLEET_REQUESTS echo"), "{check:?}");
    let apply = sortie(&url, &["topology", "apply", "--capability", "echo"]).await;
    assert_eq!(apply.code, 1, "{apply:?}");
    assert!(apply.err.contains("ack_wait is 1s, not 10s"), "{apply:?}");
}

#[tokio::test]
async fn without_a_broker_it_says_how_to_get_one() {
    let ended = sortie("nats://127.0.0.1:9", &["topology", "plan"]).await;
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(ended.err.contains("no broker answers at nats://127.0.0.1:9"), "{ended:?}");
    assert!(ended.err.contains("sortie up") && ended.err.contains("--server"), "{ended:?}");
}
