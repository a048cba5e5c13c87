//! `sortie outcome`.

use process::{ExitCode, Problem};

use crate::session::Session;

/// Outcome
#[derive(Debug, clap::Args)]
pub(crate) struct OutcomeArgs {}

pub(crate) async fn run(_args: OutcomeArgs, _session: &Session) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Done)
}
