//! Deadlines hold even when nobody serves the capability: who serves one minds them itself, so only queues at which
//! nobody waits are read. What was cancelled meanwhile goes by the same look.

mod ended;

use std::time::Duration;

use broker::{Disposition, Error, Kind, Settled, StoredMessage, topology};
use futures_util::{StreamExt, stream};
use protocol::{Namespace, Outcome, Request, Subject, time::Timestamp, topology::Source};

use crate::{
    duty::{Duty, dead_letters::Burial, unserved::Unserved},
    post::Post,
    queues::{Queue, queues},
};

/// Messages at the head of a queue that one look reads.
const READ_MAX: usize = 1_000;

/// Outcomes that are published at once.
const AT_ONCE: usize = 64;

/// Expires what is past its deadline and unattended, and tells what is unserved.
pub(crate) struct Deadlines {
    post: Post,
    unserved: Unserved,
    burial: Burial,
}

/// A message that is past its deadline, or whose request has ended.
#[derive(Clone, Debug, PartialEq)]
struct Over {
    request: Request,
    /// Where it lies, if it is unique work of this queue.
    unique_subject: Option<String>,
    sequence: u64,
}

impl Deadlines {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone(), unserved: Unserved::new(post), burial: Burial::new(post) }
    }

    async fn expire_in(&self, queue: &Queue, now: Timestamp) -> Result<(), Error> {
        let consumer = &queue.consumer;
        let page = self.post.reader.page(&consumer.stream, &consumer.filter, 1, READ_MAX).await?;
        let mut expired = expired(self.post.namespace(), queue, &page.messages, now);
        let ends: Vec<_> = expired.iter().map(|expired| self.expire(queue, expired, &page.messages)).collect();
        let ends: Vec<_> = stream::iter(ends).buffered(AT_ONCE).collect().await;
        // One that cannot be settled stays, and keeps nobody back.
        let mut settled = ends.iter().map(Result::is_ok);
        expired.retain(|_| settled.next().unwrap_or(false));
        let is_expired = |over: &Over| expired.iter().any(|expired| expired.sequence == over.sequence);
        let ended = ended::ended(&self.post, &self.burial, queue, &page.messages, now).await?;
        let ended: Vec<Over> = ended.into_iter().filter(|over| !is_expired(over)).collect();
        expired.extend(ended.iter().cloned());
        expired.sort_by_key(|over| over.sequence);
        let purges = purges(queue, &page.messages, &expired);
        for (subject, below) in &purges {
            topology::purge(&self.post.connection, &consumer.stream, subject, Some(*below)).await?;
        }
        if let Source::Lane(_) = queue.source {
            let head = purges.first().map_or(0, |(_, below)| *below);
            let behind: Vec<Over> = ended.into_iter().filter(|over| over.sequence >= head).collect();
            ended::delete(&self.post, queue, &behind).await?;
        }
        ends.into_iter().collect()
    }

    async fn expire(&self, queue: &Queue, expired: &Over, messages: &[StoredMessage]) -> Result<(), Error> {
        let id = &expired.request.id;
        let mut outcome = Outcome::expired(id.clone());
        outcome.capability = Some(queue.capability.clone());
        outcome.attempt = expired.request.attempt;
        outcome.trace = expired.request.trace.clone();
        if let Settled::Stored(_) = self.post.record_outcome(&outcome).await? {
            tracing::info!(request.id = %id, capability = %queue.capability, "request expired unattended");
            self.post.metrics.expired.inc();
            return Ok(());
        }
        // Whoever was first may have died before the dead letter, and the message must not go without it.
        let late = || Error::new(Kind::Contended, format!("the outcome of {id} cannot be read yet"));
        let decided = self.burial.stored_outcome(id).await?.ok_or_else(late)?;
        match messages.iter().find(|message| message.sequence == expired.sequence) {
            Some(message) => self.burial.complete(queue, message, &decided).await,
            None => Ok(()),
        }
    }
}

impl Duty for Deadlines {
    const NAME: &'static str = "deadlines";

    fn begin(&mut self) {
        self.unserved.begin();
    }

    async fn look(&mut self) -> Result<Option<Duration>, Error> {
        // The clock is read before the consumers are: see `purges`.
        let now = self.post.now().await?;
        let queues = queues(&self.post).await?;
        for queue in queues.iter().filter(|queue| queue.is_unattended()) {
            match self.expire_in(queue, now).await {
                Err(error) if error.disposition() != Disposition::Fatal => {
                    tracing::warn!(consumer = queue.consumer.name, %error, "deadlines of a queue not looked at");
                }
                other => other?,
            }
        }
        self.unserved.look(&queues, now).await?;
        Ok(None)
    }
}

/// Which messages are past their deadline. One whose headers lie is not: its deadline cannot be trusted, and whoever
/// serves it says so.
fn expired(namespace: &Namespace, queue: &Queue, messages: &[StoredMessage], now: Timestamp) -> Vec<Over> {
    let judged = messages.iter().filter_map(|message| {
        let request = Request::read(&message.headers, queue.id_of_sequence(message.sequence)).ok()?;
        let is_past = request.deadline.is_some_and(|deadline| deadline < now);
        is_past.then(|| Over {
            request,
            unique_subject: unique_subject(namespace, queue, message),
            sequence: message.sequence,
        })
    });
    judged.collect()
}

