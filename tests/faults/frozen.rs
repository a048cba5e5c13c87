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
    let ((ack_wait, _), pace) = (ack_deadline(1), run_pace());
    let bounds = |least: Duration, more: Duration| least..least + more;
    while fire.burns() {
        let second = [Role::Coordinator, Role::Commands, Role::Agent][fire.dice.random_range(0..3)];
        let agent = freeze(&mut fire, Role::Agent).await?;
        fire.pause(bounds(Duration::ZERO, Duration::from_secs(1))).await;
        let other = freeze(&mut fire, second).await?;
        // A partition is another's sooner than a request is. What is frozen twice is let go twice, which does nothing.
        fire.pause(bounds(pace.ack_wait + pace.priority_timeout, Duration::from_secs(2))).await;
        if second == Role::Coordinator {
            thaw(&mut fire, second, other).await?;
        }
        fire.pause(bounds(ack_wait.saturating_sub(pace.ack_wait + pace.priority_timeout), Duration::from_secs(2)))
            .await;
        thaw(&mut fire, Role::Agent, agent).await?;
        if second != Role::Coordinator {
            thaw(&mut fire, second, other).await?;
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
