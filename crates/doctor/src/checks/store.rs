//! Whether the store takes anything, and how much room there is.

use std::{cmp::Reverse, time::Duration};

use broker::{Kind, topology::inspect};
use protocol::{byte_size::format as bytes, duration, mark, topology::bucket_stream};

use super::Found;
use crate::{Patient, finding::Finding};

/// Above this share of the bound there is a warning.
const WARNING_PERCENT: u64 = 80;

/// A stream that holds this share of all that is stored is worth shortening.
const SHARE_PERCENT: u64 = 10;

/// The part of the log lines that is left where they take the room.
const LOGS_PART: u64 = 4;

/// Retentions that are named, in seconds: from ten seconds to ten days.
const RETENTIONS: [u64; 16] =
    [10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 172_800, 259_200, 432_000, 604_800, 864_000];

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
    let facts = patient.streams().await;
    let mut largest: Vec<(String, u64)> = facts
        .iter()
        .map(|facts| (facts.stream.name.clone(), facts.bytes * facts.stream.replicas.max(1) as u64))
        .collect();
    largest.sort_by_key(|(_, bytes)| Reverse(*bytes));
    let all: u64 = largest.iter().map(|(_, bytes)| bytes).sum();
    let more = "give the server more (max_file_store, and reload it)";
    let others = others(patient, &largest, all).await;
    let finding = match &others {
        Some(Others { bytes: held, largest }) => {
            let listed = told(largest);
            let listed = if listed.is_empty() { listed } else { format!(" ({listed})") };
            let seen =
                format!("{}; streams that are not this fleet's hold {} of it{listed}", finding.seen, bytes(*held));
            Finding { seen, ..finding }
        }
        None => Finding { seen: format!("{}; the largest: {}", finding.seen, told(&largest)), ..finding },
    };
    if let Some(Others { largest, .. }) = others {
        let whose = match largest.first() {
            Some((name, _)) => format!("have whoever owns it keep less of {name}, which is not this fleet's"),
            None => {
                "have whoever owns them keep less; this user may not list them, or another account has them".to_owned()
            }
        };
        return finding.remedy(format!("{more}, or {whose}: no retention of the fleet makes room"));
    }
    let holds = |stream: &str| {
        largest.iter().find(|(name, _)| *name == stream).is_some_and(|(_, bytes)| percent(*bytes, all) >= SHARE_PERCENT)
    };
    // Events and log lines prove nothing: less of outcomes, dead letters or audit would cut short what was promised.
    let spare = largest.iter().find(|(name, _)| *name == names.events || *name == names.logs);
    match spare.filter(|(name, _)| holds(name)) {
        Some((name, _)) if *name == names.events => {
            let (Ok(events), Ok(now)) = (patient.stream(name).await, patient.now().await) else {
                return finding.remedy(more);
            };
            let age = events.first_at.and_then(|first| (now - first).to_std().ok()).unwrap_or_default();
            let Some(kept) = shorter(age).map(duration::format) else {
                return finding.remedy(format!(
                    "{more}; what {name} has is too young for any retention: wait for half a minute, look again, and one is named"
                ));
            };
            let usual = events.stream.max_age.map_or_else(|| "7d".to_owned(), duration::format);
            return finding
                .remedy(format!(
                    "{more}, or keep less of {name} for a while: what is older than {kept} goes at once, and \
                     `sortie topology apply --events-kept {usual}` sets it back"
                ))
                .command(format!("sortie topology apply --events-kept {kept}"));
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

/// What streams hold that are no part of this fleet.
struct Others {
    bytes: u64,
    /// Those that may be listed, the largest first.
    largest: Vec<(String, u64)>,
}

/// Them, where they hold more than the fleet does.
async fn others(patient: &Patient, ours: &[(String, u64)], all: u64) -> Option<Others> {
    let listed = inspect::stored_streams(patient.connection()).await.unwrap_or_default();
    let is_ours = |name: &str| ours.iter().any(|(own, _)| own == name);
    let mut largest: Vec<(String, u64)> = listed.into_iter().filter(|(name, _)| !is_ours(name)).collect();
    largest.sort_by_key(|(_, bytes)| Reverse(*bytes));
    let listed: u64 = largest.iter().map(|(_, bytes)| bytes).sum();
    // What the account and the server hold tells of those that may not be listed.
    let account = inspect::account(patient.connection()).await.map_or(0, |account| account.stored);
    let server = patient.store().await.map_or(0, |store| store.stored);
    let bytes = listed.max(account.max(server).saturating_sub(all));
    (bytes > all).then_some(Others { bytes, largest })
}

fn told(largest: &[(String, u64)]) -> String {
    let some = largest.iter().take(3).filter(|(_, size)| *size > 0);
    some.map(|(name, size)| format!("{name} {}", bytes(*size))).collect::<Vec<_>>().join(", ")
}

/// A retention that lets about the older half go of what goes back so far; none where that is younger than any.
fn shorter(age: Duration) -> Option<Duration> {
    RETENTIONS.iter().rev().map(|seconds| Duration::from_secs(*seconds)).find(|kept| *kept <= age / 2)
}

fn percent(stored: u64, bound: u64) -> u64 {
    stored.saturating_mul(100) / bound.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_retention_lets_the_older_half_go() {
        for (age, kept) in
            [(0, None), (19, None), (20, Some(10)), (240, Some(60)), (7_100, Some(1_800)), (7_200, Some(3_600))]
        {
            assert_eq!(shorter(Duration::from_secs(age)), kept.map(Duration::from_secs), "{age}");
        }
    }

    #[test]
    fn a_share_is_counted_without_overflow() {
        assert_eq!([percent(4, 5), percent(1, 0), percent(u64::MAX, 2)], [80, 100, u64::MAX / 2]);
    }
}
