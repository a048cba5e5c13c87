//! What still lies in a queue and has its outcome: cancelled, most often. Whoever serves the queue drops it when it comes
//! to it; where nobody does, it would count as waiting for ever.

use std::collections::BTreeSet;

use broker::{Error, StoredMessage, topology};
use protocol::{Namespace, Origin, Outcome, Request, RequestId, Status, Subject, time::Timestamp, topology::Source};

use super::{Over, unique_subject};
use crate::{duty::dead_letters::Burial, post::Post, queues::Queue};

/// Messages behind the head of a queue that one look deletes: each takes the broker some milliseconds.
const DELETED_MAX: usize = 20;

/// Of the messages of a queue, those in nobody's hands that have their outcome; their dead letters are there.
pub(super) async fn ended(
    post: &Post,
    burial: &Burial,
    queue: &Queue,
    messages: &[StoredMessage],
    now: Timestamp,
) -> Result<Vec<Over>, Error> {
    let mut free = free(post.namespace(), queue, messages, now);
    let subjects: Vec<String> =
        free.iter().map(|over| Subject::outcome_of(&over.request.id).render(post.namespace())).collect();
    let found = post.reader.last_of_each(&post.names.outcomes, &subjects).await?;
    let outcome = |message: &StoredMessage| match Subject::parse(post.namespace(), &message.subject)? {
        Subject::Outcome(id) => Some((id.clone(), Outcome::read(id, &message.headers, b"").status)),
        _ => None,
    };
    let mut ended = BTreeSet::new();
    for (id, status) in found.iter().filter_map(outcome) {
        if status != Status::Failed || is_buried(burial, queue, messages, &free, &id).await? {
            ended.insert(id);
        }
    }
    free.retain(|over| ended.contains(&over.request.id));
    Ok(free)
}

/// Deletes what is over and not at the head, a few at a time.
pub(super) async fn delete(post: &Post, queue: &Queue, over: &[Over]) -> Result<(), Error> {
    for over in over.iter().take(DELETED_MAX) {
        topology::delete_message(&post.connection, &queue.consumer.stream, over.sequence).await?;
    }
    Ok(())
}

/// Whether the dead letter of a failed one is there: the message must not go without it.
async fn is_buried(
    burial: &Burial,
    queue: &Queue,
    messages: &[StoredMessage],
    free: &[Over],
    id: &RequestId,
) -> Result<bool, Error> {
    let Some(decided) = burial.stored_outcome(id).await? else { return Ok(false) };
    let sequence = free.iter().find(|over| over.request.id == *id).map(|over| over.sequence);
    let Some(message) = messages.iter().find(|message| Some(message.sequence) == sequence) else { return Ok(false) };
    burial.complete(queue, message, &decided).await?;
    Ok(true)
}

/// What nobody has in hand. A step's outcome lies in its run's log: its run minds it.
fn free(namespace: &Namespace, queue: &Queue, messages: &[StoredMessage], now: Timestamp) -> Vec<Over> {
    let in_hands_through = match (&queue.state, queue.source) {
        (None, _) => 0,
        // Unique work waits for its retry in hand, however long, and keeps its key meanwhile.
        (Some(state), Source::Unique) if state.ack_pending > 0 => state.delivered,
        (Some(state), Source::Lane(_)) if state.attendance().is_held(now) => state.delivered,
        (Some(_), _) => 0,
    };
    let free = messages.iter().filter(|message| message.is_readable && message.sequence > in_hands_through);
    let over = |message: &StoredMessage| {
        let request = Request::read(&message.headers, queue.id_of_sequence(message.sequence)).ok()?;
        let is_step = matches!(request.id.origin(), Origin::Step { .. });
        let unique_subject = unique_subject(namespace, queue, message);
        (!is_step).then_some(Over { request, unique_subject, sequence: message.sequence })
    };
    free.filter_map(over).collect()
}
