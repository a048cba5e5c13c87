//! Clocks: times meant for the broker are computed on its clock, but people, deadlines and cron go by the wall.

use chrono::TimeDelta;
use protocol::duration;

use super::Found;
use crate::{Patient, finding::Finding};

/// A difference above this is told.
const WARNING: TimeDelta = TimeDelta::seconds(1);

/// A difference above this is an error: deadlines and schedules that people write are off by as much.
const ERROR: TimeDelta = TimeDelta::seconds(30);

/// How far an agent's idea of the broker's clock may be ahead of it.
const AHEAD_MAX: TimeDelta = TimeDelta::seconds(5);

/// How old an entry may be: agents renew it every ten seconds, unless somebody chose otherwise.
const UNSEEN_MAX: TimeDelta = TimeDelta::minutes(2);

/// The servers' clocks against this machine's. What may be owed to the way counts for nothing.
pub(super) async fn servers(patient: &Patient) -> Found {
    let mut worst: Option<(TimeDelta, String)> = None;
    for facts in patient.streams().await {
        let way = TimeDelta::from_std(facts.answered_in / 2).unwrap_or_default();
        let off = (facts.clock_ahead.abs() - way).max(TimeDelta::zero());
        if worst.as_ref().is_none_or(|(most, _)| off > most.abs()) {
            let signed = if facts.clock_ahead < TimeDelta::zero() { -off } else { off };
            worst = Some((signed, facts.leader.clone().unwrap_or_else(|| "the server".to_owned())));
        }
    }
    let Some((off, server)) = worst else { return Ok(Vec::new()) };
    Ok(vec![judged(off, &server)])
}

fn judged(off: TimeDelta, server: &str) -> Finding {
    let size = duration::format(off.abs().to_std().unwrap_or_default());
    let side = if off < TimeDelta::zero() { "behind" } else { "ahead of" };
    let seen = format!("the clock of {server} is {size} {side} this machine's");
    let finding = match off.abs() {
        off if off <= WARNING => return Finding::ok(seen),
        off if off <= ERROR => Finding::warning(seen),
        _ => Finding::error(seen),
    };
    finding.remedy("have every machine keep its clock by NTP (`timedatectl` shows whether it does)")
}

pub(super) async fn agents(patient: &Patient) -> Found {
    let now = patient.now().await?;
    let mut findings = Vec::new();
    for agent in patient.agents().await? {
        let age = now - agent.seen_at;
        let size = duration::format(age.abs().to_std().unwrap_or_default());
        let seen = if age > UNSEEN_MAX {
            format!("{} {} was last seen {size} ago, and its entry still stands", agent.kind, agent.instance)
        } else if age < -AHEAD_MAX {
            format!("{} {} says that it was seen {size} from now", agent.kind, agent.instance)
        } else {
            continue;
        };
        findings.push(
            Finding::warning(seen)
                .about(&agent.instance)
                .remedy(format!("set the clock of {} right, or restart the agent", agent.host))
                .command(format!("sortie agents restart {}", agent.instance)),
        );
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

    #[test]
    fn a_second_is_told_and_half_a_minute_is_an_error() {
        for (millis, severity, words) in [
            (300, Severity::Ok, "300ms ahead of"),
            (-4_000, Severity::Warning, "4s behind"),
            (90_000, Severity::Error, "90s ahead of"),
        ] {
            let finding = judged(TimeDelta::milliseconds(millis), "n1");
            assert_eq!(finding.severity, severity, "{millis}");
            assert!(finding.seen.contains(words), "{}", finding.seen);
        }
    }
}
