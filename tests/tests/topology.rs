//! The table of streams against real servers: made, compared, changed, and never deleted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, process::Output, time::Duration};

use anyhow::Result;
use broker::{
    Connection, Kind, Options, Outgoing, Publisher, Reader,
    topology::{self, Change},
};
use embedded::{Cluster, Config, Server};
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use protocol::{
    Capability, Namespace,
    topology::{Names, Settings, Source, streams, worker_consumer},
};
use serde_json::{Value, json};
use sortie_tests::{Fleet, binaries, fleet::capability};

async fn open(url: &str) -> Result<Connection> {
    let servers = url.split(',').map(str::to_owned).collect();
    Ok(Connection::open(Options { servers, ..Options::default() }).await?)
}

/// The API as any client has it: what a person with `nats stream edit` does.
async fn ask(url: &str, what: &str, question: Value) -> Result<Value> {
    let client = async_nats::connect(url.split(',').collect::<Vec<_>>()).await?;
    let answer = client.request(format!("$JS.API.{what}"), question.to_string().into()).await?;
    Ok(serde_json::from_slice(&answer.payload)?)
}

async fn edit(url: &str, stream: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut config = ask(url, &format!("STREAM.INFO.{stream}"), json!({})).await?["config"].take();
    change(&mut config);
    let answer = ask(url, &format!("STREAM.UPDATE.{stream}"), config).await?;
    assert_eq!(answer["error"], Value::Null, "{stream}");
    Ok(())
}

fn agrees(changes: &[Change]) -> bool {
    changes.iter().all(|change| matches!(change, Change::None { .. }))
}

/// What differs, as `<stream>.<field>: <found>, not <expected>`.
fn drifts(changes: &[Change]) -> BTreeSet<String> {
    let drifts = changes.iter().flat_map(|change| match change {
        Change::Update { drift, .. } => drift.clone(),
        Change::None { .. } => Vec::new(),
        Change::Create { stream } => panic!("{stream} is not there"),
    });
    drifts
        .map(|drift| {
            let promise = if drift.breaks_promise { "!" } else { "" };
            format!("{}.{}{promise}: {}, not {}", drift.of, drift.field, drift.found, drift.expected)
        })
        .collect()
}

