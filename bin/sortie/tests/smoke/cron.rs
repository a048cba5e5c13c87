//! `sortie cron`: every verb, against a server that does the firing.

use std::time::Duration;

use broker::{Connection, Options, Outgoing, Publisher, topology};
use embedded::{Config, Server};
use serde_json::{Value, json};

use crate::command::sortie;

struct Fleet {
    server: Server,
    connection: Connection,
}

impl Fleet {
    async fn start() -> Self {
        let server = Server::start(Config::default()).await.unwrap();
        assert_eq!(sortie(&server.url(), &["topology", "apply"]).await.code, 0);
        let options = Options { servers: vec![server.url()], ..Default::default() };
        Self { connection: Connection::open(options).await.unwrap(), server }
    }

    /// Runs a command that must succeed.
    async fn json(&self, arguments: &[&str]) -> Value {
        let ended = sortie(&self.server.url(), &[arguments, &["--json"]].concat()).await;
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.json()
    }

    async fn count(&self, stream: &str, subject: &str) -> u64 {
        topology::subject_counts(&self.connection, stream, subject).await.unwrap().into_values().sum()
    }

    async fn fires(&self, subject: &str) {
        let before = self.count("FLEET_REQUESTS", subject).await;
        let firing = async {
            while self.count("FLEET_REQUESTS", subject).await <= before {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), firing).await.unwrap();
    }
}

