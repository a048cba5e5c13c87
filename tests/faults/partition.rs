//! Three servers, everything stored three times, each in a network namespace, as are agents and coordinators: one server is
//! cut off from all others, alone or with some of those who work, and comes back.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use embedded::{Cluster, Config, Monitor, Server};
use rand::RngExt;
use sortie_tests::{Fleet, ground::Network};

use crate::{
    crew::{self, Post},
    report::Row,
    three::{leader_of_any, whole},
    trial::Trial,
};

const SERVERS: usize = 3;
const CLIENTS: u16 = 4222;
const ROUTES: u16 = 6222;
const MONITOR: u16 = 8222;

const ALONE: &str = "server cut off alone";
const TOGETHER: &str = "server cut off with agents and a coordinator";

pub(crate) async fn run(trial: Trial) -> Result<Row> {
    let roles = crew::usual("");
    let network = Network::of(SERVERS + roles.len())?;
    let fleet = start(&network).await?;
    let url = fleet.url();
    let posts = roles.into_iter().enumerate().map(|(number, post)| Post {
        url: url.clone(),
        through: network.inside(SERVERS + number),
        ..post
    });
    let mut fire = trial.light(fleet, posts.collect()).await?;
    let mut is_alone = fire.dice.random_bool(0.5);
    for round in 0.. {
        if round >= 2 && !fire.burns() {
            break;
        }
        fire.pause(Duration::from_millis(500)..Duration::from_secs(2)).await;
        let what = if is_alone { ALONE } else { TOGETHER };
        let mut places = vec![leader_of_any(&mut fire).await?];
        if !is_alone {
            // Of each kind the first: others of it stay on the side of the many.
            let with = [crew::Role::Agent, crew::Role::Commands, crew::Role::Coordinator];
            places.extend(with.map(|role| SERVERS + fire.crew.of(role)[0]));
        }
        fire.strike(what);
        network.cut_off(&places)?;
        fire.recovered(what).await?;
        // Some are back before anybody has given them up, some after the last has.
        let longest = Duration::from_secs(fire.dice.random_range(1..15));
        fire.pause(Duration::from_millis(500)..longest).await;
        network.heal()?;
        whole(&mut fire).await?;
        is_alone = !is_alone;
    }
    fire.prove().await
}

/// Servers in the first places.
async fn start(network: &Network) -> Result<Fleet> {
    let binary = embedded::binary::find()?;
    let address = |place: usize, port: u16| SocketAddr::new(network.address(place), port);
    let routes: Vec<_> = (0..SERVERS).map(|place| format!("\"nats-route://{}\"", address(place, ROUTES))).collect();
    let mut servers = Vec::new();
    for place in 0..SERVERS {
        let cluster = format!(
            "cluster {{ name: apart, listen: \"{}\", routes: [{}] }}\n",
            address(place, ROUTES),
            routes.join(", ")
        );
        let config = Config {
            binary: Some(network.program(place, &binary)?),
            host: network.address(place),
            port: Some(CLIENTS),
            monitor: Monitor::Port(MONITOR),
            name: Some(format!("place-{place}")),
            extra: cluster,
            ..Config::default()
        };
        servers.push(Server::start(config).await?);
    }
    Fleet::on_cluster(Cluster::of(servers).await?).await
}
