//! Settings: flags, environment and files become plain checked data, or a list of everything that is wrong.

mod agent;
mod connection;
pub mod environment;
mod faults;
pub mod file;
mod identity;
mod nats_context;
mod secret;
mod server;

pub use agent::AgentArgs;
pub use connection::{Connection, ConnectionArgs};
pub use environment::Environment;
pub use faults::{Fault, Faults};
pub use identity::Identity;
pub use nats_context::NatsContext;
pub use secret::Secret;
pub use server::SERVER_DEFAULT;

use crate::{
    endpoint::{EndpointArgs, MetricsAddress},
    logging::{LogArgs, LogSettings},
};

/// The flags that every process has: `#[command(flatten)]` them once.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ProcessArgs {
    /// Where the broker is and who we are there.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// What to log and how.
    #[command(flatten)]
    pub log: LogArgs,
    /// Where to serve metrics.
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// What they come to, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the broker is and who we are there.
    pub connection: Connection,
    /// What to log and how.
    pub log: LogSettings,
    /// Where to serve metrics. Defaults to nowhere.
    pub metrics: Option<MetricsAddress>,
}

impl ProcessArgs {
    /// Puts flags and environment together; `log_level` is what is logged if nothing is said.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn resolve(&self, environment: &Environment, log_level: &str) -> Result<Settings, Faults> {
        let mut faults = Faults::new();
        let connection = faults.absorb(self.connection.resolve(environment));
        let log = faults.absorb(self.log.resolve(environment, log_level));
        let metrics = faults.absorb(self.endpoint.resolve(environment));
        match (connection, log, metrics) {
            (Some(connection), Some(log), Some(metrics)) => Ok(Settings { connection, log, metrics }),
            _ => Err(faults),
        }
    }
}
