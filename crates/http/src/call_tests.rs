use std::{collections::HashMap, net::SocketAddr, sync::Mutex};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap as Received, StatusCode, Uri},
    response::IntoResponse,
    routing::any,
};
use protocol::codes;
use serde_json::json;

use super::*;

/// What a service was asked: URI, headers and body.
type Asked = (String, HashMap<String, String>, Value);

/// A service on this machine, and what it was asked.
struct Service {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _serving: broker::task::Owned<()>,
}

async fn answer_to(uri: &Uri) -> axum::response::Response {
    match uri.path() {
        "/busy" => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], "later").into_response(),
        "/broken" => (StatusCode::BAD_GATEWAY, "x".repeat(100_000)).into_response(),
        "/missing" => (StatusCode::NOT_FOUND, "no such order").into_response(),
        "/large" => "x".repeat(2_000).into_response(),
        "/html" => "<html>".into_response(),
        "/empty" => StatusCode::NO_CONTENT.into_response(),
        path if path.starts_with("/to/") => {
            let to = percent_encoding::percent_decode_str(&path["/to/".len()..]).decode_utf8_lossy().into_owned();
            (StatusCode::FOUND, [("location", to)]).into_response()
        }
        _ => "{\"ok\":true}".into_response(),
    }
}

async fn service() -> Service {
    let asked: Arc<Mutex<Vec<_>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let handler = move |uri: Uri, headers: Received, body: Bytes| async move {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        seen.lock().unwrap().push((uri.to_string(), headers.collect(), body));
        answer_to(&uri).await
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(any(handler));
    let serving = broker::task::spawn("service", async move { axum::serve(listener, router).await.unwrap() });
    Service { address, asked, _serving: serving }
}

impl Service {
    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// A caller of the one call in a definition.
fn caller(definition: &Value) -> Caller {
    let definition = Definition::parse(&definition.to_string()).unwrap();
    let secret = |name: &str| (name == "TOKEN").then(|| Secret::new("hunter2"));
    Caller::all(&definition, &secret).unwrap().into_values().next().unwrap()
}

fn definition(allow: Value, call: Value) -> Value {
    json!({"kind": "shop", "version": "1.0.0", "allow_private": allow, "capabilities": {"call": call}})
}

async fn call(caller: &Caller, input: Value) -> Result<Value, Failure> {
    let identity = Identity { idempotency_key: "req_1".to_owned(), traceparent: Some("00-1".to_owned()) };
    caller.call(&input, &identity).await
}

/// Calls a path of a service.
async fn get(service: &Service, path: &str) -> Result<Value, Failure> {
    let url = format!("http://{}{path}", service.address);
    call(&caller(&definition(json!(true), json!({"url": url, "response_bytes_max": 1_000}))), Value::Null).await
}

#[tokio::test]
async fn the_input_fills_url_query_headers_and_body() {
    let service = service().await;
    let caller = caller(&definition(
        json!(true),
        json!({
            "method": "POST",
            "url": format!("http://{}/orders/{{order}}", service.address),
            "query": {"lang": "{lang}", "page": "{page?}", "key": "secret://env/TOKEN"},
            "headers": {"Authorization": "Bearer secret://env/TOKEN", "X-Who": "{who.name}"},
            "body": {"count": "{count}", "note": "for {who.name}"},
        }),
    ));
    let input = json!({"order": "a/b?c", "lang": "de&x=1", "count": 3, "who": {"name": "Ada"}});
    assert_eq!(call(&caller, input.clone()).await.unwrap(), json!({"ok": true}));
    let (uri, headers, body) = service.asked().remove(0);
    assert_eq!(uri, "/orders/a%2Fb%3Fc?key=hunter2&lang=de%26x%3D1");
    assert_eq!(body, json!({"count": 3, "note": "for Ada"}));
    for (name, value) in [
        ("authorization", "Bearer hunter2"),
        ("x-who", "Ada"),
        ("idempotency-key", "req_1"),
        ("traceparent", "00-1"),
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("user-agent", "sortie-shop/1.0.0"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(!format!("{caller:?}").contains("hunter2"));
    let mut hostile = input;
    hostile["who"]["name"] = "Ada\r\nX-Admin: yes".into();
    let failure = call(&caller, hostile).await.unwrap_err();
    assert_eq!((failure.code.as_str(), service.asked().len()), (codes::INVALID_INPUT, 1));
}

#[tokio::test]
async fn what_is_tried_again_and_what_is_not() {
    let service = service().await;
    let busy = get(&service, "/busy").await.unwrap_err();
    assert_eq!((busy.code.as_str(), busy.retryable), (codes::HTTP_STATUS, true));
    assert_eq!(busy.retry_after, Some(std::time::Duration::from_secs(7)));
    let broken = get(&service, "/broken").await.unwrap_err();
    assert_eq!((broken.retryable, broken.retry_after), (true, None));
    assert_eq!(broken.details.unwrap()["body"].as_str().unwrap().len(), 2_048);
    let missing = get(&service, "/missing").await.unwrap_err();
    assert_eq!((missing.code.as_str(), missing.retryable), (codes::HTTP_STATUS, false));
    assert_eq!(missing.details.unwrap(), json!({"status": 404, "body": "no such order"}));
    assert_eq!(get(&service, "/empty").await.unwrap(), Value::Null);
    assert_eq!(get(&service, "/html").await.unwrap_err().code, codes::HTTP_BODY_INVALID);
    assert_eq!(get(&service, "/large").await.unwrap_err().code, codes::RESULT_TOO_LARGE);
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{gone}/?k=secret://env/TOKEN").replace("?k=secret://env/TOKEN", "");
    let unreachable = caller(&definition(json!(true), json!({"url": url, "query": {"k": "secret://env/TOKEN"}})));
    let failure = call(&unreachable, Value::Null).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::HTTP_UNREACHABLE, true));
    assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
}

#[tokio::test]
async fn private_addresses_are_refused_unless_they_are_allowed() {
    let service = service().await;
    let port = service.address.port();
    let by_name = |allow: Value| caller(&definition(allow, json!({"url": format!("http://localhost:{port}/")})));
    for refused in [json!(false), json!(["elsewhere"]), json!(["127.0.0.1"])] {
        let failure = call(&by_name(refused), Value::Null).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), (codes::ADDRESS_REFUSED, false), "{failure}");
    }
    assert_eq!(service.asked().len(), 0);
    for allowed in [json!(true), json!(["localhost"])] {
        assert!(call(&by_name(allowed), Value::Null).await.is_ok());
    }
    let faults = Definition::parse(&definition(json!(false), json!({"url": "http://127.0.0.1/"})).to_string());
    assert!(faults.unwrap_err()[0].to_string().contains("allow_private: [127.0.0.1]"));
}

