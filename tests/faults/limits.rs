//! The broker's limits: the whole store is full, the stream of outcomes is, and no message may be as large as usual. Whoever
//! publishes is told, nothing that was accepted is lost, and all goes on as soon as there is room.

use std::time::Duration;

use anyhow::{Result, ensure};
use broker::{Kind, Outgoing, Publisher, topology};
use embedded::Config;
use protocol::{subject, topology::Names};
use rand::RngExt;
use serde_json::{Value, json};
use sortie_tests::{Fleet, raw};

use crate::{crew, fire::Fire, report::Row, trial::Trial};

/// Enough for the load of a minute, and full within seconds.
const STORE_BYTES_MAX: u64 = 384 << 20;

/// A quarter of the usual: bodies and results that would travel in a message have to go another way.
const PAYLOAD: &str = "max_payload: 262144";

/// What fills the store, from large to small, so that in the end nothing fits.
const FILL: [usize; 4] = [200_000, 16_000, 512, 1];

pub(crate) async fn run(trial: Trial) -> Result<Row> {
    let config = Config { store_bytes_max: Some(STORE_BYTES_MAX), extra: PAYLOAD.to_owned(), ..Config::default() };
    let fleet = Fleet::start_with(config).await?;
    let posts = crew::usual(&fleet.url());
    let mut fire = trial.light(fleet, posts).await?;
    loop {
        fire.pause(Duration::from_millis(500)..Duration::from_millis(1_500)).await;
        if fire.dice.random_bool(0.5) {
            no_room_at_all(&mut fire).await?;
            no_room_for_outcomes(&mut fire).await?;
        } else {
            no_room_for_outcomes(&mut fire).await?;
            no_room_at_all(&mut fire).await?;
        }
        if !fire.burns() {
            break;
        }
    }
    let row = fire.prove().await?;
    ensure!(row.said_again.contains_key("StoreFull"), "no publisher was told of a full store: {row}");
    Ok(row)
}

/// Something that nobody was promised takes all the room there is, and goes.
async fn no_room_at_all(fire: &mut Fire) -> Result<()> {
    let what = "store full";
    fire.strike(what);
    let names = Names::of(&fire.fleet.namespace);
    let noise = subject::event(&fire.fleet.namespace, "noise");
    let publisher = Publisher::new(&fire.fleet.connection);
    for bytes in FILL {
        let body = "x".repeat(bytes);
        let refusal = loop {
            if let Err(refusal) = publisher.publish(&Outgoing::new(noise.clone(), body.clone())).await {
                break refusal;
            }
        };
        ensure!(refusal.kind() == Kind::StoreFull, "{refusal}");
    }
    fire.pause(Duration::from_millis(500)..Duration::from_secs(3)).await;
    topology::purge(&fire.fleet.connection, &names.events, &noise, None).await?;
    fire.recovered(what).await
}

/// The stream of outcomes gets a limit that it has reached, and loses it again.
async fn no_room_for_outcomes(fire: &mut Fire) -> Result<()> {
    let what = "outcomes full";
    fire.strike(what);
    limit_outcomes(&fire.fleet, |config, bytes| {
        config["max_bytes"] = bytes.into();
        config["discard"] = "new".into();
    })
    .await?;
    fire.pause(Duration::from_millis(500)..Duration::from_secs(3)).await;
    limit_outcomes(&fire.fleet, |config, _| {
        config["max_bytes"] = json!(-1);
        config["discard"] = "old".into();
    })
    .await?;
    fire.recovered(what).await
}

async fn limit_outcomes(fleet: &Fleet, change: impl Fn(&mut Value, u64)) -> Result<()> {
    let stream = Names::of(&fleet.namespace).outcomes;
    let mut info = raw::api(fleet, &format!("STREAM.INFO.{stream}"), &Value::Null).await?;
    let bytes = info["state"]["bytes"].as_u64().unwrap_or(0).max(1);
    let mut config = info["config"].take();
    change(&mut config, bytes);
    raw::api(fleet, &format!("STREAM.UPDATE.{stream}"), &config).await?;
    Ok(())
}
