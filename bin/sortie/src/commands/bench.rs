//! `sortie bench`: how fast, beside a bare loop of the client library on the same machine in the same minute.

mod compare;
mod crew;
mod show;
mod words;

use std::{fs, path::PathBuf};

use bench::{Error, Report, Stage};
use client::AcceptedFile;
use process::{ExitCode, Problem};

use self::{
    crew::{Hired, Own},
    words::{Asked, Words},
};
use crate::{refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie bench requests                             20,000 requests, 256 at once, on a fleet of its own in a temporary folder
  sortie bench latency                              one request at a time
  sortie bench open --rate 5000 --for 30s           a fixed rate; latency from when each request was due
  sortie bench runs --steps 3 --in-flight 100       1,000 runs of three steps
  sortie bench fanout --items 200                   one run at a time of one step over 200 items
  sortie bench backlog --number 1000000             a million requests queued before an agent is there
  sortie bench timers --number 10000                delayed requests that are all due at one moment
  sortie bench sleepers --number 100000             what a sleeping run costs the coordinator
  sortie bench requests --durable --store /data     every message fsynced before it is acknowledged, on that disk
  sortie bench requests --fleet --server nats://broker:4222
                                                    on a fleet that runs, with `sortie process agent-bench` where you like
  sortie bench open --fleet --accepted all.jsonl    then: sortie audit --accepted all.jsonl
  sortie bench runs --json > before.json            to be compared later:
  sortie bench compare before.json after.json       what changed; exits 1 if anything is slower by more than a tenth

Each round measures a yardstick first: the same acknowledged publishes and acknowledgements made by the client library alone. \
The ratio is the figure that counts: machines differ, and are noisy.";

/// Measure requests, runs and latencies beside a bare loop of the client library
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    words: Words,
}

impl BenchArgs {
    /// Whether it measures on a server of its own.
    pub(crate) fn brings_a_server(&self) -> bool {
        self.words.how().is_some_and(|how| !how.fleet)
    }
}

pub(crate) async fn run(args: BenchArgs, session: &Session) -> Result<ExitCode, Problem> {
    let (workload, how) = match args.words.asked() {
        Asked::Compare { before, after } => return compare::run(&before, &after, session),
        Asked::Measure(workload, how) => (workload, how),
    };
    let measured = if how.fleet {
        measure_there(&workload, &how, session).await
    } else {
        measure_here(&workload, &how, session).await
    };
    let Some(report) = measured? else { return Ok(ExitCode::Interrupted) };
    if let Some(path) = &how.out {
        let text = serde_json::to_string_pretty(&report).unwrap_or_default();
        fs::write(path, text + "\n").map_err(|error| {
            Problem::new(ExitCode::Configuration, format!("{} cannot be written: {error}", path.display()))
        })?;
    }
    session.output().show(&report, || show::text(session.output(), &report))?;
    Ok(ExitCode::Done)
}

/// How a workload is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct How {
    /// Rounds, after a warm-up that does not count; the median of them is the figure
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Leave the yardstick out: for a profiler, in whose picture it would be
    #[arg(long)]
    alone: bool,
    /// On the fleet at --server, where `sortie process agent-bench` must run, instead of one of its own
    #[arg(long)]
    fleet: bool,
    /// Have the server of its own fsync every message before it is acknowledged
    #[arg(long, conflicts_with = "fleet")]
    durable: bool,
    /// Where the server of its own keeps its streams [default: a temporary folder]
    #[arg(long, value_name = "DIR", conflicts_with = "fleet")]
    store: Option<PathBuf>,
    /// Append a line to this file for everything that the fleet accepts; `sortie audit --accepted` proves from it that nothing
    /// is lost. What it costs is in the figures
    #[arg(long, value_name = "FILE", requires = "fleet")]
    accepted: Option<PathBuf>,
    /// Write the report into this file too, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl How {
    fn rounds(&self) -> bench::workload::Rounds {
        bench::workload::Rounds { count: usize::from(self.rounds), with_yardstick: !self.alone }
    }
}

/// On a fleet of its own. None where it was interrupted.
async fn measure_here(workload: &bench::Workload, how: &How, session: &Session) -> Result<Option<Report>, Problem> {
    let shutdown = session.shutdown();
    let mut own = tokio::select! {
        started = Own::start(how.store.as_deref(), how.durable, session) => started?,
        () = shutdown.begun() => return Ok(None),
    };
    let (client, options) = (own.client(), own.options());
    let mut stage = Stage { client, options, crew: &mut own, tell: &tell, accepted: None };
    let measured = tokio::select! {
        measured = workload.measure(&mut stage, how.rounds()) => measured.map(Some).map_err(problem),
        () = shutdown.begun() => Ok(None),
    };
    own.end(shutdown, measured.is_err()).await;
    measured
}

/// On a fleet that runs.
async fn measure_there(workload: &bench::Workload, how: &How, session: &Session) -> Result<Option<Report>, Problem> {
    let mut hired = Hired { client: session.client().await?.clone() };
    let (client, options) = (hired.client.clone(), session.options());
    let accepted = how.accepted.as_deref().map(AcceptedFile::append_to).transpose().map_err(refusal::problem)?;
    let mut stage = Stage { client, options, crew: &mut hired, tell: &tell, accepted };
    workload.measure(&mut stage, how.rounds()).await.map(Some).map_err(problem)
}

fn tell(line: &str) {
    eprintln!("{line}");
}

fn problem(error: Error) -> Problem {
    match error {
        Error::Client(error) => refusal::problem(error),
        Error::Broker(error) => error.into(),
        Error::Yardstick(_) => Problem::new(ExitCode::Internal, error.to_string()),
        Error::Wrong(_) => Problem::new(ExitCode::WorkFailed, error.to_string()),
    }
}
