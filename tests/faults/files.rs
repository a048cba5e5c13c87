//! A process can open no more files, sockets included: the server, an agent, one that runs commands, or a coordinator.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rand::seq::SliceRandom;
use sortie_tests::{Fleet, ground::Files};

use crate::{
    crew::{self, Role},
    fire::Fire,
    report::Row,
    trial::Trial,
};

const SERVER: &str = "server without files";
const OTHERS: &str = "agent or coordinator without files";

/// What a server says of a stream that it could not write to. From then on that stream takes nothing, and answers nobody, until
/// the server is started again (2.15.1).
const GIVEN_UP: &str = "critical write error";

pub(crate) async fn run(trial: Trial) -> Result<Row> {
    let fleet = Fleet::start().await?;
    let posts = crew::usual(&fleet.url());
    let mut fire = trial.light(fleet, posts).await?;
    let mut hurt = [None, Some(Role::Agent), Some(Role::Commands), Some(Role::Coordinator)];
    loop {
        hurt.shuffle(&mut fire.dice);
        for whom in hurt {
            fire.pause(Duration::from_millis(300)..Duration::from_secs(1)).await;
            match whom {
                Some(role) => other(&mut fire, role).await?,
                None => server(&mut fire).await?,
            }
        }
        // Each has been tried once.
        if !fire.burns() {
            return fire.prove().await;
        }
    }
}

/// Somebody new comes meanwhile, and cannot be let in. Where the server gave a stream up, whoever runs it starts it again, as the
/// README says.
async fn server(fire: &mut Fire) -> Result<()> {
    fire.strike(SERVER);
    let log = fire.fleet.server().log_path();
    let said_before = std::fs::metadata(&log)?.len() as usize;
    let files = Files::exhaust(fire.fleet.server().pid().context("the server runs")?, 0)?;
    let chosen = fire.choose(Role::Agent);
    fire.crew.member(chosen).signal(Signal::SIGKILL).await?;
    fire.pause(Duration::from_secs(1)..Duration::from_secs(3)).await;
    drop(files);
    let said = std::fs::read(&log)?;
    if String::from_utf8_lossy(&said[said_before..]).to_lowercase().contains(GIVEN_UP) {
        fire.strike(GIVEN_UP);
        fire.fleet.server().restart().await?;
    }
    fire.recovered(SERVER).await
}

/// It loses its connections meanwhile, and cannot make new ones.
async fn other(fire: &mut Fire, role: Role) -> Result<()> {
    fire.strike(OTHERS);
    let chosen = fire.choose(role);
    let files = Files::exhaust(fire.crew.member(chosen).pid().await?, 0)?;
    fire.fleet.server().kill()?;
    fire.fleet.server().restart().await?;
    fire.pause(Duration::from_secs(1)..Duration::from_secs(3)).await;
    drop(files);
    fire.recovered(OTHERS).await
}
