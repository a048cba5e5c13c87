use broker::{Kind, Outgoing, PayloadStore, Publisher};
use serde_json::json;

use crate::fleet::Fleet;

const CHUNKS: &str = "$O.fleet-payloads.C.";

/// Of the name `a`, in base64.
const META: &str = "$O.fleet-payloads.M.YQ==";

async fn publish(fleet: &Fleet, subject: &str, body: impl Into<bytes::Bytes>) {
    Publisher::new(fleet.connection()).publish(&Outgoing::new(subject, body.into())).await.unwrap();
}

async fn count_chunks(fleet: &Fleet) -> u64 {
    let counts =
        broker::topology::subject_counts(fleet.connection(), "OBJ_fleet-payloads", &format!("{CHUNKS}>")).await;
    counts.unwrap().values().sum()
}

#[tokio::test]
async fn an_object_of_a_stranger_is_read_only_where_it_is_what_it_says() {
    let fleet = Fleet::start().await;
    let store = PayloadStore::new(fleet.connection(), "fleet-payloads");
    for (nuid, body) in [("his", "12345"), ("hers", "678"), ("none", "")] {
        publish(&fleet, &format!("{CHUNKS}{nuid}"), body).await;
    }
    let size_max = protocol::limits::BODY_BYTES_MAX;
    for (nuid, size, refused) in [
        ("his", 5, None),
        ("his", 4, Some(Kind::NotFound)),
        ("his", 6, Some(Kind::NotFound)),
        ("his", size_max + 1, Some(Kind::TooLarge)),
        ("none", 0, Some(Kind::NotFound)),
        (">", 8, Some(Kind::NotFound)),
        ("*", 8, Some(Kind::NotFound)),
        ("hi.s", 5, Some(Kind::NotFound)),
        ("hi s", 5, Some(Kind::NotFound)),
        ("", 0, Some(Kind::NotFound)),
    ] {
        publish(&fleet, META, json!({ "name": "a", "nuid": nuid, "size": size }).to_string()).await;
        let got = store.get("a").await;
        assert_eq!(got.as_ref().err().map(broker::Error::kind), refused, "{nuid} {size}");
        assert!(got.is_err() || *got.unwrap() == *b"12345", "{nuid}");
    }
}

#[tokio::test]
async fn a_body_that_is_stored_again_under_its_name_is_stored_once() {
    let fleet = Fleet::start().await;
    let store = PayloadStore::new(fleet.connection(), "fleet-payloads");
    let (name, other) = (PayloadStore::new_name(), PayloadStore::new_name());
    assert_ne!(name, other);
    let body = vec![b'x'; 300_000];
    store.put_as(&name, &body).await.unwrap();
    let before = count_chunks(&fleet).await;
    store.put_as(&name, &body).await.unwrap();
    assert_eq!(count_chunks(&fleet).await, before, "what is there whole is not sent again");
    store.put_as(&name, &body[1..]).await.unwrap();
    assert_eq!(store.get(&name).await.unwrap(), body[1..], "another body takes its place");
    assert_eq!(count_chunks(&fleet).await, before, "and its chunks");
}
