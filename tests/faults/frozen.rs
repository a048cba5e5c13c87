//! Agents and coordinators stand still for longer than they may hold anything, and go on: what they had in hand is another
//! one's by then, and they must do no harm to it.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use protocol::topology::{ack_deadline, run_pace};
use rand::RngExt;
use sortie_tests::Fleet;

use crate::{
    crew::{self, Role},
    fire::Fire,
    report::Row,
    trial::Trial,
};

pub(crate) async fn run(trial: Trial) -> Result<Row> {
    let fleet = Fleet::start().await?;
    let posts = crew::usual(&fleet.url());
    let mut fire = trial.light(fleet, posts).await?;
    while fire.burns() {
        let (ack_wait, _) = ack_deadline(1);
        let roles =
            if fire.dice.random_bool(0.5) { [Role::Agent, Role::Coordinator] } else { [Role::Commands, Role::Agent] };
        let frozen = [freeze(&mut fire, roles[0]).await?, freeze(&mut fire, roles[1]).await?];
        // A partition is another's sooner than a request is.
        let pace = run_pace();
        if roles[1] == Role::Coordinator {
            fire.pause(pace.ack_wait + pace.priority_timeout..ack_wait).await;
            thaw(&mut fire, roles[1], frozen[1]).await?;
        }
        fire.pause(ack_wait..ack_wait + Duration::from_secs(3)).await;
        thaw(&mut fire, roles[0], frozen[0]).await?;
        if roles[1] != Role::Coordinator {
            thaw(&mut fire, roles[1], frozen[1]).await?;
        }
    }
    fire.prove().await
}

async fn freeze(fire: &mut Fire, role: Role) -> Result<usize> {
    let chosen = fire.choose(role);
    fire.strike(name(role));
    fire.crew.member(chosen).signal(Signal::SIGSTOP).await?;
    Ok(chosen)
}

async fn thaw(fire: &mut Fire, role: Role, frozen: usize) -> Result<()> {
    fire.crew.member(frozen).signal(Signal::SIGCONT).await?;
    fire.recovered(name(role)).await
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Coordinator => "coordinators frozen",
        _ => "agents frozen",
    }
}
