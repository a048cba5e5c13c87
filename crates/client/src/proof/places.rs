//! What a message says of the request that it is of.

use std::collections::HashMap;

use broker::{StoredMessage, is_schedule};
use protocol::{
    Namespace, Request, RequestId, Subject,
    run::Start,
    topology::{Source, starts_consumer, worker_consumer},
};

/// Where a request was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Completed,
    Failed,
    Expired,
    Cancelled,
    Dead,
    Dropped,
    Scheduled,
    Waiting,
    Running,
    Run,
    TooOld,
}

/// How far each consumer has delivered, by its name.
pub(super) type Delivered = HashMap<String, u64>;

/// The request that a message of a queue or a schedule is of, and what that means for it; none where it is of none, as a
/// recurring schedule.
pub(super) fn in_queue(
    namespace: &Namespace,
    message: &StoredMessage,
    delivered: &Delivered,
) -> Option<(RequestId, Place)> {
    let own = RequestId::of_sequence(message.sequence);
    let place = |consumer: String| {
        let is_delivered = delivered.get(&consumer).is_some_and(|through| message.sequence <= *through);
        if is_delivered { Place::Running } else { Place::Waiting }
    };
    match Subject::parse(namespace, &message.subject)? {
        Subject::Later(id) => is_schedule(&message.headers).then_some((id, Place::Scheduled)),
        Subject::Request { lane, capability } => {
            // What cannot be read has its outcome under its sequence.
            let id = Request::read(&message.headers, own.clone()).map_or(own, |request| request.id);
            Some((id, place(worker_consumer(namespace, &capability, Source::Lane(lane), 1).name)))
        }
        Subject::Unique { capability, .. } => {
            let id = RequestId::of_unique_sequence(message.sequence);
            Some((id, place(worker_consumer(namespace, &capability, Source::Unique, 1).name)))
        }
        Subject::Start(_) => {
            let id = Start::read(&message.headers, own.clone()).map_or(own, |start| RequestId::from(&start.run));
            Some((id, place(starts_consumer(namespace).name)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Headers, time::Timestamp};

    use super::*;

    #[test]
    fn a_message_tells_whose_it_is() {
        let delivered = Delivered::from([("echo".to_owned(), 7)]);
        for (subject, id, sequence, expected) in [
            ("fleet.request.echo", Some("a"), 7, Some(("a", Place::Running))),
            ("fleet.request.echo", Some("a"), 8, Some(("a", Place::Waiting))),
            ("fleet.bulk.echo", None, 7, Some(("seq-7", Place::Waiting))),
            ("fleet.later.b", Some("b"), 7, None),
            ("fleet.unique.echo.key", Some("c"), 7, Some(("useq-7", Place::Waiting))),
            ("fleet.start.night", Some("r"), 9, Some(("r", Place::Waiting))),
            ("fleet.cron.night", None, 9, None),
            ("other.request.echo", Some("a"), 9, None),
        ] {
            let headers: Headers = id.map(|id| ("Sortie-Request-Id".to_owned(), id.to_owned())).into_iter().collect();
            let message = StoredMessage {
                subject: subject.to_owned(),
                sequence,
                time: Timestamp::default(),
                headers,
                is_readable: true,
                body: Default::default(),
            };
            let found = in_queue(&Namespace::default(), &message, &delivered);
            let expected = expected.map(|(id, place)| (RequestId::parse(id).unwrap(), place));
            assert_eq!(found, expected, "{subject}");
            if let Some(Subject::Later(id)) = Subject::parse(&Namespace::default(), subject) {
                let scheduled = broker::scheduled_at(
                    broker::Outgoing::new(subject, "").with_headers(message.headers),
                    Timestamp::default(),
                    "fleet.request.echo",
                );
                let message = StoredMessage { headers: scheduled.headers, ..message };
                assert_eq!(in_queue(&Namespace::default(), &message, &delivered), Some((id, Place::Scheduled)));
            }
        }
    }
}
