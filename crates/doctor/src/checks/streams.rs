//! The streams: whether they are there and answer, their copies, and what they admit.

use std::time::Duration;

use broker::{
    Kind,
    topology::inspect::{self, StreamFacts},
};
use protocol::{duration, topology};

use super::Found;
use crate::{
    Patient,
    examine::NOT_ALLOWED,
    finding::{Finding, counted},
};

/// Consumers that a server from 2.15 on admits where a stream says nothing.
const CONSUMERS_MAX_UNSAID: u64 = 1_000;

/// Above this share of the consumers that a stream admits there is a warning.
const WARNING_PERCENT: u64 = 80;

/// Deadlines that the duplicate window must outlast: a retry is published by two workers where the first lost its message.
const DEADLINES_IN_WINDOW: u32 = 3;

pub(super) async fn answering(patient: &Patient) -> Found {
    let mut findings = Vec::new();
    let (mut missing, mut forbidden) = (Vec::new(), Vec::new());
    for (name, facts) in patient.all_streams().await {
        let Err(error) = facts else { continue };
        findings.push(match error.kind() {
            Kind::NotFound => {
                missing.push(name.as_str());
                continue;
            }
            // A stream whose disk was full answers nothing, even after space returns, until its server starts again.
            Kind::TimedOut => Finding::error(format!("{name} answers nothing: no leader, or its disk was full"))
                .about(name)
                .remedy(
                    "on a cluster see that most servers run; else free space on the disk of the server, then restart that \
                     server: the stream answers only then",
                ),
            Kind::Forbidden => {
                forbidden.push(name.as_str());
                continue;
            }
            _ => Finding::error(format!("{name}: {error}")).about(name),
        });
    }
    if !forbidden.is_empty() {
        findings.push(Finding::unknown(NOT_ALLOWED).about(forbidden.join(", ")));
    }
    if !missing.is_empty() {
        let finding = Finding::error(format!("{} not there: {}", counted(missing.len(), "stream"), missing.join(", ")));
        let makes = "make what is missing; nothing that is there is lost by it";
        let reserves = "the broker reserves 1GiB for log lines, less on a small store with --logs-bytes-max 8MB";
        let remedy = match missing.contains(&patient.names().logs.as_str()) {
            true => format!("{makes} ({reserves})"),
            false => makes.to_owned(),
        };
        findings.push(finding.remedy(remedy).command("sortie topology apply"));
    }
    Ok(findings)
}

pub(super) async fn replicas(patient: &Patient) -> Found {
    patient.is_sighted().await?;
    let is_cluster = inspect::server(patient.connection()).cluster.is_some();
    let mut findings = Vec::new();
    let mut alone = Vec::new();
    for facts in patient.streams().await {
        let name = &facts.stream.name;
        findings.extend(copies(facts));
        if is_cluster && facts.stream.replicas == 1 {
            alone.push(name.as_str());
        }
    }
    if let Some(first) = alone.first() {
        let seen = format!(
            "{} streams have one copy on a cluster, {first} for one: they are gone with its server",
            alone.len()
        );
        findings.push(
            Finding::warning(seen)
                .remedy("keep three copies of everything")
                .command("sortie topology apply --replicas 3"),
        );
    }
    Ok(findings)
}

fn copies(facts: &StreamFacts) -> Vec<Finding> {
    let name = &facts.stream.name;
    let mut findings = Vec::new();
    let is_replicated = facts.stream.replicas > 1;
    if is_replicated && facts.leader.as_ref().is_none_or(String::is_empty) {
        findings.push(
            Finding::error(format!("{name} has no leader"))
                .about(name)
                .remedy("start the servers that are down: most of its copies must be there"),
        );
    }
    let missing = facts.stream.replicas.saturating_sub(1 + facts.copies.len());
    if is_replicated && missing > 0 {
        findings.push(
            Finding::warning(format!("{name} lacks {missing} of {} copies", facts.stream.replicas))
                .about(name)
                .remedy("see that every server of the cluster runs and has room"),
        );
    }
    for copy in facts.copies.iter().filter(|copy| copy.is_offline || !copy.is_current) {
        let how = if copy.is_offline { "is offline".to_owned() } else { format!("is {} operations behind", copy.lag) };
        findings.push(
            Finding::warning(format!("the copy of {name} on {} {how}", copy.server))
                .about(name)
                .remedy("start that server; if it runs, wait until it has caught up before another one is stopped"),
        );
    }
    findings
}

