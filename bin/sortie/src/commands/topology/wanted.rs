//! What an operator wants of the topology: what flags say, else what is already so, else the defaults. An `apply` for one
//! thing must not undo what an earlier `apply` was told about another.

use std::time::Duration;

use broker::{Connection, Error, Kind, topology::stream_state};
use protocol::{
    Namespace, byte_size, duration,
    topology::{Names, Settings},
};

/// The flags for it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct WantedArgs {
    /// Copies of every stream, 1 or 3 [default: as it is, else 1]
    #[arg(long, value_name = "N", value_parser = copies)]
    replicas: Option<usize>,
    /// Whether requests and outcomes that are published at the same moment go as one batch: true for servers that flush
    /// their disk for every message (`sync_interval: always`, see nats-config/durable.conf), where it is many times faster;
    /// false for all others, where it is slower [default: as it is, else false]
    #[arg(long, value_name = "BOOL")]
    group_commit: Option<bool>,
    /// How long outcomes are kept, and with that "exactly one" holds [default: as it is, else 1d]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = "Retention")]
    outcomes_kept: Option<Duration>,
    /// How long dead letters are kept [default: as it is, else 30d]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = "Retention")]
    dead_kept: Option<Duration>,
    /// How long events are kept [default: as it is, else 7d]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = "Retention")]
    events_kept: Option<Duration>,
    /// How long shipped log lines are kept [default: as it is, else 3d]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = "Retention")]
    logs_kept: Option<Duration>,
    /// How many bytes of log lines are kept, such as 8MB or 1GiB; the broker reserves as much [default: as it is, else 1GiB]
    #[arg(long, value_name = "BYTES", value_parser = byte_size::parse, help_heading = "Retention")]
    logs_bytes_max: Option<u64>,
    /// How long the audit trail is kept [default: as it is, else 365d]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = "Retention")]
    audit_kept: Option<Duration>,
}

fn copies(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 (one server) or 3 (a cluster)".to_owned()),
    }
}

impl WantedArgs {
    /// Puts flags, the broker and the defaults together.
    pub(crate) async fn settings(&self, connection: &Connection, namespace: &Namespace) -> Result<Settings, Error> {
        let names = Names::of(namespace);
        let defaults = Settings::default();
        let requests = existing(connection, &names.requests).await?;
        let is_so = requests.as_ref();
        let replicas = self.replicas.or(is_so.map(|stream| stream.replicas)).unwrap_or(defaults.replicas);
        let group_commit =
            self.group_commit.or(is_so.map(|stream| stream.group_commit)).unwrap_or(defaults.group_commit);
        let logs_bytes_max = match self.logs_bytes_max {
            Some(bytes) => Some(bytes),
            None => existing(connection, &names.logs).await?.and_then(|stream| stream.max_bytes),
        };
        let kept = async |flag: Option<Duration>, stream: &str, default: Duration| match flag {
            Some(flag) => Ok::<_, Error>(flag),
            None => Ok(existing(connection, stream).await?.and_then(|stream| stream.max_age).unwrap_or(default)),
        };
        Ok(Settings {
            replicas,
            group_commit,
            outcomes_kept: kept(self.outcomes_kept, &names.outcomes, defaults.outcomes_kept).await?,
            dead_kept: kept(self.dead_kept, &names.dead, defaults.dead_kept).await?,
            events_kept: kept(self.events_kept, &names.events, defaults.events_kept).await?,
            logs_kept: kept(self.logs_kept, &names.logs, defaults.logs_kept).await?,
            logs_bytes_max: logs_bytes_max.unwrap_or(defaults.logs_bytes_max),
            audit_kept: kept(self.audit_kept, &names.audit, defaults.audit_kept).await?,
        })
    }
}

async fn existing(connection: &Connection, stream: &str) -> Result<Option<protocol::topology::Stream>, Error> {
    match stream_state(connection, stream).await {
        Ok(state) => Ok(Some(state.stream)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
