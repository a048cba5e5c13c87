//! What the command line of this agent says beyond what every process says.

use std::path::PathBuf;

use process::{ExitCode, ExitError, settings::AgentArgs};

use crate::{Problem, Reports, Result, Root};

/// What `--help` shows beneath the flags.
pub const EXAMPLES: &str = "\
Examples:
  agent-files                                serve whatever this user can read
  agent-files --root ~/documents --slots 4   only what is in there, four at once
  agent-files --reports ~/reports            writes reports too, into that folder
  sortie submit examine-file '{\"path\": \"notes.txt\"}' --wait
  sortie submit list-files '{\"path\": \".\"}' --wait
  sortie submit find-secrets '{\"path\": \".\"}' --wait";

/// The flags of this agent.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Refuse every file outside of this folder, symbolic links followed [default: no file is refused]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Write reports, into this folder [default: none are written]
    #[arg(long, value_name = "DIR")]
    pub reports: Option<PathBuf>,
    /// Files and folders at once [default: 10]
    #[arg(long, value_name = "N")]
    pub slots: Option<usize>,
    /// Where its settings are.
    #[command(flatten)]
    pub settings: AgentArgs,
}

impl Args {
    /// The folder that the agent may read.
    ///
    /// # Errors
    /// It is no folder that can be read.
    pub fn root(&self) -> Result<Root> {
        self.root.as_deref().map_or_else(|| Ok(Root::everything()), Root::folder)
    }

    /// The folder that the agent may write reports into.
    ///
    /// # Errors
    /// It is no folder.
    pub fn reports(&self) -> Result<Option<Reports>> {
        self.reports.as_deref().map(Reports::folder).transpose()
    }
}

/// Outside of a request, a problem is one of the agent's own folders.
impl ExitError for Problem {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Configuration
    }

    fn advice(&self) -> Option<String> {
        Some("name folders that are there with --root and --reports".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_is_no_folder_is_a_bad_configuration() {
        let args = Args { root: Some("/dev/null".into()), ..Args::default() };
        let problem = args.root().map_or_else(process::Problem::from, |_| process::Problem::new(ExitCode::Done, ""));
        assert_eq!((problem.code, problem.message.as_str()), (ExitCode::Configuration, "/dev/null is no folder"));
        assert!(Args::default().root().is_ok());
    }
}
