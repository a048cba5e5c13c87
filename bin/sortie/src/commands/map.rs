//! `sortie map`.

use process::{ExitCode, Problem};

use crate::session::Session;

/// Map
#[derive(Debug, clap::Args)]
pub(crate) struct MapArgs {}

pub(crate) async fn run(_args: MapArgs, _session: &Session) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Done)
}
