//! Messages under which workers died, before the third death sets them aside.

use std::collections::BTreeSet;

use protocol::limits;

use super::Found;
use crate::{
    Patient,
    finding::{Finding, counted},
};

pub(super) async fn poison(patient: &Patient) -> Found {
    let suspects = patient.client().suspects().await?;
    let alive: BTreeSet<_> = patient.agents().await?.iter().map(|agent| &agent.instance).collect();
    let finding = |suspect: &client::Suspect| {
        let deaths = suspect.deaths(&alive);
        // One death is a worker's own affair until another follows.
        (deaths > 1).then(|| {
            let id = &suspect.id;
            let seen = format!(
                "request {id} ({}): {} died with it in their hands; at {} it is set aside",
                suspect.subject,
                counted(deaths, "worker"),
                limits::POISON_MARKS
            );
            Finding::warning(seen)
                .about(id)
                .remedy("if it kills them, cancel it before it kills the next; why they died stands in their logs")
                .command(format!("sortie cancel {id}"))
        })
    };
    Ok(suspects.iter().filter_map(finding).collect())
}
