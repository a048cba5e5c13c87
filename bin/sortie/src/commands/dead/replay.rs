//! `sortie dead replay`: letters sent again, one or many, no faster and no further than is good.

use std::time::Duration;

use client::dead::{Again, ENDED_MIN, Pace, Rate, Tally};
use process::{ExitCode, Problem};
use protocol::{RequestId, duration};
use serde_json::{Value, json};

use super::selection::{Selection, SelectionArgs};
use crate::{meter::Meter, refusal, session::Session};

/// Replays in flight: more would only wait elsewhere.
const IN_FLIGHT_MAX: usize = 10_000;

// As the help of --stop-if-failing says.
const _: () = assert!(ENDED_MIN == 10);

/// Refusals that people are shown.
const REFUSALS_SHOWN: usize = 20;

/// Send again, each as a new request with a new id; the letter stays, and is marked
///
/// Named letters are sent and that is all. With --all or filters outcomes are waited for, too, so that it can be told what
/// became of them. Those that were sent again before are left out, unless --again is said.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Show what would be sent again, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// So many in so long [default: as fast as it goes]
    #[arg(long, value_name = "50/s", value_parser = Rate::parse)]
    rate: Option<Rate>,
    /// Stop, with exit code 1, when more than this share of those that ended failed again; ten must have ended, and no
    /// more than ten are sent before
    #[arg(long, value_name = "20%", value_parser = parse_share)]
    stop_if_failing: Option<f64>,
    /// Replays without an outcome at a time
    #[arg(long, value_name = "N", default_value = "64", value_parser = parse_in_flight)]
    in_flight: usize,
    /// Wait for each outcome at most this long
    #[arg(long, value_name = "60s", value_parser = duration::parse)]
    within: Option<Duration>,
    /// Also those that were sent again before
    #[arg(long)]
    again: bool,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0),
        None => text.parse().ok(),
    };
    let share = number.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is not a share such as 20% or 0.2"))
}

fn parse_in_flight(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=IN_FLIGHT_MAX).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number from 1 to {IN_FLIGHT_MAX}"))
}

pub(super) async fn run(args: ReplayArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let again = args.again;
    let selection = args.selection.find(client, |filter| if again { filter } else { filter.not_replayed() }).await?;
    if args.dry_run {
        return dry_run(&selection, session);
    }
    let how = json!({ "again": args.again, "rate": args.rate.map(|rate| rate.to_string()),
        "stop_if_failing": args.stop_if_failing });
    session.audit("dead-replay", &selection.target(), selection.detail(how)).await?;
    let pace = Pace {
        rate: args.rate,
        in_flight_max: args.in_flight,
        waits: !selection.is_named || args.stop_if_failing.is_some() || args.within.is_some(),
        failing_max: args.stop_if_failing,
        ..Pace::default()
    };
    let pace = Pace { within: args.within.unwrap_or(pace.within), ..pace };
    let again = Again { repeated: args.again, body: None, by: Some(session.operator()) };
    let is_named = selection.is_named;
    let meter = Meter::new("sending again", Some(selection.ids.len()));
    let tally = client
        .replay_many(selection.ids, &again, &pace, |tally| {
            meter.at(tally.done(), format!("{} failed again", tally.failing()));
        })
        .await;
    drop(meter);
    session.output().show(&document(&tally), || human(&tally, is_named, args.stop_if_failing))?;
    match (tally.fault, tally.refused.into_iter().next()) {
        (Some(error), _) => {
            let problem = refusal::problem(error);
            let message = format!("broken off: {}", problem.message);
            Err(Problem { message, ..problem }.advise("the same command goes on from here"))
        }
        (None, Some((_, error))) => Ok(refusal::problem(error).code),
        (None, None) if tally.is_stopped => Ok(ExitCode::WorkFailed),
        (None, None) => Ok(ExitCode::Done),
    }
}

pub(super) fn dry_run(selection: &Selection, session: &Session) -> Result<ExitCode, Problem> {
    let document = json!({ "dry_run": true, "count": selection.ids.len(), "ids": selection.ids });
    session.output().show(&document, || {
        let ids = selection.ids.iter().map(|id| format!("{id}\n"));
        format!("{}{} of them; nothing was done", ids.collect::<String>(), selection.ids.len())
    })?;
    Ok(ExitCode::Done)
}

fn document(tally: &Tally) -> Value {
    let each = |how: &str, list: &[(RequestId, RequestId)]| -> Vec<Value> {
        list.iter().map(|(id, request)| json!({ "id": id, "request": request, "how": how })).collect()
    };
    let mut letters = each("sent", &tally.sent);
    letters.extend(each("finished", &tally.finished));
    letters.extend(each("before", &tally.before));
    letters.extend(
        tally.refused.iter().map(|(id, error)| json!({ "id": id, "how": "refused", "refusal": error.to_string() })),
    );
    json!({
        "count": tally.all,
        "letters": letters,
        "outcomes": tally.outcomes,
        "pending": tally.pending,
        "stopped": tally.is_stopped,
    })
}

fn human(tally: &Tally, is_named: bool, failing_max: Option<f64>) -> String {
    let mut lines = Vec::new();
    if is_named {
        lines.extend(tally.sent.iter().map(|(id, request)| format!("{id} is sent again as {request}")));
        let finished = tally.finished.iter();
        lines.extend(finished.map(|(id, request)| format!("{id} had been sent again as {request}; it is marked now")));
        let before = tally.before.iter();
        lines.extend(before.map(|(id, request)| format!("{id} was sent again before, as {request}: see --again")));
    } else {
        let sent = tally.sent.len() + tally.finished.len();
        lines.push(format!("{sent} of {} sent again", tally.all));
    }
    let refused = tally.refused.iter().take(REFUSALS_SHOWN);
    lines.extend(refused.map(|(id, error)| format!("{id} is not sent again: {error}")));
    if tally.refused.len() > REFUSALS_SHOWN {
        lines.push(format!("and {} others are not", tally.refused.len() - REFUSALS_SHOWN));
    }
    lines.extend(tally.outcomes.iter().map(|(status, count)| format!("{count} {status}")));
    if tally.pending > 0 {
        lines.push(format!("{} without an outcome yet", tally.pending));
    }
    if let (true, Some(share)) = (tally.is_stopped, failing_max) {
        let (failing, ended) = (tally.failing(), tally.ended());
        lines.push(format!(
            "stopped: {failing} of {ended} that ended failed again, more than {:.0}%; {} were left",
            share * 100.0,
            tally.all - tally.done()
        ));
        lines.push("`sortie dead list --since 5m --group-by code` shows what they failed of".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, share) in [("20%", Some(0.2)), ("0.5", Some(0.5)), ("0", Some(0.0)), ("100%", Some(1.0))] {
            assert_eq!(parse_share(text).ok(), share, "{text}");
        }
        for bad in ["", "200%", "-1", "a lot", "%"] {
            assert!(parse_share(bad).unwrap_err().contains("20%"), "{bad}");
        }
        assert!(parse_in_flight("0").is_err() && parse_in_flight("10000").is_ok());
    }
}
