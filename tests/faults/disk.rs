//! The server's disk is full, cannot be written, or is slow.

use std::time::Duration;

use anyhow::{Context, Result};
use broker::{Outgoing, Publisher};
use embedded::{Config, SyncInterval};
use sortie_tests::{
    Fleet,
    ground::{Disk, Throttle},
    until_some,
};

use crate::{crew, fire::Fire, report::Row, trial::Trial};

/// More than the load stores in a round of a minute.
const DISK_BYTES: u64 = 1 << 30;

/// Many times what filling up what was given to a file takes.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

const FULL: &str = "disk full";
const READ_ONLY: &str = "disk read-only";
const SLOW: &str = "disk slow";

/// Something else takes all the room there is. The server's streams then answer nothing until it is started again.
pub(crate) async fn full(trial: Trial) -> Result<Row> {
    let disk = Disk::in_memory("256m")?;
    // The server believes that it may use more than there is.
    let config = Config { store: Some(disk.path().join("store")), store_bytes_max: Some(1 << 40), ..Config::default() };
    let mut fire = light(trial, config).await?;
    loop {
        fire.pause(Duration::from_millis(500)..Duration::from_secs(2)).await;
        fire.strike(FULL);
        let ballast = disk.fill().context("filling the disk")?;
        told(&fire).await?;
        fire.pause(Duration::from_millis(100)..Duration::from_secs(3)).await;
        fire.fleet.server().kill()?;
        drop(ballast);
        fire.fleet.server().restart().await?;
        fire.recovered(FULL).await?;
        if !fire.burns() {
            return fire.prove().await;
        }
    }
}

/// The kernel gives the disk up. What was acknowledged must have been flushed by then: the kernel writes nothing after it.
pub(crate) async fn read_only(trial: Trial) -> Result<Row> {
    let disk = Disk::on_a_file(DISK_BYTES)?;
    let mut fire = light(trial, flushed(&disk)).await?;
    loop {
        fire.pause(Duration::from_millis(500)..Duration::from_secs(2)).await;
        fire.strike(READ_ONLY);
        disk.turn_read_only()?;
        told(&fire).await?;
        fire.pause(Duration::from_millis(100)..Duration::from_secs(3)).await;
        fire.fleet.server().kill()?;
        disk.repair()?;
        fire.fleet.server().restart().await?;
        fire.recovered(READ_ONLY).await?;
        if !fire.burns() {
            return fire.prove().await;
        }
    }
}

/// Of all that is flushed, which is everything, a few writes a second reach the disk.
pub(crate) async fn slow(trial: Trial) -> Result<Row> {
    let disk = Disk::on_a_file(DISK_BYTES)?;
    let mut fire = light(trial, flushed(&disk)).await?;
    loop {
        fire.pause(Duration::from_millis(500)..Duration::from_secs(2)).await;
        fire.strike(SLOW);
        let server = fire.fleet.server().pid().context("the server runs")?;
        let writes = rand::RngExt::random_range(&mut fire.dice, 5..60);
        let throttle = Throttle::on(server, &disk, writes)?;
        fire.pause(Duration::from_secs(2)..Duration::from_secs(6)).await;
        drop(throttle);
        fire.recovered(SLOW).await?;
        if !fire.burns() {
            return fire.prove().await;
        }
    }
}

/// Waits until a publisher hears that something cannot be stored: an error, or nothing.
async fn told(fire: &Fire) -> Result<()> {
    let publisher = Publisher::new(&fire.fleet.connection);
    let noise = Outgoing::new("fleet.event.noise", "x".repeat(16 << 10));
    let refused = until_some(TOLD_WITHIN, || async { publisher.publish(&noise).await.err() });
    refused.await.map(drop).with_context(|| format!("everything is still stored after {TOLD_WITHIN:?}"))
}

fn flushed(disk: &Disk) -> Config {
    Config {
        store: Some(disk.path().join("store")),
        store_bytes_max: Some(DISK_BYTES / 2),
        sync_interval: SyncInterval::Always,
        ..Config::default()
    }
}

async fn light(trial: Trial, config: Config) -> Result<Fire> {
    let fleet = Fleet::start_with(config).await?;
    let posts = crew::usual(&fleet.url());
    trial.light(fleet, posts).await
}
