//! Blocks of headers as anybody may write them: what the client library breaks over is told apart from what it reads.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::Event;
use broker::{PullEvent, PullInbox, PullRequest, Reader, SideConnection, topology};
use futures_util::StreamExt;
use protocol::topology::{Consumer, triggers_consumer};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use sortie_tests::{Fleet, PATIENCE, raw, until};
use tokio::sync::mpsc;

const STREAM: &str = "FLEET_EVENTS";
const SUBJECT: &str = "fleet.event.block";
/// Delivers nothing twice.
const CONSUMER: &str = "blocks";

/// What blocks are made of.
const PIECES: &[&[u8]] = &[
    b"NATS/1.0",
    b" 503",
    b" 99",
    b" busy",
    b"\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"A",
    b"b",
    b":",
    b": ",
    b" ",
    b"\t",
    b"X: 1",
    b"X-Tenant: blue\r\n",
    "\u{a0}".as_bytes(),
    "\u{85}".as_bytes(),
    "\u{2028}".as_bytes(),
    "\u{e9}".as_bytes(),
    b"\xff",
];

/// Such as were once taken for the wrong kind. A random one that is, is told with the failure, and goes here.
const KNOWN: &[&[u8]] = &[
    b"NATS/1.0 busy\r\nA: b\r\n\r\n",
    b"NATS/1.0 99\r\nA: b\r\n\r\n",
    b"NATS/1.0 503 No Responders\r\nA: b\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\n\r\n and more\r\n\r\n",
    b"NATS/1.0\r\nA:\r\n \ra\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\n \r\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\nno",
    b"NATS/1.0",
    b"\n",
];

/// Random blocks.
const BLOCKS: usize = 400;

fn block(random: &mut StdRng) -> Vec<u8> {
    let mut block = Vec::new();
    if random.random_bool(0.8) {
        block.extend(b"NATS/1.0\r\n");
    }
    for _ in 0..random.random_range(1..8) {
        block.extend(*PIECES.choose(random).unwrap());
    }
    if random.random_bool(0.8) {
        block.extend(b"\r\n\r\n");
    }
    block
}

/// What the client library reads of the next message that the consumer has; none where it drops its connection, or ends it for good.
async fn next_as_the_library_reads(fleet: &Fleet) -> Result<Option<Vec<(String, String)>>> {
    let (sender, mut events) = mpsc::unbounded_channel();
    let options = async_nats::ConnectOptions::new().event_callback(move |event| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(event);
        }
    });
    let client = options.connect(fleet.url()).await?;
    let inbox = client.new_inbox();
    let mut messages = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply(format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}"), inbox, "".into()).await?;
    let is_gone = async { while events.recv().await.is_some_and(|event| event != Event::Disconnected) {} };
    tokio::select! {
        message = tokio::time::timeout(PATIENCE, messages.next()) => Ok(message?.map(|message| {
            let headers = message.headers.unwrap_or_default();
            pairs(headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str()))))
        })),
        () = is_gone => Ok(None),
    }
}

fn pairs<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    pairs.sort();
    pairs
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_library_breaks_over_is_told_apart_from_what_it_reads() -> Result<()> {
    // The library panics over some of them: not a word about where, which takes seconds to find out.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let seed = protocol::time::now().timestamp_millis().unsigned_abs();
    let mut random = StdRng::seed_from_u64(seed);
    let blocks: Vec<Vec<u8>> =
        KNOWN.iter().map(|block| block.to_vec()).chain((0..BLOCKS).map(|_| block(&mut random))).collect();
    let fleet = Fleet::start().await?;
    for block in &blocks {
        raw::publish_bytes(&fleet, SUBJECT, block, b"1").await?;
    }
    let reader = Reader::new(&fleet.connection);
    let stored = until("all are stored", PATIENCE, || async {
        let page = reader.page_at_leader(STREAM, SUBJECT, 1, blocks.len()).await.ok()?;
        (page.messages.len() == blocks.len()).then_some(page.messages)
    });
    let consumer = json!({ "name": CONSUMER, "filter_subject": SUBJECT, "ack_policy": "none" });
    let question = json!({ "stream_name": STREAM, "config": consumer });
    raw::api(&fleet, &format!("CONSUMER.CREATE.{STREAM}.{CONSUMER}.{SUBJECT}"), &question).await?;
    let (mut read, mut unread) = (0, 0);
    for (block, stored) in blocks.iter().zip(stored.await) {
        let shown = block.escape_ascii();
        match next_as_the_library_reads(&fleet).await? {
            Some(headers) => {
                // What the server adds to a block without its end may spoil it.
                assert_eq!(stored.is_readable, block.ends_with(b"\r\n\r\n"), "the library reads \"{shown}\"");
                let is_fault = |name: &str| name.starts_with("unreadable: ");
                let found = pairs(stored.headers.iter().filter(|(name, _)| !is_fault(name)));
                assert_eq!(found, headers, "\"{shown}\"");
                read += 1;
            }
            None => {
                assert!(!stored.is_readable, "the library breaks over \"{shown}\"");
                assert!(stored.headers.check().is_err() && stored.headers.unreadable().is_some(), "\"{shown}\"");
                unread += 1;
            }
        }
    }
    println!("{read} read, {unread} not");
    assert!(read > 20 && unread > 20, "{read} read, {unread} not: the blocks are all of one kind");
    Ok(())
}

/// Over what a direct get finds in the way of its own headers the server writes those, and what it gives can be read.
#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_connection_is_handed_over_though_a_direct_get_mends_it() -> Result<()> {
    let fleet = Fleet::start().await?;
    let ack_wait = Duration::from_secs(1);
    let subject = "fleet.event.mended";
    let consumer = Consumer {
        filter: subject.to_owned(),
        ack_wait,
        name: "mended".to_owned(),
        ..triggers_consumer(&fleet.namespace)
    };
    topology::ensure_consumer(&fleet.connection, &consumer).await?;
    let reader = Reader::apart(&fleet.connection);
    let side = SideConnection::new(&fleet.connection);
    let mut inbox = PullInbox::open_apart(&side, std::slice::from_ref(&consumer), &reader).await?;
    raw::publish_bytes(&fleet, subject, b"NATS/1.0\r\nX: a\r\nnonsense", b"1").await?;
    let page = reader.page(STREAM, subject, 1, 1).await?;
    assert!(page.messages.first().is_some_and(|message| message.is_readable), "the server mends it no more: {page:?}");
    let request = PullRequest::Wait { expires: PATIENCE, heartbeat: Duration::from_secs(5) };
    inbox.pull(&consumer, request, 1).await?;
    let found = async {
        loop {
            match inbox.next().await.context("an inbox that was closed")? {
                PullEvent::Delivered(delivery) => return anyhow::Ok(delivery),
                PullEvent::Broke => inbox.pull(&consumer, request, 1).await?,
                _ => {}
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await??;
    assert_eq!((found.sequence, found.unreadable()), (page.messages[0].sequence, Some("no end")));
    Ok(())
}
