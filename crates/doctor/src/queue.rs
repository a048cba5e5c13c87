//! Work of one capability from one source, counted on both sides: in the stream, and at the consumer that delivers it.

use std::collections::BTreeMap;

use broker::topology::inspect::ConsumerFacts;
use protocol::{
    Capability, Lane, Namespace, Subject,
    service::Attendance,
    topology::{Source, worker_consumer},
};

/// One queue, with messages or with a consumer.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) capability: Capability,
    pub(crate) source: Source,
    /// Messages in the stream, whoever has them.
    pub(crate) messages: u64,
    /// Its consumer; none where nobody ever served it.
    pub(crate) consumer: Option<ConsumerFacts>,
}

impl Queue {
    /// What is delivered to nobody.
    pub(crate) fn undelivered(&self) -> u64 {
        self.consumer.as_ref().map_or(self.messages, |consumer| consumer.pending)
    }

    /// What the broker gave up: in the stream, and neither to be delivered nor in anybody's hands.
    pub(crate) fn given_up(&self) -> u64 {
        let Some(consumer) = &self.consumer else { return 0 };
        self.messages.saturating_sub(consumer.pending + consumer.ack_pending)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.consumer.as_ref().is_some_and(|consumer| consumer.paused_until.is_some())
    }

    /// What its consumer tells of those who pull from it.
    pub(crate) fn attendance(&self) -> Option<Attendance> {
        self.consumer.as_ref().map(ConsumerFacts::attendance)
    }

    /// As people name it: `echo`, `echo (bulk)`.
    pub(crate) fn name(&self) -> String {
        match self.source {
            Source::Lane(Lane::Normal) => self.capability.to_string(),
            Source::Lane(Lane::Urgent) => format!("{} (urgent)", self.capability),
            Source::Lane(Lane::Bulk) => format!("{} (bulk)", self.capability),
            Source::Unique => format!("{} (unique)", self.capability),
        }
    }
}

/// Puts the counts of subjects and the consumers together; consumers that are no worker's are left out.
pub(crate) fn queues(namespace: &Namespace, counts: &BTreeMap<String, u64>, consumers: &[ConsumerFacts]) -> Vec<Queue> {
    let mut all: BTreeMap<(Capability, Source), Queue> = BTreeMap::new();
    for (subject, count) in counts {
        let key = match Subject::parse(namespace, subject) {
            Some(Subject::Request { lane, capability }) => (capability, Source::Lane(lane)),
            Some(Subject::Unique { capability, .. }) => (capability, Source::Unique),
            _ => continue,
        };
        entry(&mut all, key).messages += count;
    }
    for consumer in consumers {
        if let Some(key) = served_by(namespace, consumer) {
            entry(&mut all, key).consumer = Some(consumer.clone());
        }
    }
    all.into_values().collect()
}

fn entry(all: &mut BTreeMap<(Capability, Source), Queue>, key: (Capability, Source)) -> &mut Queue {
    let (capability, source) = key.clone();
    all.entry(key).or_insert(Queue { capability, source, messages: 0, consumer: None })
}

/// The queue that a consumer delivers, if it is a worker's.
fn served_by(namespace: &Namespace, consumer: &ConsumerFacts) -> Option<(Capability, Source)> {
    let capability = Capability::parse(consumer.consumer.name.split('_').next()?).ok()?;
    let is_it = |source: &Source| {
        let expected = worker_consumer(namespace, &capability, *source, 1);
        (&expected.stream, &expected.name) == (&consumer.consumer.stream, &consumer.consumer.name)
    };
    let source = Source::ALL.into_iter().find(is_it)?;
    Some((capability, source))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A consumer as a table of cases names it.
    pub(crate) fn consumer(
        capability: &str,
        source: Source,
        pending: u64,
        ack_pending: u64,
        waiting: u64,
    ) -> ConsumerFacts {
        let capability = Capability::parse(capability).unwrap();
        ConsumerFacts {
            consumer: worker_consumer(&Namespace::default(), &capability, source, 1),
            pending,
            ack_pending,
            redelivered: 0,
            waiting,
            delivered: 0,
            ack_floor: 0,
            last_active: None,
            paused_until: None,
            is_in_memory: false,
        }
    }

    /// A queue of the normal lane as a table of cases names it.
    pub(crate) fn queue(capability: &str, messages: u64, consumer: Option<ConsumerFacts>) -> Queue {
        let capability = Capability::parse(capability).unwrap();
        Queue { capability, source: Source::Lane(Lane::Normal), messages, consumer }
    }

    #[test]
    fn counts_and_consumers_meet() {
        let counts =
            [("fleet.request.echo", 5), ("fleet.unique.echo.a", 1), ("fleet.unique.echo.b", 1), ("fleet.later.x", 3)];
        let counts = counts.map(|(subject, count)| (subject.to_owned(), count)).into();
        let mut foreign = consumer("echo", Source::Unique, 0, 0, 0);
        foreign.consumer.name = "coordinator_starts".to_owned();
        let consumers = [
            consumer("echo", Source::Lane(Lane::Normal), 2, 1, 0),
            consumer("idle", Source::Lane(Lane::Bulk), 0, 0, 3),
            foreign,
        ];
        let found = queues(&Namespace::default(), &counts, &consumers);
        let told: Vec<_> = found.iter().map(|queue| (queue.name(), queue.undelivered(), queue.given_up())).collect();
        let expected = [("echo", 2, 2), ("echo (unique)", 2, 0), ("idle (bulk)", 0, 0)];
        assert_eq!(told, expected.map(|(name, waiting, given_up)| (name.to_owned(), waiting, given_up)));
    }
}
