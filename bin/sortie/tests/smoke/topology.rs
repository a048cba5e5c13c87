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

/// Makes the consumer of `echo` as somebody else might, paused and limited as an operator might.
async fn make_differently(connection: &Connection, field: &str, value: Value) {
    let mut config = json!({
        "durable_name": "echo", "name": "echo", "ack_policy": "explicit", "filter_subject": "fleet.request.echo",
        "ack_wait": 10_000_000_000_u64, "max_deliver": 100, "max_waiting": 4096, "max_ack_pending": 7,
        "pause_until": "2100-01-01T00:00:00Z" });
    config[field] = value;
    let question = json!({ "stream_name": "FLEET_REQUESTS", "config": config });
    let made = ask(connection, "CONSUMER.CREATE.FLEET_REQUESTS.echo.fleet.request.echo", &question).await;
    assert_eq!(made["error"], Value::Null, "{made}");
}

async fn echo(connection: &Connection) -> Value {
    ask(connection, "CONSUMER.INFO.FLEET_REQUESTS.echo", &json!({})).await["config"].take()
}

#[tokio::test]
async fn a_consumer_that_differs_is_set_back_in_place_and_stays_paused_and_limited() {
    let server = Server::start(Config::default()).await.unwrap();
    let url = server.url();
    assert_eq!(sortie(&url, &["topology", "apply"]).await.code, 0);
    let connection = connect(&server).await;
    make_differently(&connection, "max_deliver", json!(2)).await;
    let check = sortie(&url, &["topology", "check"]).await;
    assert_eq!(check.code, 1, "{check:?}");
    assert!(!check.out.contains("Some(") && check.err.contains("`sortie topology apply`"), "{check:?}");
    let row = check.out.lines().find(|line| line.contains("max_deliver")).unwrap();
    assert_eq!(
        row.split_whitespace().collect::<Vec<_>>(),
        ["update", "FLEET_REQUESTS/echo", "max_deliver", "2", "100"]
    );
    assert_eq!(sortie(&url, &["topology", "apply"]).await.code, 0);
    assert_eq!(sortie(&url, &["topology", "check"]).await.code, 0);
    let now = echo(&connection).await;
    assert_eq!((&now["max_deliver"], &now["max_ack_pending"]), (&json!(100), &json!(7)));
    assert_eq!(now["pause_until"], "2100-01-01T00:00:00Z");
    let audited = ask(&connection, "STREAM.INFO.FLEET_AUDIT", &json!({ "subjects_filter": ">" })).await;
    let subjects = audited["state"]["subjects"].as_object().unwrap();
    assert!(subjects.keys().any(|subject| subject.ends_with(".consumer-update")), "{subjects:?}");
}

#[tokio::test]
async fn a_consumer_that_cannot_be_changed_is_made_anew_only_when_asked_for() {
    let server = Server::start(Config::default()).await.unwrap();
    let url = server.url();
    assert_eq!(sortie(&url, &["topology", "apply"]).await.code, 0);
    let connection = connect(&server).await;
    make_differently(&connection, "max_waiting", json!(512)).await;
    let submitted = sortie(&url, &["submit", "echo", "1"]).await;
    assert_eq!(submitted.code, 0, "{submitted:?}");
    let apply = sortie(&url, &["topology", "apply"]).await;
    assert_eq!(apply.code, 1, "{apply:?}");
    assert!(apply.out.contains("may run twice") && apply.err.contains("topology apply --recreate"), "{apply:?}");
    assert_eq!(echo(&connection).await["max_waiting"], 512);
    let apply = sortie(&url, &["topology", "apply", "--recreate"]).await;
    assert!(apply.code == 0 && apply.out.contains("1 made anew"), "{apply:?}");
    assert_eq!(sortie(&url, &["topology", "check"]).await.code, 0);
    let now = echo(&connection).await;
    assert_eq!((&now["max_waiting"], &now["max_ack_pending"]), (&json!(4096), &json!(7)));
    assert_eq!(now["pause_until"], "2100-01-01T00:00:00Z");
    let waiting = ask(&connection, "CONSUMER.INFO.FLEET_REQUESTS.echo", &json!({})).await["num_pending"].take();
    assert_eq!(waiting, 1, "no message is lost by it");
}

#[tokio::test]
async fn less_retention_than_usual_is_warned_of_with_what_it_costs() {
    let server = Server::start(Config::default()).await.unwrap();
    let url = server.url();
    // The broker refuses a duplicate window of two minutes there.
    assert_eq!(sortie(&url, &["topology", "apply", "--outcomes-kept", "1m", "--logs-bytes-max", "8MB"]).await.code, 0);
    let check = sortie(&url, &["topology", "check"]).await;
    assert_eq!(check.code, 0, "it is the operator's to choose: {check:?}");
    for words in ["WARNING: FLEET_OUTCOMES keeps for 1m", "runs again", "sortie topology apply --outcomes-kept 1d"] {
        assert!(check.out.contains(words), "{words}: {check:?}");
    }
    let document = sortie(&url, &["topology", "check", "--json"]).await.json();
    assert_eq!(document["shortened"][0]["stream"], "FLEET_OUTCOMES");
    assert_eq!(document["settings"]["logs_bytes_max"], 8_000_000);
    assert_eq!(sortie(&url, &["topology", "apply", "--outcomes-kept", "1d"]).await.code, 0);
    let check = sortie(&url, &["topology", "check"]).await;
    assert!(check.code == 0 && !check.out.contains("WARNING"), "{check:?}");
}

#[tokio::test]
async fn without_a_broker_it_says_how_to_get_one() {
    let ended = sortie("nats://127.0.0.1:9", &["topology", "plan"]).await;
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(ended.err.contains("no broker answers at nats://127.0.0.1:9"), "{ended:?}");
    assert!(ended.err.contains("sortie up") && ended.err.contains("--server"), "{ended:?}");
}
