//! `sortie watch`.

use process::{ExitCode, Problem};

use crate::session::Session;

/// Watch
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {}

pub(crate) async fn run(_args: WatchArgs, _session: &Session) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Done)
}
