//! What workloads are given: the fleet, and who can start agents in it.

use std::collections::BTreeMap;

use client::Client;
use futures_util::future::BoxFuture;

use crate::Error;

/// Starts the agents of a fleet, and knows its processes.
pub trait Crew: Send {
    /// Makes one agent of kind `bench` serve, with so many attempts at once and so many capabilities; it takes work when this
    /// returns.
    fn hire(&mut self, slots: usize, capabilities: usize) -> BoxFuture<'_, Result<(), Error>>;

    /// Ends it in good order.
    fn dismiss(&mut self) -> BoxFuture<'_, Result<(), Error>>;

    /// The processes that can be looked at on this machine, by name.
    fn processes(&self) -> BTreeMap<String, u32>;
}

/// What a workload works with.
pub struct Stage<'a> {
    /// A client of the fleet.
    pub client: Client,
    /// How the yardstick connects.
    pub options: broker::Options,
    /// Who starts agents.
    pub crew: &'a mut dyn Crew,
    /// Told what is being done, one line each.
    pub tell: &'a (dyn Fn(&str) + Sync),
}

impl Stage<'_> {
    /// The processes of the fleet, and this one.
    pub(crate) fn processes(&self) -> BTreeMap<String, u32> {
        let mut processes = self.crew.processes();
        processes.insert("client".to_owned(), std::process::id());
        processes
    }
}
