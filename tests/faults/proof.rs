//! After the fire: everything comes to rest, and then it is counted and proved.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use broker::{Reader, topology};
use protocol::{
    Outcome, RequestId, RunId, Status, Subject, accepted::Accepted, codes, header, subject::filter, time::Timestamp,
    topology::Names,
};
use sortie_tests::{Fleet, binaries, program, raw};

use crate::{
    crew,
    load::{Asked, Kind, Load},
    report::Row,
};

/// From the end of the fire. A message of the last victim waits for its ack deadline, one that three died with for three of
/// them, and a run has three steps in a row.
pub(crate) const REST_WITHIN: Duration = Duration::from_secs(150);

/// What is left after this waits for more than an ack deadline.
const LONG: Duration = Duration::from_secs(20);

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(100);

/// Faults that are named one by one.
pub(crate) const NAMED_MAX: usize = 10;

/// Everything in the store of outcomes.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Messages that were ever stored, by the broker's own count.
    pub(crate) ever: u64,
    /// By request: how many, the last one's status, failure code and time.
    pub(crate) by_id: BTreeMap<RequestId, (u64, Status, Option<String>, Timestamp)>,
}

pub(crate) async fn prove(fleet: &Fleet, load: Load, folder: &Path, row: &mut Row) -> Result<()> {
    let over = Instant::now();
    let asked = load.stop().await.context("the load")?;
    (row.accepted, row.refused) = (asked.accepted.len() as u64, asked.refused);
    row.said_again.clone_from(&asked.said_again);
    let left = rest(fleet, row).await;
    row.rest_secs = over.elapsed().as_secs_f64();
    if let Err(left) = &left {
        row.faults.push(format!("{left:#}"));
        row.stuck += messages(fleet).await?.iter().sum::<u64>();
    }
    audit(fleet, &asked, row).await?;
    let stored = Stored::read(fleet).await?;
    row.outcomes = stored.ever;
    judge(&asked, &stored, row)?;
    steps(fleet, &asked, row).await?;
    told_once(fleet, row).await?;
    row.begun_again = begun_again(&folder.join(crew::DIARY))?;
    Ok(())
}

/// What is left in the streams that hold promises: requests, unique ones, and the logs of runs.
pub(crate) async fn messages(fleet: &Fleet) -> Result<[u64; 3]> {
    let names = Names::of(&fleet.namespace);
    let mut messages = [0; 3];
    for (count, stream) in messages.iter_mut().zip([&names.requests, &names.unique, &names.runs]) {
        *count = topology::stream_state(&fleet.connection, stream).await?.messages;
    }
    Ok(messages)
}