async fn sortie(url: &str, arguments: &[&str]) -> Result<Output> {
    let arguments = [&["--server", url], arguments].concat().into_iter().map(str::to_owned).collect::<Vec<String>>();
    let run = move || std::process::Command::new(binaries::path("sortie")).args(arguments).output();
    Ok(tokio::task::spawn_blocking(run).await??)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_made_once_and_then_nothing_is_left_to_do() -> Result<()> {
    let server = Server::start(Config::default()).await?;
    let connection = open(&server.url()).await?;
    let (namespace, settings) = (Namespace::parse("other-fleet")?, Settings::default());
    let table = streams(&namespace, &settings);
    let planned = topology::plan(&connection, &namespace, &settings).await?;
    assert!(planned.iter().all(|change| matches!(change, Change::Create { .. })), "{planned:?}");
    assert_eq!(planned.len(), table.len());
    assert_eq!(topology::plan(&connection, &namespace, &settings).await?, planned, "a plan changes nothing");
    assert_eq!(topology::apply(&connection, &namespace, &settings).await?, planned);
    for _ in 0..2 {
        let again = topology::apply(&connection, &namespace, &settings).await?;
        assert!(agrees(&again), "{again:?}");
    }
    for stream in &table {
        assert!(stream.name.contains("OTHER_FLEET") || stream.name.contains("other-fleet"), "{}", stream.name);
        assert_eq!(topology::stream_state(&connection, &stream.name).await?.stream, *stream);
    }
    // Another fleet beside it.
    topology::apply(&connection, &Namespace::default(), &settings).await?;
    assert!(agrees(&topology::plan(&connection, &namespace, &settings).await?));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_named_field_by_field_and_mended_in_place() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (url, settings) = (fleet.url(), Settings::default());
    Publisher::new(&fleet.connection).publish(&Outgoing::new("fleet.outcome.a", "1")).await?;
    edit(&url, "FLEET_OUTCOMES", |config| {
        config["max_age"] = json!(3_600_000_000_000_i64);
        config["allow_direct"] = json!(false);
        config["republish"] = Value::Null;
        config["max_consumers"] = config["max_consumers"].take();
    })
    .await?;
    edit(&url, "FLEET_RUNS", |config| config["duplicate_window"] = json!(60_000_000_000_i64)).await?;
    edit(&url, "FLEET_REQUESTS", |config| {
        config["subjects"].as_array_mut().unwrap().push(json!("fleet.extra.*"));
        config["max_msgs"] = json!(1_000_000);
        config["metadata"]["owner"] = json!("somebody");
        config["description"] = json!("theirs");
    })
    .await?;
    let found = drifts(&topology::plan(&fleet.connection, &fleet.namespace, &settings).await?);
    let expected = [
        "FLEET_OUTCOMES.allow_direct: false, not true",
        "FLEET_OUTCOMES.max_age: 1h, not 1d",
        "FLEET_OUTCOMES.republish: none, not fleet.outcome.* to fleet.told.{{wildcard(1)}}",
        "FLEET_REQUESTS.max_messages!: 1000000, not none",
        "FLEET_REQUESTS.subjects: fleet.bulk.*, fleet.cron.*, fleet.extra.*, fleet.fire.*, fleet.later.*, fleet.request.*, fleet.start.*, fleet.urgent.*, not fleet.bulk.*, fleet.cron.*, fleet.fire.*, fleet.later.*, fleet.request.*, fleet.start.*, fleet.urgent.*",
        "FLEET_RUNS.duplicate_window: 1m, not 2m",
    ];
    assert_eq!(found, expected.map(str::to_owned).into_iter().collect());
    topology::apply(&fleet.connection, &fleet.namespace, &settings).await?;
    assert!(agrees(&topology::plan(&fleet.connection, &fleet.namespace, &settings).await?));
    assert!(Reader::new(&fleet.connection).last("FLEET_OUTCOMES", "fleet.outcome.a").await?.is_some());
    // What the table does not speak of is its operator's.
    let config = ask(&url, "STREAM.INFO.FLEET_REQUESTS", json!({})).await?["config"].take();
    assert_eq!(config["metadata"]["owner"], "somebody");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_ever_deleted_or_made_anew() -> Result<()> {
    let server = Server::start(Config::default()).await?;
    let url = server.url();
    for (stream, config) in [
        ("FLEET_DEAD", json!({ "retention": "interest", "subjects": ["fleet.dead.*.*"] })),
        ("FLEET_REQUESTS", json!({ "storage": "memory", "retention": "workqueue", "subjects": ["fleet.request.*"] })),
        ("ELSE", json!({ "subjects": ["else.>"] })),
    ] {
        let mut whole = json!({ "name": stream, "num_replicas": 1 });
        whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        assert_eq!(ask(&url, &format!("STREAM.CREATE.{stream}"), whole).await?["error"], Value::Null, "{stream}");
    }
    let (connection, namespace) = (open(&url).await?, Namespace::default());
    let publisher = Publisher::new(&connection);
    for subject in ["fleet.request.a", "else.a"] {
        publisher.publish(&Outgoing::new(subject, "1")).await?;
    }
    let planned = topology::plan(&connection, &namespace, &Settings::default()).await?;
    let of = |name: &str| {
        let is_it = |change: &&Change| matches!(change, Change::Update { stream, .. } if stream == name);
        let Some(Change::Update { drift, .. }) = planned.iter().find(is_it) else { panic!("{name}: {planned:?}") };
        drift.iter().map(|drift| (drift.field, drift.breaks_promise)).collect::<Vec<_>>()
    };
    assert!(of("FLEET_DEAD").contains(&("retention", false)));
    assert!(of("FLEET_REQUESTS").contains(&("in_memory", true)), "{:?}", of("FLEET_REQUESTS"));
    // Neither can be changed in place: somebody has to decide what becomes of what they hold.
    let refused = topology::apply(&connection, &namespace, &Settings::default()).await.unwrap_err();
    assert!(refused.to_string().contains("FLEET_REQUESTS"), "{refused}");
    for (stream, messages) in [("FLEET_REQUESTS", 1), ("FLEET_DEAD", 0), ("ELSE", 1)] {
        assert_eq!(topology::stream_state(&connection, stream).await?.messages, messages, "{stream}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_says_how_many_consumers_it_admits() -> Result<()> {
    let fleet = Fleet::start().await?;
    for stream in streams(&fleet.namespace, &Settings::default()) {
        let config = ask(&fleet.url(), &format!("STREAM.INFO.{}", stream.name), json!({})).await?["config"].take();
        assert!(config["max_consumers"].as_i64().unwrap() > 0, "{}: {}", stream.name, config["max_consumers"]);
    }
    // A server stops at 1,000 where a stream says nothing. 1,100 capabilities fit, and there is room for more.
    let names: Vec<Capability> = (0..1_100).map(|number| capability(&format!("c{number}"))).collect();
    let made = stream::iter(names).map(|name| {
        let consumer = worker_consumer(&fleet.namespace, &name, Source::ALL[1], 1);
        let connection = fleet.connection.clone();
        async move { topology::ensure_consumer(&connection, &consumer).await }
    });
    made.buffer_unordered(32).try_collect::<Vec<()>>().await?;
    let requests = Names::of(&fleet.namespace).requests;
    assert_eq!(topology::consumer_names(&fleet.connection, &requests).await?.len(), 1_100);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_a_stream_that_holds_promises_is_an_error_in_check() -> Result<()> {
    let fleet = Fleet::start().await?;
    let url = fleet.url();
    let checked = sortie(&url, &["topology", "check"]).await?;
    assert!(checked.status.success(), "{checked:?}");
    for (stream, field, limit, told) in [
        ("FLEET_REQUESTS", "max_age", 600_000_000_000_i64, "FLEET_REQUESTS has max_age 10m"),
        ("FLEET_RUNS", "max_bytes", 1_000_000, "FLEET_RUNS has max_bytes 1000000"),
        ("FLEET_UNIQUE", "max_msgs", 1_000, "FLEET_UNIQUE has max_messages 1000"),
        ("FLEET_OUTCOMES", "max_msgs", 1_000, "FLEET_OUTCOMES has max_messages 1000"),
        ("FLEET_DEAD", "max_bytes", 1_000_000, "FLEET_DEAD has max_bytes 1000000"),
    ] {
        edit(&url, stream, |config| config[field] = json!(limit)).await?;
        let checked = sortie(&url, &["topology", "check"]).await?;
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(checked.status.code(), Some(1), "{said}");
        assert!(said.contains("ERROR") && said.contains(told), "{stream}: {said}");
    }
    let applied = sortie(&url, &["topology", "apply"]).await?;
    assert!(applied.status.success(), "{applied:?}");
    assert!(sortie(&url, &["topology", "check"]).await?.status.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_made_for_foreign_workers_and_one_that_differs_is_refused() -> Result<()> {
    let fleet = Fleet::start().await?;
    let url = fleet.url();
    let applied = sortie(&url, &["topology", "apply", "--capability", "echo"]).await?;
    assert!(applied.status.success(), "{applied:?}");
    for source in Source::ALL {
        let expected = worker_consumer(&fleet.namespace, &capability("echo"), source, 1);
        let found = topology::consumer_state(&fleet.connection, &expected.stream, &expected.name).await?;
        assert_eq!(found.consumer, expected);
        topology::ensure_consumer(&fleet.connection, &expected).await?;
    }
    let set = async |field: &str, value: Value| {
        let mut config = ask(&url, "CONSUMER.INFO.FLEET_REQUESTS.echo", json!({})).await.unwrap()["config"].take();
        config[field] = value;
        let question = json!({ "stream_name": "FLEET_REQUESTS", "config": config, "action": "update" });
        let answer = ask(&url, "CONSUMER.CREATE.FLEET_REQUESTS.echo.fleet.request.echo", question).await.unwrap();
        assert_eq!(answer["error"], Value::Null, "{field}");
    };
    let expected = worker_consumer(&fleet.namespace, &capability("echo"), Source::ALL[1], 1);
    set("max_ack_pending", json!(7)).await;
    topology::ensure_consumer(&fleet.connection, &expected).await?;
    set("ack_wait", json!(1_000_000_000)).await;
    let refused = topology::ensure_consumer(&fleet.connection, &expected).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Exists);
    let sentence = refused.to_string();
    assert!(sentence.contains("ack_wait is 1s, not 10s") && sentence.contains("`sortie topology apply`"), "{sentence}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_too_small_for_what_is_reserved_is_told_and_can_be_suited() -> Result<()> {
    let server = Server::start(Config { store_bytes_max: Some(8 << 20), ..Config::default() }).await?;
    let connection = open(&server.url()).await?;
    let refused = topology::apply(&connection, &Namespace::default(), &Settings::default()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::StoreFull);
    assert!(refused.to_string().contains("FLEET_LOGS reserves 1.0 GiB"), "{refused}");
    assert!(refused.to_string().contains("--logs-bytes-max 8MB"), "{refused}");
    let settings = Settings { logs_bytes_max: 1 << 20, ..Settings::default() };
    apply_at_once(&server.url(), &settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_may_apply_at_once() -> Result<()> {
    let server = Server::start(Config::default()).await?;
    apply_at_once(&server.url(), &Settings::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_may_apply_at_once_on_three_nodes_and_copies_follow_the_setting() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    apply_at_once(&cluster.url(), &Settings::default()).await?;
    let connection = open(&cluster.url()).await?;
    let (namespace, three) = (Namespace::default(), Settings { replicas: 3, ..Settings::default() });
    Publisher::new(&connection).publish(&Outgoing::new("fleet.request.echo", "1")).await?;
    let planned = topology::plan(&connection, &namespace, &three).await?;
    assert!(drifts(&planned).iter().all(|drift| drift.ends_with(".replicas: 1, not 3")), "{planned:?}");
    assert_eq!(drifts(&planned).len(), planned.len());
    apply_at_once(&cluster.url(), &three).await?;
    for stream in streams(&namespace, &three) {
        let state = topology::stream_state(&connection, &stream.name).await?;
        assert_eq!(state.stream.replicas, 3, "{}", stream.name);
    }
    assert_eq!(topology::stream_state(&connection, "FLEET_REQUESTS").await?.messages, 1);
    Ok(())
}

/// Four at once, each with a connection of its own, and then nothing is left to do.
async fn apply_at_once(url: &str, settings: &Settings) -> Result<()> {
    let namespace = Namespace::default();
    let one = async || -> Result<()> {
        topology::apply(&open(url).await?, &namespace, settings).await?;
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(120), try_join_all((0..4).map(|_| one()))).await??;
    let left = topology::plan(&open(url).await?, &namespace, settings).await?;
    assert!(agrees(&left), "{left:?}");
    Ok(())
}
