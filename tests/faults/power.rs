//! The power goes, and comes back: the server's disk has what was flushed to it and nothing else, and whoever lived on knows
//! more than the server. With `durable.conf` that must be as if nothing was. With `dev.conf` acknowledged messages are gone,
//! as is said there: they are counted, and everything that is asked for afterwards must be done as ever.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use embedded::{Config, SyncInterval};
use nix::sys::signal::Signal;
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

const ALIVE: &str = "power of the broker lost";
const TOGETHER: &str = "power of all lost";

/// With `durable.conf`.
pub(crate) async fn durable(trial: Trial) -> Result<Row> {
    let (mut disk, mut fire) = light(trial, "durable.conf").await?;
    let mut what = if fire.dice.random_bool(0.5) { ALIVE } else { TOGETHER };
    for round in 0.. {
        if round >= 2 && !fire.burns() {
            break;
        }
        fire.pause(Duration::from_millis(500)..Duration::from_secs(3)).await;
        lose(&mut fire, &mut disk, what).await?;
        what = if what == ALIVE { TOGETHER } else { ALIVE };
    }
    fire.prove().await
}

/// With `dev.conf`.
pub(crate) async fn dev(trial: Trial) -> Result<Row> {
    let (mut disk, mut fire) = light(trial, "dev.conf").await?;
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

/// A fleet whose server flushes as one of our configurations says, at work; what is there in the beginning is flushed.
async fn light(trial: Trial, configuration: &str) -> Result<(Disk, Fire)> {
    let disk = Disk::on_a_file(DISK_BYTES)?;
    let config = Config {
        store: Some(disk.path().join("store")),
        store_bytes_max: Some(DISK_BYTES / 2),
        sync_interval: sync_interval(configuration)?,
        ..Config::default()
    };
    let fleet = Fleet::start_with(config).await?;
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
