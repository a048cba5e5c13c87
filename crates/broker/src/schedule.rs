//! Message schedules: the broker itself publishes a message when it is due.

use chrono::{DateTime, SecondsFormat};
use protocol::{Headers, header, time::Timestamp};

use crate::{
    Outgoing, Publisher, StoredMessage,
    error::{Error, Kind},
};

/// Makes a message a schedule: stored at its own subject, published to `target` at `due` on the broker's clock. A time
/// in the past fires at once; storing another under the same subject replaces it; purging the subject cancels it.
#[must_use]
pub fn scheduled_at(mut outgoing: Outgoing, due: Timestamp, target: &str) -> Outgoing {
    outgoing.headers.set(header::NATS_SCHEDULE, format!("@at {}", due.to_rfc3339_opts(SecondsFormat::Millis, true)));
    outgoing.headers.set(header::NATS_SCHEDULE_TARGET, target);
    outgoing
}

/// Whether the broker fires what has these headers: it knows the name by its exact letters. Anything else may be stored where
/// schedules lie, by mistake too, and lies there for ever.
pub fn is_schedule(headers: &Headers) -> bool {
    headers.last(header::NATS_SCHEDULE).is_some()
}

/// When a stored schedule is due; none for one that recurs.
pub fn due_time(headers: &Headers) -> Option<Timestamp> {
    let text = headers.get(header::NATS_SCHEDULE)?.strip_prefix("@at ")?;
    DateTime::parse_from_rfc3339(text.trim()).ok().map(|moment| moment.to_utc())
}

/// The same schedule once more, expecting the sequence that was read: if it fired or changed in between, nothing happens.
/// The duplicate window would swallow it under its old id.
pub fn once_more(schedule: StoredMessage) -> Outgoing {
    let is_kept = |name: &str| {
        let name = name.to_ascii_lowercase();
        name != header::NATS_MSG_ID.to_ascii_lowercase() && !name.starts_with("nats-expected-")
    };
    let headers: Headers = schedule
        .headers
        .iter()
        .filter(|(name, _)| is_kept(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Outgoing { subject: schedule.subject, headers, body: schedule.body }.expecting(schedule.sequence)
}

/// What the broker says of a schedule that it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleVerdict {
    /// It takes it.
    Good,
    /// It does not understand when (10189).
    BadPattern,
    /// It knows no such time zone (10223). Zones come from the server's machine.
    BadZone,
    /// The stream does not take the target (10190).
    BadTarget,
}

/// Asks the broker whether it would take a schedule, without storing anything: a schedule replaces what is at its own subject,
/// and the last thing that is checked of one is that it does not ask to replace more (seen on 2.15.1, on one node and on
/// three).
///
/// That is refused by the leader, before anything is replicated. Of an expectation it must be known where it is looked at: a
/// `Nats-Expected-Last-Msg-Id` that does not match is found out by each replica of a replicated stream when it stores the
/// message, and all of them then stop the stream for good.
///
/// # Errors
/// What publishing says.
pub async fn check_schedule(publisher: &Publisher, mut outgoing: Outgoing) -> Result<ScheduleVerdict, Error> {
    outgoing.headers.set(header::NATS_ROLLUP, "all");
    match publisher.publish(&outgoing).await {
        Ok(stored) => {
            Err(Error::new(Kind::Invalid, format!("the broker stored a schedule that it was only shown: {stored:?}")))
        }
        Err(error) => match error.code() {
            10192 => Ok(ScheduleVerdict::Good),
            10189 => Ok(ScheduleVerdict::BadPattern),
            10223 => Ok(ScheduleVerdict::BadZone),
            10190 => Ok(ScheduleVerdict::BadTarget),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_tells_when_it_is_due() {
        let due = protocol::time::parse("2030-01-01T00:00:00.250Z").unwrap();
        let outgoing = scheduled_at(Outgoing::new("fleet.later.a", ""), due, "fleet.request.echo");
        assert_eq!(outgoing.headers.get("Nats-Schedule"), Some("@at 2030-01-01T00:00:00.250Z"));
        assert_eq!(due_time(&outgoing.headers), Some(due));
        let mut cron = Headers::new();
        cron.set("Nats-Schedule", "@every 1m");
        assert_eq!(due_time(&cron), None);
    }

    #[test]
    fn a_schedule_is_published_again_as_it_was_under_no_id() {
        let mut headers = Headers::new();
        for (name, value) in [
            ("Nats-Schedule", "@at 2030-01-01T00:00:00Z"),
            ("Nats-Schedule-Target", "fleet.request.echo"),
            ("nats-msg-id", "a:2.0"),
            ("Nats-Expected-Last-Subject-Sequence", "3"),
            ("Nats-Expected-Stream", "X"),
            ("Sortie-Attempt", "2"),
        ] {
            headers.push(name, value);
        }
        let schedule = StoredMessage {
            subject: "fleet.later.a".to_owned(),
            sequence: 7,
            time: Timestamp::default(),
            headers,
            is_readable: true,
            body: "{}".into(),
        };
        let outgoing = once_more(schedule);
        let names: Vec<&str> = outgoing.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["Nats-Schedule", "Nats-Schedule-Target", "Sortie-Attempt", "Nats-Expected-Last-Subject-Sequence"]
        );
        assert_eq!(outgoing.headers.get(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE), Some("7"));
    }
}
