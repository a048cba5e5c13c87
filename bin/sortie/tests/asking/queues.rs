use protocol::{Capability, Lane, Namespace, topology};
use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

#[tokio::test]
async fn queues_are_seen_peeked_at_and_steered() {
    let fleet = Fleet::start().await;
    let source = topology::Source::Lane(Lane::Normal);
    let consumer = topology::worker_consumer(&Namespace::default(), &Capability::parse("echo").unwrap(), source, 1);
    broker::topology::ensure_consumer(&fleet.connection, &consumer).await.unwrap();
    fleet.run_with(&["submit", "echo", r#"{"n":1}"#, "--id", "order-17"], b"").await;

    let table = fleet.run_with(&["queues", "--over", "0s"], b"").await;
    assert!(table.code == 0 && table.out.contains("nobody serves it"), "{table:?}");
    let document = fleet.run_with(&["queues", "list", "--json", "--over", "0s"], b"").await.json();
    assert_eq!((&document["queues"][0]["lane"], &document["queues"][0]["waiting"]), (&json!("normal"), &json!(1)));
    let peek = fleet.run_with(&["queues", "peek", "echo"], b"").await;
    assert!(peek.out.contains("order-17") && peek.out.contains(r#"{"n":1}"#), "{peek:?}");
    let peeked = fleet.run_with(&["queues", "peek", "echo", "--lane", "all", "--json"], b"").await.json();
    assert_eq!((&peeked[0]["body"], &peeked[0]["was_delivered"]), (&json!({ "n": 1 }), &Value::Bool(false)));

    let pause = ["queues", "pause", "echo", "--lane", "normal", "--reason", "too hot"];
    let pending = fleet.run_with(&pause, b"").await;
    assert!(pending.code == 75 && pending.err.contains("sortie process coordinator"), "{pending:?}");
    let _coordinator = fleet.spawn(&["process", "coordinator"]);
    until("it is fulfilled", async || fleet.run_with(&pause, b"").await.code == 0).await;
    let why = fleet.run_with(&["why", "order-17"], b"").await;
    for words in ["paused by", "too hot", "nobody serves echo", "sortie queues resume echo --lane normal"] {
        assert!(why.code == 0 && why.out.contains(words), "{words}: {why:?}");
    }
    let why = fleet.run_with(&["why", "order-17", "--json"], b"").await.json();
    assert_eq!((&why["answer"]["why"], &why["besides"][0]["why"]), (&json!("paused"), &json!("unserved")));
    let limit = fleet.run_with(&["queues", "limit", "echo", "5"], b"").await;
    assert!(limit.code == 0 && limit.out.contains("limited to 5 at once: normal"), "{limit:?}");
    assert!(limit.out.contains("nobody served it yet, so from then on: urgent, unique, bulk"), "{limit:?}");
    let resumed = fleet.run_with(&["queues", "resume", "echo", "--json"], b"").await;
    assert_eq!((resumed.code, resumed.json()["lanes"]["normal"].clone()), (0, json!("in_force")));
    let state = broker::topology::consumer_state(&fleet.connection, &consumer.stream, &consumer.name).await.unwrap();
    assert_eq!((state.is_paused, state.consumer.max_ack_pending), (false, 5));
    assert!(fleet.count("FLEET_AUDIT").await >= 4, "two pauses at least, a limit, a resume");

    let unknown = fleet.run_with(&["why", "order-18"], b"").await;
    assert!(unknown.code == 1 && unknown.err.contains("none of the 1 that wait"), "{unknown:?}");
}
