use broker::{Kind, Options, Outgoing, PayloadStore, Publisher};
use futures_util::future::join_all;
use protocol::{ContentType, Outcome, UniqueKey, topology::Settings};
use serde_json::json;
use sortie_client::ErrorKind;

use crate::fleet::{Fleet, SOON, echo};

/// What `dev.conf` shows in comments.
fn shown() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nats-config/dev.conf");
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().skip_while(|line| *line != "# authorization {");
    lines.map(|line| line.strip_prefix("# ").unwrap()).collect::<Vec<_>>().join("\n")
}

fn options(user: &str, password: &str) -> Options {
    let inbox_prefix = Some(format!("_INBOX_{user}"));
    Options { user_password: Some((user.to_owned(), password.to_owned())), inbox_prefix, ..Options::default() }
}

#[tokio::test]
async fn a_program_that_only_asks_can_do_that_and_nothing_else() {
    let config = embedded::Config { extra: shown(), ..embedded::Config::default() };
    let fleet = Fleet::start_on(config, options("fleet", "change-me")).await;
    broker::topology::apply(fleet.connection(), fleet.client.namespace(), &Settings::default()).await.unwrap();
    let asker = fleet.client_with(options("asker", "change-me-too")).await;

    let receipt = asker.request(&echo(), &1).submit().await.unwrap();
    fleet.complete(receipt.id(), &json!(1)).await;
    assert_eq!(receipt.outcome(SOON).await.unwrap().result::<u32>(), Ok(1));
    assert_eq!(asker.request(&echo(), &1).id(receipt.id().clone()).call(SOON).await.unwrap().result::<u32>(), Ok(1));
    let unique = || asker.request(&echo(), &1).unique(UniqueKey::parse("k").unwrap()).submit();
    let holder = unique().await.unwrap();
    let taken = ErrorKind::KeyTaken { holder: Some(holder.id().clone()) };
    assert_eq!(*unique().await.unwrap_err().kind(), taken);
    let large = serde_json::to_vec(&"x".repeat(600_000)).unwrap();
    let mut outcome = Outcome::completed(holder.id().clone(), ContentType::Json, Vec::new());
    let store = PayloadStore::new(fleet.connection(), "fleet-payloads");
    outcome.payload_ref = Some(store.put(&large).await.unwrap());
    fleet.store(&outcome).await;
    assert_eq!(holder.outcome(SOON).await.unwrap().body, large);

    let before = fleet.count("FLEET_OUTCOMES").await;
    let forbidden = [
        "fleet.outcome.a",
        "fleet.told.a",
        "fleet.dead.echo.a",
        "fleet.later.a",
        "fleet.run.a.started",
        "fleet.control.all.cancel",
        "$KV.fleet-state.a",
        "$O.fleet-payloads.M.YQ==",
        "$JS.API.STREAM.PURGE.FLEET_UNIQUE",
        "$JS.API.CONSUMER.MSG.NEXT.FLEET_UNIQUE.echo_unique",
        "$JS.ACK.FLEET_UNIQUE.echo_unique.1.1.1.1.0",
    ];
    let publisher = Publisher::new(asker.connection());
    let tries = forbidden.map(|subject| {
        let publisher = publisher.clone();
        async move { (subject, publisher.publish(&Outgoing::new(subject, "{}")).await) }
    });
    for (subject, refused) in join_all(tries).await {
        assert_eq!(refused.unwrap_err().kind(), Kind::Forbidden, "{subject}");
    }
    assert_eq!(fleet.count("FLEET_OUTCOMES").await, before);
    assert_eq!(fleet.count("FLEET_UNIQUE").await, 1);
}
