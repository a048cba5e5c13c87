//! A proxy between a worker's process and its server, which acts when a certain message passes.
//!
//! ```text
//!   worker process  <------>  proxy  <------>  nats-server
//!                    frames of the NATS client protocol, one by one;
//!                    before or after a chosen one: kill, signal, cut, stall, drop
//! ```
//!
//! Nothing in the worker knows of it, so what is tried is the worker as it is.

mod frame;
mod script;
mod wire;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use broker::task;
use tokio::net::TcpListener;

pub use self::script::{Action, Moment, Seen, Trigger, after, before};
use self::wire::{Wire, carry};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the worker to the server.
    ToServer,
    /// From the server to the worker.
    ToWorker,
}

/// What happens to frames in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// They pass.
    #[default]
    Open,
    /// They wait: nothing is lost, nothing arrives.
    Stalled,
    /// They vanish, while the connection stands.
    Dropped,
    /// They pass so much later, and in order.
    Late(Duration),
    /// They pass at this pace.
    Slow {
        /// Of each connection, in this direction.
        bytes_per_second: u64,
    },
}

/// The proxy of one worker process; gone when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
    _accepting: task::Owned<()>,
}

impl Proxy {
    /// Listens on a free port for a worker of the server at `port`, and does what the script says; each trigger goes
    /// off once.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(port: u16, script: Vec<Trigger>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port for the proxy")?;
        let address = listener.local_addr()?;
        let wire = Arc::new(Wire::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), script));
        let accepting = {
            let wire = Arc::clone(&wire);
            task::spawn("proxy", async move {
                let mut carried = Vec::new();
                while let Ok((worker, _)) = listener.accept().await {
                    carried.push(task::spawn("proxied connection", carry(Arc::clone(&wire), worker)));
                    carried.retain(|one| !one.is_finished());
                }
            })
        };
        Ok(Self { address, wire, _accepting: accepting })
    }

    /// Where a worker connects.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Says whom a trigger kills; one that goes off before waits for it.
    pub fn set_victim(&self, pid: u32) {
        self.wire.set_victim(pid);
    }

    /// Waits until this many triggers went off, and says when the last of them did.
    ///
    /// # Errors
    /// When they did not within this long.
    pub async fn tripped(&self, count: usize, within: Duration) -> Result<Instant> {
        let mut tripped = self.wire.tripped();
        let waited = tokio::time::timeout(within, tripped.wait_for(|tripped| tripped.len() >= count)).await;
        let Ok(Ok(tripped)) = waited else {
            anyhow::bail!("{} of {count} triggers went off within {within:?}", self.wire.tripped().borrow().len());
        };
        Ok(tripped[count - 1])
    }

    /// Lets frames in one direction pass, wait or vanish.
    pub fn set_flow(&self, direction: Direction, flow: Flow) {
        self.wire.set_flow(direction, flow);
    }

    /// Ends every connection, and lets nobody in until [`Proxy::mend`].
    pub fn cut(&self) {
        self.wire.cut();
    }

    /// Lets connections in, and frames pass.
    pub fn mend(&self) {
        self.wire.mend();
    }

    /// How many bytes have passed, in both directions.
    pub fn bytes(&self) -> u64 {
        self.wire.bytes()
    }

    /// How often a worker connected.
    pub fn connections(&self) -> u64 {
        self.wire.connections()
    }
}
