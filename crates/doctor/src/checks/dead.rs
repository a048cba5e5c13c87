//! Dead letters: what was given up lately, whether it grows, and what will soon be deleted by its age.

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use protocol::{DeadLetter, duration, time::Timestamp};

use super::Found;
use crate::{
    Patient,
    finding::{Finding, counted},
    letters::latest_letters,
};

/// The latest letters, which are read.
const READ_MAX: u64 = 500;

/// What was given up within this time is told.
const LATELY: TimeDelta = TimeDelta::hours(1);

/// Within this time, so many are more than somebody looks at one by one.
const BURST: (TimeDelta, usize) = (TimeDelta::minutes(5), 20);

pub(super) async fn dead_letters(patient: &Patient) -> Found {
    let name = &patient.names().dead;
    let facts = patient.stream(name).await?;
    let kept = patient.client().dead_count().await?;
    if kept == 0 {
        return Ok(vec![Finding::ok("there is no dead letter")]);
    }
    let now = patient.now().await?;
    let letters = latest_letters(patient.client(), None, READ_MAX).await?;
    let mut findings = lately(&letters, now);
    if let Some((oldest, kept)) = facts.first_at.zip(facts.stream.max_age) {
        findings.extend(expiring(now - oldest, kept));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!(
            "{}, none of the last hour that was not sent again",
            counted(kept, "dead letter")
        )));
    }
    Ok(findings)
}

/// One finding for each capability and code.
fn lately(letters: &[DeadLetter], now: Timestamp) -> Vec<Finding> {
    let mut groups: BTreeMap<(&str, &str), Vec<&DeadLetter>> = BTreeMap::new();
    for letter in letters.iter().filter(|letter| now - letter.dead_at < LATELY) {
        groups.entry((letter.capability.as_str(), letter.failure.code.as_str())).or_default().push(letter);
    }
    let finding = |((capability, code), letters): ((&str, &str), Vec<&DeadLetter>)| {
        let burst = letters.iter().filter(|letter| now - letter.dead_at < BURST.0).count();
        let seen = format!(
            "{capability}: {} given up within the last hour, {burst} within five minutes: {code}",
            counted(letters.len(), "request")
        );
        let finding = if burst >= BURST.1 { Finding::error(seen) } else { Finding::warning(seen) };
        let finding = finding.about(capability);
        match letters.as_slice() {
            [only] => finding
                .remedy("read its story; then replay it when the cause is gone, or drop it")
                .command(format!("sortie dead show {}", only.id)),
            _ => finding
                .remedy("read one of their stories; then replay them when the cause is gone, or drop them")
                .command(format!("sortie dead list --capability {capability}")),
        }
    };
    groups.into_iter().map(finding).collect()
}

fn expiring(age: TimeDelta, kept: Duration) -> Option<Finding> {
    let age = age.to_std().ok()?;
    (age > kept / 10 * 9).then(|| {
        let left = Duration::from_secs(kept.saturating_sub(age).as_secs());
        Finding::warning(format!("the oldest dead letter is deleted in {}, for its age", duration::format(left)))
            .remedy("export what somebody may still want, or keep them longer (`sortie topology apply --dead-kept`)")
            .command("sortie dead list")
    })
}

#[cfg(test)]
mod tests {
    use protocol::{Capability, Failure, Lane, time};

    use super::*;
    use crate::Severity;

    fn letter(id: usize, code: &str, dead_at: Timestamp) -> DeadLetter {
        DeadLetter {
            id: protocol::RequestId::parse(&format!("r{id}")).unwrap(),
            capability: Capability::parse("echo").unwrap(),
            lane: Lane::Normal,
            failure: Failure::new(code, "no"),
            attempt: 1,
            instance: None,
            version: None,
            killed: Vec::new(),
            published_at: None,
            dead_at,
        }
    }

    #[test]
    fn what_is_recent_is_told_by_code_and_many_at_once_are_an_error() {
        let now = time::parse("2030-01-01T12:00:00Z").unwrap();
        let mut letters =
            vec![letter(0, "old", now - TimeDelta::hours(2)), letter(1, "one", now - TimeDelta::minutes(30))];
        letters.extend((2..30).map(|id| letter(id, "many", now - TimeDelta::minutes(1))));
        let found = lately(&letters, now);
        let told: Vec<_> =
            found.iter().map(|finding| (finding.severity, finding.command.as_deref().unwrap())).collect();
        assert_eq!(
            told,
            [(Severity::Error, "sortie dead list --capability echo"), (Severity::Warning, "sortie dead show r1")]
        );
    }

    #[test]
    fn the_oldest_is_told_before_it_goes() {
        let day = Duration::from_secs(86_400);
        assert_eq!(expiring(TimeDelta::days(20), 30 * day), None);
        assert!(expiring(TimeDelta::days(29), 30 * day).is_some_and(|finding| finding.seen.contains("in 1d")));
    }
}
