//! A whole fleet on this machine: a server, a coordinator and agents, each a child, ended in the right order.
//!
//! ```text
//!   start:  nats-server, topology, coordinator, agents
//!   stop:   agents (they finish or hand back), coordinator, nats-server
//! ```

pub(crate) mod agents;
mod server;

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use broker::Connection;
use client::Client;
use embedded::SyncInterval;
use futures_util::future::select_all;
use process::{
    ExitCode, Problem, Shutdown,
    settings::environment::{self as variable, Environment},
};
use protocol::{
    Namespace,
    registry::{AgentEntry, State},
    topology::Settings,
};

use self::{
    agents::{Agents, Run},
    server::ServerKeeper,
};
use crate::{
    commands::topology::WantedArgs,
    refusal,
    supervisor::{Console, Keeper, Spec},
};

/// Workers let attempts go on for 30 s, and then take a moment to hand the rest back.
const AGENT_GRACE: Duration = Duration::from_secs(35);

/// A coordinator gives its leases back and goes.
const COORDINATOR_GRACE: Duration = Duration::from_secs(10);

/// Between two looks at whether the agents are ready.
const LOOK: Duration = Duration::from_millis(50);

/// What a fleet is started from.
#[derive(Debug)]
pub(crate) struct Plan {
    /// How the server is run.
    pub(crate) server: embedded::Config,
    /// The namespace of the fleet.
    pub(crate) namespace: Namespace,
    /// What the children inherit of it is decided here.
    pub(crate) environment: Environment,
}

/// A fleet that runs. Dropped, everything in it is killed.
#[derive(Debug)]
pub(crate) struct Fleet {
    agents: Vec<Keeper>,
    /// The last one runs; those before it were killed.
    coordinators: Vec<Keeper>,
    client: Client,
    server: ServerKeeper,
    children: Children,
    console: Arc<Console>,
}

impl Fleet {
    /// Starts server and coordinator, and makes the streams between them.
    ///
    /// # Errors
    /// There is no server to be had, it does not start, or it refuses the streams.
    pub(crate) async fn start(plan: Plan, console: Console) -> Result<Self, Problem> {
        let console = Arc::new(console);
        let flushes_each = plan.server.sync_interval == SyncInterval::Always;
        let (server, url) = ServerKeeper::start(plan.server, &console).await?;
        let options = broker::Options { servers: vec![url.clone()], ..Default::default() };
        let connection = Connection::open(options).await?;
        let settings = WantedArgs::default().settings(&connection, &plan.namespace).await?;
        let settings = Settings { group_commit: settings.group_commit || flushes_each, ..settings };
        broker::topology::apply(&connection, &plan.namespace, &settings).await?;
        let client = Client::new(connection, plan.namespace.clone());
        let children = Children::new(url, &plan.namespace, &plan.environment)?;
        let coordinator = Keeper::start(children.ourselves("coordinator", ["coordinator".into()]), &console);
        Ok(Self { agents: Vec::new(), coordinators: vec![coordinator], client, server, children, console })
    }

    /// Where clients connect to.
    pub(crate) fn url(&self) -> &str {
        &self.children.url
    }

    /// A client of the fleet.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where the children's lines go.
    pub(crate) fn console(&self) -> &Console {
        &self.console
    }

    /// Every agent that was started.
    pub(crate) fn agents(&self) -> &[Keeper] {
        &self.agents
    }

    /// Starts agents, and gives back where they are among all.
    pub(crate) fn add(&mut self, agents: &Agents) -> std::ops::Range<usize> {
        let first = self.agents.len();
        let is_same =
            |keeper: &&Keeper| keeper.name().rsplit_once('.').is_some_and(|(kind, _)| kind == agents.kind.as_str());
        let taken = self.agents.iter().filter(is_same).count() as u64;
        for number in taken + 1..=taken + agents.count {
            let spec = self.children.agent(format!("{}.{number}", agents.kind), agents);
            self.agents.push(Keeper::start(spec, &self.console));
        }
        first..self.agents.len()
    }

    /// Kills the coordinator with SIGKILL and starts another one; gives back the names of both.
    pub(crate) fn replace_coordinator(&mut self) -> [String; 2] {
        for keeper in &self.coordinators {
            keeper.kill();
        }
        let name = format!("coordinator.{}", self.coordinators.len() + 1);
        let killed = self.coordinators.last().map(|keeper| keeper.name().to_owned()).unwrap_or_default();
        let spec = self.children.ourselves(&name, ["coordinator".into()]);
        self.coordinators.push(Keeper::start(spec, &self.console));
        [killed, name]
    }

    /// The processes that run, by name.
    pub(crate) fn processes(&self) -> BTreeMap<String, u32> {
        let children = self.keepers().filter_map(|keeper| Some((keeper.name().to_owned(), keeper.pid()?)));
        children.chain(self.server.pid().map(|pid| ("nats-server".to_owned(), pid))).collect()
    }

    /// Ends every agent in good order; others may be added afterwards.
    pub(crate) async fn end_agents(&self) {
        for agent in &self.agents {
            agent.end(AGENT_GRACE);
        }
        for agent in &self.agents {
            agent.ended().await;
        }
    }

    fn keepers(&self) -> impl Iterator<Item = &Keeper> {
        self.agents.iter().chain(&self.coordinators)
    }

