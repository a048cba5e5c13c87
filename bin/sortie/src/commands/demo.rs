//! `sortie demo`: see all of it at work, on files of your own.

mod ending;
mod story;

use std::path::{Path, PathBuf};

use agent_files::{ListFiles, Reports, Root, list};
use process::{ExitCode, Problem};

use crate::{
    demo::{Consent, FILES_MAX, Narrator},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  sortie demo                           audits every file below this folder that git does not ignore
  sortie demo ~/src/linux --yes         or below another one, and asks nothing
  sortie demo --report ~/audit.md       the report goes there
  sortie demo --keep                    the fleet stays up, to be looked at with the nats command line

It starts a nats-server in a temporary folder, a coordinator, an agent in Rust and an agent of ordinary commands, and \
runs the workflow repo-audit: each file is examined, and where a line looks like a secret you are asked before the \
report is written. Beside it each file's checksum is asked for. On the way an agent and the coordinator are killed \
with SIGKILL, others join, and it counts at the end. An agent that is killed has requests in its hands: the broker \
hands them out again ten seconds after its last sign of life, so that is about how long it takes.";

/// See a fleet audit a folder's files, lose an agent and its coordinator, and nothing else
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Folder to examine [default: the one you are in]
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true)]
    folder: PathBuf,
    /// Where the report in Markdown is written; one of an earlier demonstration is replaced
    #[arg(long, value_name = "FILE", default_value = "sortie-audit.md")]
    report: PathBuf,
    /// Write the report without asking, whatever was found; so it is without a terminal
    #[arg(long, short)]
    yes: bool,
    /// Leave the fleet up until Ctrl-C
    #[arg(long)]
    keep: bool,
}

pub(crate) async fn run(args: DemoArgs, session: &Session) -> Result<ExitCode, Problem> {
    let unusable = |error: String| {
        Problem::new(ExitCode::Configuration, format!("{} cannot be examined: {error}", args.folder.display()))
    };
    let folder = std::fs::canonicalize(&args.folder).map_err(|error| unusable(error.to_string()))?;
    let (reports, report) = report(&args.report)?;
    let input = ListFiles { path: folder.clone(), hidden: true, max: Some(FILES_MAX) };
    let listing = tokio::task::spawn_blocking(move || {
        list::list(&input, &Root::everything(), |_| std::ops::ControlFlow::Continue(()))
    });
    let found = listing.await.map_err(|error| Problem::new(ExitCode::Internal, error.to_string()))?;
    let found = found.map_err(|error| unusable(error.to_string()))?;
    if found.files.is_empty() {
        return Err(unusable("there is no file below it".to_owned()).advise("name another folder: `sortie demo DIR`"));
    }
    let narrator = Narrator::new(session.output().is_json());
    let consent = Consent::new(args.yes);
    story::Story { folder, found, reports, report, consent, keep: args.keep, narrator, session }.tell().await
}

/// The folder and the name of the report, if one may be written there.
fn report(path: &Path) -> Result<(PathBuf, String), Problem> {
    let refused = |why: String| {
        let problem = Problem::new(ExitCode::Configuration, format!("no report can be written: {why}"));
        problem.advise("name another file with --report, such as `--report /tmp/audit.md`")
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::fs::canonicalize(parent).map_err(|error| refused(format!("{}: {error}", parent.display())))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let reports = Reports::folder(&folder).map_err(|problem| refused(problem.to_string()))?;
    reports.check(&name).map_err(|problem| refused(problem.to_string()))?;
    Ok((folder, name))
}
