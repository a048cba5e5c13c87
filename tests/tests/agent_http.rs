//! HTTP endpoints as agents: the real binary, a real fleet, a real service.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    fs,
    process::Stdio,
    sync::{Arc, Mutex},
};

use anyhow::Result;
use axum::{
    Router,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::any,
};
use broker::task;
use protocol::{Status, codes};
use serde_json::{Value, json};
use sortie_tests::{Fleet, PATIENCE, binaries, fleet::capability, program};

/// What a service was asked: path, and idempotency key.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// A service whose `/busy` answers 429 once to each idempotency key.
async fn service() -> Result<(String, Asked, task::Owned<()>)> {
    let asked: Asked = Arc::default();
    let seen = Arc::clone(&asked);
    let handler = move |uri: Uri, headers: HeaderMap| async move {
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        let asked = (uri.path().to_owned(), key);
        let is_first = {
            let mut seen = seen.lock().unwrap();
            let is_first = !seen.contains(&asked);
            seen.push(asked);
            is_first
        };
        let answer: Response = match uri.path() {
            "/busy" if is_first => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
            "/orders/9" => (StatusCode::NOT_FOUND, "no such order").into_response(),
            _ if headers.get("authorization").is_none_or(|value| value != "Bearer hunter2") => {
                StatusCode::UNAUTHORIZED.into_response()
            }
            _ => r#"{"state": "paid"}"#.into_response(),
        };
        answer
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new().fallback(any(handler));
    let serving = task::spawn("service", async move { axum::serve(listener, router).await.unwrap() });
    Ok((url, asked, serving))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_called_for_requests() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (url, asked, _serving) = service().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("shop.yaml");
    let definition = json!({
        "kind": "shop",
        "version": "1.2.3",
        "allow_private": true,
        "headers": {"Authorization": "Bearer secret://env/SHOP_TOKEN"},
        "capabilities": {
            "get-order": {
                "url": format!("{url}/orders/{{order}}"),
                "schema": {
                    "input": {"required": ["order", "who"], "properties": {"order": {"type": "integer"}}},
                    "output": {"required": ["state"]},
                },
            },
            "busy": {"url": format!("{url}/busy")},
        },
    });
    fs::write(&file, definition.to_string())?;
    // Without its secret it does not start, and says what is missing.
    let mut command = program::command(&fleet, &binaries::path("agent-http"));
    let refused = command.arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped()).output().await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(said.contains("SHOP_TOKEN"), "{said}");

    let log = folder.path().join("log");
    // The same out of the one binary that has everything.
    let mut command = program::command(&fleet, &binaries::path("sortie"));
    command.args(["process", "agent-http"]).arg(&file).env("SHOP_TOKEN", "hunter2").env("SORTIE_LOG", "trace");
    command.stderr(fs::File::create(&log)?);
    let agent = program::serving(&fleet, command, "get-order").await?;
    let call = async |name: &str, input: Value| fleet.client.request(&capability(name), &input).call(PATIENCE).await;

    let outcome = call("get-order", json!({"order": 7, "who": "Ada"})).await?;
    assert_eq!(outcome.result::<Value>().unwrap(), json!({"state": "paid"}));
    let missing = call("get-order", json!({"order": 9, "who": "Ada"})).await?;
    assert_eq!((missing.status, missing.attempt), (Status::Failed, 1));
    let failure = missing.failure().unwrap();
    assert_eq!(failure.code, codes::HTTP_STATUS);
    assert_eq!(failure.details, Some(json!({"status": 404, "body": "no such order"})));

    let busy = call("busy", Value::Null).await?;
    assert_eq!((busy.status, busy.attempt), (Status::Completed, 2));
    let keys: Vec<String> =
        asked.lock().unwrap().iter().filter(|asked| asked.0 == "/busy").map(|asked| asked.1.clone()).collect();
    assert_eq!(keys, [busy.id.to_string(), busy.id.to_string()], "every attempt has the same key");

    let before = asked.lock().unwrap().len();
    let failure = call("get-order", json!({"order": "seven"})).await?.failure().unwrap();
    let mut pointers: Vec<Value> =
        failure.details.unwrap()["faults"].as_array().unwrap().iter().map(|fault| fault["pointer"].clone()).collect();
    pointers.sort_by_key(ToString::to_string);
    assert_eq!((failure.code.as_str(), pointers), (codes::INVALID_INPUT, vec!["".into(), "/order".into()]));
    assert_eq!(asked.lock().unwrap().len(), before, "what is no input is not sent");

    program::drain(agent).await?;
    let log = fs::read_to_string(&log)?;
    assert!(!log.is_empty() && !log.contains("hunter2"), "a secret is in the log");
    Ok(())
}
