//! Recurring requests: whoever dies between a spec and its schedule leaves what the next look mends.

use std::{collections::BTreeMap, time::Duration};

use broker::{Bucket, StoredMessage};
use protocol::{
    CronName, CronSpec,
    cron::{self, CronTie, Overlap},
};
use serde_json::{Value, json};

use crate::fleet::{Fleet, open, quick, until};

fn name(text: &str) -> CronName {
    CronName::parse(text).unwrap()
}

fn spec(schedule: &str, overlap: Overlap) -> CronSpec {
    let spec = json!({ "schedule": schedule, "capability": "echo", "overlap": overlap, "body": { "hi": 1 } });
    CronSpec {
        headers: BTreeMap::from([("X-Tenant".to_owned(), "blue".to_owned())]),
        ..serde_json::from_value(spec).unwrap()
    }
}

impl Fleet {
    fn specs(&self) -> Bucket {
        Bucket::new(&self.connection, &self.publisher, self.names.config.clone())
    }

    /// Writes a spec, as whoever died before he came to the schedule.
    async fn spec(&self, text: &str, spec: &CronSpec) -> u64 {
        self.specs().put(&cron::key(&name(text)), serde_json::to_vec(spec).unwrap(), None).await.unwrap()
    }

    /// Stores a schedule, as whoever died after it.
    async fn schedule(&self, text: &str, spec: &CronSpec, revision: u64) -> u64 {
        let tie = CronTie { name: name(text), revision };
        let (subject, headers, body) = spec.schedule(&self.namespace, &tie);
        let headers: Vec<(&str, &str)> = headers.iter().collect();
        self.publish(&subject, &headers, std::str::from_utf8(&body).unwrap()).await
    }

    async fn last(&self, stream: &str, subject: &str) -> Option<StoredMessage> {
        self.reader.last(stream, subject).await.unwrap()
    }

    async fn tie(&self, text: &str) -> Option<u64> {
        let found = self.last(&self.names.requests, &format!("fleet.cron.{text}")).await?;
        CronTie::read(&found.headers).map(|tie| tie.revision)
    }

    async fn requests(&self, subject: &str) -> u64 {
        self.count(&self.names.requests, subject).await
    }

