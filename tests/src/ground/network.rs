//! A network of its own that can come apart: each place is a network namespace, all on one bridge. Who is cut off is on a
//! second bridge, with those who were cut off with them: nothing is refused, it only never arrives.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Missing, run};

/// A network of places. This process is in it too, at the address `.1`, and never cut off.
#[derive(Debug)]
pub struct Network {
    /// Unique on this machine; names of interfaces are 15 bytes at most.
    name: String,
    /// The first two bytes after `10.`.
    net: [u8; 2],
    places: usize,
    folder: TempDir,
}

impl Network {
    /// With so many places.
    ///
    /// # Errors
    /// Where there are no namespaces, or who runs this may not make them.
    pub fn of(places: usize) -> Result<Self, Missing> {
        let name = format!("s{}x{}", std::process::id(), super::number());
        let folder = tempfile::tempdir().map_err(|error| Missing(format!("no temporary folder: {error}")))?;
        let net = unused_net(std::process::id())?;
        let network = Self { name, net, places, folder };
        for bridge in [network.bridge(), network.island()] {
            run("ip", &[&"link", &"add", &bridge, &"type", &"bridge"])?;
            run("ip", &[&"link", &"set", &bridge, &"up"])?;
        }
        run("ip", &[&"address", &"add", &format!("{}/24", network.host(1)), &"dev", &network.bridge()])?;
        for place in 0..places {
            network.furnish(place)?;
        }
        Ok(network)
    }

    fn furnish(&self, place: usize) -> Result<(), Missing> {
        let (space, outer) = (self.space(place), self.port(place));
        run("ip", &[&"netns", &"add", &space])?;
        run("ip", &[&"link", &"add", &outer, &"type", &"veth", &"peer", &"name", &"eth0", &"netns", &space])?;
        run("ip", &[&"link", &"set", &outer, &"master", &self.bridge(), &"up"])?;
        let address = format!("{}/24", self.address(place));
        run("ip", &[&"-n", &space, &"address", &"add", &address, &"dev", &"eth0"])?;
        for interface in ["lo", "eth0"] {
            run("ip", &[&"-n", &space, &"link", &"set", &interface, &"up"])?;
        }
        Ok(())
    }

    /// The address of a place.
    pub fn address(&self, place: usize) -> IpAddr {
        self.host(10 + u8::try_from(place).unwrap_or(u8::MAX))
    }

    /// A program that runs another one in a place, with the same arguments and the same process id.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn program(&self, place: usize, program: &Path) -> Result<PathBuf> {
        let name = program.file_name().context("a program has a name")?.to_string_lossy();
        let path = self.folder.path().join(format!("{place}-{name}"));
        let inside = self.inside(place).join(" ");
        let script = format!("#!/bin/sh\nexec {inside} '{}' \"$@\"\n", program.display());
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// The words before a program's own that run it in a place, with the same process id.
    pub fn inside(&self, place: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.space(place)].map(str::to_owned).into()
    }

    /// Cuts places off from all others. Among themselves they hear each other.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut_off(&self, places: &[usize]) -> Result<()> {
        for place in places {
            run("ip", &[&"link", &"set", &self.port(*place), &"master", &self.island()])?;
        }
        Ok(())
    }

    /// Brings all places together again.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn heal(&self) -> Result<()> {
        for place in 0..self.places {
            run("ip", &[&"link", &"set", &self.port(place), &"master", &self.bridge()])?;
        }
        Ok(())
    }

    fn host(&self, host: u8) -> IpAddr {
        Ipv4Addr::new(10, self.net[0], self.net[1], host).into()
    }

    fn bridge(&self) -> String {
        format!("{}b", self.name)
    }

    fn island(&self) -> String {
        format!("{}i", self.name)
    }

    fn space(&self, place: usize) -> String {
        format!("sortie-{}-{place}", self.name)
    }

    fn port(&self, place: usize) -> String {
        format!("{}p{place}", self.name)
    }
}

/// A net of 256 addresses that this machine has no route to but its default one.
fn unused_net(seed: u32) -> Result<[u8; 2], Missing> {
    for tried in 0..256 {
        let [.., first, second] = seed.wrapping_add(tried).to_be_bytes();
        let net = format!("10.{first}.{second}.0/24");
        if run("ip", &[&"route", &"show", &"root", &net])?.trim().is_empty() {
            return Ok([first, second]);
        }
    }
    Err(Missing("no net of 10.0.0.0/8 is free here".to_owned()))
}

impl Drop for Network {
    fn drop(&mut self) {
        // A namespace that was made only in part has some of these only; one that programs run in goes with the last of them.
        for place in 0..self.places {
            let _ = run("ip", &[&"link", &"delete", &self.port(place)]);
            let _ = run("ip", &[&"netns", &"delete", &self.space(place)]);
        }
        for bridge in [self.bridge(), self.island()] {
            let _ = run("ip", &[&"link", &"delete", &bridge]);
        }
    }
}
