//! A server that has no files left to open: what it cannot read is not taken for what is not there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use anyhow::Result;
use broker::{Kind, Outgoing, PayloadStore, Publisher, Reader};
use protocol::topology::Names;
use sortie_tests::{Fleet, PATIENCE, ground::Files, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_without_files_cannot_read_is_not_taken_for_gone() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let names = Names::of(&fleet.namespace);
    let (stream, subject) = (names.events.as_str(), "fleet.event.order.paid");
    Publisher::new(&fleet.connection).publish(&Outgoing::new(subject, "1")).await?;
    let payloads = PayloadStore::new(&fleet.connection, names.payloads.as_str());
    let name = payloads.put(b"a large body").await?;

    let reader = Reader::new(&fleet.connection);
    let mut tries = 1..=10;
    let files = loop {
        let tried = tries.next().expect("a read that the server cannot do");
        // What it wrote it still has in memory; started again, it has only its index.
        fleet.server().restart().await?;
        until("the broker is back", PATIENCE, || async { reader.has(stream, subject).await.ok() }).await;
        // A file that it closes meanwhile, as it does for a while after its start, makes room for another.
        tokio::time::sleep(tried * Duration::from_millis(200)).await;
        let files = Files::exhaust(fleet.server().pid().expect("it runs"), 0)?;
        if let Ok(None) = reader.last(stream, subject).await {
            break files;
        }
    };
    assert!(reader.has(stream, subject).await?);
    assert!(!reader.has(stream, "fleet.event.order.sent").await?);
    for error in [
        reader.last_at_leader(stream, subject).await.unwrap_err(),
        reader.last_sequence_at_leader(stream, subject).await.unwrap_err(),
        payloads.get(&name).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::TimedOut, "{error}");
        assert!(error.to_string().contains("the server cannot read it"), "{error}");
    }
    assert!(reader.last_at_leader(stream, "fleet.event.order.sent").await?.is_none());
    assert_eq!(payloads.get("body-none").await.unwrap_err().kind(), Kind::NotFound);

    drop(files);
    assert_eq!(reader.last_at_leader(stream, subject).await?.expect("it is there").body, "1");
    assert_eq!(payloads.get(&name).await?, "a large body");
    Ok(())
}
