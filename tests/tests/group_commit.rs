//! What is published at the same moment goes as one batch where the streams are set so, and each meets its own answer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use broker::{Outgoing, Publisher, Reader, Settled, StoredMessage, topology};
use client::Acceptance;
use embedded::{Config, SyncInterval};
use futures_util::future::join_all;
use protocol::{
    RequestId, Status, header,
    topology::{Names, Settings},
};
use serde_json::{Value, json};
use sortie_tests::{Count, Fleet, fleet::capability};
use worker::{Context, Failure};

const PATIENCE: Duration = Duration::from_secs(60);

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

async fn durable_fleet() -> Result<Fleet> {
    let fleet = Fleet::start_with(Config { sync_interval: SyncInterval::Always, ..Config::default() }).await?;
    let settings = Settings { group_commit: true, ..Settings::default() };
    topology::apply(&fleet.connection, &fleet.namespace, &settings).await?;
    Ok(fleet)
}

async fn stored(fleet: &Fleet, stream: &str) -> Result<Vec<StoredMessage>> {
    let (reader, mut found, mut from) = (Reader::new(&fleet.connection), Vec::new(), Some(1));
    while let Some(next) = from {
        let page = reader.page(stream, ">", next, 500).await?;
        found.extend(page.messages);
        from = page.next;
    }
    Ok(found)
}

/// How many of them came in a batch: the broker keeps what a publisher wrote.
fn in_batches(messages: &[StoredMessage]) -> usize {
    messages.iter().filter(|message| message.headers.get(header::NATS_BATCH_ID).is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_name_the_place_of_each_request_of_a_batch() -> Result<()> {
    let fleet = durable_fleet().await?;
    let submit = |number: usize| {
        let (client, id) = (fleet.client.clone(), RequestId::parse(&format!("order-{number}")).unwrap());
        async move {
            let request = client.request(&capability("tea"), &number);
            if number.is_multiple_of(2) { request.id(id).submit().await } else { request.submit().await }
        }
    };
    // What the streams are is looked up when the first of them are on their way.
    for round in 0..3 {
        for receipt in join_all((round * 400..(round + 1) * 400).map(submit)).await {
            receipt?;
        }
    }
    let receipts = join_all((2_000..2_400).map(submit)).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let messages = stored(&fleet, &Names::of(&fleet.namespace).requests).await?;
    assert_eq!(messages.len(), 1_600);
    assert!(in_batches(&messages) > 400, "{} came in batches", in_batches(&messages));
    for receipt in receipts {
        let Acceptance::Stored { sequence } = receipt.acceptance() else { panic!("{receipt:?}") };
        let there = messages.iter().find(|message| message.sequence == *sequence).unwrap();
        assert_eq!(there.headers.get(header::REQUEST_ID), Some(receipt.id().as_str()));
    }
    // The second publish of one id is told as such, whatever it is published with.
    let again = join_all((2_000..2_400).map(submit)).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert_eq!(again.len(), 400);
    assert_eq!(stored(&fleet, &Names::of(&fleet.namespace).requests).await?.len(), 1_800, "those without an id");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_which_one_was_too_late_stores_all_others() -> Result<()> {
    let fleet = durable_fleet().await?;
    let publisher = Publisher::new(&fleet.connection).in_groups(&fleet.namespace);
    let outcome = |number: usize| Outgoing::new(format!("fleet.outcome.o-{number}"), number.to_string()).expecting(0);
    let settle = async |numbers: std::ops::Range<usize>| {
        let all: Vec<_> = numbers.map(outcome).collect();
        join_all(all.iter().map(|outgoing| publisher.settle(outgoing))).await.into_iter().collect::<Result<Vec<_>, _>>()
    };
    settle(0..100).await?;
    settle(100..400).await?;
    let settled = settle(300..600).await?;
    let superseded = settled.iter().filter(|settled| **settled == Settled::Superseded).count();
    assert_eq!(superseded, 100);
    let messages = stored(&fleet, &Names::of(&fleet.namespace).outcomes).await?;
    assert_eq!(messages.len(), 600);
    assert!(in_batches(&messages) >= 200, "{}", in_batches(&messages));
    for (number, settled) in (300..).zip(settled) {
        let Settled::Stored(told) = settled else { continue };
        let there = messages.iter().find(|message| message.sequence == told.sequence).unwrap();
        assert_eq!(there.subject, format!("fleet.outcome.o-{number}"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_outcomes_go_in_batches_and_every_outcome_is_told() -> Result<()> {
    let fleet = durable_fleet().await?;
    let worker = fleet.run(fleet.worker("kettle").slots(128).capability("tea", echo), "tea").await?;
    let mut accepted = BTreeSet::new();
    for round in 0..4 {
        let calls = (0..200).map(|number| {
            let id = RequestId::parse(&format!("r{round}-{number}")).unwrap();
            accepted.insert(id.clone());
            let (client, tea, body) = (fleet.client.clone(), capability("tea"), json!(number));
            async move { client.request(&tea, &body).id(id).call(PATIENCE).await }
        });
        for outcome in join_all(calls.collect::<Vec<_>>()).await {
            assert_eq!(outcome?.status, Status::Completed);
        }
    }
    Count::whole(&fleet.client, &accepted, PATIENCE).await.assert_whole();
    let outcomes = stored(&fleet, &Names::of(&fleet.namespace).outcomes).await?;
    assert_eq!(outcomes.len(), 800);
    assert!(in_batches(&outcomes) > 0, "none came in a batch");
    worker.stop().await
}
