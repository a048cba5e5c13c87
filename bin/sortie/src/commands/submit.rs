//! `sortie submit`.

use process::{ExitCode, Problem};

use crate::session::Session;

/// Submit
#[derive(Debug, clap::Args)]
pub(crate) struct SubmitArgs {}

pub(crate) async fn run(_args: SubmitArgs, _session: &Session) -> Result<ExitCode, Problem> {
    Ok(ExitCode::Done)
}
