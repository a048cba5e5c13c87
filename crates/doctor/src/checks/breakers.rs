//! Circuit breakers that do not let calls through.

use client::NamedBreaker;
use protocol::{breaker::State, time};

use super::Found;
use crate::{Patient, finding::Finding};

pub(super) async fn breakers(patient: &Patient) -> Found {
    let breakers = patient.client().breakers().await?;
    Ok(breakers.iter().filter(|one| one.now != State::Closed).map(open).collect())
}

fn open(one: &NamedBreaker) -> Finding {
    let breaker = &one.breaker;
    let pauses: Vec<&str> = breaker.pauses.iter().map(|capability| capability.as_str()).collect();
    let effect = match pauses.as_slice() {
        [] => String::new(),
        pauses => format!("; paused meanwhile: {}", pauses.join(", ")),
    };
    let cause = breaker.opened.as_ref().map_or_else(String::new, |opening| {
        format!(", opened by {} at {}: {} {}", opening.by, time::format(opening.at), opening.code, opening.message)
    });
    let (how, then) = match (one.now, breaker.until) {
        (State::Open, Some(until)) => ("open", format!("trial calls begin at {}", time::format(until))),
        (State::Open, None) => ("open", "trial calls begin when its time is over".to_owned()),
        _ => ("half open", "it closes when its trial calls succeed".to_owned()),
    };
    Finding::warning(format!("breaker {} is {how}{cause}{effect}", one.name))
        .about(&one.name)
        .remedy(format!("mend what it calls: {then}; where that is mended already, close it at once"))
        .command(format!("sortie breaker reset {}", one.name))
}
