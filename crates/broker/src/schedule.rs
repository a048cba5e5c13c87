//! Message schedules: the broker itself publishes a message when it is due.

use chrono::{DateTime, SecondsFormat};
use protocol::{Headers, header, time::Timestamp};

use crate::{
    Outgoing, Publisher,
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

/// When a stored schedule is due; none for one that recurs.
pub fn due_time(headers: &Headers) -> Option<Timestamp> {
    let text = headers.get(header::NATS_SCHEDULE)?.strip_prefix("@at ")?;
    DateTime::parse_from_rfc3339(text.trim()).ok().map(|moment| moment.to_utc())
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

/// Asks the broker whether it would take a schedule, without storing anything: the schedule is checked before the last
/// message id that a publish expects (seen on 2.15.1; an expected sequence is checked first), and none has this one.
///
/// # Errors
/// What publishing says.
pub async fn check_schedule(publisher: &Publisher, mut outgoing: Outgoing) -> Result<ScheduleVerdict, Error> {
    outgoing.headers.set(header::NATS_EXPECTED_LAST_MSG_ID, "none-is-named-so");
    match publisher.publish(&outgoing).await {
        Ok(stored) => {
            Err(Error::new(Kind::Invalid, format!("the broker stored a schedule that it was only shown: {stored:?}")))
        }
        Err(error) => match error.code() {
            10070 => Ok(ScheduleVerdict::Good),
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
}
