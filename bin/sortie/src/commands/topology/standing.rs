//! How each stream, bucket and consumer stands against the table.

use std::collections::BTreeSet;

use broker::{
    Connection, Error, Kind,
    topology::{Change, consumer_names, consumer_state, plan},
};
use protocol::{
    Capability, Namespace,
    topology::{Drift, Names, Settings, Source, drift_of_consumer, worker_consumer},
};
use serde::Serialize;

use crate::output::Output;

/// What has to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// Nothing.
    None,
    /// `apply` makes it.
    Create,
    /// `apply` changes the fields that differ.
    Update,
    /// A consumer that differs: workers refuse it, and only its operator may remove it.
    Remove,
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
}

impl Standing {
    /// Limits where nothing may be deleted, each as `FLEET_REQUESTS has max_age 1m`.
    pub(super) fn broken_promises(&self) -> Vec<String> {
        let broken = self.drift.iter().filter(|drift| drift.breaks_promise);
        broken.map(|drift| format!("{} has {} {}", drift.of, drift.field, drift.found)).collect()
    }
}

/// Everything of a namespace: streams, buckets, the consumers of these capabilities, and whatever worker's consumers
/// are there already.
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
                standings.push(of_consumer(connection, namespace, settings, capability, source).await?);
            }
        }
    }
    Ok(standings)
}

fn of_stream(change: Change) -> Standing {
    match change {
        Change::None { stream } => Standing { of: stream, action: Action::None, drift: Vec::new() },
        Change::Create { stream } => Standing { of: stream, action: Action::Create, drift: Vec::new() },
        Change::Update { stream, drift } => Standing { of: stream, action: Action::Update, drift },
    }
}

async fn of_consumer(
    connection: &Connection,
    namespace: &Namespace,
    settings: &Settings,
    capability: &Capability,
    source: Source,
) -> Result<Standing, Error> {
    let expected = worker_consumer(namespace, capability, source, settings.replicas);
    let of = format!("{}/{}", expected.stream, expected.name);
    let found = match consumer_state(connection, &expected.stream, &expected.name).await {
        Ok(state) => state.consumer,
        Err(error) if error.kind() == Kind::NotFound => {
            return Ok(Standing { of, action: Action::Create, drift: Vec::new() });
        }
        Err(error) => return Err(error),
    };
    let drift = drift_of_consumer(&expected, &found);
    Ok(Standing { of, action: if drift.is_empty() { Action::None } else { Action::Remove }, drift })
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
            Action::Remove => "remove by hand",
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

/// The count in one sentence, and what to do about consumers that nobody changes.
pub(super) fn summary(standings: &[Standing], done: bool) -> String {
    let count = |action: Action| standings.iter().filter(|standing| standing.action == action).count();
    let (create, update) = if done { ("created", "updated") } else { ("to create", "to update") };
    let mut text = format!(
        "{} streams, buckets and consumers: {} {create}, {} {update}, {} as they should be",
        standings.len(),
        count(Action::Create),
        count(Action::Update),
        count(Action::None),
    );
    for standing in standings.iter().filter(|standing| standing.action == Action::Remove) {
        let consumer = standing.of.replace('/', " ");
        text += &format!(
            "\n{} differs, and consumers are never changed: remove it with `nats consumer rm {consumer}` (its messages \
             stay), and a worker makes it again",
            standing.of
        );
    }
    text
}
