//! The agent as a process: what its own binary and `sortie process agent-files` run.

use process::{ExitCode, Process, Program};
use protocol::{Failure, control::Progress};
use worker::{CapabilityConfig, Context, Worker};

use crate::{
    Args, DeleteReport, Deleted, ExamineFile, FileList, FileReport, FindSecrets, ListFiles, Reports, Root, SecretList,
    WriteReport, Written, background, examine, list, secrets,
};

/// What the binary says about itself.
pub const PROGRAM: Program = Program::service("agent-files", env!("CARGO_PKG_VERSION"));

/// Serves `examine-file`, `list-files`, `find-secrets`, and where it may write, `write-report` and `delete-report`, until the process is asked to stop and all that runs has ended.
///
/// # Errors
/// The root or the folder of reports is none, which is exit code 64; and what [`worker::Builder::run`] says.
pub async fn serve(args: Args, process: Process) -> Result<ExitCode, process::Problem> {
    let (root, reports) = (args.root()?, args.reports()?);
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
    let finds = CapabilityConfig::default().description("Lines of a folder's texts that look like secrets.");
    builder = builder
        .capability_with("examine-file", examines, examine_file)
        .capability_with("list-files", lists, list_files)
        .capability_with("find-secrets", finds, find_secrets);
    if let Some(reports) = reports {
        let writes = CapabilityConfig::default().description("A report in Markdown on files that were examined.");
        let deletes = CapabilityConfig::default().description("Deletes a report.");
        builder = builder.shared(reports).capability_with("write-report", writes, write_report).capability_with(
            "delete-report",
            deletes,
            delete_report,
        );
    }
    builder.run().await?;
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

async fn find_secrets(context: Context, input: FindSecrets) -> Result<SecretList, Failure> {
    let root = context.shared::<Root>();
    let found =
        background::run(&context, looked_so_far, move |far| secrets::find(&input, &root, |texts| far.is(texts, None)));
    found.await.map_err(|problem| problem.failure())
}

async fn write_report(context: Context, input: WriteReport) -> Result<Written, Failure> {
    let reports = context.shared::<Reports>();
    let written = background::run(&context, |_, _| Progress::default(), move |_| reports.write(&input));
    written.await.map_err(|problem| problem.failure())
}

async fn delete_report(context: Context, input: DeleteReport) -> Result<Deleted, Failure> {
    let reports = context.shared::<Reports>();
    let deleted = background::run(&context, |_, _| Progress::default(), move |_| reports.delete(&input));
    deleted.await.map_err(|problem| problem.failure())
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

fn looked_so_far(texts: u64, _of: Option<u64>) -> Progress {
    Progress { message: Some(format!("{texts} texts")), ..Progress::default() }
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
        assert_eq!(looked_so_far(7, None).message.as_deref(), Some("7 texts"));
    }
}
