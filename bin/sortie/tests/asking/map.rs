use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::fleet::{Fleet, SOON, until};

fn documents(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn results_come_in_input_order_and_failures_are_documents() {
    let fleet = Fleet::start().await;
    let _agent = fleet.answer(100).await;
    let input = b"{\"slow\":1}\n\n2\nno json\n{\"fail\":\"tea_is_cold\"}\n\"five\"";
    let ended = fleet.run_with(&["map", "echo", "--timeout", "5s"], input).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let lines = documents(&ended.out);
    assert_eq!((&lines[0], &lines[1], &lines[4]), (&json!({ "slow": 1 }), &json!(2), &json!("five")));
    assert_eq!((&lines[2]["line"], &lines[2]["failure"]["code"]), (&json!(4), &json!("invalid_input")));
    assert_eq!((&lines[3]["line"], &lines[3]["status"]), (&json!(5), &json!("failed")));
    assert_eq!(lines[3]["failure"]["code"], json!("tea_is_cold"));
    assert!(ended.err.contains("2 of 5 lines failed"), "{ended:?}");
    assert_eq!(fleet.count("FLEET_REQUESTS").await, 4);
}

#[tokio::test]
async fn plain_lines_in_any_order_as_documents() {
    let fleet = Fleet::start().await;
    let _agent = fleet.answer(100).await;
    let arguments = ["map", "echo", "--lines", "--unordered", "--json", "--in-flight", "2"];
    let ended = fleet.run_with(&arguments, b"a b\n\n\xff\nc").await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let mut lines = documents(&ended.out);
    lines.sort_by_key(|line| line["line"].as_u64());
    let results: Vec<_> = lines.iter().map(|line| line["result"].clone()).collect();
    assert_eq!(results, [json!("a b"), json!(""), Value::Null, json!("c")]);
    assert_eq!((&lines[2]["status"], &lines[0]["status"]), (&json!("refused"), &json!("completed")));
}

#[tokio::test]
async fn many_lines_and_a_broken_pipe() {
    let fleet = Fleet::start().await;
    let _agent = fleet.answer(usize::MAX).await;
    let input: String = (0..3_000).map(|number| format!("{number}\n")).collect();
    let ended = fleet.run_with(&["map", "echo"], input.as_bytes()).await;
    assert_eq!((ended.code, ended.out == input), (0, true), "{}", ended.err);

    let mut child = fleet.spawn(&["map", "echo"]);
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    stdin.write_all(b"1\n2\n").await.unwrap();
    let mut lines = BufReader::new(stdout).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "1");
    drop(lines);
    stdin.write_all(b"3\n").await.unwrap();
    let output = tokio::time::timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "who read has seen enough");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!told.contains("panic") && !told.contains("ipe"), "{told}");
}

#[tokio::test]
async fn an_interrupted_job_goes_on_where_it_was() {
    let fleet = Fleet::start().await;
    let agent = fleet.answer(10).await;
    let input: String = (0..40).map(|number| format!("[{number}]\n")).collect();
    let mut child = fleet.spawn(&["map", "echo", "--job", "nightly", "--in-flight", "8"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    agent.join().await.unwrap();
    until("ten have their outcome", async || fleet.count("FLEET_OUTCOMES").await == 10).await;
    child.kill().await.unwrap();

    let _agent = fleet.answer(usize::MAX).await;
    let ended = fleet.run_with(&["map", "echo", "--job", "nightly"], input.as_bytes()).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, input.as_str()), "{}", ended.err);
    assert_eq!(fleet.count("FLEET_OUTCOMES").await, 40, "no line has two");
    let asked = fleet.count("FLEET_REQUESTS").await;
    let ended = fleet.run_with(&["map", "echo", "--job", "nightly"], input.as_bytes()).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, input.as_str()), "{}", ended.err);
    assert_eq!(fleet.count("FLEET_REQUESTS").await, asked, "all is done, so nothing is asked again");
}

#[tokio::test]
async fn lines_that_nobody_answers_are_pending() {
    let fleet = Fleet::start().await;
    let _agent = fleet.answer(1).await;
    let ended = fleet.run_with(&["map", "echo", "--within", "8s"], b"1\n2\n").await;
    assert_eq!(ended.code, 75, "{ended:?}");
    let lines = documents(&ended.out);
    assert_eq!(lines.iter().filter(|line| line["status"] == "pending").count(), 1, "{ended:?}");
    assert!(ended.err.contains("1 of 2 lines have no outcome yet"), "{ended:?}");
}
