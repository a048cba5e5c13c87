//! `sortie trigger`: what events start is kept once it was found right.

use embedded::{Config, Server};
use serde_json::json;

use crate::command::sortie;

#[tokio::test]
async fn triggers_are_added_listed_and_removed() {
    let server = Server::start(Config::default()).await.unwrap();
    let url = server.url();
    assert_eq!(sortie(&url, &["topology", "apply"]).await.code, 0);
    let audit = ["trigger", "add", "paid", "--on", "order.paid", "--start", "audit", "--if", "event.data.sum > 7"];
    let added = sortie(&url, &audit).await;
    assert_eq!((added.code, added.out.trim()), (0, "trigger paid: on order.paid starts audit"), "{added:?}");
    let taken = sortie(&url, &audit).await;
    assert_eq!((taken.code, taken.err.contains("--replace")), (1, true), "{taken:?}");
    let tell = ["--signal", "paid", "--run", "${event.data.run}", "--with", r#"{"sum":"${event.data.sum}"}"#];
    let tell = [&["trigger", "add", "paid", "--on", "order.*", "--replace"][..], &tell].concat();
    assert_eq!(sortie(&url, &tell).await.code, 0);
    let list = sortie(&url, &["trigger", "list"]).await;
    assert!(list.out.contains("tells ${event.data.run} paid"), "{list:?}");

    let wrong =
        ["trigger", "add", "x", "--on", "a b", "--if", "event.", "--request", "echo", "--with", "\"${input.x}\""];
    let wrong = sortie(&url, &wrong).await;
    assert_eq!(wrong.code, 2);
    for fault in ["on: `a b`", "if: 1:"] {
        assert!(wrong.err.contains(fault), "{fault} in {wrong:?}");
    }
    assert_eq!(sortie(&url, &["trigger", "add", "x", "--on", "a"]).await.code, 2);
    assert_eq!(sortie(&url, &["trigger", "remove", "paid"]).await.code, 0);
    assert_eq!(sortie(&url, &["trigger", "remove", "paid"]).await.code, 1);
    assert_eq!(sortie(&url, &["trigger", "list", "--json"]).await.json(), json!([]));
}
