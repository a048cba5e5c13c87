//! After a loss of power that was allowed to take acknowledged messages with it: they are counted, the audit names exactly
//! those, and what was accepted since ended as ever.
//!
//! Each stream loses what it has not flushed, and one that was flushed a moment after another knows of what that one has not
//! seen. So of what was accepted before, a failed request may be without its dead letter, a large body without its object,
//! and a run may have lost the request or the timer that it waits for.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use broker::topology;
use protocol::{
    RequestId, Status, accepted::Accepted, codes, run::StoredFact, subject::filter, time::Timestamp, topology::Names,
};
use serde_json::Value;
use sortie_tests::{Fleet, binaries, program, until_some};

use crate::{
    load::{Asked, Load},
    proof::{NAMED_MAX, REST_WITHIN, Stored, messages},
    report::Row,
};

/// Where the requests are that were accepted.
#[derive(Debug, Default)]
struct Sides {
    /// Handed over before the power came back for the last time.
    before: BTreeSet<RequestId>,
    since: BTreeSet<RequestId>,
}

pub(crate) async fn prove(fleet: &Fleet, load: Load, since: Timestamp, row: &mut Row) -> Result<()> {
    let asked = load.stop().await.context("the load")?;
    (row.accepted, row.refused) = (asked.accepted.len() as u64, asked.refused);
    row.said_again.clone_from(&asked.said_again);
    let over = std::time::Instant::now();
    let sides = Sides::read(&asked.file, since)?;
    ensure!(
        !sides.before.is_empty() && !sides.since.is_empty(),
        "nothing was asked for: {} before, {} since",
        sides.before.len(),
        sides.since.len()
    );
    let stored = rest(fleet, &sides, row).await?;
    row.rest_secs = over.elapsed().as_secs_f64();
    row.outcomes = stored.ever;
    judge(&asked, &sides, &stored, row);
    let begun = begun(fleet).await?;
    let named = Named::by_audit(fleet, &asked.file).await?;
    let is_gone = |id: &&RequestId| !stored.by_id.contains_key(*id) && !begun.contains(*id);
    let gone: BTreeSet<_> = sides.before.iter().filter(is_gone).cloned().collect();
    row.gone = gone.len() as u64;
    if named.lost != gone {
        let (false_alarms, passed_over) = (named.lost.difference(&gone), gone.difference(&named.lost));
        row.faults.push(format!(
            "sortie audit calls lost what is there: {:?}; and what is gone not: {:?}",
            false_alarms.take(NAMED_MAX).collect::<Vec<_>>(),
            passed_over.take(NAMED_MAX).collect::<Vec<_>>(),
        ));
    }
    for id in &named.unburied {
        let has_failed = stored.by_id.get(id).is_some_and(|(_, status, ..)| *status == Status::Failed);
        if !has_failed || !sides.before.contains(id) {
            row.faults.push(format!(
                "sortie audit misses a dead letter of {id}, which was accepted since, or has not failed"
            ));
        }
    }
    Ok(())
}

/// Runs that are under way, as far as their logs know.
async fn begun(fleet: &Fleet) -> Result<BTreeSet<RequestId>> {
    let (runs, filter) = (Names::of(&fleet.namespace).runs, filter::runs_started(&fleet.namespace));
    let subjects = topology::subject_counts(&fleet.connection, &runs, &filter).await?.into_keys();
    Ok(subjects
        .filter_map(|subject| StoredFact::parse(&fleet.namespace, &subject))
        .map(|fact| RequestId::from(&fact.run))
        .collect())
}

impl Sides {
    fn read(file: &Path, since: Timestamp) -> Result<Self> {
        let mut sides = Self::default();
        for line in std::fs::read_to_string(file)?.lines() {
            let Ok(accepted) = Accepted::read(line.as_bytes()) else { continue };
            let side = if accepted.at < since { &mut sides.before } else { &mut sides.since };
            side.insert(accepted.id);
        }
        // What was accepted again since is accepted.
        sides.before.retain(|id| !sides.since.contains(id));
        Ok(sides)
    }
}

/// Waits until no request is queued, and whatever was accepted since has an outcome. Of runs that have lost their first fact,
/// others may be left, for an hour.
async fn rest(fleet: &Fleet, sides: &Sides, row: &mut Row) -> Result<Stored> {
    let rested = until_some(REST_WITHIN, || async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let [requests, unique, _] = messages(fleet).await.ok()?;
        let stored = Stored::read(fleet).await.ok().filter(|_| requests + unique == 0)?;
        sides.since.iter().all(|id| stored.by_id.contains_key(id)).then_some(stored)
    });
    if let Some(stored) = rested.await {
        return Ok(stored);
    }
    let (left, stored) = (messages(fleet).await?, Stored::read(fleet).await?);
    let missing: Vec<_> = sides.since.iter().filter(|id| !stored.by_id.contains_key(*id)).collect();
    row.stuck += left[0] + left[1] + missing.len() as u64;
    row.faults.push(crate::proof::consumers(fleet).await?);
    row.faults.push(format!(
        "not at rest after {REST_WITHIN:?}: messages of requests, unique ones and runs: {left:?}; accepted since, and without \
         an outcome: {} such as {:?}",
        missing.len(),
        &missing[..missing.len().min(NAMED_MAX)],
    ));
    Ok(stored)
}

fn judge(asked: &Asked, sides: &Sides, stored: &Stored, row: &mut Row) {
    for (id, (count, status, code, _)) in &stored.by_id {
        if *count > 1 {
            row.duplicated += 1;
            row.faults.push(format!("{id} has {count} outcomes"));
        }
        let Some(kind) = asked.accepted.get(id).filter(|kind| !kind.may_end(*status)) else { continue };
        let is_since = sides.since.contains(id);
        match code.as_deref() {
            Some(codes::POISON) => {
                row.poisoned += 1;
                continue;
            }
            Some(codes::PAYLOAD_MISSING) if !is_since => continue,
            _ => row.wrong += 1,
        }
        let side = if is_since { "since" } else { "before" };
        row.faults.push(format!("{id} ({kind:?}, accepted {side}) ended {status} {code:?}"));
    }
}

/// What the command names.
#[derive(Debug, Default)]
struct Named {
    lost: BTreeSet<RequestId>,
    /// Failed, without a dead letter.
    unburied: BTreeSet<RequestId>,
}

impl Named {
    async fn by_audit(fleet: &Fleet, file: &Path) -> Result<Self> {
        let mut command = program::command(fleet, &binaries::path("sortie"));
        command.args(["audit", "--json", "--accepted"]).arg(file);
        let output =
            tokio::time::timeout(REST_WITHIN, command.output()).await.context("sortie audit does not end")??;
        let document: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("sortie audit: {}", String::from_utf8_lossy(&output.stderr)))?;
        let mut named = Self::default();
        let faults = document["faults"].as_array().context("no list of faults")?;
        for fault in faults {
            let id = RequestId::parse(fault["id"].as_str().context("no id")?)?;
            match fault["fault"].as_str() {
                Some("lost") => named.lost.insert(id),
                Some("unburied") => named.unburied.insert(id),
                _ => anyhow::bail!("it has other faults than losses: {fault}"),
            };
        }
        ensure!(
            output.status.success() == faults.is_empty(),
            "{} faults, and it ended with {}",
            faults.len(),
            output.status
        );
        Ok(named)
    }
}
