//! `sortie demo`.

use process::{ExitCode, Problem};

use crate::session::Session;

/// See a fleet at work
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {}

pub(crate) async fn run(_args: DemoArgs, _session: &Session) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Done)
}
