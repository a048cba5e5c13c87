//! `sortie cancel` with a filter.

use std::time::Duration;

use clap::{Args, Command, FromArgMatches};
use client::{CancelFilter, CancelTally};
use process::{ExitCode, Problem};
use protocol::{Capability, Lane, duration, topology::Source};
use serde_json::{Value, json};

use crate::{commands::pairs, meter::Meter, refusal, session::Session};

/// Refusals that people are shown.
const REFUSALS_SHOWN: usize = 20;

/// Ids that people are shown.
const IDS_SHOWN: usize = 20;

/// Of which all must hold that are given.
#[derive(Debug, Default, Args)]
pub(super) struct ManyArgs {
    /// All that is queued, waiting or running
    #[arg(long)]
    all: bool,
    /// All for this capability
    #[arg(long, value_name = "NAME")]
    capability: Option<Capability>,
    /// All in this lane; retries and delays count for the lane that they go to
    #[arg(long, value_name = "urgent|normal|bulk|unique", value_parser = parse_lane)]
    lane: Option<Source>,
    /// All that have lain where they are for longer than this
    #[arg(long, value_name = "1h", value_parser = duration::parse)]
    older_than: Option<Duration>,
    /// Any of these in one word, `lane=bulk`; may be repeated
    #[arg(long = "filter", value_name = "NAME=VALUE", value_parser = pairs::parse)]
    pairs: Vec<(String, String)>,
    /// Show how many that would be, and which, and cancel nothing
    #[arg(long)]
    dry_run: bool,
}

fn parse_lane(text: &str) -> Result<Source, String> {
    match text {
        "urgent" => Ok(Source::Lane(Lane::Urgent)),
        "normal" => Ok(Source::Lane(Lane::Normal)),
        "bulk" => Ok(Source::Lane(Lane::Bulk)),
        "unique" => Ok(Source::Unique),
        _ => Err(format!("`{text}` is none of urgent, normal, bulk, unique")),
    }
}

fn lane_name(source: Source) -> &'static str {
    match source {
        Source::Lane(Lane::Urgent) => "urgent",
        Source::Lane(Lane::Normal) => "normal",
        Source::Lane(Lane::Bulk) => "bulk",
        Source::Unique => "unique",
    }
}

impl ManyArgs {
    fn filter(&self) -> Result<CancelFilter, Problem> {
        let mut filter =
            CancelFilter { capability: self.capability.clone(), source: self.lane, older_than: self.older_than };
        for (name, value) in &self.pairs {
            let known = ["capability", "lane", "older-than"];
            let grammar = Self::augment_args(Command::new("filter"));
            let read = pairs::read(grammar, name, value, &known, Self::from_arg_matches)?;
            filter.capability = read.capability.or(filter.capability);
            filter.source = read.lane.or(filter.source);
            filter.older_than = read.older_than.or(filter.older_than);
        }
        Ok(filter)
    }
}

fn described(filter: &CancelFilter) -> Value {
    json!({
        "capability": filter.capability,
        "lane": filter.source.map(lane_name),
        "older_than": filter.older_than.map(duration::format),
    })
}

pub(super) async fn run(args: ManyArgs, session: &Session) -> Result<ExitCode, Problem> {
    let filter = args.filter()?;
    let client = session.client().await?;
    if !args.dry_run {
        let target = filter.capability.as_ref().map_or("all", Capability::as_str);
        super::record(session, target, described(&filter)).await?;
    }
    let meter = Meter::new(if args.dry_run { "looking" } else { "cancelling" }, None);
    let tally = client.cancel_many(&filter, args.dry_run, |tally| meter.at(tally.matched, "")).await;
    drop(meter);
    let tally = tally.map_err(|error| {
        let problem = refusal::problem(error);
        let message = format!("broken off: {}", problem.message);
        Problem { message, ..problem }
    })?;
    let document = json!({
        "dry_run": args.dry_run,
        "matched": tally.matched,
        "cancelled": tally.cancelled,
        "done_before": tally.done,
        "steps": tally.steps,
        "refused": tally.refused.iter().map(|(id, error)| json!({ "id": id, "refusal": error.to_string() })).collect::<Vec<_>>(),
        "examples": tally.examples,
    });
    session.output().show(&document, || human(&tally, args.dry_run))?;
    let refused = tally.refused.into_iter().next();
    Ok(refused.map_or(ExitCode::Done, |(_, error)| refusal::problem(error).code))
}

fn human(tally: &CancelTally, is_dry: bool) -> String {
    let mut lines = Vec::new();
    if is_dry {
        lines.extend(tally.examples.iter().take(IDS_SHOWN).map(ToString::to_string));
        if tally.matched > IDS_SHOWN {
            lines.push(format!("and {} others", tally.matched - IDS_SHOWN));
        }
        lines.push(format!("{} would be cancelled; nothing was done", tally.matched));
    } else {
        let refused = tally.refused.iter().take(REFUSALS_SHOWN);
        lines.extend(refused.map(|(id, error)| format!("{id} is not cancelled: {error}")));
        lines.push(format!("{} of {} cancelled", tally.cancelled, tally.matched));
        if tally.done > 0 {
            lines.push(format!("{} got done before they could be", tally.done));
        }
    }
    if tally.steps > 0 {
        lines.push(format!("{} are steps of runs, which are cancelled with their runs", tally.steps));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_is_read_as_it_is_named() {
        for source in Source::ALL {
            assert_eq!(parse_lane(lane_name(source)), Ok(source));
        }
        assert!(parse_lane("fast").unwrap_err().contains("urgent, normal, bulk, unique"));
    }

    #[test]
    fn pairs_say_the_same_as_flags() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let pairs = vec![pair("capability", "echo"), pair("lane", "bulk"), pair("older-than", "1h")];
        let filter = ManyArgs { pairs, ..ManyArgs::default() }.filter().unwrap();
        let flags = ManyArgs {
            capability: Capability::parse("echo").ok(),
            lane: Some(Source::Lane(Lane::Bulk)),
            older_than: Some(Duration::from_secs(3_600)),
            ..ManyArgs::default()
        };
        assert_eq!(filter, flags.filter().unwrap());
        for (name, value) in [("colour", "red"), ("lane", "fast"), ("all", "true"), ("dry-run", "yes")] {
            let fault = ManyArgs { pairs: vec![pair(name, value)], ..ManyArgs::default() }.filter().unwrap_err();
            assert!(fault.to_string().contains("older-than"), "{fault}");
        }
    }
}
