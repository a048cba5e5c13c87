//! All at once: while one process stands still and another one is cut off, a third is killed, and then the server.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use rand::{RngExt, seq::IndexedRandom};
use sortie_tests::{Fleet, proxy::Proxy};

use crate::{
    crew::Role,
    fire::Fire,
    kills,
    network::{self, FAULTS, Fault},
    report::Row,
    trial::Trial,
};

/// What goes on for a while.
struct Trouble {
    until: Instant,
    of: Of,
}

enum Of {
    Frozen(usize),
    Network(usize, Fault),
}

pub(crate) async fn run(trial: Trial) -> Result<Row> {
    let mut fleet = Fleet::start().await?;
    let (posts, proxies) = network::proxied(&mut fleet).await?;
    let client_url = proxies[posts.len()].url();
    let mut fire = trial.light_through(fleet, posts, &client_url).await?;
    let mut troubles: Vec<Trouble> = Vec::new();
    while fire.burns() {
        fire.pause(Duration::from_millis(200)..Duration::from_millis(1_500)).await;
        let (over, on): (Vec<_>, Vec<_>) = troubles.into_iter().partition(|trouble| trouble.until <= Instant::now());
        troubles = on;
        end(&fire, &proxies, over).await?;
        strike(&mut fire, &proxies, &mut troubles).await?;
    }
    end(&fire, &proxies, troubles).await?;
    fire.recovered("all together").await?;
    fire.prove().await
}

async fn strike(fire: &mut Fire, proxies: &[Proxy], troubles: &mut Vec<Trouble>) -> Result<()> {
    let role =
        *[Role::Agent, Role::Agent, Role::Commands, Role::Coordinator].choose(&mut fire.dice).unwrap_or(&Role::Agent);
    let chosen = fire.choose(role);
    // Once in a while for longer than the ack deadline.
    let until = Instant::now() + Duration::from_millis(fire.dice.random_range(500..13_000));
    match fire.dice.random_range(0..10) {
        0 => kills::server(fire).await?,
        1..4 => {
            fire.strike("killed");
            fire.crew.member(chosen).signal(Signal::SIGKILL).await?;
        }
        4..6 => {
            fire.strike("frozen");
            fire.crew.member(chosen).signal(Signal::SIGSTOP).await?;
            troubles.push(Trouble { until, of: Of::Frozen(chosen) });
        }
        _ => {
            let fault = *FAULTS.choose(&mut fire.dice).unwrap_or(&Fault::Cut);
            let proxy = fire.dice.random_range(0..proxies.len());
            network::begin(fire, &proxies[proxy], fault).await?;
            troubles.push(Trouble { until, of: Of::Network(proxy, fault) });
        }
    }
    Ok(())
}

async fn end(fire: &Fire, proxies: &[Proxy], troubles: Vec<Trouble>) -> Result<()> {
    for trouble in troubles {
        match trouble.of {
            Of::Frozen(member) => fire.crew.member(member).signal(Signal::SIGCONT).await?,
            Of::Network(proxy, fault) => network::end(&proxies[proxy], fault),
        }
    }
    Ok(())
}
