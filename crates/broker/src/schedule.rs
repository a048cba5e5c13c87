//! Message schedules: the broker itself publishes a message when it is due.

use chrono::{DateTime, SecondsFormat};
use protocol::{Headers, header, time::Timestamp};

use crate::Outgoing;

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