#[tokio::test]
async fn what_recurs_is_added_listed_paused_resumed_fired_and_removed() {
    let fleet = Fleet::start().await;
    let added = fleet.json(&["cron", "add", "tick", "echo", r#"{"hi":1}"#, "--every", "1s", "--lane", "bulk"]).await;
    assert_eq!((&added["name"], &added["spec"]["schedule"]), (&json!("tick"), &json!("@every 1s")));
    let daily = ["cron", "add", "daily", "echo", "hello", "--text", "--schedule", "0 30 6 * * *", "--zone"];
    let limits = ["Europe/Zurich", "--timeout", "5s", "--attempts", "2", "--header", "X-Tenant=blue"];
    let next = fleet.json(&[&daily[..], &limits].concat()).await["next"].clone();
    assert!(next.as_str().unwrap().contains(":30:00"), "{next}");
    let list = fleet.json(&["cron", "list"]).await;
    let states: Vec<_> = list.as_array().unwrap().iter().map(|cron| (&cron["name"], &cron["state"])).collect();
    assert_eq!(states, [(&json!("daily"), &json!("active")), (&json!("tick"), &json!("active"))]);
    let url = fleet.server.url();
    let shown = sortie(&url, &["cron", "show", "daily"]).await;
    for words in ["0 30 6 * * * Europe/Zurich", "fleet.request.echo", "X-Tenant: blue", "timeout     5s", "\"hello\""] {
        assert!(shown.out.contains(words), "{words} in {shown:?}");
    }
    fleet.fires("fleet.bulk.echo").await;

    assert_eq!(fleet.json(&["cron", "pause", "tick"]).await["changed"], true);
    assert_eq!(fleet.json(&["cron", "pause", "tick"]).await["changed"], false);
    assert_eq!(fleet.count("FLEET_REQUESTS", "fleet.cron.tick").await, 0);
    assert_eq!(fleet.json(&["cron", "show", "tick"]).await["state"], "paused");
    let before = fleet.count("FLEET_REQUESTS", "fleet.bulk.echo").await;
    assert!(fleet.json(&["cron", "fire", "tick"]).await["request"].as_str().unwrap().starts_with("req_"));
    assert_eq!(fleet.count("FLEET_REQUESTS", "fleet.bulk.echo").await, before + 1, "paused or not");
    assert_eq!(fleet.json(&["cron", "resume", "tick"]).await["changed"], true);
    fleet.fires("fleet.bulk.echo").await;

    assert_eq!(fleet.json(&["cron", "remove", "tick"]).await["done"], "removed");
    assert_eq!(fleet.count("FLEET_REQUESTS", "fleet.cron.tick").await, 0);
    for verb in ["remove", "show", "pause", "resume", "fire"] {
        let gone = sortie(&url, &["cron", verb, "tick"]).await;
        assert!(gone.code == 1 && gone.err.contains("sortie cron list"), "{verb}: {gone:?}");
    }
    assert_eq!(fleet.count("FLEET_AUDIT", "fleet.audit.*.cron-pause").await, 3);
    assert_eq!(fleet.count("FLEET_AUDIT", "fleet.audit.*.cron-add").await, 2);
}

#[tokio::test]
async fn what_makes_no_sense_is_told_at_once_and_nothing_is_stored() {
    let fleet = Fleet::start().await;
    let url = fleet.server.url();
    for (arguments, words) in [
        (&["--schedule", "30 6 * * *"][..], &["30 6 * * *", "six fields"][..]),
        (&["--schedule", "@daily", "--zone", "Mars/Phobos", "--deadline", "1h"], &["Mars/Phobos", "overlap `skip`"]),
        (&["--every", "500ms"], &["one second at least"]),
        (&["--every", "1s", "--overlap", "skip", "--lane", "urgent"], &["lane:"]),
        (&["--every", "1s", "--header", "Nats-TTL=1s"], &["Nats-TTL is not yours"]),
    ] {
        let refused = sortie(&url, &[&["cron", "add", "bad", "echo"], arguments].concat()).await;
        assert_eq!(refused.code, 2, "{arguments:?}: {refused:?}");
        for words in words {
            assert!(refused.err.contains(words), "{words} in {refused:?}");
        }
    }
    assert_eq!(fleet.json(&["cron", "list"]).await, json!([]));
    assert_eq!(fleet.count("FLEET_REQUESTS", "fleet.cron.*").await, 0);
    assert_eq!(fleet.count("FLEET_AUDIT", "fleet.audit.*.cron-add").await, 0, "it is no act of anybody");
}

#[tokio::test]
async fn a_name_that_is_taken_is_replaced_only_on_request() {
    let fleet = Fleet::start().await;
    let url = fleet.server.url();
    let by_hand = Outgoing::new("fleet.cron.report", "{}").with_headers(
        [("Nats-Schedule", "@daily"), ("Nats-Schedule-Target", "fleet.request.report")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect(),
    );
    Publisher::new(&fleet.connection).publish(&by_hand).await.unwrap();
    assert_eq!(fleet.json(&["cron", "list"]).await[0]["state"], "by_hand");
    let add = ["cron", "add", "report", "report", "--schedule", "@hourly"];
    let taken = sortie(&url, &add).await;
    assert!(taken.code == 1 && taken.err.contains("made by hand") && taken.err.contains("--replace"), "{taken:?}");
    fleet.json(&[&add[..], &["--replace"]].concat()).await;
    assert_eq!(fleet.json(&["cron", "show", "report"]).await["state"], "active");
    let taken = sortie(&url, &add).await;
    assert!(taken.code == 1 && taken.err.contains("is there already"), "{taken:?}");
    assert_eq!(fleet.count("FLEET_REQUESTS", "fleet.cron.report").await, 1);
    // Whoever died between the two writes leaves a difference that shows.
    topology::purge(&fleet.connection, "FLEET_REQUESTS", "fleet.cron.report", None).await.unwrap();
    assert_eq!(fleet.json(&["cron", "show", "report"]).await["state"], "unsettled");
    assert_eq!(fleet.json(&["cron", "resume", "report"]).await["changed"], false);
    assert_eq!(fleet.json(&["cron", "show", "report"]).await["state"], "active", "a second try goes on");
}

#[tokio::test]
async fn what_must_not_overlap_holds_its_key() {
    let fleet = Fleet::start().await;
    fleet.json(&["cron", "add", "solo", "echo", "--schedule", "@yearly", "--overlap", "skip"]).await;
    assert!(fleet.json(&["cron", "fire", "solo"]).await["request"].as_str().unwrap().starts_with("useq-"));
    let again = sortie(&fleet.server.url(), &["cron", "fire", "solo"]).await;
    assert!(again.code == 1 && again.err.contains("cron-solo of echo is taken by request useq-1"), "{again:?}");
    assert_eq!(fleet.json(&["cron", "show", "solo"]).await["target"], "fleet.fire.solo");
}

/// A fleet whose streams were made before there was anything that must not overlap.
#[tokio::test]
async fn an_older_fleet_is_brought_up_to_date() {
    let fleet = Fleet::start().await;
    let url = fleet.server.url();
    let ask = async |what: &str, question: Value| -> Value {
        let body = question.to_string().into();
        let asked = fleet.connection.request(format!("$JS.API.{what}"), None, body, Duration::from_secs(5));
        serde_json::from_slice(&asked.await.unwrap().body).unwrap()
    };
    let mut config = ask("STREAM.INFO.FLEET_REQUESTS", json!({})).await["config"].take();
    config["subjects"].as_array_mut().unwrap().retain(|subject| subject != "fleet.fire.*");
    assert_eq!(ask("STREAM.UPDATE.FLEET_REQUESTS", config).await["error"], Value::Null);
    Publisher::new(&fleet.connection).publish(&Outgoing::new("fleet.request.echo", "{}")).await.unwrap();

    let add = ["cron", "add", "solo", "echo", "--every", "1s", "--overlap", "skip"];
    let refused = sortie(&url, &add).await;
    assert!(refused.code == 64 && refused.err.contains("sortie topology apply"), "{refused:?}");
    let plan = sortie(&url, &["topology", "plan"]).await;
    assert!(plan.out.contains("subjects") && plan.out.contains("fleet.fire.*"), "{plan:?}");
    assert_eq!(sortie(&url, &["topology", "apply"]).await.code, 0);
    assert_eq!(sortie(&url, &["topology", "check"]).await.code, 0);
    fleet.json(&add).await;
    fleet.fires("fleet.fire.solo").await;
    assert_eq!(fleet.count("FLEET_REQUESTS", "fleet.request.echo").await, 1, "what was there stays");
}
