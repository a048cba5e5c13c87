//! `sortie agents`.

use process::{ExitCode, Problem};

use crate::session::Session;

/// Agents
#[derive(Debug, clap::Args)]
pub(crate) struct AgentsArgs {}

pub(crate) async fn run(_args: AgentsArgs, _session: &Session) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Done)
}