/// Where a message lies, if it is unique work of this queue.
fn unique_subject(namespace: &Namespace, queue: &Queue, message: &StoredMessage) -> Option<String> {
    match Subject::parse(namespace, &message.subject)? {
        Subject::Unique { capability, key } if capability == queue.capability => {
            Some(Subject::Unique { capability, key }.render(namespace))
        }
        _ => None,
    }
}

/// What to purge once the outcomes of all `expired` are stored: subjects, and the sequences below which.
///
/// In a lane that is the head of the queue as far as everything in it has expired. Some of it may be in a worker's
/// hands: its outcome is decided all the same, so whatever the worker publishes now comes second, and its
/// acknowledgement finds nothing more to do. If that worker is dead, the message would lie there until the next one
/// pulls, and the expired behind it beyond what one look reads would never be reached.
///
/// Of unique work, a message in a worker's hands keeps its key, else a second one of that key could run beside it. What
/// is beyond the last delivery is in nobody's hands, and as it was past its deadline before the consumer was asked,
/// nobody starts it any more.
fn purges(queue: &Queue, messages: &[StoredMessage], expired: &[Over]) -> Vec<(String, u64)> {
    match queue.source {
        Source::Lane(_) => {
            let head =
                messages.iter().zip(expired).take_while(|(message, expired)| message.sequence == expired.sequence);
            head.last().map(|(message, _)| (queue.consumer.filter.clone(), message.sequence + 1)).into_iter().collect()
        }
        Source::Unique => {
            let in_hands_through = match &queue.state {
                Some(state) if state.ack_pending > 0 => state.delivered,
                _ => 0,
            };
            let free = expired.iter().filter(|expired| expired.sequence > in_hands_through);
            free.filter_map(|expired| Some((expired.unique_subject.clone()?, expired.sequence + 1))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Headers, Lane, header, time};

    use super::*;
    use crate::queues::tests::queue;

    const NORMAL: Source = Source::Lane(Lane::Normal);

    fn message(sequence: u64, deadline: Option<&str>) -> StoredMessage {
        let mut headers = Headers::new();
        if let Some(deadline) = deadline {
            headers.set(header::DEADLINE, deadline);
        }
        let subject = format!("fleet.unique.echo.{sequence}");
        StoredMessage { subject, sequence, time: Timestamp::default(), headers, is_readable: true, body: "".into() }
    }

    const PAST: Option<&str> = Some("2029-12-31T23:59:59Z");
    const FUTURE: Option<&str> = Some("2030-01-01T00:00:01Z");

    /// Sequences that expire, and what is purged.
    fn judge(queue: &Queue, deadlines: &[Option<&str>]) -> (Vec<u64>, Vec<u64>) {
        let now = time::parse("2030-01-01T00:00:00Z").unwrap();
        let messages: Vec<_> =
            deadlines.iter().zip(1..).map(|(deadline, sequence)| message(sequence, *deadline)).collect();
        let expired = expired(&Namespace::default(), queue, &messages, now);
        let purges = purges(queue, &messages, &expired);
        (expired.iter().map(|one| one.sequence).collect(), purges.iter().map(|(_, below)| *below).collect())
    }

    #[test]
    fn a_lane_is_purged_up_to_what_still_may_be_done() {
        let lane = queue("echo", NORMAL, 9, 0, 0);
        for (deadlines, expected) in [
            (&[None, FUTURE][..], (vec![], vec![])),
            (&[PAST, PAST, None, PAST], (vec![1, 2, 4], vec![3])),
            (&[FUTURE, PAST], (vec![2], vec![])),
            (&[Some("tomorrow"), PAST], (vec![2], vec![])),
            (&[PAST], (vec![1], vec![2])),
            (&[], (vec![], vec![])),
        ] {
            assert_eq!(judge(&lane, deadlines), expected, "{deadlines:?}");
        }
    }

    #[test]
    fn unique_work_in_hands_keeps_its_key() {
        let in_hands = queue("echo", Source::Unique, 3, 0, 2);
        assert_eq!(judge(&in_hands, &[PAST, None, PAST]), (vec![1, 3], vec![4]));
        let free = queue("echo", Source::Unique, 3, 0, 0);
        assert_eq!(judge(&free, &[PAST, None, PAST]), (vec![1, 3], vec![2, 4]));
    }

    #[test]
    fn only_what_lies_in_the_queue_is_purged() {
        let now = time::parse("2030-01-01T00:00:00Z").unwrap();
        for (source, subject, purged) in [
            (NORMAL, "fleet.request.victim", Some("fleet.request.echo")),
            (Source::Unique, "fleet.unique.echo.key", Some("fleet.unique.echo.key")),
            (Source::Unique, "fleet.unique.victim.key", None),
            (Source::Unique, "fleet.unique.*.key", None),
            (Source::Unique, ">", None),
        ] {
            let messages = [StoredMessage { subject: subject.to_owned(), ..message(1, PAST) }];
            let queue = queue("echo", source, 1, 0, 0);
            let expired = expired(&Namespace::default(), &queue, &messages, now);
            let purges = purges(&queue, &messages, &expired);
            assert_eq!(purges.first().map(|(subject, _)| subject.as_str()), purged, "{subject}");
        }
    }

    #[test]
    fn ids_follow_the_source() {
        let now = time::parse("2030-01-01T00:00:00Z").unwrap();
        for (source, id) in [(NORMAL, "seq-5"), (Source::Unique, "useq-5")] {
            let found = expired(&Namespace::default(), &queue("echo", source, 1, 0, 0), &[message(5, PAST)], now);
            assert_eq!(found[0].request.id.as_str(), id);
        }
    }
}
