//! After a loss of power that was allowed to take acknowledged messages with it: they are counted, the audit names exactly
//! those, and what was accepted since ended as ever.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use protocol::{RequestId, accepted::Accepted, time::Timestamp};
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
    let lost = lost_by_audit(fleet, &asked.file).await?;
    let gone: BTreeSet<_> = sides.before.iter().filter(|id| !stored.by_id.contains_key(*id)).cloned().collect();
    row.gone = gone.len() as u64;
    if lost != gone {
        let (false_alarms, passed_over) = (lost.difference(&gone), gone.difference(&lost));
        row.faults.push(format!(
            "sortie audit calls lost what is there: {:?}; and what is gone not: {:?}",
            false_alarms.take(NAMED_MAX).collect::<Vec<_>>(),
            passed_over.take(NAMED_MAX).collect::<Vec<_>>(),
        ));
    }
    Ok(())
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
        row.wrong += 1;
        let side = if sides.since.contains(id) { "since" } else { "before" };
        row.faults.push(format!("{id} ({kind:?}, accepted {side}) ended {status} {code:?}"));
    }
}

/// What the command calls lost.
async fn lost_by_audit(fleet: &Fleet, file: &Path) -> Result<BTreeSet<RequestId>> {
    let mut command = program::command(fleet, &binaries::path("sortie"));
    command.args(["audit", "--json", "--accepted"]).arg(file);
    let output = tokio::time::timeout(REST_WITHIN, command.output()).await.context("sortie audit does not end")??;
    let document: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("sortie audit: {}", String::from_utf8_lossy(&output.stderr)))?;
    let faults = document["faults"].as_array().context("no list of faults")?;
    let lost: BTreeSet<_> = faults
        .iter()
        .filter(|fault| fault["fault"] == "lost")
        .map(|fault| Ok(RequestId::parse(fault["id"].as_str().context("no id")?)?))
        .collect::<Result<_>>()?;
    ensure!(lost.len() == faults.len(), "it has other faults than losses: {}", document["faults"]);
    ensure!(output.status.success() == lost.is_empty(), "{} lost, and it ended with {}", lost.len(), output.status);
    Ok(lost)
}
