//! A proxy between each process and the server, also between the client and it: one after the other is cut off, stalled,
//! delayed, made slow, or heard in one direction only.

use std::time::Duration;

use anyhow::Result;
use rand::{RngExt, seq::SliceRandom};
use sortie_tests::{
    Fleet,
    proxy::{
        Direction::{ToServer, ToWorker},
        Flow, Proxy,
    },
};

use crate::{
    crew::{self, Post},
    fire::Fire,
    report::Row,
    trial::Trial,
};

/// What a network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Connections end, and no new one can be made.
    Cut,
    /// Connections stand, and nothing comes or goes.
    Stalled,
    /// Everything comes later.
    Delayed,
    /// Half of what has passed in a second before passes.
    Halved,
    /// What goes in one direction is gone, until the connection ends for it.
    OneWay,
}

pub(crate) const FAULTS: [Fault; 5] = [Fault::Cut, Fault::Stalled, Fault::Delayed, Fault::Halved, Fault::OneWay];

/// Over so long it is measured what passes.
const MEASURED: Duration = Duration::from_millis(500);

/// The usual processes, each behind a proxy of its own, and one more proxy, the last, for the client.
///
/// # Errors
/// When no port can be had.
pub(crate) async fn proxied(fleet: &mut Fleet) -> Result<(Vec<Post>, Vec<Proxy>)> {
    let port = fleet.server().port();
    let mut posts = crew::usual(&fleet.url());
    let mut proxies = Vec::new();
    for post in &mut posts {
        let proxy = Proxy::start(port, Vec::new()).await?;
        post.url = proxy.url();
        proxies.push(proxy);
    }
    proxies.push(Proxy::start(port, Vec::new()).await?);
    Ok((posts, proxies))
}

pub(crate) async fn run(trial: Trial) -> Result<Row> {
    let mut fleet = Fleet::start().await?;
    let (posts, proxies) = proxied(&mut fleet).await?;
    let client_url = proxies[posts.len()].url();
    let mut fire = trial.light_through(fleet, posts, &client_url).await?;
    let mut faults = FAULTS;
    loop {
        faults.shuffle(&mut fire.dice);
        for fault in faults {
            let chosen = fire.dice.random_range(0..proxies.len());
            hurt(&mut fire, &proxies[chosen], fault).await?;
            fire.pause(Duration::from_millis(100)..Duration::from_millis(600)).await;
        }
        // Each has been tried once.
        if !fire.burns() {
            return fire.prove().await;
        }
    }
}

async fn hurt(fire: &mut Fire, proxy: &Proxy, fault: Fault) -> Result<()> {
    begin(fire, proxy, fault).await?;
    // In one of eight times it takes longer than anybody may hold a request.
    let lasts = match fire.dice.random_range(0..8) {
        0 => Duration::from_secs(10)..Duration::from_secs(14),
        _ => Duration::from_millis(500)..Duration::from_secs(3),
    };
    fire.pause(lasts).await;
    end(proxy, fault);
    fire.recovered(fault.name()).await
}

/// Lets it begin.
///
/// # Errors
/// None that a test could go on after.
pub(crate) async fn begin(fire: &mut Fire, proxy: &Proxy, fault: Fault) -> Result<()> {
    fire.strike(fault.name());
    let both = |flow| [ToServer, ToWorker].iter().for_each(|direction| proxy.set_flow(*direction, flow));
    match fault {
        Fault::Cut => proxy.cut(),
        Fault::Stalled => both(Flow::Stalled),
        Fault::Delayed => both(Flow::Late(Duration::from_millis(fire.dice.random_range(20..400)))),
        Fault::Halved => {
            let before = proxy.bytes();
            tokio::time::sleep(MEASURED).await;
            let passed = (proxy.bytes() - before) * 1_000 / u64::try_from(MEASURED.as_millis())?;
            // Half of what went in both directions, shared by them.
            both(Flow::Slow { bytes_per_second: (passed / 4).max(1_000) });
        }
        Fault::OneWay => {
            let direction = if fire.dice.random_bool(0.5) { ToServer } else { ToWorker };
            proxy.set_flow(direction, Flow::Dropped);
        }
    }
    Ok(())
}

/// Mends it.
pub(crate) fn end(proxy: &Proxy, fault: Fault) {
    if fault == Fault::OneWay {
        // What is lost in the middle of a connection ends it: no network loses that and goes on.
        proxy.cut();
    }
    proxy.mend();
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Stalled => "stalled",
            Self::Delayed => "delayed",
            Self::Halved => "bandwidth halved",
            Self::OneWay => "one direction dropped",
        }
    }
}
