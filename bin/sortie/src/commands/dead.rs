//! `sortie dead`: what was given up, why, and once more.

mod archive;
mod dropping;
mod edit;
mod filter;
mod list;
mod replay;
mod rule;
mod selection;
mod show;

use clap::Subcommand;
use process::{ExitCode, Problem};

use crate::session::Session;

const EXAMPLES: &str = "\
Examples:
  sortie dead list                                    what was given up, the latest last
  sortie dead list --group-by code                    how often each code, since when, and an example
  sortie dead list --capability resize --code 'http_*' --since 2h --replayed no
  sortie dead show req_0198…                          the whole story of one, with its body and what followed
  sortie dead replay req_0198… req_0199…              send them again, as new requests
  sortie dead replay --all --code timeout --dry-run   what that would send again
  sortie dead replay --all --code timeout --rate 50/s --stop-if-failing 20%
  sortie dead edit req_0198…                          mend the body in $EDITOR, and send that
  sortie dead edit req_0198… --body @mended.json
  sortie dead export --since 1d > dead.jsonl          with their bodies, a line each
  sortie dead import dead.jsonl                       never makes a second one
  sortie dead drop req_0198…                          it is of no use any more
  sortie dead drop --replayed yes --until 7d          those that were sent again, older than a week
  sortie dead rule add slow --code timeout --delay 'fixed; first=2m'
  sortie dead rule list                               what is sent again by itself
  sortie dead rule remove slow

A replay is a new request with a new id; the letter stays, and is marked. What was marked is not sent again unless --again
is said, so the same command after an interruption goes on where it was.
Exit codes: 0 done, 1 something was refused or too many failed again.";

/// See what was given up and why, mend it, and send it again
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DeadArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Edit(edit::EditArgs),
    Replay(replay::ReplayArgs),
    Drop(dropping::DropArgs),
    Export(archive::ExportArgs),
    Import(archive::ImportArgs),
    Rule(rule::RuleArgs),
}

pub(crate) async fn run(args: DeadArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb {
        Verb::List(args) => list::run(args, session).await,
        Verb::Show(args) => show::run(&args, session).await,
        Verb::Edit(args) => edit::run(args, session).await,
        Verb::Replay(args) => replay::run(args, session).await,
        Verb::Drop(args) => dropping::run(args, session).await,
        Verb::Export(args) => archive::export(args, session).await,
        Verb::Import(args) => archive::import(args, session).await,
        Verb::Rule(args) => rule::run(args, session).await,
    }
}
