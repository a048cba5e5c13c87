//! `sortie later`.

use process::{ExitCode, Problem};

use crate::session::Session;

/// Later
#[derive(Debug, clap::Args)]
pub(crate) struct LaterArgs {}

pub(crate) async fn run(_args: LaterArgs, _session: &Session) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Done)
}
