//! Recurring requests whose schedule is not what their spec says. One that the broker has forgotten does not show: a
//! coordinator stores each again from time to time for that.

use client::{CronEntry, CronState};

use super::Found;
use crate::{Patient, finding::Finding};

pub(super) async fn crons(patient: &Patient) -> Found {
    Ok(patient.client().crons().await?.iter().filter_map(judged).collect())
}

fn judged(entry: &CronEntry) -> Option<Finding> {
    let name = &entry.name;
    let finding = match entry.state {
        CronState::Active | CronState::Paused | CronState::ByHand => return None,
        CronState::Unsettled => Finding::warning(format!("cron {name} does not fire as its spec says"))
            .remedy("a coordinator makes its schedule anew")
            .command("sortie process coordinator"),
        CronState::Invalid => {
            let fault = entry.fault.as_deref().unwrap_or("it cannot be read");
            Finding::error(format!("cron {name} has a spec that nobody can read: {fault}"))
                .remedy("add it again with --replace, or remove it")
                .command(format!("sortie cron remove {name}"))
        }
    };
    Some(finding.about(name))
}
