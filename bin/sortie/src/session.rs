//! What every command is given: the settings, the output, and the broker, which is connected to when it is first asked
//! for.

use std::time::Duration;

use broker::{Connection, Kind};
use client::Client;
use process::{
    ExitCode, Problem, Process, Shutdown,
    settings::{Environment, environment as variable},
};
use protocol::{Namespace, Operator};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{output::Output, refusal};

/// A person waits for the answer, so this is shorter than what services allow a broker that starts.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// One run of the command line.
#[derive(Debug)]
pub(crate) struct Session {
    process: Process,
    output: Output,
    connection: OnceCell<Connection>,
    client: OnceCell<Client>,
}

impl Session {
    pub(crate) fn new(process: Process, json: bool) -> Self {
        let output = Output::new(json, &process.environment);
        Self { process, output, connection: OnceCell::new(), client: OnceCell::new() }
    }

    /// Where results go.
    pub(crate) fn output(&self) -> Output {
        self.output
    }

    /// The fleet that is spoken about.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.process.settings.connection.namespace
    }

    /// The environment that the settings came from.
    pub(crate) fn environment(&self) -> &Environment {
        &self.process.environment
    }

    /// The wish to end, in commands that end in order.
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.process.shutdown
    }

    /// The broker, connected to at the first call.
    ///
    /// # Errors
    /// Nobody answers, or not to us.
    pub(crate) async fn connection(&self) -> Result<&Connection, Problem> {
        self.connection.get_or_try_init(|| self.connect()).await
    }

    /// A client of the fleet, connected at the first call. What it refuses becomes a
    /// [`problem`](crate::refusal::problem).
    ///
    /// # Errors
    /// Nobody answers, or not to us.
    pub(crate) async fn client(&self) -> Result<&Client, Problem> {
        let made = || async { Ok(Client::new(self.connection().await?.clone(), self.namespace().clone())) };
        self.client.get_or_try_init(made).await
    }

    /// Records an act that steers the fleet; to be called before it is done.
    ///
    /// # Errors
    /// It cannot be recorded, so it must not be done.
    pub(crate) async fn audit(&self, verb: &str, target: &str, detail: Value) -> Result<(), Problem> {
        self.record(verb, target, detail).await?.map_err(refusal::problem)
    }

    /// The same for whoever has more to say about its refusal than to end with it.
    ///
    /// # Errors
    /// Nobody answers, or not to us; inside, why it cannot be recorded.
    pub(crate) async fn record(
        &self,
        verb: &str,
        target: &str,
        detail: Value,
    ) -> Result<Result<(), client::Error>, Problem> {
        let client = self.client().await?;
        Ok(client.audit(&self.operator(), verb, target, detail).await)
    }

    /// Who gave this command.
    pub(crate) fn operator(&self) -> Operator {
        if let Some(name) = self.environment().get(variable::OPERATOR) {
            return Operator::nearest(name);
        }
        let login = self.environment().get(variable::LOGIN).unwrap_or("unknown");
        let host = nix::unistd::gethostname().unwrap_or_default();
        Operator::nearest(&format!("{login}@{}", host.to_string_lossy()))
    }

    /// The broker, connected to at the first call, for whoever has more to say about its refusal than to end with it.
    ///
    /// # Errors
    /// What connecting says.
    pub(crate) async fn try_connection(&self) -> Result<&Connection, broker::Error> {
        self.connection.get_or_try_init(|| Connection::open(self.options())).await
    }

    /// How it is connected to.
    pub(crate) fn options(&self) -> broker::Options {
        broker::Options { connect_within: CONNECT_WITHIN, ..self.process.settings.connection.options("sortie") }
    }

    async fn connect(&self) -> Result<Connection, Problem> {
        let settings = &self.process.settings.connection;
        Connection::open(self.options()).await.map_err(|error| match error.kind() {
            Kind::Unreachable => {
                let message = format!("no broker answers at {}", settings.servers.join(", "));
                Problem::new(ExitCode::BrokerUnreachable, message)
                    .advise("start one with `sortie up`, or name it with --server")
            }
            _ => error.into(),
        })
    }
}