    /// Why firings were skipped, each with how often.
    async fn skips(&self, text: &str) -> BTreeMap<String, u64> {
        let filter = format!("fleet.event.sys.cron.skipped.{text}");
        let page = self.reader.page(&self.names.events, &filter, 1, 500).await.unwrap();
        let mut skips = BTreeMap::new();
        for event in page.messages {
            let data: Value = serde_json::from_slice(&event.body).unwrap();
            assert_eq!(data["name"], text);
            *skips.entry(data["reason"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
        skips
    }
}

#[tokio::test]
async fn a_crash_between_spec_and_schedule_heals_and_makes_one_schedule() {
    let fleet = Fleet::start().await;
    let hourly = spec("@hourly", Overlap::Allow);
    // Added, and never scheduled.
    let added = fleet.spec("added", &spec("@every 1s", Overlap::Allow)).await;
    // Changed, and still scheduled as it was.
    let before = fleet.spec("changed", &hourly).await;
    fleet.schedule("changed", &hourly, before).await;
    let changed = fleet.spec("changed", &CronSpec { body: json!(2), ..hourly.clone() }).await;
    // Paused and removed, and still scheduled.
    for gone in ["paused", "removed"] {
        let revision = fleet.spec(gone, &hourly).await;
        fleet.schedule(gone, &hourly, revision).await;
    }
    fleet.spec("paused", &CronSpec { paused: true, ..hourly.clone() }).await;
    fleet.specs().remove(&cron::key(&name("removed"))).await.unwrap();
    // As it should be, and made by hand: both are left alone.
    let revision = fleet.spec("right", &hourly).await;
    let right = fleet.schedule("right", &hourly, revision).await;
    let recurring = [("Nats-Schedule", "@hourly"), ("Nats-Schedule-Target", "fleet.request.echo")];
    let by_hand = fleet.publish("fleet.cron.by-hand", &recurring, "{}").await;
    // What nobody can read keeps nobody from the others.
    fleet.specs().put("cron.broken", r#"{"schedule":"@hourly"}"#, None).await.unwrap();
    fleet.spec("refused", &spec("whenever", Overlap::Allow)).await;

    let two = [fleet.coordinate(quick()).await, fleet.coordinate(quick()).await];
    until("it is scheduled", || async { (fleet.tie("added").await == Some(added)).then_some(()) }).await;
    until("it is scheduled anew", || async { (fleet.tie("changed").await == Some(changed)).then_some(()) }).await;
    for gone in ["paused", "removed"] {
        let subject = format!("fleet.cron.{gone}");
        until("it is purged", || async { (fleet.requests(&subject).await == 0).then_some(()) }).await;
    }
    until("it fires", || async { (fleet.requests("fleet.request.echo").await >= 2).then_some(()) }).await;
    let fired = fleet.last(&fleet.names.requests, "fleet.request.echo").await.unwrap();
    let tie = format!("added@{added}");
    assert_eq!((fired.headers.get("Sortie-Cron"), &fired.body[..]), (Some(tie.as_str()), &br#"{"hi":1}"#[..]));
    assert_eq!((fired.headers.get("X-Tenant"), fired.headers.get("Sortie-Request-Id")), (Some("blue"), None));

    let sum = |name: &str| two.iter().map(|one| one.metric(name, "")).sum::<f64>();
    until("a look finds nothing to mend", || async { (sum("cron_invalid") == 2.0).then_some(()) }).await;
    let holder =
        until("somebody holds it", || async { two.iter().find(|one| one.metric("lease_held", "crons") > 0.0) }).await;
    holder.looks("crons", 2.0).await;
    assert_eq!(fleet.requests("fleet.cron.*").await, 4, "one each");
    for (subject, sequence) in [("fleet.cron.right", right), ("fleet.cron.by-hand", by_hand)] {
        assert_eq!(fleet.last(&fleet.names.requests, subject).await.unwrap().sequence, sequence, "{subject}");
    }
    assert_eq!(sum("cron_mended_total"), 4.0, "each once, whoever looked");
}

#[tokio::test]
async fn what_must_not_overlap_is_skipped_while_one_is_there() {
    let fleet = Fleet::start().await;
    let solo = CronSpec { deadline: Some(Duration::from_secs(600)), ..spec("@every 1s", Overlap::Skip) };
    let revision = fleet.spec("solo", &solo).await;
    let _two = [fleet.coordinate(quick()).await, fleet.coordinate(quick()).await];
    let subject = "fleet.unique.echo.cron-solo";
    let first = until("it is let through", || fleet.last(&fleet.names.unique, subject)).await;
    let tie = format!("solo@{revision}");
    assert_eq!((first.headers.get("Sortie-Cron"), &first.body[..]), (Some(tie.as_str()), &br#"{"hi":1}"#[..]));
    let deadline = protocol::time::parse(first.headers.get("Sortie-Deadline").unwrap()).unwrap();
    assert!((590..=600).contains(&(deadline - first.time).num_seconds()), "{deadline}");
    until("two are skipped", || async { (fleet.skips("solo").await.get("running")? >= &2).then_some(()) }).await;
    assert_eq!(fleet.last(&fleet.names.unique, subject).await.unwrap().sequence, first.sequence, "still the same");

    // It ends, and the next firing is let through.
    broker::topology::purge(&fleet.connection, &fleet.names.unique, subject, None).await.unwrap();
    let next = until("the next one", || fleet.last(&fleet.names.unique, subject)).await;
    assert!(next.sequence > first.sequence);
    assert_eq!(fleet.requests("fleet.request.*").await, 0, "nothing goes past the key");
}

#[tokio::test]
async fn what_nobody_let_through_in_time_counts_once() {
    let fleet = Fleet::start().await;
    fleet.spec("solo", &spec("@yearly", Overlap::Skip)).await;
    fleet.spec("off", &CronSpec { paused: true, ..spec("@yearly", Overlap::Skip) }).await;
    // Whoever was here died after the request and before the firing was acknowledged.
    let fired = fleet.publish("fleet.fire.solo", &[], "").await;
    let id = format!("fire-{fired}");
    fleet.publish("fleet.unique.echo.cron-solo", &[("Nats-Msg-Id", id.as_str())], "{}").await;
    for _ in 0..3 {
        fleet.publish("fleet.fire.off", &[], "").await;
    }
    let running = fleet.coordinate(quick()).await;
    until("all are handled", || async { (fleet.requests("fleet.fire.*").await == 0).then_some(()) }).await;
    assert_eq!(fleet.skips("solo").await, BTreeMap::new(), "it found its own request");
    let skips = [("overtaken", 2), ("withdrawn", 1)].map(|(reason, count)| (reason.to_owned(), count));
    assert_eq!(fleet.skips("off").await, BTreeMap::from(skips));
    assert_eq!(fleet.count(&fleet.names.unique, "fleet.unique.*.*").await, 1);
    assert_eq!(running.metric("cron_fired_total", "skipped"), 3.0);
}

#[tokio::test]
async fn a_schedule_outlives_a_server_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let config = embedded::Config { store: Some(folder.path().to_owned()), ..embedded::Config::default() };
    let mut server = embedded::Server::start(config).await.unwrap();
    let fleet = Fleet::over(open(&server.url()).await);
    let settings = protocol::topology::Settings::default();
    broker::topology::apply(&fleet.connection, &fleet.namespace, &settings).await.unwrap();
    let every = spec("@every 1s", Overlap::Allow);
    let revision = fleet.spec("tick", &every).await;
    fleet.schedule("tick", &every, revision).await;
    until("it fires", || async { (fleet.requests("fleet.request.echo").await >= 1).then_some(()) }).await;
    server.kill().unwrap();
    server.restart().await.unwrap();
    let fleet = Fleet::over(open(&server.url()).await);
    let before = fleet.requests("fleet.request.echo").await;
    until("it fires again", || async { (fleet.requests("fleet.request.echo").await > before).then_some(()) }).await;
}
