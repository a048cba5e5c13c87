//! Whether the store takes anything, and how much room there is.

use std::time::Duration;

use broker::{Kind, topology::inspect};
use protocol::{byte_size::format as bytes, mark, topology::bucket_stream};

use super::Found;
use crate::{Patient, finding::Finding};

/// Above this share of the bound there is a warning.
const WARNING_PERCENT: u64 = 80;

/// A stream that holds this share of all that is stored is worth shortening.
const SHARE_PERCENT: u64 = 10;

/// The part of the log lines that is left where they take the room.
const LOGS_PART: u64 = 4;

/// How long the key lives that is written to learn whether the store takes it.
const PROBE_TTL: Duration = Duration::from_secs(1);

pub(super) async fn store(patient: &Patient) -> Found {
    // Only a write tells: the account does not know the server's own bound.
    patient.stream(&bucket_stream(&patient.names().state)).await?;
    let probe = probe(patient).await;
    if let Err(error) = &probe
        && error.kind() == Kind::StoreFull
    {
        return Ok(vec![make_room(patient, Finding::error(format!("the store is full: {error}"))).await]);
    }
    let account = inspect::account(patient.connection()).await?;
    let server = patient.store().await.ok();
    let account_bound = account.stored_max.map(|bound| (account.stored, bound));
    let server_bound = server.and_then(|store| Some((store.stored, store.stored_max?)));
    let bounds = [account_bound, server_bound].into_iter().flatten();
    let fullest = bounds.max_by_key(|(stored, bound)| percent(*stored, *bound));
    if let Some((stored, bound)) = fullest
        && percent(stored, bound) >= WARNING_PERCENT
    {
        let seen = format!("{} % of the store are used: {} of {}", percent(stored, bound), bytes(stored), bytes(bound));
        return Ok(vec![make_room(patient, Finding::warning(seen)).await]);
    }
    probe?;
    Ok(vec![Finding::ok(match fullest {
        Some((stored, bound)) => format!("{} of {} are used", bytes(stored), bytes(bound)),
        None => format!("{} are stored, and more is taken", bytes(account.stored)),
    })])
}

/// Writes a key, once. Whoever else examines the fleet may have been first, which says the same.
async fn probe(patient: &Patient) -> Result<(), broker::Error> {
    let bucket = patient.bucket(&patient.names().state);
    let revision = bucket.get(mark::PROBE_KEY).await?.map_or(0, |entry| entry.revision);
    match bucket.update(mark::PROBE_KEY, "", revision, Some(PROBE_TTL)).await {
        Err(error) if !matches!(error.kind(), Kind::WrongSequence | Kind::Contended) => Err(error),
        _ => Ok(()),
    }
}

/// Says what takes the room, and what gives some back without losing what was promised.
async fn make_room(patient: &Patient, finding: Finding) -> Finding {
    let names = patient.names();
    let mut largest: Vec<(&str, u64)> =
        patient.streams().await.into_iter().map(|facts| (facts.stream.name.as_str(), facts.bytes)).collect();
    largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let told: Vec<String> = largest
        .iter()
        .take(3)
        .filter(|(_, size)| *size > 0)
        .map(|(name, size)| format!("{name} {}", bytes(*size)))
        .collect();
    let finding = Finding { seen: format!("{}; the largest: {}", finding.seen, told.join(", ")), ..finding };
    let all: u64 = largest.iter().map(|(_, bytes)| bytes).sum();
    let holds = |stream: &str| {
        largest.iter().find(|(name, _)| *name == stream).is_some_and(|(_, bytes)| percent(*bytes, all) >= SHARE_PERCENT)
    };
    // Events and log lines prove nothing: less of outcomes, dead letters or audit would cut short what was promised.
    let more = "give the server more (max_file_store, and reload it)";
    let spare = largest.iter().find(|(name, _)| *name == names.events || *name == names.logs);
    match spare.filter(|(name, _)| holds(name)) {
        Some((name, _)) if *name == names.events => {
            return finding
                .remedy(format!("{more}, or keep less of {name}: a shorter retention makes room at once"))
                .command("sortie topology apply --events-kept 1h");
        }
        Some((name, size)) => {
            return finding
                .remedy(format!("{more}, or keep less of {name}: the oldest lines go at once"))
                .command(format!("sortie topology apply --logs-bytes-max {}MB", size / LOGS_PART / 1_000_000 + 1));
        }
        None => {}
    }
    if holds(&names.requests) || holds(&names.unique) {
        return finding
            .remedy(format!(
                "{more}; then start agents for the work that waits, or cancel it: a full store takes no cancel"
            ))
            .command("sortie queues");
    }
    finding.remedy(more)
}

fn percent(stored: u64, bound: u64) -> u64 {
    stored.saturating_mul(100) / bound.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_counted_without_overflow() {
        assert_eq!([percent(4, 5), percent(1, 0), percent(u64::MAX, 2)], [80, 100, u64::MAX / 2]);
    }
}