pub(super) async fn consumer_cap(patient: &Patient) -> Found {
    patient.is_sighted().await?;
    let mut findings = Vec::new();
    for facts in patient.streams().await {
        let name = &facts.stream.name;
        let said = u64::try_from(facts.stream.max_consumers).ok().filter(|count| *count > 0);
        let admitted = said.unwrap_or(CONSUMERS_MAX_UNSAID);
        if facts.consumers * 100 < admitted * WARNING_PERCENT {
            continue;
        }
        let seen = format!("{name} has {} of {admitted} consumers that it admits", facts.consumers);
        let finding = if facts.consumers >= admitted { Finding::error(seen) } else { Finding::warning(seen) };
        findings.push(
            finding
                .about(name)
                .remedy("remove consumers that nobody uses (`nats consumer report`): a new capability needs four"),
        );
    }
    Ok(findings)
}

/// Two workers may publish one retry, the second after the deadline of the first; the window makes one of them.
pub(super) async fn duplicate_window(patient: &Patient) -> Found {
    patient.is_sighted().await?;
    let (deadline, _) = topology::ack_deadline(patient.settings().await.replicas);
    let horizon = deadline * DEADLINES_IN_WINDOW;
    let mut findings = Vec::new();
    for name in [&patient.names().requests, &patient.names().runs] {
        let Ok(facts) = patient.stream(name).await else { continue };
        findings.extend(narrow_window(name, facts.stream.duplicate_window, horizon));
    }
    Ok(findings)
}

fn narrow_window(name: &str, window: Duration, horizon: Duration) -> Option<Finding> {
    (window < horizon).then(|| {
        let seen = format!(
            "{name} remembers ids for {}, and a retry may be published again {} later: it would be queued twice",
            duration::format(window),
            duration::format(horizon)
        );
        Finding::warning(seen).about(name).remedy("set it back").command("sortie topology apply")
    })
}

#[cfg(test)]
mod tests {
    use broker::topology::inspect::CopyFacts;
    use chrono::TimeDelta;
    use protocol::{
        Namespace,
        topology::{Settings, streams},
    };

    use super::*;
    use crate::Severity;

    fn facts(copies: Vec<CopyFacts>, leader: Option<&str>) -> StreamFacts {
        let settings = Settings { replicas: 3, ..Settings::default() };
        StreamFacts {
            stream: streams(&Namespace::default(), &settings).remove(0),
            messages: 0,
            bytes: 0,
            first_at: None,
            last_sequence: 0,
            consumers: 0,
            leader: leader.map(str::to_owned),
            copies,
            clock_ahead: TimeDelta::zero(),
            answered_in: Duration::ZERO,
        }
    }

    #[test]
    fn what_is_wrong_with_copies_is_told_one_by_one() {
        let copy = |server: &str, is_current, is_offline| CopyFacts {
            server: server.to_owned(),
            is_current,
            is_offline,
            lag: 7,
        };
        let told = |facts: &StreamFacts| {
            copies(facts).into_iter().map(|finding| (finding.severity, finding.seen)).collect::<Vec<_>>()
        };
        assert_eq!(told(&facts(vec![copy("b", true, false), copy("c", true, false)], Some("a"))), []);
        let found = told(&facts(vec![copy("b", false, false), copy("c", false, true)], Some("a")));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].1.contains("b is 7 operations behind") && found[1].1.contains("c is offline"), "{found:?}");
        let found = told(&facts(vec![copy("b", true, false)], None));
        assert_eq!(
            found.iter().map(|(severity, _)| *severity).collect::<Vec<_>>(),
            [Severity::Error, Severity::Warning]
        );
    }

    #[test]
    fn a_window_shorter_than_a_retry_may_be_late_is_told() {
        let seconds = Duration::from_secs;
        assert!(narrow_window("S", seconds(120), seconds(30)).is_none());
        assert!(narrow_window("S", seconds(10), seconds(30)).is_some_and(|finding| finding.seen.contains("10s")));
    }
}
