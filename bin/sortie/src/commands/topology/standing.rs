//! How each stream, bucket and consumer stands against the table.

use std::collections::BTreeSet;

use broker::{
    Connection, Error, Kind,
    topology::{Change, consumer_names, consumer_state, plan},
};
use protocol::{
    Capability, Namespace,
    topology::{
        Consumer, Drift, Names, Settings, Shortened, Source, drift_of_consumer, drift_of_pause, shared_by_coordinators,
        worker_consumer,
    },
};
use serde::Serialize;

use super::Recreate;
use crate::output::Output;

/// What making a consumer anew costs.
pub(super) const ANEW: &str = "max_waiting is changed in no consumer that is there. Making one anew loses no message, but what is \
                               in hand is delivered again: attempts that run now may run twice";

/// What has to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// Nothing.
    None,
    /// `apply` makes it.
    Create,
    /// `apply` changes the fields that differ, in place.
    Update,
    /// A consumer that differs in what the broker changes in none that is there: `apply --recreate` makes it anew.
    Recreate,
}

/// One stream, bucket or consumer, and what differs.
#[derive(Debug, Serialize)]
pub(super) struct Standing {
    /// The stream, or `<stream>/<consumer>`.
    pub(super) of: String,
    /// What has to be done.
    pub(super) action: Action,
    /// Fields that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) drift: Vec<Drift>,
    /// The consumer as it should be, where it is one.
    #[serde(skip)]
    pub(super) consumer: Option<Consumer>,
    /// Whether it is a consumer that coordinators make for themselves.
    #[serde(skip)]
    is_of_coordinators: bool,
}

impl Standing {
    /// Limits where nothing may be deleted, each as `FLEET_REQUESTS has max_age 1m`.
    pub(super) fn broken_promises(&self) -> Vec<String> {
        let broken = self.drift.iter().filter(|drift| drift.breaks_promise);
        broken.map(|drift| format!("{} has {} {}", drift.of, drift.field, drift.found)).collect()
    }

    /// Whether it is a consumer that coordinators make where it is missing, as this one is.
    pub(super) fn is_made_by_coordinators(&self) -> bool {
        self.action == Action::Create && self.is_of_coordinators
    }
}

/// Everything of a namespace: streams, buckets, the consumers of these capabilities, and whatever consumers of workers and
/// coordinators are there already.
pub(super) async fn of_all(
    connection: &Connection,
    namespace: &Namespace,
    settings: &Settings,
    capabilities: &[Capability],
) -> Result<Vec<Standing>, Error> {
    let changes = plan(connection, namespace, settings).await?;
    let mut standings: Vec<Standing> = changes.into_iter().map(of_stream).collect();
    let existing = existing_consumers(connection, namespace).await?;
    let served: BTreeSet<&Capability> = existing.iter().map(|(capability, _)| capability).collect();
    for capability in served.into_iter().chain(capabilities).collect::<BTreeSet<_>>() {
        for source in Source::ALL {
            let is_there = existing.contains(&(capability.clone(), source));
            if is_there || capabilities.contains(capability) {
                let expected = worker_consumer(namespace, capability, source, settings.replicas);
                standings.push(of_consumer(connection, expected, Puller::Workers).await?);
            }
        }
    }
    standings.extend(of_coordinators(connection, namespace).await?);
    Ok(standings)
}

/// Those that coordinators make. What is missing is told only where others of them are there: a fleet in which no
/// coordinator has run yet misses nothing.
async fn of_coordinators(connection: &Connection, namespace: &Namespace) -> Result<Vec<Standing>, Error> {
    let mut standings = Vec::new();
    for shared in shared_by_coordinators(namespace) {
        let standing = of_consumer(connection, shared.consumer, Puller::Coordinators).await?;
        standings.extend((shared.is_always_there || standing.action != Action::Create).then_some(standing));
    }
    if standings.iter().all(|standing| standing.action == Action::Create) {
        standings.clear();
    }
    Ok(standings)
}

