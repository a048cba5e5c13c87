//! `sortie workflow`: definitions are checked, kept, shown and forgotten.

use std::fs;

use embedded::{Config, Server};
use serde_json::json;

use crate::command::{Ended, sortie};

const GREET: &str = "\
workflow: greet
version: 1.0.0
description: Says a word
input: { type: object, required: [name] }
steps:
  word: { call: pick-word }
  rest: { needs: [word], wait: 10s }
  say: { needs: [rest], call: say, with: { text: \"${ steps.word.output }\", to: \"${ input.name }\" } }
output: \"${ steps.say.output }\"
";

async fn run(server: &Server, arguments: &[&str]) -> Ended {
    sortie(&server.url(), arguments).await
}

#[tokio::test]
async fn definitions_are_kept_by_version() {
    let server = Server::start(Config::default()).await.unwrap();
    assert_eq!(run(&server, &["topology", "apply"]).await.code, 0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("greet.yaml");
    let path = file.to_str().unwrap();
    fs::write(&file, GREET).unwrap();

    let applied = run(&server, &["workflow", "apply", path]).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(applied.out.contains("greet 1.0.0 is created"), "{applied:?}");
    assert!(applied.err.contains("no agent is known that serves `pick-word`"), "{applied:?}");
    let again = run(&server, &["workflow", "apply", path, "--json"]).await;
    assert_eq!(again.json()[0]["done"], json!("unchanged"));

    fs::write(&file, GREET.replace("10s", "20s")).unwrap();
    let taken = run(&server, &["workflow", "apply", path]).await;
    assert_eq!(taken.code, 1, "{taken:?}");
    assert!(taken.err.contains("another version"), "{taken:?}");
    fs::write(&file, GREET.replace("10s", "20s").replace("1.0.0", "1.1.0")).unwrap();
    assert!(run(&server, &["workflow", "apply", path]).await.out.contains("greet 1.1.0 is replaced"));

    let list = run(&server, &["workflow", "list"]).await;
    assert!(list.out.contains("1.1.0") && list.out.contains("Says a word"), "{list:?}");
    let shown = run(&server, &["workflow", "show", "greet"]).await;
    for words in ["call pick-word", "wait 20s", "rest"] {
        assert!(shown.out.contains(words), "{words} in {shown:?}");
    }
    let old = run(&server, &["workflow", "show", "greet", "--version", "1.0.0"]).await;
    assert!(old.out.contains("wait 10s"), "{old:?}");
    let history = run(&server, &["workflow", "show", "greet", "--history", "--json"]).await.json();
    assert_eq!(history.as_array().map(Vec::len), Some(2));

    assert_eq!(run(&server, &["workflow", "remove", "greet"]).await.code, 0);
    let gone = run(&server, &["workflow", "remove", "greet"]).await;
    assert_eq!((gone.code, gone.err.contains("sortie workflow list")), (1, true), "{gone:?}");
    assert_eq!(run(&server, &["workflow", "list", "--json"]).await.json(), json!([]));
}

#[tokio::test]
async fn every_fault_of_every_file_is_told_and_nothing_is_kept() {
    let server = Server::start(Config::default()).await.unwrap();
    assert_eq!(run(&server, &["topology", "apply"]).await.code, 0);
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good.yaml"), folder.path().join("bad.yaml"));
    fs::write(&good, GREET).unwrap();
    let wrong = "workflow: Bad\nversion: 1\nsteps:\n  a: { needs: [b], call: x }\n  b: { needs: [a], call: y, with: \"${ size( }\" }\n";
    fs::write(&bad, wrong).unwrap();
    let refused = run(&server, &["workflow", "apply", good.to_str().unwrap(), bad.to_str().unwrap()]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    for place in ["bad.yaml:1:", "bad.yaml:2:", "bad.yaml:5:"] {
        assert!(refused.err.contains(place), "{place} in {refused:?}");
    }
    assert_eq!(run(&server, &["workflow", "list", "--json"]).await.json(), json!([]));
    let offline = sortie("nats://127.0.0.1:9", &["workflow", "validate", "--offline", good.to_str().unwrap()]).await;
    assert_eq!((offline.code, offline.err.as_str()), (0, ""), "{offline:?}");
}

#[tokio::test]
async fn workflows_are_drawn_and_run_dry() {
    let server = Server::start(Config::default()).await.unwrap();
    assert_eq!(run(&server, &["topology", "apply"]).await.code, 0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("greet.yaml");
    let path = file.to_str().unwrap();
    fs::write(&file, GREET).unwrap();

    let drawn = run(&server, &["workflow", "graph", path]).await;
    assert!(drawn.out.contains("rest  wait 10s") && drawn.out.contains("◄ word"), "{drawn:?}");
    assert_eq!(run(&server, &["workflow", "graph", "greet"]).await.code, 1, "it is not kept yet");
    assert_eq!(run(&server, &["workflow", "apply", path]).await.code, 0);
    let mermaid = run(&server, &["workflow", "graph", "greet", "--mermaid"]).await;
    assert!(mermaid.out.starts_with("flowchart TD\n") && mermaid.out.contains("s0 --> s1"), "{mermaid:?}");
    assert_eq!(
        run(&server, &["workflow", "graph", "greet", "--json"]).await.json()["steps"][2]["needs"],
        json!(["rest"])
    );

    let without = run(&server, &["workflow", "simulate", "greet"]).await;
    assert_eq!((without.code, without.err.contains("--input")), (2, true), "{without:?}");
    let input = ["--input", r#"{"name":"you"}"#];
    let dry =
        run(&server, &[&["workflow", "simulate", "greet", "--output", r#"word="hi""#], &input[..]].concat()).await;
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.out.contains(r#"11s  say.0: call say {"text":"hi","to":"you"}"#), "{dry:?}");
    let failed = run(
        &server,
        &[&["workflow", "simulate", path, "--offline", "--fail", "say=no voice", "--json"], &input[..]].concat(),
    )
    .await;
    assert_eq!(failed.code, 1, "{failed:?}");
    let last = failed.json()["happened"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["what"], &last["status"]), (&json!("ended"), &json!("failed")));
    let unknown = run(&server, &[&["workflow", "simulate", "greet", "--fail", "nobody"], &input[..]].concat()).await;
    assert_eq!((unknown.code, unknown.err.contains("no step `nobody`")), (2, true), "{unknown:?}");
}
