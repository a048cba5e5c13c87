use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    command::sortie,
    fleet::{Fleet, SOON},
};

#[tokio::test]
async fn what_happens_is_shown_live() {
    let fleet = Fleet::start().await;
    let _agent = fleet.answer(2).await;
    let mut watchers = Vec::new();
    for arguments in [&["watch", "echo", "--limit", "3", "--json"][..], &["watch", "--limit", "3"]] {
        let mut watcher = fleet.spawn(arguments);
        let mut told = BufReader::new(watcher.stderr.take().unwrap()).lines();
        assert!(told.next_line().await.unwrap().unwrap().starts_with("watching "));
        watchers.push(watcher);
    }
    let ended = sortie(&fleet.url(), &["submit", "echo", "1", "--id", "a", "--wait"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut outputs = Vec::new();
    for watcher in watchers {
        let output = tokio::time::timeout(SOON, watcher.wait_with_output()).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(0));
        outputs.push(String::from_utf8(output.stdout).unwrap());
    }
    let happened: Vec<Value> = outputs[0].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |what: &str| happened.iter().find(|one| one["what"] == what).unwrap();
    assert_eq!((&of("asked")["id"], &of("asked")["lane"]), (&json!("a"), &json!("normal")));
    assert_eq!(of("progressed")["progress"]["percent"], json!(50.0));
    assert_eq!(of("ended")["outcome"]["result"], json!(1));
    for words in ["asked      echo  a", "progress   a   50 %  half", "completed  echo  a  1"] {
        assert!(outputs[1].contains(words), "{words} in {}", outputs[1]);
    }
}
