//! Who starts the agents that are measured: on this machine, or nobody, where they run already.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use bench::{Crew, Error};
use client::Client;
use futures_util::{FutureExt, future::BoxFuture};
use process::{ExitCode, Problem, Shutdown};
use protocol::{Kind, registry::State};
use tempfile::TempDir;

use crate::{
    fleet::{
        Fleet, Plan,
        agents::{Agents, Run},
    },
    session::Session,
    supervisor::Console,
};

const READY_WITHIN: Duration = Duration::from_secs(20);

/// A fleet of its own.
pub(super) struct Own {
    fleet: Fleet,
    log: PathBuf,
    /// Deleted with everything in it.
    _place: TempDir,
}

impl Own {
    pub(super) async fn start(store: Option<&Path>, is_durable: bool, session: &Session) -> Result<Self, Problem> {
        let unwritable = |error: std::io::Error| {
            Problem::new(ExitCode::Configuration, format!("no folder can be made for the fleet: {error}"))
        };
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("sortie-bench-");
        let place = match store {
            Some(folder) => builder.tempdir_in(folder),
            None => builder.tempdir(),
        };
        let place = place.map_err(unwritable)?;
        let log = place.path().join("fleet.log");
        let console = Console::file(File::create(&log).map_err(unwritable)?);
        let sync_interval = match is_durable {
            true => embedded::SyncInterval::Always,
            false => embedded::SyncInterval::ServerDefault,
        };
        let plan = Plan {
            server: embedded::Config { store: Some(place.path().join("store")), sync_interval, ..Default::default() },
            namespace: session.namespace().clone(),
            environment: session.environment().clone(),
        };
        Ok(Self { fleet: Fleet::start(plan, console).await?, log, _place: place })
    }

    pub(super) fn client(&self) -> Client {
        self.fleet.client().clone()
    }

    pub(super) fn options(&self) -> broker::Options {
        broker::Options { servers: vec![self.fleet.url().to_owned()], ..Default::default() }
    }

    /// Ends it; what its processes said is told where something went wrong.
    pub(super) async fn end(self, shutdown: &Shutdown, has_failed: bool) {
        self.fleet.stop(shutdown).await;
        if has_failed {
            eprint!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

impl Crew for Own {
    fn hire(&mut self, slots: usize, capabilities: usize) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let kind = Kind::parse(bench::agent::CAPABILITY).map_err(|error| Error::Wrong(error.to_string()))?;
            let run = Run::Bench { capabilities };
            let slots = Some(slots as u64);
            let agents = Agents { kind, run, count: 1, slots, env: BTreeMap::new(), directory: "/".into() };
            let added = self.fleet.add(&agents);
            let agents: Vec<_> = self.fleet.agents()[added].iter().collect();
            let ready = self.fleet.ready(&agents, READY_WITHIN).await.map_err(wrong)?;
            if ready.is_empty() {
                return Err(Error::Wrong("the agent did not get ready".to_owned()));
            }
            Ok(())
        }
        .boxed()
    }

    fn dismiss(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            self.fleet.end_agents().await;
            Ok(())
        }
        .boxed()
    }

    fn processes(&self) -> BTreeMap<String, u32> {
        self.fleet.processes()
    }
}

/// The agents of a fleet that runs.
pub(super) struct Hired {
    pub(super) client: Client,
}

impl Crew for Hired {
    fn hire(&mut self, _slots: usize, capabilities: usize) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let last = bench::agent::capability(capabilities);
            let agents = self.client.agents().await?;
            let serves = |agent: &protocol::registry::AgentEntry| {
                agent.state == State::Ready && agent.capabilities.iter().any(|one| one.name.as_str() == last)
            };
            if agents.iter().any(serves) {
                return Ok(());
            }
            let advice = format!("`sortie process agent-bench --capabilities {capabilities}` starts one");
            Err(Error::Wrong(format!("no agent of this fleet serves {last}\n{advice}")))
        }
        .boxed()
    }

    fn dismiss(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }

    fn processes(&self) -> BTreeMap<String, u32> {
        BTreeMap::new()
    }
}

fn wrong(problem: Problem) -> Error {
    Error::Wrong(problem.to_string())
}
