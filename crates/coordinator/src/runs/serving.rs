//! Requests that a workflow serves: a definition says so, and then coordinators take them as an agent would, from the same
//! consumers, and begin a run for each.
//!
//! Which workflow serves what is read from the definitions whenever one is another than before. A request is given back if
//! the workflow does not serve it any more by the time it is looked at, so a coordinator that has not read that yet does no harm.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use broker::{
    Error, Kind,
    task::{self, Owned},
    topology,
};
use futures_util::FutureExt;
use protocol::{
    Capability, WorkflowName, header,
    topology::{Source, bucket_stream, bucket_subject, worker_consumer},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    arrival::Arrival,
    begin::Begin,
    intake,
    starts::{AGAIN_AFTER, handle},
};

/// How often it is looked whether a definition is another than before.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The longest wait before consumers are followed again that cannot be: twice as long each time in a row.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(60);

/// Takes what workflows serve.
pub(super) struct Serving {
    begin: Arc<Begin>,
    /// The last revision of any definition that was read, at the leader.
    revision: u64,
    taken: BTreeMap<Capability, (WorkflowName, Owned<()>)>,
}

impl Serving {
    pub(super) fn new(begin: &Arc<Begin>) -> Self {
        Self { begin: Arc::clone(begin), revision: 0, taken: BTreeMap::new() }
    }

    /// Takes requests until `stop`.
    pub(super) async fn keep(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                looked = self.look() => if let Err(error) = looked {
                    tracing::warn!(%error, "what workflows serve is not read");
                },
                // What is in hand is delivered again.
                () = stop.cancelled() => return,
            }
            tokio::select! { () = tokio::time::sleep(LOOK_EVERY) => {}, () = stop.cancelled() => return }
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        let post = &self.begin.means.post;
        let bucket = &post.names.workflows;
        let (stream, keys) = (bucket_stream(bucket), bucket_subject(bucket, "*"));
        // The leader says which revision is the last; what was read counts only if it goes that far, because a replica may
        // be behind.
        let last = post.reader.last_sequence_at_leader(&stream, &keys).await?;
        let revision = last.map_or(0, |(sequence, _)| sequence);
        if revision == self.revision {
            return Ok(());
        }
        let latest = post.reader.last_of_each(&stream, &[keys]).await?;
        if latest.iter().map(|message| message.sequence).max().unwrap_or_default() < revision {
            return Err(Error::new(Kind::TimedOut, "the definitions are not read yet"));
        }
        let before_key = bucket_subject(bucket, "");
        let definitions = latest.iter().filter(|message| message.headers.get(header::KV_OPERATION).is_none());
        let served = served(definitions.filter_map(|message| {
            let workflow = WorkflowName::parse(message.subject.strip_prefix(&before_key)?).ok()?;
            let definition: Value = serde_json::from_slice(&message.body).ok()?;
            Some((workflow, Capability::parse(definition["serves"].as_str()?).ok()?))
        }));
        let replicas = match served.is_empty() {
            true => 1,
            false => topology::stream_state(&post.connection, &post.names.requests).await?.stream.replicas,
        };
        self.taken.retain(|capability, (workflow, _)| served.get(capability) == Some(workflow));
        for (capability, workflow) in served {
            if !self.taken.contains_key(&capability) {
                tracing::info!(%capability, %workflow, "requests are taken for a workflow");
                let task = task::spawn(
                    "served",
                    take(Arc::clone(&self.begin), capability.clone(), workflow.clone(), replicas),
                );
                self.taken.insert(capability, (workflow, task));
            }
        }
        self.revision = revision;
        Ok(())
    }
}

/// Who serves what. Of two workflows that say they serve the same, whoever applied them was told; the first by name does.
fn served(said: impl Iterator<Item = (WorkflowName, Capability)>) -> BTreeMap<Capability, WorkflowName> {
    let mut served: BTreeMap<Capability, WorkflowName> = BTreeMap::new();
    for (workflow, capability) in said {
        match served.get(&capability) {
            Some(first) if *first < workflow => {
                tracing::error!(%capability, %first, %workflow, "two workflows serve the same: the first by name does");
            }
            _ => {
                served.insert(capability, workflow);
            }
        }
    }
    served
}

async fn take(begin: Arc<Begin>, capability: Capability, workflow: WorkflowName, replicas: usize) {
    let post = &begin.means.post;
    let consumers = Source::ALL.map(|source| worker_consumer(post.namespace(), &capability, source, replicas));
    let mut wait = AGAIN_AFTER;
    loop {
        let followed = intake::follow(post, &consumers, |delivery| {
            let (begin, workflow) = (Arc::clone(&begin), workflow.clone());
            async move {
                let arrival = Arrival::of_request(begin.means.post.namespace(), &workflow, &delivery);
                handle(&begin, arrival, &delivery).await;
            }
            .boxed()
        });
        match followed.await {
            Ok(()) => wait = AGAIN_AFTER,
            Err(error) => {
                tracing::warn!(%capability, %workflow, %error, again_in = ?wait, "requests not taken");
                wait = (wait * 2).min(AGAIN_AFTER_MAX);
            }
        }
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_by_name_serves_whoever_was_applied_first() {
        let name = |text: &str| WorkflowName::parse(text).unwrap();
        let audit = Capability::parse("audit").unwrap();
        let said = |names: &[&str]| {
            served(names.iter().map(|text| (name(text), audit.clone())).collect::<Vec<_>>().into_iter())
        };
        for names in [&["a", "b"][..], &["b", "a"], &["a"]] {
            assert_eq!(said(names)[&audit], name("a"));
        }
    }
}
