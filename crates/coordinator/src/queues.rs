//! What waits where: the subjects of work that hold messages, each with its consumer as it stands.

use std::collections::BTreeMap;

use broker::{Error, Kind, topology};
use futures_util::{StreamExt, stream};
use protocol::{
    Capability, Lane, Namespace, RequestId, Subject,
    service::Attendance,
    subject::filter,
    topology::{Consumer, Source, worker_consumer},
};

use crate::post::Post;

/// Consumers that are asked about at once.
const ASKED_AT_ONCE: usize = 16;

/// Work of one capability from one source.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) capability: Capability,
    pub(crate) source: Source,
    /// How many messages it holds, whoever has them.
    pub(crate) messages: u64,
    /// The consumer that whoever serves it makes.
    pub(crate) consumer: Consumer,
    /// How that consumer stands; none where it does not exist.
    pub(crate) state: Option<topology::ConsumerState>,
}

impl Queue {
    /// Whether somebody waits for its messages.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.waiting > 0)
    }

    /// Whether nobody is given its messages now: all who serve it are busy, or there are none, or it is paused or at its
    /// limit, and then whoever waits for them waits in vain.
    pub(crate) fn is_unattended(&self) -> bool {
        let is_held_back = |state: &topology::ConsumerState| {
            state.is_paused
                || i64::try_from(state.ack_pending).is_ok_and(|count| count >= state.consumer.max_ack_pending)
        };
        !self.is_waited_for() || self.state.as_ref().is_some_and(is_held_back)
    }

    /// What its consumer tells of those who pull from it.
    pub(crate) fn attendance(&self) -> Option<Attendance> {
        self.state.as_ref().map(topology::ConsumerState::attendance)
    }

    /// The id of a message of this queue that names none.
    pub(crate) fn id_of_sequence(&self, sequence: u64) -> RequestId {
        match self.source {
            Source::Lane(_) => RequestId::of_sequence(sequence),
            Source::Unique => RequestId::of_unique_sequence(sequence),
        }
    }

    /// The lane it is; unique work counts as the normal one.
    pub(crate) fn lane(&self) -> Lane {
        match self.source {
            Source::Lane(lane) => lane,
            Source::Unique => Lane::Normal,
        }
    }
}

/// Every queue that holds messages. One whose consumer cannot be asked now is left out: the next look has it.
pub(crate) async fn queues(post: &Post) -> Result<Vec<Queue>, Error> {
    let mut counts = BTreeMap::new();
    for filter in filter::requests(post.namespace()) {
        counts.extend(topology::subject_counts(&post.connection, &post.names.requests, &filter).await?);
    }
    let unique = filter::unique(post.namespace(), None);
    counts.extend(topology::subject_counts(&post.connection, &post.names.unique, &unique).await?);
    let asked = stream::iter(by_queue(post.namespace(), &counts)).map(|((capability, source), messages)| async move {
        // The name does not depend on the number of replicas.
        let consumer = worker_consumer(post.namespace(), &capability, source, 1);
        let state = match topology::consumer_state(&post.connection, &consumer.stream, &consumer.name).await {
            Ok(state) => Some(state),
            Err(error) if error.kind() == Kind::NotFound => None,
            Err(error) => {
                tracing::warn!(consumer = consumer.name, %error, "queue not looked at");
                return None;
            }
        };
        Some(Queue { capability, source, messages, consumer, state })
    });
    Ok(asked.buffered(ASKED_AT_ONCE).filter_map(|queue| async { queue }).collect().await)
}

/// Messages by capability and source; subjects that are no work are left out.
fn by_queue(namespace: &Namespace, counts: &BTreeMap<String, u64>) -> BTreeMap<(Capability, Source), u64> {
    let mut queues = BTreeMap::new();
    for (subject, count) in counts.iter().filter(|(_, count)| **count > 0) {
        let queue = match Subject::parse(namespace, subject) {
            Some(Subject::Request { lane, capability }) => (capability, Source::Lane(lane)),
            Some(Subject::Unique { capability, .. }) => (capability, Source::Unique),
            _ => continue,
        };
        *queues.entry(queue).or_insert(0) += count;
    }
    queues
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A queue as a table of cases names it.
    pub(crate) fn queue(capability: &str, source: Source, messages: u64, waiting: u64, ack_pending: u64) -> Queue {
        let capability = Capability::parse(capability).unwrap();
        let consumer = worker_consumer(&Namespace::default(), &capability, source, 1);
        let state = topology::ConsumerState {
            consumer: consumer.clone(),
            pending: messages.saturating_sub(ack_pending),
            ack_pending,
            redelivered: 0,
            waiting,
            ack_floor: 0,
            delivered: ack_pending,
            deliveries: ack_pending,
            last_active: None,
            is_paused: false,
            paused_until: None,
            at: protocol::time::Timestamp::default(),
        };
        Queue { capability, source, messages, consumer, state: Some(state) }
    }

    #[test]
    fn subjects_are_counted_by_capability_and_source() {
        let counts = [
            ("fleet.request.echo", 3),
            ("fleet.bulk.echo", 1),
            ("fleet.unique.echo.a", 1),
            ("fleet.unique.echo.b", 1),
            ("fleet.urgent.idle", 0),
            ("fleet.later.x", 9),
            ("fleet.request.Not-A-Name", 1),
        ];
        let counts = counts.map(|(subject, count)| (subject.to_owned(), count)).into();
        let echo = Capability::parse("echo").unwrap();
        let found = by_queue(&Namespace::default(), &counts);
        let expected = [(Source::Lane(Lane::Normal), 3), (Source::Lane(Lane::Bulk), 1), (Source::Unique, 2)];
        assert_eq!(found, expected.map(|(source, count)| ((echo.clone(), source), count)).into());
    }
}
