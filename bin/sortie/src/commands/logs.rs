//! `sortie logs`: what agents and coordinators have logged.

mod line;

use std::time::Duration;

use chrono::TimeDelta;
use client::{LogLines, LogQuery, Regex};
use process::{ExitCode, Problem};
use protocol::{
    Kind, duration,
    log_line::{Level, LogLine},
};

use crate::{output::Output, refusal, session::Session};

/// Lines that are shown where nothing else is said; after a moment in time, so many at most.
const LAST_DEFAULT: usize = 100;
const LAST_SINCE: usize = 10_000;

const EXAMPLES: &str = "\
Examples:
  sortie logs                                    the last 100 lines of every process
  sortie logs --follow --level warn              warnings and errors as they come, until Ctrl-C
  sortie logs --agent 0199f3 --since 10m         of one process, by the beginning or end of its instance id
  sortie logs --request req_0198…                what was said about one request, on whatever machine
  sortie logs --kind coordinator --grep 'lease|dead'
  sortie logs --follow --json | jq -r .message   a JSON document a line

Agents and coordinators ship info and above unless --ship-logs says otherwise; `sortie agents set-log debug …` has
running ones say more. Lines are kept for three days.";

/// See what agents and coordinators have logged
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    /// Go on with lines as they come, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Of one process: the beginning or end of its instance id
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Of processes of this kind; coordinators are of kind `coordinator`
    #[arg(long, value_name = "NAME")]
    kind: Option<Kind>,
    /// That matter at least as much: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "trace", hide_default_value = true)]
    level: Level,
    /// About this request
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Whose text or fields match this regular expression
    #[arg(long, value_name = "REGEX")]
    grep: Option<Regex>,
    /// Of this last while, such as 10m; 10,000 lines at most, unless --last says otherwise
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    since: Option<Duration>,
    /// The latest so many [default: 100]
    #[arg(long, value_name = "N")]
    last: Option<usize>,
}

pub(crate) async fn run(args: LogsArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let since = match args.since {
        Some(while_ago) => {
            let now = client.now().await.map_err(refusal::problem)?;
            Some(now - TimeDelta::from_std(while_ago).unwrap_or(TimeDelta::MAX))
        }
        None => None,
    };
    let query = LogQuery {
        kind: args.kind,
        agent: args.agent,
        level: args.level,
        request: args.request,
        pattern: args.grep,
        last: args.last.unwrap_or(if since.is_some() { LAST_SINCE } else { LAST_DEFAULT }),
        since,
    };
    let output = session.output();
    if !args.follow {
        let found = client.logs(&query).await.map_err(refusal::problem)?;
        output.show(&found.lines, || text(output, &found))?;
        return Ok(ExitCode::Done);
    }
    let (past, mut follower) = client.follow_logs(query).await.map_err(refusal::problem)?;
    show(output, &past.lines)?;
    loop {
        match follower.next().await {
            Ok(lines) => show(output, &lines)?,
            // Whoever follows through a restart of the broker goes on when it is there again.
            Err(error) if error.disposition() == client::Disposition::Retry => {
                tracing::warn!(%error, "lines not read; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(refusal::problem(error)),
        }
    }
}

fn show(output: Output, lines: &[LogLine]) -> Result<(), Problem> {
    for line in lines {
        match output.is_json() {
            true => output.text(&serde_json::to_string(line).unwrap_or_default())?,
            false => output.text(&line::of(line, output.colour()))?,
        }
    }
    Ok(())
}

fn text(output: Output, found: &LogLines) -> String {
    if found.lines.is_empty() {
        let advice = "agents ship their lines unless they were started with --ship-logs off";
        return match found.is_cut {
            true => "no such line among the latest; --since looks further back".to_owned(),
            false => format!("no such line is stored; {advice}"),
        };
    }
    found.lines.iter().map(|line| format!("{}\n", line::of(line, output.colour()))).collect()
}
