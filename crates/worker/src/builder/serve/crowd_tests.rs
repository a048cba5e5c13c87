//! What a handler's task costs, with everything that an attempt has: its request, its context, its layers, its span.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use broker::{Connection, Options, topology};
use bytes::Bytes;
use embedded::{Config as ServerConfig, Server};
use protocol::{ContentType, Failure, Namespace, Request, RequestId, topology::Settings};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{Call, Config, Context, Worker};

const TASKS: usize = 100_000;

/// A task has a context of its own; what others claim for an agent object is 6.5 KB.
const BYTES_MAX: usize = 6_500;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Prints bytes and time for each: `cargo test --release -p sortie-worker crowd -- --nocapture`.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_attempts_at_once_fit_into_little_memory() {
    let server = Server::start(ServerConfig::default()).await.unwrap();
    let options = Options { servers: vec![server.url()], ..Options::default() };
    let connection = Connection::open(options.clone()).await.unwrap();
    topology::apply(&connection, &Namespace::default(), &Settings::default()).await.unwrap();
    let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let handler = {
        let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
        move |context: Context, input: Value| {
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            async move {
                let opened = gate.notified();
                begun.fetch_add(1, Ordering::Relaxed);
                opened.await;
                Ok::<_, Failure>(serde_json::json!([context.attempt(), input]))
            }
        }
    };
    let config = Config { broker: options, ..Config::default() };
    let builder = Worker::builder("crowd").config(config).capability("wait", handler);
    let (kind, names) = builder.check().unwrap();
    let handlers = tokio::runtime::Handle::current();
    let (machinery, _lookups, _news) = builder.assemble(connection, handlers, kind, names).await.unwrap();
    let served = &machinery.served[0];

    let (before, began) = (resident_bytes(), Instant::now());
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| {
            let request = Request::new(RequestId::parse(&format!("order-{number}")).unwrap());
            let surroundings = Arc::clone(&machinery.surroundings);
            let timeout = Duration::from_secs(60);
            let token = CancellationToken::new();
            let context = Context::new(request, served.capability.clone(), timeout, token, surroundings);
            let call = Call { context, body: Bytes::from_static(b"{\"n\":1}"), content_type: ContentType::Json };
            machinery.handlers.spawn(served.service.clone().oneshot(call))
        })
        .collect();
    let spawned = began.elapsed();
    while begun.load(Ordering::Relaxed) < TASKS {
        tokio::task::yield_now().await;
    }
    let (all_begun, bytes) = (began.elapsed(), resident_bytes().saturating_sub(before) / TASKS);
    gate.notify_waiters();
    for task in tasks {
        let reply = task.await.unwrap().unwrap();
        assert_eq!(reply.body, b"[1,{\"n\":1}]");
    }
    let each = |time: Duration| time.as_nanos() / TASKS as u128;
    println!(
        "{TASKS} attempts: {bytes} bytes, {} ns to create, {} ns until it runs, each",
        each(spawned),
        each(all_begun)
    );
    assert!(bytes < BYTES_MAX, "{bytes} bytes each");
}
