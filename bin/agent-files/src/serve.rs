//! The agent as a process: what its own binary and `sortie process agent-files` run.

use process::{ExitCode, Process, Program};
use protocol::{Failure, control::Progress};
use worker::{CapabilityConfig, Context, Worker};

use crate::{Args, ExamineFile, FileList, FileReport, ListFiles, Root, background, examine, list};

/// What the binary says about itself.
pub const PROGRAM: Program = Program::service("agent-files", env!("CARGO_PKG_VERSION"));

/// Serves `examine-file` and `list-files` until the process is asked to stop and all that runs has ended.
///
/// # Errors
/// The root is no folder, which is exit code 64; and what [`worker::Builder::run`] says.
pub async fn serve(args: Args, process: Process) -> Result<ExitCode, process::Problem> {
    let root = args.root()?;
    let mut builder = Worker::builder("files")
        .version(PROGRAM.version)
        .in_process(&process)
        .settings_from(args.settings)
        .shared(root);
    if let Some(slots) = args.slots {
        builder = builder.setting("slots", slots);
    }
    let examines =
        CapabilityConfig::default().description("SHA-256, size, lines, words, language and terms of a file.");
    let lists = CapabilityConfig::default().description("The files of a folder that ignore files leave, in order.");
    builder
        .capability_with("examine-file", examines, examine_file)
        .capability_with("list-files", lists, list_files)
        .run()
        .await?;
    Ok(ExitCode::Done)
}

async fn examine_file(context: Context, input: ExamineFile) -> Result<FileReport, Failure> {
    let root = context.shared::<Root>();
    let report =
        background::run(&context, read_so_far, move |far| examine(&input, &root, |bytes, of| far.is(bytes, Some(of))));
    report.await.map_err(|problem| problem.failure())
}

async fn list_files(context: Context, input: ListFiles) -> Result<FileList, Failure> {
    let root = context.shared::<Root>();
    let files =
        background::run(&context, found_so_far, move |far| list(&input, &root, |files| far.is(files as u64, None)));
    files.await.map_err(|problem| problem.failure())
}

fn read_so_far(bytes: u64, of: Option<u64>) -> Progress {
    const MIB: f64 = 1_048_576.0;
    // A file that grows while it is read is never more than done.
    let whole = of.unwrap_or(bytes).max(bytes);
    let (bytes, whole) = (bytes as f64, whole as f64);
    Progress {
        percent: (whole > 0.0).then(|| bytes / whole * 100.0),
        message: Some(format!("{:.1} of {:.1} MiB", bytes / MIB, whole / MIB)),
        ..Progress::default()
    }
}

fn found_so_far(files: u64, _of: Option<u64>) -> Progress {
    Progress { message: Some(format!("{files} files")), ..Progress::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_never_beyond_its_end() {
        let half = read_so_far(1 << 20, Some(1 << 21));
        assert_eq!((half.percent, half.message.as_deref()), (Some(50.0), Some("1.0 of 2.0 MiB")));
        assert_eq!(read_so_far(3, Some(2)).percent, Some(100.0));
        assert_eq!(read_so_far(0, Some(0)).percent, None);
        assert_eq!(found_so_far(7, None).message.as_deref(), Some("7 files"));
    }
}
