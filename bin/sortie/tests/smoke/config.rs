//! `sortie config`: every verb, against a real bucket.

use broker::{Bucket, Connection, Options, Publisher};
use embedded::{Config, Server};
use serde_json::{Value, json};

use crate::command::{Ended, sortie};

struct Fleet {
    server: Server,
}

impl Fleet {
    async fn start() -> Self {
        let server = Server::start(Config::default()).await.unwrap();
        assert_eq!(sortie(&server.url(), &["topology", "apply"]).await.code, 0);
        Self { server }
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        sortie(&self.server.url(), &[&["config"], arguments].concat()).await
    }

    /// Runs a command that must succeed.
    async fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(&[arguments, &["--json"]].concat()).await;
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.json()
    }
}

#[tokio::test]
async fn what_is_set_is_shown_with_its_origin_and_rolled_back() {
    let fleet = Fleet::start().await;
    assert_eq!(fleet.json(&["show"]).await["settings"]["slots"], 10);
    let first = fleet.json(&["set", "slots", "20"]).await;
    assert_eq!((&first["changed"], &first["needs_restart"]), (&json!(["slots"]), &json!([])));
    let of_kind = fleet.json(&["set", "slots", "3", "--kind", "words"]).await;
    let timeout = fleet.json(&["set", "capabilities.resize.timeout", "2m", "--kind", "words"]).await;
    assert_eq!(timeout["needs_restart"], json!(["capabilities.resize.timeout"]));
    fleet.json(&["set", "custom.bank.token", "secret://env/BANK_TOKEN", "--kind", "words"]).await;
    fleet.json(&["set", "custom.names", r#"["a","b"]"#]).await;

    let shown = fleet.json(&["show", "--kind", "words"]).await;
    assert_eq!((&shown["settings"]["slots"], &shown["origins"]["slots"]), (&json!(3), &json!("kind")));
    assert_eq!(
        (&shown["settings"]["custom"]["bank"]["token"], &shown["origins"]["heartbeat"]),
        (&json!("***"), &json!("default"))
    );
    assert_eq!(shown["settings"]["custom"]["names"], json!(["a", "b"]));
    let table = fleet.run(&["show", "--kind", "words", "--origin"]).await.out;
    let line = |start: &str| table.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert!(line("slots").contains("fleet, its kind") && line("drain_grace").contains("default"), "{table}");
    assert!(!table.contains("BANK_TOKEN") && line("capabilities.resize.timeout").contains("next start"), "{table}");
    assert_eq!(fleet.json(&["show"]).await["settings"]["slots"], 20, "others are not touched");

    let history = fleet.json(&["history", "--kind", "words"]).await;
    let changed: Vec<_> = history.as_array().unwrap().iter().map(|each| each["changed"][0].clone()).collect();
    assert_eq!(changed, ["slots", "capabilities.resize.timeout", "custom.bank.token"]);
    assert!(!history.to_string().contains("BANK_TOKEN"), "{history}");
    let revision = of_kind["revision"].to_string();
    let back = fleet.json(&["rollback", &revision, "--kind", "words"]).await;
    assert_eq!(back["changed"], json!(["capabilities.resize.timeout", "custom.bank.token"]));
    let shown = fleet.json(&["show", "--kind", "words"]).await;
    assert_eq!((&shown["settings"]["slots"], &shown["settings"]["capabilities"]), (&json!(3), &Value::Null));
    assert_eq!(fleet.json(&["unset", "slots", "--kind", "words"]).await["changed"], json!(["slots"]));
    assert_eq!(fleet.json(&["show", "--kind", "words"]).await["settings"]["slots"], 20);
    assert_eq!(fleet.json(&["set", "slots", "20"]).await["changed"], json!([]), "nothing changes");
    let gone = fleet.run(&["unset", "slots", "--kind", "words"]).await;
    assert!(gone.code == 1 && gone.err.contains("does not say slots"), "{gone:?}");
    let foreign = fleet.run(&["rollback", "999"]).await;
    assert!(foreign.code == 1 && foreign.err.contains("no revision 999"), "{foreign:?}");
}

#[tokio::test]
async fn what_would_be_wrong_is_told_and_not_stored() {
    let fleet = Fleet::start().await;
    for (path, value, words) in [
        ("slots", "0", "from 1 to 1000"),
        ("slts", "3", "slts: is no setting"),
        ("heartbeat", "never", "a duration from 1s to 1m"),
        ("log_level", "loud", "error, warn, info"),
        ("capabilities.resize.attempts", "many", "whole number"),
        ("custom.password", "hunter2", "secret://env/NAME"),
        ("capabilities", r#"{"resize":{"timeout":"9d","retries":1}}"#, "capabilities.resize.retries: is no setting"),
    ] {
        let refused = fleet.run(&["set", path, value]).await;
        assert!(refused.code == 64 && refused.err.contains(words), "{path}: {refused:?}");
        assert!(!refused.err.contains("hunter2"), "{refused:?}");
    }
    let both = fleet.run(&["set", "capabilities", r#"{"resize":{"timeout":"9d","retries":1}}"#]).await;
    assert!(both.err.contains("capabilities.resize.timeout"), "all at once: {both:?}");
    assert_eq!(fleet.json(&["history"]).await, json!([]));
}

#[tokio::test]
async fn what_somebody_changed_meanwhile_is_not_overwritten() {
    let fleet = Fleet::start().await;
    let first = fleet.json(&["set", "slots", "20"]).await["revision"].to_string();
    fleet.json(&["set", "slots", "21"]).await;
    for verb in [&["set", "slots", "22"][..], &["unset", "slots"]] {
        let refused = fleet.run(&[verb, &["--if-revision", &first]].concat()).await;
        assert!(refused.code == 1 && refused.err.contains("nothing was changed"), "{refused:?}");
    }
    assert_eq!(fleet.json(&["show"]).await["settings"]["slots"], 21);

    // Written by hand, and wrong: it counts for nothing, and says so.
    let options = Options { servers: vec![fleet.server.url()], ..Default::default() };
    let connection = Connection::open(options).await.unwrap();
    let bucket = Bucket::new(&connection, &Publisher::new(&connection), "fleet-config");
    bucket.put("settings.global", r#"{"slots":0,"typo":1}"#, None).await.unwrap();
    let shown = fleet.run(&["show", "--json"]).await;
    assert_eq!(shown.json()["settings"]["slots"], 10);
    assert!(shown.err.contains("slots: 0 is not") && shown.err.contains("typo: is no setting"), "{shown:?}");
    fleet.json(&["rollback", &first]).await;
    assert_eq!(fleet.json(&["show"]).await["settings"]["slots"], 20);
}
