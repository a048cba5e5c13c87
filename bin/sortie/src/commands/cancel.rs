//! `sortie cancel`.

use process::{ExitCode, Problem};

use crate::session::Session;

/// Cancel
#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {}

pub(crate) async fn run(_args: CancelArgs, _session: &Session) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Done)
}
