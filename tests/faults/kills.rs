//! Agents, coordinators and the server are killed, one after the other, each time another one.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use rand::RngExt;
use sortie_tests::Fleet;

use crate::{crew, fire::Fire, report::Row, trial::Trial};

pub(crate) async fn run(trial: Trial) -> Result<Row> {
    let fleet = Fleet::start().await?;
    let posts = crew::usual(&fleet.url());
    let mut fire = trial.light(fleet, posts).await?;
    while fire.burns() {
        // No multiple of an ack deadline: what comes again would always meet the next blow.
        fire.pause(Duration::from_millis(300)..Duration::from_millis(1_700)).await;
        match fire.dice.random_range(0..10) {
            0 => server(&mut fire).await?,
            1..4 => fire.signal_one(crew::Role::Coordinator, Signal::SIGKILL, "coordinators killed").await?,
            _ => fire.signal_one(crew::Role::Agent, Signal::SIGKILL, "agents killed").await?,
        }
    }
    // However the dice fell, each has been hurt once.
    server(&mut fire).await?;
    fire.signal_one(crew::Role::Coordinator, Signal::SIGKILL, "coordinators killed").await?;
    fire.signal_one(crew::Role::Agent, Signal::SIGKILL, "agents killed").await?;
    fire.prove().await
}

/// Kills the server, and starts it again on its store.
///
/// # Errors
/// When it does not start, or no outcome comes.
pub(crate) async fn server(fire: &mut Fire) -> Result<()> {
    fire.strike("servers killed");
    fire.fleet.server().kill()?;
    fire.fleet.server().restart().await?;
    fire.recovered("servers killed").await
}
