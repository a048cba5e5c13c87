//! `sortie demo`: see all of it at work, on files of your own.

mod ending;
mod story;

use std::path::PathBuf;

use agent_files::{ListFiles, Root, list};
use process::{ExitCode, Problem};

use crate::{demo::Narrator, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie demo                  every file below this folder that git does not ignore
  sortie demo ~/src/linux      or below another one
  sortie demo --keep           the fleet stays up afterwards, to be looked at with the nats command line

It starts a nats-server in a temporary folder, a coordinator, an agent in Rust and an agent of ordinary commands; asks \
two things about each file; kills an agent with SIGKILL half way and lets another one join; and counts at the end. An \
agent that is killed has requests in its hands: the broker hands them out again ten seconds after its last sign of \
life, so that is about how long it takes.";

/// See a fleet examine every file of a folder, lose an agent on the way, and lose nothing else
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Folder to examine [default: the one you are in]
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true)]
    folder: PathBuf,
    /// Leave the fleet up until Ctrl-C
    #[arg(long)]
    keep: bool,
}

pub(crate) async fn run(args: DemoArgs, session: &Session) -> Result<ExitCode, Problem> {
    let unusable = |error: String| {
        Problem::new(ExitCode::Configuration, format!("{} cannot be examined: {error}", args.folder.display()))
    };
    let folder = std::fs::canonicalize(&args.folder).map_err(|error| unusable(error.to_string()))?;
    let input = ListFiles { path: folder.clone(), hidden: true, max: Some(list::FILES_MAX) };
    let listing = tokio::task::spawn_blocking(move || {
        list::list(&input, &Root::everything(), |_| std::ops::ControlFlow::Continue(()))
    });
    let found = listing.await.map_err(|error| Problem::new(ExitCode::Internal, error.to_string()))?;
    let found = found.map_err(|error| unusable(error.to_string()))?;
    if found.files.is_empty() {
        return Err(unusable("there is no file below it".to_owned()).advise("name another folder: `sortie demo DIR`"));
    }
    let narrator = Narrator::new(session.output().is_json());
    story::Story { folder, found, keep: args.keep, narrator, session }.tell().await
}
