//! `sortie topology`.

use process::{ExitCode, Problem};

use crate::session::Session;

/// Topology
#[derive(Debug, clap::Args)]
pub(crate) struct TopologyArgs {}

pub(crate) async fn run(_args: TopologyArgs, _session: &Session) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Done)
}
