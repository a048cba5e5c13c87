use serde_json::json;

use crate::{command::sortie, fleet::Fleet};

#[tokio::test]
async fn the_result_is_printed_and_a_failure_is_the_exit_code() {
    let fleet = Fleet::start().await;
    let _agent = fleet.answer(6).await;
    let url = fleet.url();
    let ended = sortie(&url, &["submit", "echo", r#"{"hi":1}"#, "--wait"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "{\"hi\":1}\n"), "{ended:?}");
    assert!(ended.err.contains("nobody serves echo now"), "{ended:?}");
    let ended = sortie(&url, &["submit", "echo", "hello you", "--text", "--msgpack", "--follow", "--urgent"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "hello you\n"), "{ended:?}");
    assert!(ended.err.contains("50 %  half"), "{ended:?}");
    let ended = sortie(&url, &["submit", "echo", r#"{"fail":"tea_is_cold"}"#, "--within", "10s"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
    assert!(ended.err.contains("tea_is_cold: as asked for"), "{ended:?}");
    let ended = sortie(&url, &["submit", "echo", r#"{"fail":"tea_is_cold"}"#, "--wait", "--json"]).await;
    assert_eq!((ended.code, &ended.json()["failure"]["code"]), (1, &json!("tea_is_cold")), "{ended:?}");
    let ended = fleet.run_with(&["submit", "echo", "-", "--wait", "--id", "order-1"], b" [1, 2]\n").await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "[1,2]\n"), "{ended:?}");
    let again = sortie(&url, &["submit", "echo", "0", "--id", "order-1", "--json"]).await;
    assert_eq!(
        (again.code, &again.json()["state"], &again.json()["outcome"]["result"]),
        (0, &json!("done"), &json!([1, 2]))
    );
}

#[tokio::test]
async fn what_has_no_outcome_yet_is_pending() {
    let fleet = Fleet::start().await;
    let url = fleet.url();
    let ended = sortie(&url, &["submit", "echo", "1", "--id", "order-1"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "order-1\n"), "{ended:?}");
    for arguments in [
        &["outcome", "order-1"][..],
        &["outcome", "order-1", "--within", "100ms"],
        &["outcome", "order-1", "--within", "100ms", "--follow", "--json"],
        &["submit", "echo", "1", "--id", "order-1", "--within", "100ms"],
    ] {
        let ended = sortie(&url, arguments).await;
        assert_eq!((ended.code, ended.out.as_str()), (75, ""), "{ended:?}");
    }
    let ended = sortie(&url, &["cancel", "order-1"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "request order-1 is cancelled\n"), "{ended:?}");
    let ended = sortie(&url, &["outcome", "order-1", "--json"]).await;
    assert_eq!((ended.code, &ended.json()["status"]), (1, &json!("cancelled")), "{ended:?}");
    let ended = sortie(&url, &["cancel", "seq-99"]).await;
    assert!(ended.code == 1 && ended.err.contains("never issued"), "{ended:?}");
}

#[tokio::test]
async fn what_was_done_cannot_be_cancelled() {
    let fleet = Fleet::start().await;
    let _agent = fleet.answer(1).await;
    assert_eq!(sortie(&fleet.url(), &["submit", "echo", "1", "--id", "a", "--wait"]).await.code, 0);
    let ended = sortie(&fleet.url(), &["cancel", "a", "--json"]).await;
    assert_eq!(
        (ended.code, &ended.json()["cancelled"], &ended.json()["outcome"]["result"]),
        (1, &json!(false), &json!(1))
    );
}

#[tokio::test]
async fn a_key_that_is_taken_names_its_holder() {
    let fleet = Fleet::start().await;
    let url = fleet.url();
    let ended = sortie(&url, &["submit", "echo", "--unique", "tenant-7", "--json"]).await;
    assert_eq!((ended.code, &ended.json()["id"]), (0, &json!("useq-1")), "{ended:?}");
    let ended = sortie(&url, &["submit", "echo", "--unique", "tenant-7"]).await;
    assert!(ended.code == 1 && ended.err.contains("useq-1"), "{ended:?}");
    for excluded in [["--id", "a"], ["--delay", "1s"], ["--unique", "--urgent"]] {
        let ended = sortie(&url, &[&["submit", "echo", "--unique", "k"][..], &excluded].concat()).await;
        assert_eq!(ended.code, 2, "{ended:?}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_sent() {
    let fleet = Fleet::start().await;
    let url = fleet.url();
    for (arguments, words) in [
        (&["submit", "Echo"][..], "valid capability"),
        (&["submit", "echo", "{"], "not JSON"),
        (&["submit", "echo", "1", "--id", "seq-1"], "given by the fleet"),
        (&["submit", "echo", "1", "--attempts", "0"], "number from 1"),
        (&["submit", "echo", "1", "--delay", "soon"], "not a duration"),
        (&["submit", "echo", "1", "--delay", "1m", "--deadline", "30s"], "before the time"),
        (&["submit", "echo", "1", "--header", "Sortie-Attempt=7"], "not yours to set"),
        (&["submit", "echo", "1", "--urgent", "--bulk"], "cannot be used with"),
        (&["map", "echo", "--job", "a.b"], "makes no ids"),
        (&["map", "echo", "--in-flight", "0"], "number from 1"),
    ] {
        let ended = sortie(&url, arguments).await;
        assert!(ended.code == 2 && ended.err.contains(words), "{words}: {ended:?}");
    }
    let ended = sortie(&url, &["submit", "echo", "1", "--served"]).await;
    assert!(ended.code == 1 && ended.err.contains("capability_unserved"), "{ended:?}");
    assert_eq!(fleet.count("FLEET_REQUESTS").await, 0);
    let ended = sortie("nats://127.0.0.1:1", &["submit", "echo", "1"]).await;
    assert_eq!(ended.code, 69, "{ended:?}");
}

#[tokio::test]
async fn a_delayed_request_is_listed_and_cancelled() {
    let fleet = Fleet::start().await;
    let url = fleet.url();
    let ended = sortie(&url, &["submit", "echo", "1", "--delay", "2h", "--id", "a", "--header", "X-Tenant=blue"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(sortie(&url, &["later", "list", "--json"]).await.json()[0]["id"], json!("a"));
    let table = sortie(&url, &["later", "list"]).await;
    assert!(table.out.contains(" normal "), "{table:?}");
    assert_eq!(sortie(&url, &["cancel", "a"]).await.code, 0);
    assert_eq!(sortie(&url, &["later", "list", "--json"]).await.json(), json!([]));
}
