//! Whether anybody does the duties that nobody else has.

use std::collections::BTreeMap;

use super::Found;
use crate::{
    Patient,
    finding::{Finding, counted},
};

pub(super) async fn coordinator(patient: &Patient) -> Found {
    let leases = patient.bucket(&patient.names().locks).list("coordinator.>").await?;
    let mut holders: BTreeMap<String, usize> = BTreeMap::new();
    for owner in leases.iter().filter_map(|entry| entry.value.as_deref()) {
        *holders.entry(String::from_utf8_lossy(owner).into_owned()).or_default() += 1;
    }
    if holders.is_empty() {
        return Ok(vec![
            Finding::error(
                "no coordinator runs: what nobody serves does not expire, overdue schedules and what the broker gave up stay",
            )
            .remedy("start one; more than one may run, on any machine")
            .command("sortie process coordinator"),
        ]);
    }
    let told: Vec<String> =
        holders.iter().map(|(owner, count)| format!("{owner} has {}", counted(*count, "lease"))).collect();
    Ok(vec![Finding::ok(told.join(", "))])
}
