//! `sortie up`: a whole fleet on this machine, for daily use.

mod store;

use std::{path::PathBuf, time::Duration};

use process::{ExitCode, Problem};
use protocol::registry::AgentEntry;
use serde::Serialize;

use crate::{
    fleet::{
        Fleet, Plan,
        agents::{self, Agents, Run},
    },
    session::Session,
    supervisor::Console,
};

/// Agents that are not ready by then are waited for no longer: the others can be used.
const READY_WITHIN: Duration = Duration::from_secs(15);

const EXAMPLES: &str = "\
Examples:
  sortie up                               a server at nats://127.0.0.1:4222 and a coordinator
  sortie up --agents agents.yaml          and the agents that the file declares
  sortie up --port 0 --store /tmp/try     a free port, another store

The file of agents:
  agents:
    - kind: words                         # what they are called, with a number each
      run: exec                           # commands that `file` declares, by capability
      file: words.yaml
      count: 2                            # processes [default: 1]
      slots: 4                            # attempts at once in each [default: 10]
      env: {LANG: C}
    - kind: shop
      run: http                           # HTTP calls that `file` declares, by capability
      file: shop.yaml
    - kind: files
      run: files                          # our agent that examines files
    - kind: mine
      run: python3                        # any program; it finds NATS_URL, SORTIE_SERVER, SORTIE_NAMESPACE
      args: [worker.py]                   # and SORTIE_SLOTS in its environment

Paths are relative to that file, and so is where agents run. Ctrl-C ends agents, coordinator and server in that \
order; another Ctrl-C ends all at once. The store stays.";

/// Run a server, a coordinator and agents, until Ctrl-C
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    /// Port of the server; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 4222)]
    port: u16,
    /// Folder that keeps everything [default: $XDG_DATA_HOME/sortie, else ~/.local/share/sortie]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// File that declares agents
    #[arg(long, value_name = "FILE")]
    agents: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document<'a> {
    url: &'a str,
    namespace: &'a str,
    store: &'a std::path::Path,
    agents: Vec<&'a str>,
    ready: &'a [AgentEntry],
}

pub(crate) async fn run(args: UpArgs, session: &Session) -> Result<ExitCode, Problem> {
    let declared = args.agents.as_deref().map(agents::read).transpose()?.unwrap_or_default();
    let store = store::Store::open(args.store, session.environment())?;
    let plan = Plan {
        server: embedded::Config {
            port: (args.port != 0).then_some(args.port),
            store: Some(store.folder().to_owned()),
            log: Some(store.folder().join("nats-server.log")),
            ..Default::default()
        },
        namespace: session.namespace().clone(),
        environment: session.environment().clone(),
    };
    let console = Console::terminal(session.output().is_json(), session.environment());
    let mut fleet = tokio::select! {
        started = Fleet::start(plan, console) => started?,
        // What was started already is killed as it is dropped.
        () = session.shutdown().begun() => return Ok(ExitCode::Done),
    };
    for agents in &declared {
        fleet.add(agents);
    }
    let ended = tokio::select! {
        ended = tell_and_wait(&fleet, &declared, store.folder(), session) => ended,
        () = session.shutdown().begun() => Ok(()),
    };
    fleet.console().say("stopping: agents, coordinator, server; Ctrl-C again ends all at once");
    let end = fleet.stop(session.shutdown()).await;
    ended.map(|()| end)
}

/// Says when everything is ready, then waits for what ends the fleet by itself.
async fn tell_and_wait(
    fleet: &Fleet,
    declared: &[Agents],
    store: &std::path::Path,
    session: &Session,
) -> Result<(), Problem> {
    // Programs of others need not stand in the registry to work.
    let ours = |name: &str| {
        let is_it = |agents: &&Agents| name.rsplit_once('.').is_some_and(|(kind, _)| kind == agents.kind.as_str());
        declared.iter().find(is_it).is_some_and(|agents| !matches!(agents.run, Run::Program(..)))
    };
    let awaited: Vec<_> = fleet.agents().iter().filter(|keeper| ours(keeper.name())).collect();
    let ready = tokio::select! {
        ready = fleet.ready(&awaited, READY_WITHIN) => ready?,
        lost = fleet.lost() => return Err(lost),
    };
    let document = Document {
        url: fleet.url(),
        namespace: session.namespace().as_str(),
        store,
        agents: fleet.agents().iter().map(crate::supervisor::Keeper::name).collect(),
        ready: &ready,
    };
    session.output().announce(&document, || {
        let late = awaited.len() - ready.len();
        let late = if late == 0 { String::new() } else { format!(" ({late} agents are not ready yet)") };
        format!("ready at {}{late}: try `{}`", fleet.url(), suggestion(fleet, session))
    })?;
    Err(fleet.lost().await)
}

/// What to try next, as it has to be typed in another terminal.
fn suggestion(fleet: &Fleet, session: &Session) -> String {
    let mut flags = String::new();
    if fleet.url() != process::settings::SERVER_DEFAULT {
        flags += &format!(" --server {}", fleet.url());
    }
    if *session.namespace() != protocol::Namespace::default() {
        flags += &format!(" --namespace {}", session.namespace());
    }
    format!("sortie{flags} agents list")
}