/// Waits until nothing is left to do, and says what was left last.
async fn rest(fleet: &Fleet, row: &mut Row) -> Result<()> {
    let began = Instant::now();
    loop {
        // A look may fail: whoever was hurt last may be the broker.
        match left(fleet).await {
            Ok(left) if left.is_empty() => return Ok(()),
            Ok(left) => {
                row.left_last = left.into_iter().take(NAMED_MAX).collect();
                if row.left_long.is_empty() && began.elapsed() >= LONG {
                    row.left_long.clone_from(&row.left_last);
                }
            }
            Err(_) => {}
        }
        if began.elapsed() >= REST_WITHIN {
            let left = row.left_last.join(" ");
            let consumers = consumers(fleet).await.unwrap_or_default();
            anyhow::bail!("{consumers}\nnot at rest {REST_WITHIN:?} after the fire, there is left: {left}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn left(fleet: &Fleet) -> Result<Vec<String>> {
    let names = Names::of(&fleet.namespace);
    let mut subjects = Vec::new();
    for stream in [&names.requests, &names.unique, &names.runs] {
        for subject in topology::subject_counts(&fleet.connection, stream, ">").await?.into_keys() {
            let last = Reader::new(&fleet.connection).last(stream, &subject).await?;
            let id = last.and_then(|last| last.headers.get(header::REQUEST_ID).map(str::to_owned)).unwrap_or_default();
            subjects.push(format!("{subject} {id}").trim_end().to_owned());
        }
    }
    Ok(subjects)
}

/// Where the consumers of work stand, and the first messages that are left, for whoever looks for the reason.
pub(crate) async fn consumers(fleet: &Fleet) -> Result<String> {
    let names = Names::of(&fleet.namespace);
    let mut told = Vec::new();
    for stream in [&names.requests, &names.unique, &names.runs] {
        let list = raw::api(fleet, &format!("CONSUMER.LIST.{stream}"), &serde_json::Value::Null).await?;
        for info in list["consumers"].as_array().into_iter().flatten() {
            told.push(format!(
                "{}: delivered {} floor {} ack-pending {} pending {} waiting {}",
                info["name"],
                info["delivered"]["stream_seq"],
                info["ack_floor"]["stream_seq"],
                info["num_ack_pending"],
                info["num_pending"],
                info["num_waiting"],
            ));
        }
        let page = Reader::new(&fleet.connection).page(stream, ">", 1, NAMED_MAX).await?;
        let left = page.messages.iter().map(|one| format!("{} at {} {:?}", one.subject, one.sequence, one.headers));
        told.extend(left);
    }
    Ok(told.join("\n"))
}

/// Asks the command, as a user would: about what was accepted, and about what is there.
async fn audit(fleet: &Fleet, asked: &Asked, row: &mut Row) -> Result<()> {
    let file = asked.file.to_str().context("a path")?;
    for arguments in [&["audit", "--json", "--accepted", file][..], &["audit", "--json"]] {
        let mut command = program::command(fleet, &binaries::path("sortie"));
        command.args(arguments);
        let output =
            tokio::time::timeout(REST_WITHIN, command.output()).await.context("sortie audit does not end")??;
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            row.faults.push(format!("sortie {}: {}\n{said}\n{complained}", arguments.join(" "), output.status));
        }
        let document: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        row.lost += document["counts"]["lost"].as_u64().unwrap_or(0);
        if arguments.contains(&"--accepted") && output.status.success() {
            // What was said again, and done meanwhile, is not accepted a second time, and was not noted the first time.
            let noted = std::fs::read_to_string(&asked.file)?.lines().count() as u64;
            ensure!(
                document["accepted"].as_u64() == Some(noted),
                "of {noted} lines the audit has read others: {document}"
            );
        }
    }
    Ok(())
}

impl Stored {
    pub(crate) async fn read(fleet: &Fleet) -> Result<Self> {
        let names = Names::of(&fleet.namespace);
        let reader = Reader::new(&fleet.connection);
        let state = topology::stream_state(&fleet.connection, &names.outcomes).await?;
        let mut stored = Self { ever: state.last_sequence, by_id: BTreeMap::new() };
        let (mut read, mut from) = (0, Some(1));
        while let Some(sequence) = from {
            let page = reader.page(&names.outcomes, &filter::outcomes(&fleet.namespace), sequence, 1_000).await?;
            from = page.next;
            for message in page.messages {
                read += 1;
                let Some(Subject::Outcome(id)) = Subject::parse(&fleet.namespace, &message.subject) else { continue };
                let outcome = Outcome::read(id.clone(), &message.headers, &message.body);
                let code = outcome.failure().map(|failure| failure.code);
                let entry = stored.by_id.entry(id).or_insert((0, outcome.status, None, message.time));
                *entry = (entry.0 + 1, outcome.status, code, message.time);
            }
        }
        // Nothing has left the stream, so what is in it is all that was ever stored.
        ensure!(read == stored.ever, "{read} outcomes are there, and {} were stored", stored.ever);
        Ok(stored)
    }
}

/// Compares what was accepted with what was stored.
fn judge(asked: &Asked, stored: &Stored, row: &mut Row) -> Result<()> {
    let mut named = Vec::new();
    for (id, (count, status, code, _)) in stored.by_id.iter().filter(|(_, (count, ..))| *count > 1) {
        row.duplicated += 1;
        named.push(format!("{id} has {count} outcomes, the last one {status} {code:?}"));
    }
    for (id, kind) in &asked.accepted {
        match stored.by_id.get(id) {
            None => {
                row.stuck += 1;
                named.push(format!("{id} ({kind:?}) has no outcome"));
            }
            Some((_, Status::Failed, Some(code), _)) if code == codes::POISON => row.poisoned += 1,
            Some((_, status, ..)) if kind.may_end(*status) => {}
            Some((_, status, code, _)) => {
                row.wrong += 1;
                named.push(format!("{id} ({kind:?}) ended {status} {code:?}"));
            }
        }
    }
    if !named.is_empty() {
        row.faults.push(format!("{} requests: {}", named.len(), named[..named.len().min(NAMED_MAX)].join("; ")));
    }
    for line in std::fs::read_to_string(&asked.file)?.lines() {
        let Ok(accepted) = Accepted::read(line.as_bytes()) else { continue };
        let ended = stored.by_id.get(&accepted.id).filter(|_| asked.accepted.get(&accepted.id) == Some(&Kind::Plain));
        if let Some((.., time)) = ended {
            let took = time.signed_duration_since(accepted.at).as_seconds_f64();
            row.slowest_secs = row.slowest_secs.max(took);
        }
    }
    Ok(())
}

/// What was given up has one dead letter, and a run that has ended one summary.
async fn told_once(fleet: &Fleet, row: &mut Row) -> Result<()> {
    let names = Names::of(&fleet.namespace);
    let told = [
        (names.dead, filter::dead(&fleet.namespace, None)),
        (names.events, filter::event(&fleet.namespace, "sys.run")),
    ];
    for (stream, filter) in told {
        let counts = topology::subject_counts(&fleet.connection, &stream, &filter).await?;
        for (subject, count) in counts.iter().filter(|(_, count)| **count > 1) {
            row.duplicated += 1;
            row.faults.push(format!("{subject} is there {count} times"));
        }
    }
    Ok(())
}

/// How many attempts of the diary, with their requests, stand in it more than once.
fn begun_again(diary: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(diary)?;
    let mut seen = BTreeSet::new();
    Ok(text.lines().filter(|line| !seen.insert(*line)).count() as u64)
}

/// Each step of each run has one outcome in the log that the run left.
async fn steps(fleet: &Fleet, asked: &Asked, row: &mut Row) -> Result<()> {
    for (id, _) in asked.accepted.iter().filter(|(_, kind)| matches!(kind, Kind::Run | Kind::CancelledRun)) {
        let run = RunId::parse(id.as_str())?;
        // One that was cancelled before it began has left none.
        let Some(record) = fleet.client.run_record(&run).await? else { continue };
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for fact in record.facts().iter().filter(|fact| fact.name.ends_with(".outcome")) {
            *counts.entry(&fact.name).or_default() += 1;
        }
        for (fact, count) in counts.iter().filter(|(_, count)| **count > 1) {
            row.duplicated += 1;
            row.faults.push(format!("run {run} has {count} facts {fact}"));
        }
    }
    Ok(())
}
