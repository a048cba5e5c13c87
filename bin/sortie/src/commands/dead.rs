//! `sortie dead`.

use process::{ExitCode, Problem};

use crate::session::Session;

/// Dead
#[derive(Debug, clap::Args)]
pub(crate) struct DeadArgs {}

pub(crate) async fn run(_args: DeadArgs, _session: &Session) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Done)
}
