//! `sortie dead list`: what was given up, one by one or counted by what they have in common.

use clap::ValueEnum;
use client::dead::{Group, GroupBy, Listed};
use process::{ExitCode, Problem};
use protocol::{limits, time};

use super::filter::FilterArgs;
use crate::{output::Output, refusal, session::Session};

/// List dead letters, the latest last
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// The latest so many
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "group_by")]
    limit: usize,
    /// Count those with the same, with first and last time and the latest as an example
    #[arg(long, value_name = "WHAT")]
    group_by: Option<By>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Code,
    Capability,
    Version,
}

pub(super) async fn run(args: ListArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let filter = args.filter.resolved()?.filter(client).await?;
    let output = session.output();
    if let Some(by) = args.group_by {
        let (by, title) = match by {
            By::Code => (GroupBy::Code, "CODE"),
            By::Capability => (GroupBy::Capability, "CAPABILITY"),
            By::Version => (GroupBy::Version, "VERSION"),
        };
        let groups = client.dead_groups(&filter, by).await.map_err(refusal::problem)?;
        output.show(&groups, || match groups.is_empty() {
            true => nothing(filter.is_any()),
            false => group_table(output, title, &groups),
        })?;
        return Ok(ExitCode::Done);
    }
    let letters = client.dead_list(&filter, args.limit).await.map_err(refusal::problem)?;
    output.show(&letters, || match letters.len() {
        0 => nothing(filter.is_any()),
        count if count == args.limit => format!("{}\nand maybe earlier ones: see --limit", table(output, &letters)),
        _ => table(output, &letters),
    })?;
    Ok(ExitCode::Done)
}

fn nothing(of_all: bool) -> String {
    if of_all { "nothing was given up" } else { "nothing that matches was given up" }.to_owned()
}

pub(super) fn table(output: Output, letters: &[Listed]) -> String {
    let rows = letters.iter().map(|Listed { letter, replays }| {
        [
            time::format(letter.dead_at),
            letter.id.to_string(),
            letter.capability.to_string(),
            letter.attempt.to_string(),
            letter.failure.code.clone(),
            if replays.is_empty() { "-".to_owned() } else { replays.len().to_string() },
            limits::truncate(&letter.failure.message, 120),
        ]
    });
    output.table(&["GIVEN UP", "REQUEST", "CAPABILITY", "ATTEMPT", "CODE", "AGAIN", "WHY"], rows)
}

fn group_table(output: Output, title: &str, groups: &[Group]) -> String {
    let rows = groups.iter().map(|group| {
        let key = if group.key.is_empty() { "-".to_owned() } else { group.key.clone() };
        [
            key,
            group.count.to_string(),
            group.replayed.to_string(),
            time::format(group.first),
            time::format(group.last),
            group.example.to_string(),
        ]
    });
    output.table(&[title, "COUNT", "SENT AGAIN", "FIRST", "LAST", "EXAMPLE"], rows)
}