#[tokio::test]
async fn a_redirect_leads_to_no_refused_place_and_takes_no_secret_along() {
    let service = service().await;
    let port = service.address.port();
    let to = |url: &str| percent_encoding::utf8_percent_encode(url, percent_encoding::NON_ALPHANUMERIC).to_string();
    // Allowed is the name, not the address behind it: what is private by another name is not.
    let from = |target: &str, headers: Value| {
        let url = format!("http://localhost:{port}/to/{}", to(target));
        caller(&definition(json!(["localhost"]), json!({"url": url, "headers": headers})))
    };
    for target in [format!("http://127.0.0.1:{port}/"), format!("http://[::ffff:127.0.0.1]:{port}/")] {
        let failure = call(&from(&target, json!({})), Value::Null).await.unwrap_err();
        assert_eq!(failure.code, codes::ADDRESS_REFUSED, "{target}: {failure:?}");
    }
    assert!(call(&from("/here", json!({})), Value::Null).await.is_ok());
    assert!(call(&from("/here", json!({"X-Key": "secret://env/TOKEN"})), Value::Null).await.is_ok());
    // Another port is another place; nobody needs to be there.
    let failure =
        call(&from("http://localhost:1/", json!({"X-Key": "secret://env/TOKEN"})), Value::Null).await.unwrap_err();
    assert_eq!(failure.code, codes::ADDRESS_REFUSED, "{failure:?}");
    assert!(failure.message.contains("secrets"), "{failure}");
    let asked = service.asked();
    assert!(
        asked
            .iter()
            .all(|(uri, headers, _)| uri.starts_with("/to/")
                || uri == "/here" && headers["host"].starts_with("localhost"))
    );
    assert!(call(&from("/to/%2Fhere", json!({})), Value::Null).await.is_ok(), "two redirects are followed");
    let failure = call(&from("/to/x", json!({})), Value::Null).await.unwrap_err();
    assert!(failure.message.contains("redirects"), "round and round: {failure}");
}

#[test]
fn a_secret_that_is_not_there_is_told_before_anything_is_served() {
    let text = "{kind: shop, version: 1.0.0, headers: {A: 'secret://env/ONE'}, capabilities: {
        a: {url: 'https://shop.example', query: {t: 'secret://env/TWO'}}, b: {url: 'https://shop.example'}}}";
    let obstacles = Caller::all(&Definition::parse(text).unwrap(), &|_| None).unwrap_err();
    assert_eq!(obstacles.len(), 2, "{obstacles:?}");
    assert!(obstacles[0].contains("ONE") && obstacles[1].contains("TWO"), "{obstacles:?}");
}
