//! Requests from submit to outcome, beside a bare loop of the client library that makes the same publishes and
//! acknowledgements with none of our code. What counts is the ratio of the two, measured in one run.
//!
//! `cargo bench -p sortie-tests --bench requests [-- NUMBER]`; NUMBER is how many requests, 20,000 unless said.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;
use async_nats::{HeaderMap, jetstream};
use futures_util::{StreamExt, stream};
use protocol::Status;
use serde_json::{Value, json};
use sortie_tests::{Count, Fleet, fleet::capability};
use worker::{Context, Failure};

const REQUESTS: usize = 20_000;
const IN_FLIGHT: usize = 256;
const ONE_BY_ONE: usize = 2_000;
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

async fn no_op(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

fn body() -> Value {
    json!({ "text": "x".repeat(240) })
}

fn main() -> Result<()> {
    let number = std::env::args().filter_map(|text| text.parse().ok()).next_back().unwrap_or(REQUESTS);
    // For a profiler: the yardstick would be in the picture.
    let is_alone = std::env::args().any(|text| text == "--alone");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(number, is_alone))
}

async fn run(number: usize, is_alone: bool) -> Result<()> {
    let fleet = Fleet::start().await?;
    let bare = Bare::start(&fleet.url()).await?;
    let _worker = fleet.run(fleet.worker("bench").slots(IN_FLIGHT).capability("bench", no_op), "bench").await?;

    println!("{number} requests, {IN_FLIGHT} in flight, {} byte bodies", body().to_string().len());
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let yardstick = if is_alone { Duration::ZERO } else { bare.requests(number, IN_FLIGHT).await? };
        let ours = requests(&fleet, number).await?;
        if round == 0 {
            continue; // warm-up
        }
        ratios.push(yardstick.as_secs_f64() / ours.as_secs_f64());
        println!(
            "  bare {:>7.0}/s   sortie {:>7.0}/s   ratio {:.2}",
            number as f64 / yardstick.as_secs_f64(),
            number as f64 / ours.as_secs_f64(),
            ratios.last().unwrap()
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("  median ratio {:.2}", ratios[ratios.len() / 2]);

    println!("{ONE_BY_ONE} requests one at a time, submit to outcome");
    let publish = bare.publish_one_by_one(ONE_BY_ONE).await?;
    let ours = one_by_one(&fleet, ONE_BY_ONE).await?;
    println!("  one acknowledged publish: p50 {:?} p99 {:?}", at(&publish, 0.50), at(&publish, 0.99));
    let loops = bare.requests(ONE_BY_ONE, 1).await?;
    println!("  the bare loop:            mean {:?}", loops / ONE_BY_ONE as u32);
    println!("  submit to outcome:        p50 {:?} p99 {:?}", at(&ours, 0.50), at(&ours, 0.99));
    println!("  p50 is {:.1} acknowledged publishes", at(&ours, 0.50).as_secs_f64() / at(&publish, 0.50).as_secs_f64());
    Ok(())
}

async fn requests(fleet: &Fleet, number: usize) -> Result<Duration> {
    let (capability, body) = (capability("bench"), body());
    let began = Instant::now();
    let ids: BTreeSet<_> = stream::iter(0..number)
        .map(|_| async {
            let outcome = fleet.client.request(&capability, &body).call(PATIENCE).await.unwrap();
            assert_eq!(outcome.status, Status::Completed);
            outcome.id.clone()
        })
        .buffer_unordered(IN_FLIGHT)
        .collect()
        .await;
    let took = began.elapsed();
    let count = Count::of(&fleet.client, &ids).await?;
    assert!(count.missing.is_empty() && count.duplicated.is_empty(), "{count:?}");
    Ok(took)
}

async fn one_by_one(fleet: &Fleet, number: usize) -> Result<Vec<Duration>> {
    let (capability, body) = (capability("bench"), body());
    let mut took = Vec::with_capacity(number);
    for _ in 0..number {
        let began = Instant::now();
        fleet.client.request(&capability, &body).call(PATIENCE).await?;
        took.push(began.elapsed());
    }
    took.sort();
    Ok(took)
}

fn at(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// The yardstick: the same streams, publishes, acknowledgements and waits by the client library alone.
struct Bare {
    context: jetstream::Context,
    client: async_nats::Client,
    _serving: tokio::task::JoinHandle<()>,
}

impl Bare {
    async fn start(url: &str) -> Result<Self> {
        let client = async_nats::connect(url).await?;
        let context = jetstream::new(client.clone());
        let work = jetstream::stream::Config {
            name: "BARE_REQUESTS".to_owned(),
            subjects: vec!["bare.request".to_owned()],
            retention: jetstream::stream::RetentionPolicy::WorkQueue,
            ..Default::default()
        };
        let outcomes = jetstream::stream::Config {
            name: "BARE_OUTCOMES".to_owned(),
            subjects: vec!["bare.outcome.*".to_owned()],
            republish: Some(jetstream::stream::Republish {
                source: "bare.outcome.*".to_owned(),
                destination: "bare.told.{{wildcard(1)}}".to_owned(),
                headers_only: false,
            }),
            ..Default::default()
        };
        let stream = context.create_stream(work).await?;
        context.create_stream(outcomes).await?;
        let consumer = jetstream::consumer::pull::Config {
            durable_name: Some("bare".to_owned()),
            max_ack_pending: 10_000,
            ..Default::default()
        };
        let consumer: jetstream::consumer::PullConsumer = stream.create_consumer(consumer).await?;
        let messages = consumer.stream().max_messages_per_batch(IN_FLIGHT).messages().await?;
        // A connection of its own, as the worker has.
        let context_of_server = jetstream::new(async_nats::connect(url).await?);
        #[allow(clippy::disallowed_methods, reason = "the yardstick uses none of our code")]
        let serving = tokio::spawn(async move {
            messages
                .for_each_concurrent(IN_FLIGHT, |message| {
                    let context = context_of_server.clone();
                    async move {
                        let message = message.unwrap();
                        let id = message.headers.as_ref().unwrap().get("Id").unwrap().to_string();
                        let mut headers = HeaderMap::new();
                        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
                        headers.insert("Status", "completed");
                        let body = message.payload.clone();
                        let ack = context.publish_with_headers(format!("bare.outcome.{id}"), headers, body).await;
                        ack.unwrap().await.unwrap();
                        message.ack().await.unwrap();
                    }
                })
                .await;
        });
        Ok(Self { context, client, _serving: serving })
    }

    async fn requests(&self, number: usize, in_flight: usize) -> Result<Duration> {
        static BATCH: AtomicUsize = AtomicUsize::new(0);
        let batch = BATCH.fetch_add(1, Ordering::Relaxed);
        let body: bytes::Bytes = body().to_string().into();
        let began = Instant::now();
        stream::iter(0..number)
            .map(|index| {
                let body = body.clone();
                async move {
                    let id = format!("b{batch}-{index}");
                    let mut told = self.client.subscribe(format!("bare.told.{id}")).await.unwrap();
                    let mut headers = HeaderMap::new();
                    headers.insert("Id", id.as_str());
                    self.context.publish_with_headers("bare.request", headers, body).await.unwrap().await.unwrap();
                    told.next().await.unwrap();
                }
            })
            .buffer_unordered(in_flight)
            .collect::<Vec<()>>()
            .await;
        Ok(began.elapsed())
    }

    async fn publish_one_by_one(&self, number: usize) -> Result<Vec<Duration>> {
        let body: bytes::Bytes = body().to_string().into();
        let mut took = Vec::with_capacity(number);
        for index in 0..number {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
            let began = Instant::now();
            self.context.publish_with_headers(format!("bare.outcome.p{index}"), headers, body.clone()).await?.await?;
            took.push(began.elapsed());
        }
        took.sort();
        Ok(took)
    }
}
