use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::Child,
    time::Instant,
};

use super::LOOK;
use crate::{Config, Error, binary, log::Log, ready};

/// Finding may fetch, which blocks.
pub(super) async fn found(explicit: Option<PathBuf>) -> Result<PathBuf, Error> {
    let finding = tokio::task::spawn_blocking(|| match explicit {
        Some(path) => binary::version(&path).map(|_| path),
        None => binary::find(),
    });
    finding.await.map_err(|error| Error::process("look for nats-server")(error.into()))?
}

/// Waits until the server answers, or until it is certain that it never will.
pub(super) async fn answered(
    child: &mut Child,
    address: SocketAddr,
    name: &str,
    config: &Config,
    log: &Log,
) -> Result<(), Error> {
    let within = config.start_within;
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().map_err(Error::process("wait for nats-server"))? {
            let log = log.tail();
            return Err(match port_taken(&log) {
                Some(address) => Error::PortTaken { address },
                None => Error::Died { status: status.to_string(), log },
            });
        }
        match ready::answers(address, name).await {
            Ok(()) => return Ok(()),
            Err(reason) if Instant::now() >= deadline => {
                return Err(Error::NotReady { within, reason, log: log.tail() });
            }
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// The address in `listen tcp 127.0.0.1:4222: bind: address already in use`.
fn port_taken(log: &str) -> Option<String> {
    let before = log.split_once(": bind: address already in use")?.0;
    before.rsplit_once("listen tcp ").map(|(_, address)| address.to_owned())
}

/// Where to connect: a server that listens on every address is reached at the loopback one.
pub(super) fn address(host: IpAddr, port: u16) -> SocketAddr {
    let host = match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    SocketAddr::new(host, port)
}
