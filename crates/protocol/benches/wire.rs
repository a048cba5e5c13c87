//! What every message costs before the broker sees it: subjects, headers, bodies. `cargo bench -p sortie-protocol`.
#![allow(clippy::expect_used, reason = "a bench that cannot begin ends with a panic")]

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sortie_protocol::{
    Capability, ContentType, Headers, InstanceId, Lane, Namespace, Outcome, Request, RequestId, RunId, StepName,
    Subject, header, time,
};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    subjects(&mut criterion);
    headers(&mut criterion);
    bodies(&mut criterion);
    criterion.final_summary();
}

fn subjects(criterion: &mut Criterion) {
    let fleet = Namespace::default();
    let work =
        Subject::Request { lane: Lane::Normal, capability: Capability::parse("http-get").expect("a capability") };
    let step = Subject::StepOutcome {
        run: RunId::parse("order-20261120-17").expect("a run"),
        step: StepName::parse("charge").expect("a step"),
        item: 17,
    };
    let mut group = criterion.benchmark_group("subject");
    for (name, subject) in [("request", work), ("step outcome", step)] {
        let text = subject.render(&fleet);
        group.bench_function(format!("render {name}"), |bencher| bencher.iter(|| black_box(&subject).render(&fleet)));
        group.bench_function(format!("parse {name}"), |bencher| {
            bencher.iter(|| Subject::parse(&fleet, black_box(&text)));
        });
    }
    group.finish();
}

fn headers(criterion: &mut Criterion) {
    let fallback = RequestId::of_sequence(17);
    let mut request = Request::new(RequestId::parse("req_0193f0a1b2c37d4e8f90a1b2c3d4e5f6").expect("an id"));
    let mut plain = Headers::new();
    request.write(&mut plain);
    request.attempt = 2;
    request.attempts_max = Some(5);
    request.backoff = Some(sortie_protocol::Backoff::default());
    request.timeout = Some(Duration::from_secs(30));
    request.deadline = time::parse("2026-11-20T07:17:00Z").ok();
    request.trace.parent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let mut retry = Headers::new();
    request.write(&mut retry);
    retry.push("X-Tenant", "blue");
    retry.push(header::NATS_SCHEDULER, "fleet.later.order-17");

    let mut group = criterion.benchmark_group("headers");
    for (name, headers) in [("a plain request", &plain), ("a retry", &retry)] {
        group.bench_function(format!("read {name}"), |bencher| {
            bencher.iter(|| Request::read(black_box(headers), fallback.clone()));
        });
    }
    group.bench_function("write a retry", |bencher| {
        bencher.iter(|| {
            let mut headers = black_box(&retry).handed_on();
            request.write(&mut headers);
            headers
        });
    });
    let mut outcome = Outcome::completed(request.id.clone(), ContentType::Json, b"{\"n\":1}".to_vec());
    outcome.capability = Capability::parse("http-get").ok();
    outcome.instance = Some(InstanceId::parse("ins_1").expect("an instance"));
    let stored = outcome.headers();
    group.bench_function("write an outcome", |bencher| bencher.iter(|| black_box(&outcome).headers()));
    group.bench_function("read an outcome", |bencher| {
        bencher.iter(|| Outcome::read(outcome.id.clone(), black_box(&stored), &outcome.body));
    });
    group.finish();
}

/// 256 bytes of JSON, as `sortie bench requests` sends it.
#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    lines: Vec<Line>,
    paid: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    article: String,
    count: u32,
    cents: u32,
}

fn bodies(criterion: &mut Criterion) {
    let line = |number: u32| Line { article: format!("article-{number}"), count: number, cents: 100 * number };
    let order = Order { id: 17, customer: "c".repeat(48), lines: (1..=4).map(line).collect(), paid: true };
    let mut group = criterion.benchmark_group("body");
    for (name, codec) in [("json", ContentType::Json), ("messagepack", ContentType::MessagePack)] {
        let body = codec.encode(&order).expect("an order can be written");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("{name} encode"), |bencher| bencher.iter(|| codec.encode(black_box(&order))));
        group.bench_function(format!("{name} decode typed"), |bencher| {
            bencher.iter(|| codec.decode::<Order>(black_box(&body)));
        });
        group.bench_function(format!("{name} decode to a value"), |bencher| {
            bencher.iter(|| codec.decode::<Value>(black_box(&body)));
        });
    }
    group.finish();
}
