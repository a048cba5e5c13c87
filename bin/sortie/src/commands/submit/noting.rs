//! Where what was accepted is noted.

use std::path::PathBuf;

use client::AcceptedFile;
use process::Problem;

use crate::refusal;

/// Whether what is accepted is noted.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Noting {
    /// Append a line to this file when the broker has acknowledged it; `sortie audit --accepted` proves from it that nothing
    /// is lost
    #[arg(long, value_name = "FILE")]
    accepted: Option<PathBuf>,
}

impl Noting {
    /// The file, opened before anything is asked for.
    pub(crate) fn file(&self) -> Result<Option<AcceptedFile>, Problem> {
        self.accepted.as_deref().map(AcceptedFile::append_to).transpose().map_err(refusal::problem)
    }
}
