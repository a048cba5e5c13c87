//! `sortie map`: a request per line of standard input, a result per line of standard output.

mod ask;
mod input;
mod job;
mod meter;
mod order;

use std::{num::NonZeroUsize, sync::Arc};

use broker::task;
use futures_util::stream::{FuturesUnordered, StreamExt};
use process::{ExitCode, Problem};
use protocol::{Capability, duration};
use tokio::io::BufReader;

use self::{
    ask::{Answer, Asker},
    input::Lines,
    job::Job,
    meter::Meter,
    order::Order,
};
use super::submit::{noting::Noting, options::RequestOptions, warn_unserved};
use crate::{refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  find . -name '*.rs' | sortie map count --lines
  sortie map resize < jobs.jsonl > results.jsonl
  sortie map resize --job nightly < jobs.jsonl         interrupted? the same command goes on where it was
  sortie map pay --accepted paid.jsonl < bills.jsonl   then: sortie audit --accepted paid.jsonl
  sortie map check --unordered --in-flight 500 < urls.jsonl

A completed line gives its result as one line of JSON; any other gives {\"line\", \"id\", \"status\", \"failure\"}. With
--json every line is such a document. A name given with --job belongs to one capability and one input: ids are
NAME-<line>-<hash of the line>, so a line that was done keeps its outcome for as long as outcomes are kept (a day, if
nobody chose otherwise).
Exit codes: 0 all done, 1 some failed, 75 some have no outcome yet.";

/// Ask once per line of standard input, and print one result per line
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MapArgs {
    /// What is asked for
    capability: Capability,
    /// Lines are plain text, each sent as a JSON string; else each is JSON, and blank ones are passed over
    #[arg(long)]
    lines: bool,
    /// Requests without an outcome at a time
    #[arg(long, value_name = "N", default_value = "64", value_parser = parse_in_flight)]
    in_flight: NonZeroUsize,
    /// Print results as they come, not in the order of the input
    #[arg(long)]
    unordered: bool,
    /// Make it a job that can be started again
    #[arg(long, value_name = "NAME", value_parser = Job::parse)]
    job: Option<Job>,
    /// Wait for each outcome at most this long [default: as long as it takes]
    #[arg(long, value_name = "5m", value_parser = duration::parse)]
    within: Option<std::time::Duration>,
    #[command(flatten)]
    noting: Noting,
    #[command(flatten)]
    options: RequestOptions,
}

/// More than this in flight brings nothing but memory.
const IN_FLIGHT_MAX: usize = 20_000;

fn parse_in_flight(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= IN_FLIGHT_MAX);
    number.ok_or_else(|| format!("`{text}` is not a number from 1 to {IN_FLIGHT_MAX}"))
}

pub(crate) async fn run(args: MapArgs, session: &Session) -> Result<ExitCode, Problem> {
    let noted_in = args.noting.file()?;
    let client = session.client().await?;
    warn_unserved(client, &args.capability).await?;
    let in_flight = args.in_flight.get();
    let mut order = if args.unordered { Order::none() } else { Order::of_input(in_flight) };
    let mut input = Lines::new(BufReader::new(tokio::io::stdin()), !args.lines);
    let mut meter = Meter::new();
    let asker = Arc::new(Asker {
        client: client.clone(),
        capability: args.capability,
        is_text: args.lines,
        is_json: session.output().is_json(),
        job: args.job,
        within: args.within.unwrap_or(duration::DURATION_MAX),
        noted_in,
        options: args.options,
    });
    let mut running = FuturesUnordered::new();
    let (mut begun, mut has_more) = (0_u64, true);
    loop {
        let may_begin = has_more && running.len() < in_flight && order.admits(begun);
        if !may_begin && running.is_empty() {
            break;
        }
        tokio::select! {
            line = input.next(), if may_begin => match line {
                Ok(Some(line)) => {
                    let (asker, index) = (Arc::clone(&asker), begun);
                    running.push(task::spawn("map-line", async move { (index, asker.ask(line).await) }).join());
                    begun += 1;
                }
                Ok(None) => has_more = false,
                Err(error) => return Err(Problem::new(ExitCode::Internal, format!("standard input: {error}"))),
            },
            Some(ended) = running.next(), if !running.is_empty() => {
                let (index, answer) = ended.ok_or_else(|| Problem::new(ExitCode::Internal, "a line's task panicked"))?;
                let Answer { text, end } = answer.map_err(|error| broken_off(error, &asker, &meter))?;
                meter.count(end, running.len());
                let ready = order.take(index, text);
                meter.beside(|| ready.iter().try_for_each(|line| session.output().text(line)))?;
            }
        }
    }
    Ok(meter.finish())
}

/// Why it could not go on, and how it can.
fn broken_off(error: client::Error, asker: &Asker, meter: &Meter) -> Problem {
    let problem = refusal::problem(error);
    let ended = meter.ended();
    let told = Problem { message: format!("broken off after {ended} lines: {}", problem.message), ..problem };
    match (&asker.job, &told.advice) {
        (Some(job), _) => told.advise(format!("the same command with --job {job} goes on from here")),
        (None, None) => told.advise("with --job NAME it could go on from here when started again"),
        (None, Some(_)) => told,
    }
}
