//! `sortie run` on a real fleet, with a coordinator and an agent: each of its verbs, and `sortie why` of runs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::Result;
use broker::{Connection, topology};
use coordinator::{Config, Coordinator};
use prometheus::Registry;
use protocol::{RunSummary, Status, time};
use serde_json::{Value, json};
use sortie_tests::{Fleet, RunningWorker, binaries, raw, until};
use tokio::process::Command;
use worker::{Context, Failure};

/// Longer than anything here takes on a machine that does other things.
const BOUND: Duration = Duration::from_secs(60);

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{} {}", self.out, self.err))
    }

    /// That it ended so, and said all of this.
    fn says(&self, code: i32, words: &[&str]) {
        let said = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, code, "{said}");
        for word in words {
            assert!(said.contains(word), "`{word}` in {said}");
        }
    }
}

/// A fleet with an agent that gives back what it is told to give, and fails where it is told to.
struct Site {
    fleet: Fleet,
    _worker: RunningWorker,
    _coordinator: Coordinator,
}

impl Site {
    async fn start() -> Result<Self> {
        let fleet = Fleet::start().await?;
        let work = |_: Context, input: Value| async move {
            match input["fail"].as_str() {
                Some(code) => Err(Failure::new(code, "as it was told").give_up()),
                None => Ok(input["give"].clone()),
            }
        };
        let worker = fleet.run(fleet.worker("work").slots(20).capability("work", work), "work").await?;
        let connection = Connection::open(fleet.worker_config().broker).await?;
        let coordinator = Coordinator::start(&connection, Config::default(), &Registry::new()).await?;
        Ok(Self { fleet, _worker: worker, _coordinator: coordinator })
    }

    async fn sortie(&self, arguments: &[&str]) -> Ended {
        sortie(&self.fleet, arguments).await
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.sortie(&[arguments, &["--json"]].concat()).await;
        assert_eq!(ended.code, 0, "{arguments:?}: {}{}", ended.out, ended.err);
        ended.json()
    }

    /// Waits until a run looks so.
    async fn looks(&self, run: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        until(what, BOUND, || async {
            let shown = self.sortie(&["run", "show", run, "--json"]).await;
            (shown.code == 0).then(|| shown.json()).filter(&is_so)
        })
        .await
    }

    async fn audited(&self, verb: &str) -> u64 {
        let subject = format!("fleet.audit.tester.{verb}");
        let counts = topology::subject_counts(&self.fleet.connection, "FLEET_AUDIT", &subject).await;
        counts.unwrap().into_values().sum()
    }
}

fn command(fleet: &Fleet, arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries::path("sortie"));
    command.args(["--server", &fleet.url()]).args(arguments).env("SORTIE_OPERATOR", "tester").kill_on_drop(true);
    command
}

async fn sortie(fleet: &Fleet, arguments: &[&str]) -> Ended {
    ended(command(fleet, arguments)).await
}

