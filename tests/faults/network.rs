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

use crate::{crew, fire::Fire, report::Row, trial::Trial};

/// What a network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
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

const FAULTS: [Fault; 5] = [Fault::Cut, Fault::Stalled, Fault::Delayed, Fault::Halved, Fault::OneWay];

/// Over so long it is measured what passes.
const MEASURED: Duration = Duration::from_millis(500);

pub(crate) async fn run(trial: Trial) -> Result<Row> {
    let mut fleet = Fleet::start().await?;
    let port = fleet.server().port();
    let mut posts = crew::usual(&fleet.url());
    let mut proxies = Vec::new();
    for post in &mut posts {
        let proxy = Proxy::start(port, Vec::new()).await?;
        post.url = proxy.url();
        proxies.push(proxy);
    }
    let clients = Proxy::start(port, Vec::new()).await?;
    let client_url = clients.url();
    proxies.push(clients);
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
    let what = fault.name();
    fire.strike(what);
    let both = |flow| [ToServer, ToWorker].iter().for_each(|direction| proxy.set_flow(*direction, flow));
    // In one of eight times it takes longer than anybody may hold a request.
    let lasts = match fire.dice.random_range(0..8) {
        0 => Duration::from_secs(10)..Duration::from_secs(14),
        _ => Duration::from_millis(500)..Duration::from_secs(3),
    };
    match fault {
        Fault::Cut => proxy.cut(),
        Fault::Stalled => both(Flow::Stalled),
        Fault::Delayed => both(Flow::Late(Duration::from_millis(fire.dice.random_range(20..400)))),
        Fault::Halved => {
            let before = proxy.bytes();
            tokio::time::sleep(MEASURED).await;
            let passed = (proxy.bytes() - before) * 1_000 / u64::try_from(MEASURED.as_millis())?;
            // In each direction half of what went in both: what nobody sends needs no room.
            both(Flow::Slow { bytes_per_second: (passed / 4).max(1_000) });
        }
        Fault::OneWay => {
            let direction = if fire.dice.random_bool(0.5) { ToServer } else { ToWorker };
            proxy.set_flow(direction, Flow::Dropped);
        }
    }
    fire.pause(lasts).await;
    if fault == Fault::OneWay {
        // What is lost in the middle of a connection ends it: no network loses that and goes on.
        proxy.cut();
    }
    proxy.mend();
    fire.recovered(what).await
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Stalled => "stalled",
            Self::Delayed => "delayed",
            Self::Halved => "bandwidth halved",
            Self::OneWay => "one direction dropped",
        }
    }
}