fn of_stream(change: Change) -> Standing {
    let (of, action, drift) = match change {
        Change::None { stream } => (stream, Action::None, Vec::new()),
        Change::Create { stream } => (stream, Action::Create, Vec::new()),
        Change::Update { stream, drift } => (stream, Action::Update, drift),
    };
    Standing { of, action, drift, consumer: None, is_of_coordinators: false }
}

/// Who pulls from a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Puller {
    /// An operator may wish them to wait.
    Workers,
    /// Nobody wishes them to wait.
    Coordinators,
}

async fn of_consumer(connection: &Connection, expected: Consumer, puller: Puller) -> Result<Standing, Error> {
    let of = format!("{}/{}", expected.stream, expected.name);
    let (action, drift) = match consumer_state(connection, &expected.stream, &expected.name).await {
        Ok(state) => {
            let mut drift = drift_of_consumer(&expected, &state.consumer);
            if puller == Puller::Coordinators {
                drift.extend(drift_of_pause(&expected, state.paused_until));
            }
            let action = match drift.as_slice() {
                [] => Action::None,
                drift if drift.iter().any(Drift::needs_new_consumer) => Action::Recreate,
                _ => Action::Update,
            };
            (action, drift)
        }
        Err(error) if error.kind() == Kind::NotFound => (Action::Create, Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(Standing { of, action, drift, consumer: Some(expected), is_of_coordinators: puller == Puller::Coordinators })
}

/// The worker's consumers that the broker has.
async fn existing_consumers(
    connection: &Connection,
    namespace: &Namespace,
) -> Result<BTreeSet<(Capability, Source)>, Error> {
    let names = Names::of(namespace);
    let mut found = BTreeSet::new();
    for stream in [&names.requests, &names.unique] {
        let consumers = match consumer_names(connection, stream).await {
            Ok(consumers) => consumers,
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for consumer in consumers {
            let capability = consumer.split('_').next().and_then(|name| Capability::parse(name).ok());
            let worker = capability.and_then(|capability| {
                let is_it = |source: &Source| {
                    let expected = worker_consumer(namespace, &capability, *source, 1);
                    expected.name == consumer && expected.stream == *stream
                };
                Source::ALL.into_iter().find(is_it).map(|source| (capability.clone(), source))
            });
            found.extend(worker);
        }
    }
    Ok(found)
}

/// What differs, a line per field; nothing where nothing does.
pub(super) fn table(output: Output, standings: &[Standing]) -> String {
    let mut rows = Vec::new();
    for standing in standings {
        let action = match standing.action {
            Action::None => continue,
            Action::Create => "create",
            Action::Update => "update",
            Action::Recreate => "recreate",
        };
        if standing.drift.is_empty() {
            rows.push([action, &standing.of, "", "", "", ""].map(str::to_owned));
        }
        for drift in &standing.drift {
            let note = if drift.breaks_promise { "breaks a promise" } else { "" };
            let cells = [action, &standing.of, drift.field, &drift.found, &drift.expected, note];
            rows.push(cells.map(str::to_owned));
        }
    }
    match rows.is_empty() {
        true => String::new(),
        false => output.table(&["ACTION", "STREAM", "FIELD", "IS", "SHOULD BE", ""], rows) + "\n\n",
    }
}

/// The count in one sentence, what to do about consumers that only `--recreate` mends, and what is kept for less long than
/// usual.
pub(super) fn summary(standings: &[Standing], shortened: &[Shortened], done: Option<Recreate>) -> String {
    let count = |action: Action| standings.iter().filter(|standing| standing.action == action).count();
    let (create, update) = if done.is_some() { ("created", "updated") } else { ("to create", "to update") };
    let mut text = format!(
        "{} streams, buckets and consumers: {} {create}, {} {update}, {} as they should be",
        standings.len(),
        count(Action::Create),
        count(Action::Update),
        count(Action::None),
    );
    let differ = count(Action::Recreate);
    if differ > 0 && done == Some(Recreate(true)) {
        text += &format!(", {differ} made anew");
    } else if differ > 0 {
        text += &format!(", {differ} to make anew\n{ANEW}. `sortie topology apply --recreate` does it");
    }
    for short in shortened {
        text += &format!("\nWARNING: {short}; `{}` sets it back", short.command);
    }
    text
}
