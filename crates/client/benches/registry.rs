//! A registry of 5,000 agents: how long it takes to list them, to find those of one capability, and to renew them all. A
//! server of its own: `cargo bench -p sortie-client --bench registry`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark ends by panicking, and prints")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use broker::{Bucket, Connection, Options, Publisher, topology};
use embedded::{Config, Server};
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{
    Capability, InstanceId, Kind, Namespace,
    registry::{AgentEntry, CapabilityEntry, Counts, Health, State},
    time,
    topology::{Names, Settings},
};
use sortie_client::Client;

const AGENTS: usize = 5_000;
const CAPABILITIES: usize = 500;
const LOOKS: usize = 20;
/// Renewals on their way at once: 5,000 processes do not wait for each other.
const AT_ONCE: usize = 256;
const TTL: Duration = Duration::from_secs(30);

fn entry(number: usize) -> AgentEntry {
    let capability = Capability::parse(&format!("work-{}", number % CAPABILITIES)).unwrap();
    let now = time::now();
    AgentEntry {
        instance: InstanceId::generate(),
        kind: Kind::parse("worker").unwrap(),
        version: "1.2.3".to_owned(),
        host: format!("host-{}", number % 100),
        pid: 4_711,
        state: State::Ready,
        health: Health::Healthy,
        health_reason: None,
        capabilities: vec![CapabilityEntry {
            name: capability,
            description: Some("Does what is to be done".to_owned()),
            input_schema: Some("a".repeat(16)),
            output_schema: Some("b".repeat(16)),
            slots: None,
        }],
        slots: 8,
        slots_busy: number % 9,
        counts: Counts::default(),
        started_at: now,
        seen_at: now,
        tags: BTreeMap::new(),
    }
}

/// How long it took, the middle one of some.
async fn median<F: Future<Output = usize>>(what: &str, look: impl Fn() -> F) {
    let (mut took, mut found) = (Vec::new(), 0);
    for _ in 0..LOOKS {
        let began = Instant::now();
        found = look().await;
        took.push(began.elapsed());
    }
    took.sort();
    println!("{what}: {found} found in {:.2?}, at most {:.2?}", took[LOOKS / 2], took[LOOKS - 1]);
}

#[tokio::main]
async fn main() {
    let server = Server::start(Config::default()).await.unwrap();
    let connection = Connection::open(Options { servers: vec![server.url()], ..Options::default() }).await.unwrap();
    let namespace = Namespace::default();
    topology::apply(&connection, &namespace, &Settings::default()).await.unwrap();
    let bucket = Bucket::new(&connection, &Publisher::new(&connection), Names::of(&namespace).agents);
    let entries: Vec<AgentEntry> = (0..AGENTS).map(entry).collect();
    let renew = || async {
        stream::iter(&entries)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |entry| async {
                let body = serde_json::to_vec(entry).unwrap();
                bucket.put(&entry.key(), body, Some(TTL)).await.map(drop)
            })
            .await
            .unwrap();
        AGENTS
    };
    renew().await;
    let client = Client::new(connection.clone(), namespace);
    median("all renewed, 256 at a time", renew).await;
    median("list", || async { client.agents().await.unwrap().len() }).await;
    let capability = Capability::parse("work-7").unwrap();
    median("those of one capability", || async { client.serving(&capability).await.unwrap().len() }).await;
    let one = entries[3].instance.as_str();
    median("one by its id", || async { usize::from(client.agent(one).await.is_ok()) }).await;
}
