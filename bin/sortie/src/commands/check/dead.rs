//! `sortie check dead`: requests that were given up lately.

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use client::Client;
use protocol::{DeadLetter, duration};

use super::{
    Common,
    verdict::{Bounds, Reading, Verdict},
};

/// The latest letters, which are read; more than that within the time count as so many.
const READ_MAX: u64 = 1_000;

#[derive(Debug, clap::Args)]
pub(super) struct DeadArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// How long ago they were given up at most; the latest 1,000 are looked at
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "1h")]
    within: Duration,
    /// A warning from here on
    #[arg(long, value_name = "N", default_value_t = 1)]
    warn: u64,
    /// Critical from here on
    #[arg(long, value_name = "N", default_value_t = 20)]
    crit: u64,
}

pub(super) async fn ask(args: &DeadArgs, client: &Client) -> Result<Verdict, String> {
    let letters = doctor::latest_letters(client, args.common.capability.as_ref(), READ_MAX);
    let letters = letters.await.map_err(|unknown| unknown.reason)?;
    let now = client.now().await.map_err(|error| error.to_string())?;
    let within = TimeDelta::from_std(args.within).unwrap_or(TimeDelta::MAX);
    let recent: Vec<&DeadLetter> = letters.iter().filter(|letter| now - letter.dead_at < within).collect();
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for letter in &recent {
        *counts.entry((letter.capability.as_str(), letter.failure.code.as_str())).or_default() += 1;
    }
    let reading = |metric, help, of, value, bounds| Reading { metric, help, of, value, is_seconds: false, bounds };
    let bounds = Bounds::From { warning: args.warn, critical: args.crit };
    let all = recent.len() as u64;
    let mut readings = vec![reading(
        "dead_recent",
        "Requests given up within the time asked for.",
        BTreeMap::new(),
        all,
        Some(bounds),
    )];
    for ((capability, code), count) in &counts {
        let of = BTreeMap::from([("capability", (*capability).to_owned()), ("code", (*code).to_owned())]);
        readings.push(reading("dead_recent_by_code", "The same by capability and code.", of, *count, None));
    }
    let within = duration::format(args.within);
    let message = match counts.iter().max_by_key(|(_, count)| **count) {
        None => format!("nothing was given up within {within}"),
        Some(((capability, code), count)) => {
            format!("{all} given up within {within}; {capability} {code}: {count}")
        }
    };
    Ok(Verdict::of(readings, message))
}
