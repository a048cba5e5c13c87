//! The power goes, and comes back: the server's disk has what was flushed to it and nothing else, and whoever lived on knows
//! more than the server. With `durable.conf` that must be as if nothing was. With `dev.conf` acknowledged messages are gone,
//! as is said there: they are counted, and everything that is asked for afterwards must be done as ever.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use broker::{Reader, topology};
use embedded::{Config, SyncInterval};
use nix::sys::signal::Signal;
use protocol::{
    header,
    subject::filter,
    topology::{Names, Settings},
};
use rand::RngExt;
use sortie_tests::{Fleet, binaries::workspace, ground::Disk};

use crate::{
    crew::{self, Role},
    fire::Fire,
    report::Row,
    trial::Trial,
};

/// Sparse: what is not written takes no room.
const DISK_BYTES: u64 = 1 << 30;

/// What is asked for at one moment where batches are to come of it.
const BURST: u32 = 80;

const ALIVE: &str = "power of the broker lost";
const TOGETHER: &str = "power of all lost";

/// With `durable.conf`.
pub(crate) async fn durable(trial: Trial) -> Result<Row> {
    let (mut disk, mut fire) = light(trial, "durable.conf", false).await?;
    burn(&mut fire, &mut disk).await?;
    fire.prove().await
}

/// Says how much was there in batches when the power went.
async fn burn(fire: &mut Fire, disk: &mut Disk) -> Result<usize> {
    let mut batched = 0;
    let mut what = if fire.dice.random_bool(0.5) { ALIVE } else { TOGETHER };
    for round in 0.. {
        if round >= 2 && !fire.burns() {
            break;
        }
        fire.pause(Duration::from_millis(500)..Duration::from_secs(3)).await;
        batched += in_batches(&fire.fleet).await?;
        lose(fire, disk, what).await?;
        what = if what == ALIVE { TOGETHER } else { ALIVE };
    }
    Ok(batched)
}

/// With `dev.conf`.
pub(crate) async fn dev(trial: Trial) -> Result<Row> {
    let (mut disk, mut fire) = light(trial, "dev.conf", false).await?;
    let mut what = if fire.dice.random_bool(0.5) { ALIVE } else { TOGETHER };
    for round in 0.. {
        if round >= 2 && !fire.burns() {
            break;
        }
        fire.pause(Duration::from_millis(500)..Duration::from_secs(2)).await;
        // What the system has written of itself by then, as it does every few seconds.
        disk.flush()?;
        fire.pause(Duration::from_millis(500)..Duration::from_secs(2)).await;
        lose(&mut fire, &mut disk, what).await?;
        what = if what == ALIVE { TOGETHER } else { ALIVE };
    }
    let since = fire.fleet.client.now().await.context("the broker's clock")?;
    // As long again, so that there is something to be proved.
    fire.pause(Duration::from_secs(3)..Duration::from_secs(4)).await;
    fire.prove_since(since).await
}

/// With `durable.conf`, and what is published at the same moment in one batch.
pub(crate) async fn grouped(trial: Trial) -> Result<Row> {
    let trial = Trial { burst: BURST, ..trial };
    let (mut disk, mut fire) = light(trial, "durable.conf", true).await?;
    let in_batches = burn(&mut fire, &mut disk).await?;
    let row = fire.prove().await?;
    ensure!(in_batches > 0, "nothing came in a batch, which is what was to be tried");
    Ok(row)
}

/// Requests and outcomes that are there and were stored with others of the same moment: the broker keeps what a publisher
/// wrote.
async fn in_batches(fleet: &Fleet) -> Result<usize> {
    let (names, reader, mut found) = (Names::of(&fleet.namespace), Reader::new(&fleet.connection), 0);
    for stream in [names.requests, names.outcomes] {
        let mut from = Some(1);
        while let Some(sequence) = from {
            let page = reader.page(&stream, filter::EVERYTHING, sequence, 1_000).await?;
            found += page.messages.iter().filter(|one| one.headers.get(header::NATS_BATCH_ID).is_some()).count();
            from = page.next;
        }
    }
    Ok(found)
}

/// A fleet whose server flushes as one of our configurations says, at work; what is there in the beginning is flushed.
async fn light(trial: Trial, configuration: &str, group_commit: bool) -> Result<(Disk, Fire)> {
    let disk = Disk::on_a_file(DISK_BYTES)?;
    let config = Config {
        store: Some(disk.path().join("store")),
        store_bytes_max: Some(DISK_BYTES / 2),
        sync_interval: sync_interval(configuration)?,
        ..Config::default()
    };
    let fleet = Fleet::start_with(config).await?;
    if group_commit {
        let settings = Settings { group_commit, logs_bytes_max: DISK_BYTES / 16, ..Settings::default() };
        topology::apply(&fleet.connection, &fleet.namespace, &settings).await?;
    }
    let posts = crew::usual(&fleet.url());
    let fire = trial.light(fleet, posts).await?;
    disk.flush()?;
    Ok((disk, fire))
}

fn sync_interval(configuration: &str) -> Result<SyncInterval> {
    let text = fs::read_to_string(workspace().join("nats-config").join(configuration))?;
    let said = text.lines().find_map(|line| line.trim().strip_prefix("sync_interval: "));
    match said {
        Some("always") => Ok(SyncInterval::Always),
        Some("\"2m\"") => Ok(SyncInterval::ServerDefault),
        other => anyhow::bail!("{configuration} has a sync_interval that is not tried here: {other:?}"),
    }
}

async fn lose(fire: &mut Fire, disk: &mut Disk, what: &'static str) -> Result<()> {
    fire.strike(what);
    if what == TOGETHER {
        for role in [Role::Agent, Role::Commands, Role::Coordinator] {
            for number in fire.crew.of(role) {
                fire.crew.member(number).signal(Signal::SIGKILL).await?;
            }
        }
    }
    fire.fleet.server().kill()?;
    disk.lose_power()?;
    fire.fleet.server().restart().await?;
    ensure!(fire.fleet.server().store().starts_with(disk.path()), "the server's store is on the disk");
    fire.recovered(what).await
}
