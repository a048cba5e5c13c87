//! What workloads are given: the fleet, and who can start agents in it.

use std::collections::BTreeMap;

use client::{AcceptedFile, Client, RequestBuilder, StartBuilder};
use futures_util::future::BoxFuture;
use protocol::{Capability, WorkflowName};
use serde::Serialize;

use crate::{Error, agent::Load};

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
    /// Where everything that the fleet accepts is noted, if anywhere.
    pub accepted: Option<AcceptedFile>,
}

impl Stage<'_> {
    /// Begins a request of a workload.
    pub(crate) fn request<'a>(&self, capability: &Capability, load: &'a Load) -> RequestBuilder<'a> {
        let request = self.client.request(capability, load);
        match &self.accepted {
            Some(file) => request.noted_in(file),
            None => request,
        }
    }

    /// Begins a run of a workload.
    pub(crate) fn start(&self, workflow: &WorkflowName, input: &impl Serialize) -> StartBuilder<'_> {
        let start = self.client.start(workflow, input);
        match &self.accepted {
            Some(file) => start.noted_in(file),
            None => start,
        }
    }

    /// The processes of the fleet, and this one.
    pub(crate) fn processes(&self) -> BTreeMap<String, u32> {
        let mut processes = self.crew.processes();
        processes.insert("client".to_owned(), std::process::id());
        processes
    }
}