    /// Waits until all of these agents that were not given up take work, and says what they are; after `within` those
    /// that do.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub(crate) async fn ready(&self, agents: &[&Keeper], within: Duration) -> Result<Vec<AgentEntry>, Problem> {
        let until = tokio::time::Instant::now() + within;
        loop {
            let pids: Vec<u32> = agents.iter().filter_map(|keeper| keeper.pid()).collect();
            let mut ready = self.client.agents().await.map_err(refusal::problem)?;
            ready.retain(|agent| pids.contains(&agent.pid) && agent.state == State::Ready);
            let awaited = agents.iter().filter(|keeper| !keeper.is_over()).count();
            if ready.len() >= awaited || tokio::time::Instant::now() >= until {
                return Ok(ready);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the server is given up, and says why. May be dropped and called again.
    pub(crate) async fn lost(&self) -> Problem {
        let why = self.server.given_up().await;
        Problem::new(ExitCode::Internal, format!("nats-server is given up: {why}"))
    }

    /// Waits until something of it is given up, and says what. May be dropped and called again.
    pub(crate) async fn failed(&self) -> Problem {
        let given_up = self.keepers().map(|keeper| Box::pin(keeper.given_up()));
        tokio::select! {
            lost = self.lost() => lost,
            (why, which, _) = select_all(given_up) => {
                let name = self.keepers().nth(which).map_or("a child", Keeper::name);
                Problem::new(ExitCode::Internal, format!("{name} {why}; above is what it said"))
            }
        }
    }

    /// Ends everything in order, or at once when that is wished, and says which it was.
    pub(crate) async fn stop(&self, shutdown: &Shutdown) -> ExitCode {
        tokio::select! {
            () = self.end() => ExitCode::Done,
            () = shutdown.hurried() => {
                self.kill().await;
                ExitCode::Interrupted
            }
        }
    }

    async fn end(&self) {
        self.end_agents().await;
        for coordinator in &self.coordinators {
            coordinator.end(COORDINATOR_GRACE);
        }
        for coordinator in &self.coordinators {
            coordinator.ended().await;
        }
        self.server.end().await;
    }

    async fn kill(&self) {
        for keeper in self.keepers() {
            keeper.kill();
        }
        for keeper in self.keepers() {
            keeper.ended().await;
        }
        self.server.kill().await;
    }
}

/// What all children of a fleet have in common.
#[derive(Debug)]
struct Children {
    executable: PathBuf,
    url: String,
    env: Vec<(OsString, OsString)>,
    env_removed: Vec<&'static str>,
}

impl Children {
    fn new(url: String, namespace: &Namespace, environment: &Environment) -> Result<Self, Problem> {
        let executable = std::env::current_exe().map_err(|error| {
            Problem::new(ExitCode::Internal, format!("this program cannot find itself to start agents: {error}"))
        })?;
        let format = environment.get(variable::LOG_FORMAT).unwrap_or("human");
        let env = [
            (variable::SERVER, url.as_str()),
            (variable::NATS_URL, &url),
            (variable::NAMESPACE, namespace.as_str()),
            (variable::LOG_FORMAT, format),
        ];
        let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        // Who we are elsewhere is nobody's business here, and one address serves the metrics of one process.
        let is_connection = |name: &&'static str| name.starts_with("NATS_") || name.starts_with("SORTIE_");
        let is_kept = |name: &'static str| [variable::LOG, variable::LOG_FORMAT, variable::SHIP_LOGS].contains(&name);
        let env_removed = variable::ALL.iter().copied().filter(|name| is_connection(name) && !is_kept(name)).collect();
        Ok(Self { executable, url, env, env_removed })
    }

    /// One of the processes that this binary is.
    fn ourselves(&self, name: &str, args: impl IntoIterator<Item = OsString>) -> Spec {
        let args = [OsString::from("process")].into_iter().chain(args).collect();
        self.spec(name.to_owned(), self.executable.clone(), args)
    }

    fn agent(&self, name: String, agents: &Agents) -> Spec {
        let slots = agents.slots.map(|slots| slots.to_string());
        let slots_flag = slots.iter().flat_map(|slots| [OsString::from("--slots"), slots.into()]);
        let mut spec = match &agents.run {
            Run::Exec(file) => self.ourselves(&name, ["agent-exec".into(), file.into()].into_iter().chain(slots_flag)),
            Run::Http(file) => self.ourselves(&name, ["agent-http".into(), file.into()].into_iter().chain(slots_flag)),
            Run::Files(args) => {
                let args = args.iter().map(OsString::from);
                self.ourselves(&name, [OsString::from("agent-files")].into_iter().chain(slots_flag).chain(args))
            }
            Run::Bench { capabilities } => {
                let args = ["agent-bench".into(), "--capabilities".into(), capabilities.to_string().into()];
                self.ourselves(&name, args.into_iter().chain(slots_flag))
            }
            Run::Program(program, args) => {
                let mut spec = self.spec(name, program.clone(), args.iter().map(OsString::from).collect());
                spec.env.extend(slots.map(|slots| ("SORTIE_SLOTS".into(), slots.into())));
                spec
            }
        };
        spec.env.extend(agents.env.iter().map(|(name, value)| (name.into(), value.into())));
        spec.directory = Some(agents.directory.clone());
        spec
    }

    fn spec(&self, name: String, program: PathBuf, args: Vec<OsString>) -> Spec {
        let (env, env_removed) = (self.env.clone(), self.env_removed.clone());
        Spec { name, program, args, env, env_removed, directory: None }
    }
}