async fn ended(mut command: Command) -> Ended {
    let output = tokio::time::timeout(2 * BOUND, command.output()).await.unwrap().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn apply(fleet: &Fleet, folder: &Path, definitions: &[Value]) {
    for definition in definitions {
        let file = folder.join(format!("{}.json", definition["workflow"].as_str().unwrap()));
        std::fs::write(&file, definition.to_string()).unwrap();
        sortie(fleet, &["workflow", "apply", file.to_str().unwrap()]).await.says(0, &["is created"]);
    }
}

/// Asks for something many times, waits to be told to go on, and asks once more.
fn greet() -> Value {
    json!({
        "workflow": "greet", "version": "1.0.0",
        "input": { "type": "object", "required": ["names"] },
        "steps": {
            "hello": { "foreach": "${ input.names }", "call": "work", "with": { "give": "${ item }" } },
            "gate": { "needs": ["hello"], "signal": "approve", "timeout": "1h" },
            "last": { "needs": ["gate"], "call": "work", "with": { "give": "${ steps.gate.output.by }" } },
        },
        "output": "${ steps.last.output }",
    })
}

fn step<'a>(view: &'a Value, name: &str) -> &'a Value {
    view["steps"].as_array().unwrap().iter().find(|step| step["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_shown_paused_told_and_looked_at_afterwards() -> Result<()> {
    let site = Site::start().await?;
    let folder = tempfile::tempdir()?;
    apply(&site.fleet, folder.path(), &[greet()]).await;
    site.sortie(&["run", "list"]).await.says(0, &["sortie run start --help"]);
    site.sortie(&["run", "start", "nope"]).await.says(1, &["no such workflow nope", "sortie workflow list"]);
    site.sortie(&["run", "start", "greet", "{}"]).await.says(2, &["`names` is missing"]);
    let start = ["run", "start", "greet", r#"{"names":["ann","bob"]}"#, "--id", "order-1"];
    site.sortie(&start).await.says(0, &["order-1"]);

    let waits = |view: &Value| step(view, "gate")["status"] == "running";
    let view = site.looks("order-1", "the gate is reached", waits).await;
    assert_eq!(step(&view, "hello")["items"]["completed"], 2);
    assert_eq!(step(&view, "hello")["requests"][1]["output"], "bob");
    let shown = site.sortie(&["run", "show", "order-1"]).await;
    shown.says(0, &["running, 33 %", "█", "░", "#1", "waits for signal approve", r#"["ann","bob"]"#]);
    let why = site.json(&["why", "order-1"]).await;
    assert_eq!(
        (&why["answer"]["why"], &why["answer"]["waits"][0]["signal"]),
        (&json!("run_running"), &json!("approve"))
    );
    site.sortie(&["why", "order-1"]).await.says(0, &["sortie run signal order-1 approve"]);
    site.sortie(&["why", "order-1~last~0"]).await.says(0, &["waits for the end of gate"]);
    site.sortie(&["why", "order-1~hello~1"]).await.says(0, &["is completed"]);
    site.sortie(&["why", "order-1~nothing~0"]).await.says(1, &["has no step nothing"]);
    let listed = site.json(&["run", "list", "--workflow", "greet", "--status", "running"]).await;
    assert_eq!((&listed[0]["run"], &listed[0]["steps_running"]), (&json!("order-1"), &json!(["gate"])));
    assert_eq!(site.json(&["run", "list", "--workflow", "other"]).await, json!([]));
    assert_eq!(site.json(&["run", "list", "--status", "paused"]).await, json!([]));

    let mut watching = command(&site.fleet, &["run", "watch", "order-1"]);
    let watching = watching.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    site.sortie(&["run", "pause", "order-1"]).await.says(0, &["sortie run resume order-1"]);
    site.looks("order-1", "it is paused", |view| view["status"] == "paused").await;
    site.sortie(&["why", "order-1"]).await.says(0, &["is paused", "sortie run resume order-1"]);
    // Older ones that are not wanted take no place in the list.
    site.sortie(&["run", "start", "greet", r#"{"names":[]}"#, "--id", "order-2"]).await.says(0, &["order-2"]);
    site.looks("order-2", "the gate is reached", waits).await;
    let listed = site.json(&["run", "list", "--status", "running", "--limit", "1"]).await;
    assert_eq!((&listed[0]["run"], listed.as_array().map(Vec::len)), (&json!("order-2"), Some(1)));
    let cut = site.sortie(&["run", "list", "--limit", "1"]).await;
    assert!(cut.err.contains("more than 1 are alive"), "{}", cut.err);
    site.sortie(&["run", "cancel", "order-2"]).await.says(0, &["order-2"]);
    let signal = ["run", "signal", "order-1", "approve", r#"{"by":"ann"}"#, "--id", "once"];
    site.sortie(&signal).await.says(0, &["told approve"]);
    site.sortie(&signal).await.says(0, &["told approve"]);
    let held = |view: &Value| step(view, "last")["waits_for"] == "resume";
    site.looks("order-1", "a step waits for the run to go on", held).await;
    site.sortie(&["run", "resume", "order-1"]).await.says(0, &["goes on"]);

    let watched = tokio::time::timeout(BOUND, watching.wait_with_output()).await??;
    let lines = String::from_utf8(watched.stdout)?;
    assert_eq!(watched.status.code(), Some(0), "{lines}");
    let found: Vec<&str> = lines.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let facts = [
        "started",
        "step.hello.0.outcome",
        "step.hello.1.outcome",
        "pause",
        "signal.approve",
        "resume",
        "step.last.0.outcome",
    ];
    let mut sorted = found.clone();
    // Two that run at once end in any order.
    sorted[1..3].sort_unstable();
    assert_eq!(sorted[..facts.len()], facts, "{lines}");
    assert!(lines.lines().last().unwrap().starts_with("run order-1 completed in "), "{lines}");
    assert!(lines.contains("-> asks hello 2 times"), "{lines}");

    let again = site.sortie(&[&start[..], &["--wait"]].concat()).await;
    again.says(0, &["order-1 is completed already", "ann"]);
    let view = site.json(&["run", "show", "order-1"]).await;
    assert_eq!((&view["status"], &view["output"], &view["percent"]), (&json!("completed"), &json!("ann"), &json!(100)));
    let listed = site.json(&["run", "list", "--status", "completed"]).await;
    assert_eq!((&listed[0]["run"], &listed[0]["workflow"]), (&json!("order-1"), &json!("greet")));
    site.sortie(&["run", "list"]).await.says(0, &["order-1", "completed", "ago"]);
    site.sortie(&["why", "order-1"]).await.says(0, &["is over: completed"]);
    site.sortie(&["run", "signal", "order-1", "approve"]).await.says(1, &["is over", "sortie run show order-1"]);

    let listed = site.json(&["run", "replay", "order-1"]).await;
    let named: Vec<&str> = listed.as_array().unwrap().iter().map(|fact| fact["fact"].as_str().unwrap()).collect();
    assert_eq!(named, found[..named.len()], "a fact has its number for good");
    let then = site.json(&["run", "replay", "order-1", "--to", "4"]).await;
    assert_eq!((&then["status"], &step(&then, "gate")["status"]), (&json!("paused"), &json!("running")));
    let text = site.sortie(&["run", "replay", "order-1", "--to", "4"]).await;
    text.says(0, &["after fact 4 of 7, pause", "waits for signal approve"]);
    site.sortie(&["run", "replay", "order-1", "--to", "8"]).await.says(2, &["facts 1 to 7"]);
    site.sortie(&["run", "replay", "order-1", "--to", "0"]).await.says(2, &["no fact 0"]);
    let audited = [site.audited("run-pause").await, site.audited("run-resume").await, site.audited("run-signal").await];
    assert_eq!(audited, [1, 1, 3], "before it is done, also where it is refused then");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_runs_is_shown_and_cancelled() -> Result<()> {
    let site = Site::start().await?;
    let folder = tempfile::tempdir()?;
    let below = |name: &str, target: &str| json!({ "workflow": name, "version": "1.0.0", "steps": { "down": { "workflow": target } } });
    let twice = json!({
        "workflow": "top", "version": "1.0.0",
        "steps": { "all": { "foreach": "${ [1, 2] }", "workflow": "middle" } },
    });
    let lowest = json!({ "workflow": "low", "version": "1.0.0", "steps": { "gate": { "signal": "go" } } });
    apply(&site.fleet, folder.path(), &[lowest, below("middle", "low"), twice]).await;
    site.sortie(&["run", "start", "top", "--id", "t"]).await.says(0, &["t"]);
    let tree = until("the tree is grown", BOUND, || async {
        let tree = site.json(&["run", "tree", "t"]).await;
        let waits = |path: &str| tree.pointer(path).is_some_and(|run| run["status"] == "running");
        (waits("/sub_runs/0/sub_runs/0") && waits("/sub_runs/1/sub_runs/0")).then_some(tree)
    })
    .await;
    let middle = &tree["sub_runs"][1];
    assert_eq!((&middle["workflow"], &middle["asked_by"]), (&json!("middle"), &json!("t~all~1")));
    assert_eq!(middle["sub_runs"][0]["workflow"], "low");
    let run = middle["run"].as_str().unwrap();
    let lines = site.sortie(&["run", "tree", "t"]).await;
    lines.says(0, &[&format!("└ {run}"), "· └ sub-", "t~all~1"]);
    site.sortie(&["run", "tree", "t", "--depth", "1"]).await.says(0, &["and 1 more"]);
    assert_eq!(site.json(&["run", "tree", "t", "--limit", "2"]).await["left_out"], 1);
    assert_eq!(site.json(&["run", "tree", run]).await["asked_by"], "t~all~1");
    site.sortie(&["why", "t"]).await.says(0, &[&format!("sortie why {run}")]);
    site.sortie(&["why", "t~all~1"]).await.says(0, &[run, "middle", "sub-"]);
    site.sortie(&["run", "show", "t"]).await.says(0, &[run]);

    site.sortie(&["run", "cancel", "t", "--reason", "no longer wanted"]).await.says(0, &["sortie run watch t"]);
    let watched = site.sortie(&["run", "watch", "t", "--json"]).await;
    assert_eq!(watched.code, 1, "{}{}", watched.out, watched.err);
    let last: Value = serde_json::from_str(watched.out.lines().last().unwrap())?;
    assert_eq!(last["ended"], "cancelled");
    assert!(last["failure"]["message"].as_str().unwrap().contains("no longer wanted"), "{last}");
    let tree = site.json(&["run", "tree", "t"]).await;
    for path in ["", "/sub_runs/0", "/sub_runs/1/sub_runs/0"] {
        assert_eq!(tree.pointer(path).unwrap()["status"], "cancelled", "{path} of {tree}");
    }
    assert_eq!(site.audited("run-cancel").await, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_says_what_failed() -> Result<()> {
    let site = Site::start().await?;
    let folder = tempfile::tempdir()?;
    let fails = json!({
        "workflow": "fails", "version": "1.0.0",
        "steps": {
            "first": { "call": "work", "with": { "give": 1 } },
            "second": { "needs": ["first"], "call": "work", "with": { "fail": "${ input }" } },
            "third": { "needs": ["second"], "wait": "1h" },
        },
    });
    apply(&site.fleet, folder.path(), &[fails]).await;
    let failed = site.sortie(&["run", "start", "fails", "tea_is_cold", "--text", "--id", "f", "--wait"]).await;
    failed.says(1, &["run f failed", "tea_is_cold"]);
    let shown = until("its summary is kept", BOUND, || async {
        let shown = site.sortie(&["run", "show", "f"]).await;
        shown.out.contains("third").then_some(shown)
    })
    .await;
    shown.says(0, &["status    failed", "tea_is_cold: as it was told", "▒", "by ins_"]);
    let view = site.json(&["run", "show", "f"]).await;
    assert_eq!(step(&view, "second")["failure"]["code"], "tea_is_cold");
    assert_eq!(site.json(&["run", "list", "--status", "failed"]).await[0]["run"], "f");
    site.sortie(&["why", "f~second~0"]).await.says(0, &["is failed", "tea_is_cold"]);

    // It goes on where it failed, or from where it is told to, with another input where that helps.
    let again = site.sortie(&["run", "retry", "f", "--id", "f2", "--wait"]).await;
    again.says(1, &["taken over from run f, and not done again: first", "tea_is_cold"]);
    let all = site.sortie(&["run", "retry", "f", "--from", "first", "--input", "\"milk_is_off\"", "--wait"]).await;
    all.says(1, &["nothing of run f is taken over", "milk_is_off"]);
    let view =
        site.looks("f2", "its summary is kept", |view| view["steps"][0]["requests"][0]["is_copied"] == true).await;
    assert_eq!((&view["retry_of"], &view["input"]), (&json!("f"), &json!("tea_is_cold")));
    site.sortie(&["run", "retry", "f", "--from", "nothing"]).await.says(2, &["first, second, third"]);
    site.sortie(&["run", "retry", "nobody"]).await.says(1, &["nothing is known", "sortie run list"]);
    assert_eq!(site.audited("run-retry").await, 2, "what makes no sense is no act of anybody");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_is_not_known_it_is_said_how_to_find_out() -> Result<()> {
    let fleet = Fleet::start().await?;
    for verb in ["show", "tree", "replay"] {
        sortie(&fleet, &["run", verb, "nobody"]).await.says(1, &["nothing is known", "sortie run list"]);
    }
    sortie(&fleet, &["run", "watch", "nobody", "--start-within", "1s"]).await.says(1, &["nothing is known"]);
    sortie(&fleet, &["run", "list", "--status", "dead"]).await.says(2, &["undoing, completed"]);
    // There is no coordinator.
    let folder = tempfile::tempdir()?;
    apply(&fleet, folder.path(), &[greet()]).await;
    let start = ["run", "start", "greet", r#"{"names":[]}"#, "--id", "early"];
    sortie(&fleet, &start).await.says(0, &["early"]);
    sortie(&fleet, &start).await.says(0, &["early", "was started before"]);
    sortie(&fleet, &[&start[..], &["--within", "200ms"]].concat()).await.says(75, &["sortie run watch early"]);
    for arguments in [["run", "show", "early"], ["run", "tree", "early"]] {
        sortie(&fleet, &arguments).await.says(75, &["run early of greet has not begun", "sortie doctor"]);
    }
    sortie(&fleet, &["why", "early"]).await.says(75, &["waits for a coordinator"]);
    sortie(&fleet, &["run", "retry", "early"]).await.says(75, &["has not begun"]);
    let told = sortie(&fleet, &["run", "pause", "early"]).await;
    told.says(0, &["has not started"]);
    assert_eq!(sortie(&fleet, &["run", "show", "early", "--json"]).await.json()["status"], "waiting");
    Ok(())
}

#[tokio::test]
async fn of_runs_that_ended_the_last_are_listed() -> Result<()> {
    let fleet = Fleet::start().await?;
    let ended = |number: i64| {
        let at = time::now() - chrono::TimeDelta::seconds(1_000 - number);
        let summary = RunSummary {
            run: format!("run-{number}").parse().unwrap(),
            workflow: if number % 3 == 0 { "third" } else { "other" }.parse().unwrap(),
            version: "1.0.0".to_owned(),
            status: if number % 2 == 0 { Status::Failed } else { Status::Completed },
            started_at: at - chrono::TimeDelta::seconds(90),
            ended_at: at,
            parent: None,
            retry_of: None,
            failure: None,
            facts: Vec::new(),
        };
        let place = format!("fleet.event.sys.run.{}.{}.{}", summary.workflow, summary.status, summary.run);
        (place, serde_json::to_vec(&summary).unwrap())
    };
    for number in 0..40 {
        let (place, body) = ended(number);
        raw::publish(&fleet, &place, &[], body).await?;
        raw::publish(&fleet, &format!("fleet.event.orders.n{number}"), &[], "{}").await?;
    }
    let listed = async |arguments: &[&str]| -> Vec<String> {
        let ended = sortie(&fleet, &[&["run", "list", "--json"], arguments].concat()).await;
        let found = ended.json();
        found.as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(&["--limit", "3"]).await, ["run-39", "run-38", "run-37"]);
    assert_eq!(listed(&["--limit", "1"]).await, ["run-39"]);
    assert_eq!(listed(&["--limit", "39"]).await.last().unwrap(), "run-1");
    assert_eq!(listed(&["--limit", "100"]).await.len(), 40);
    assert_eq!(listed(&["--limit", "2", "--workflow", "third"]).await, ["run-39", "run-36"]);
    let filtered = ["--limit", "2", "--workflow", "third", "--status", "failed"];
    assert_eq!(listed(&filtered).await, ["run-36", "run-30"]);
    sortie(&fleet, &["run", "list", "--limit", "1"]).await.says(0, &["1m 30s"]);
    Ok(())
}
