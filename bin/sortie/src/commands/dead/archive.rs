//! `sortie dead export` and `import`: letters as lines, with their bodies.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
};

use client::dead::{Archived, Imported};
use process::{ExitCode, Problem};
use protocol::limits;
use serde_json::json;

use super::filter::FilterArgs;
use crate::{meter::Meter, refusal, session::Session};

/// The longest line: a body of its greatest size, of which every byte is written as six.
const LINE_BYTES_MAX: u64 = 6 * limits::BODY_BYTES_MAX as u64 + 64 * 1024;

/// Write letters to standard output, a line of JSON each, with their whole bodies
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
}

/// Bring letters in that were exported; one that is there already stays as it is
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// The file, or `-` for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
}

pub(super) async fn export(args: ExportArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let filter = args.filter.resolved()?.filter(client).await?;
    let mut count = 0;
    let meter = Meter::new("exporting", None);
    let exported = client.export_dead(&filter, |archived| {
        let line = serde_json::to_string(&archived).map_err(|error| Stop::Problem(unwritable(&error)))?;
        session.output().text(&line).map_err(Stop::Problem)?;
        count += 1;
        meter.at(count, "");
        Ok(())
    });
    let ended = exported.await;
    drop(meter);
    match ended {
        Ok(()) => {
            eprintln!("{count} exported");
            Ok(ExitCode::Done)
        }
        Err(Stop::Client(error)) => Err(refusal::problem(error)),
        Err(Stop::Problem(problem)) => Err(problem),
    }
}

/// Why an export ends early.
enum Stop {
    Client(client::Error),
    Problem(Problem),
}

impl From<client::Error> for Stop {
    fn from(error: client::Error) -> Self {
        Self::Client(error)
    }
}

fn unwritable(error: &serde_json::Error) -> Problem {
    Problem::new(ExitCode::Internal, format!("no JSON can be made: {error}"))
}

pub(super) async fn import(args: ImportArgs, session: &Session) -> Result<ExitCode, Problem> {
    let name = args.file.display().to_string();
    let unreadable =
        |error: &dyn std::fmt::Display| Problem::new(ExitCode::Usage, format!("{name} cannot be read: {error}"));
    let mut lines: Box<dyn BufRead + Send> = match name.as_str() {
        "-" => Box::new(BufReader::new(std::io::stdin())),
        _ => Box::new(BufReader::new(std::fs::File::open(&args.file).map_err(|error| unreadable(&error))?)),
    };
    let client = session.client().await?;
    session.audit("dead-import", &name, json!({ "file": name })).await?;
    let (mut stored, mut present, mut number) = (0_usize, 0_usize, 0_usize);
    let meter = Meter::new("importing", None);
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.map_err(|error| unreadable(&error))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let broken = |problem: Problem| {
            let message = format!("line {number} of {name}: {}", problem.message);
            let done =
                format!("{} letters before it are in; mend the line, and the same command goes on", stored + present);
            Problem { message, ..problem }.advise(done)
        };
        let archived: Archived = serde_json::from_slice(&line)
            .map_err(|error| broken(Problem::new(ExitCode::Usage, format!("no dead letter: {error}"))))?;
        match client.import_dead(&archived).await.map_err(|error| broken(refusal::problem(error)))? {
            Imported::Stored => stored += 1,
            Imported::Present => present += 1,
        }
        meter.at(stored + present, "");
    }
    drop(meter);
    session.output().show(&json!({ "imported": stored, "present": present }), || {
        format!("{stored} imported, {present} were there already")
    })?;
    Ok(ExitCode::Done)
}
