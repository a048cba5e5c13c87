//! Free ports that stay ours. A server that a test stops and starts again must find its port still free, so a port is
//! held by a locked file for as long as its [`Port`] lives, whether anything listens on it or not: no other process that
//! uses this crate takes it meanwhile. The range lies below the one from which Linux takes the ports of outgoing
//! connections, so that none of those gets into the way either.

use std::{
    env,
    fs::{self, File},
    net::{IpAddr, TcpListener},
    ops::Range,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::unistd::Uid;

use crate::Error;

const RANGE: Range<u32> = 12_000..32_000;

/// More than all tests of a workspace at once hold; a machine where so many are taken has another problem.
const TRIES: u32 = 2_000;

/// A port number; if it was taken from the free ones, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _claim: Option<File>,
}

impl Port {
    /// A port that the caller insists on.
    pub(crate) fn exactly(number: u16) -> Self {
        Self { number, _claim: None }
    }

    /// A port that nobody listens on at `host` and nobody else holds.
    pub(crate) fn free(host: IpAddr) -> Result<Self, Error> {
        /// Each process begins elsewhere, so that many at once do not queue for the same ports.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = folder();
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        let width = RANGE.end - RANGE.start;
        let begin = process::id().wrapping_mul(97) % width;
        for _ in 0..TRIES {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % width;
            let Ok(number) = u16::try_from(RANGE.start + (begin + step) % width) else {
                continue;
            };
            let path = folder.join(number.to_string());
            let claim = File::create(&path).map_err(Error::file(&path))?;
            if claim.try_lock().is_ok() && TcpListener::bind((host, number)).is_ok() {
                return Ok(Self { number, _claim: Some(claim) });
            }
        }
        Err(Error::NoFreePort { tried: TRIES })
    }
}

/// Per user: a file that another user made could not be locked.
fn folder() -> PathBuf {
    env::temp_dir().join(format!("sortie-ports-{}", Uid::current()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{collections::HashSet, net::Ipv4Addr};

    use super::*;

    #[test]
    fn ports_that_are_held_differ_though_nobody_listens() {
        let held: Vec<_> = (0..200).map(|_| Port::free(Ipv4Addr::LOCALHOST.into()).unwrap()).collect();
        let numbers: HashSet<_> = held.iter().map(|port| port.number).collect();
        assert_eq!(numbers.len(), held.len());
    }
}
