//! Recurring schedules that the broker has forgotten.
//!
//! A firing that the broker could not store is the last one of its schedule, until the server restarts. Nothing shows
//! that: the stored schedule never changes, and what it fires is gone when it is done. What is known here:
//! - When the store was full, as far as this coordinator saw it, and which firings fell into that time. One that
//!   certainly failed is made up for, once; whatever may have failed is stored again, which makes the broker count anew.
//! - A cron schedule may be stored again at any time that is not near a firing: it fires at the same times as before. So
//!   each is stored again some time after it was due, whatever came of that. That needs no memory, and finds what failed
//!   while nobody looked. An `@every` would count from then on, so one of long intervals is never stored again without a
//!   reason, and one of short intervals only where a coordinator takes the duty.

use std::time::{Duration, Instant};

use broker::{Disposition, Error, Outgoing, Settled, StoredMessage, once_more};
use chrono::TimeDelta;
use protocol::{Headers, Subject, cron::Recurrence, header, subject::filter, time::Timestamp};

use crate::{post::Post, recorder::Outage};

/// Schedules that one read asks for: their bodies come along.
const PAGE: usize = 100;

/// Storing a schedule again this near to a firing may lose that one: the broker counts from the nearest second, and takes
/// up to a second to fire.
const NEAR: Duration = Duration::from_secs(2);

/// What fires more often than this is not made up for, and not stored again without a reason: it comes again at once.
const OFTEN: Duration = Duration::from_secs(30);

/// What counts from when it was stored, and is longer than this, is not stored again when the duty is taken.
const LONG: Duration = Duration::from_secs(600);

/// What is to be done with a recurring schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    /// Nothing.
    Fine,
    /// Look again then.
    Wait(Duration),
    /// Store it again.
    Renew,
    /// Fire it once for this time, and store it again.
    Missed(Timestamp),
}

/// An outage on the broker's clock.
#[derive(Clone, Copy, Debug)]
struct Window {
    stored_before: Timestamp,
    first: Timestamp,
    last: Timestamp,
    room: Timestamp,
}

/// Looks at all recurring schedules, and says how soon it wants to look again.
pub(super) async fn look(post: &Post, now: Timestamp, is_first: bool) -> Result<Option<Duration>, Error> {
    let outages = post.store.outages();
    let windows: Vec<Window> = outages.iter().map(|outage| Window::of(outage, now)).collect();
    let (stream, filter) = (&post.names.requests, filter::cron(post.namespace()));
    let mut sooner: Option<Duration> = None;
    let mut from = Some(1);
    while let Some(sequence) = from {
        let page = post.reader.page(stream, &filter, sequence, PAGE).await?;
        from = page.next;
        for schedule in page.messages.into_iter().filter(|schedule| schedule.is_readable) {
            let pattern = schedule.headers.get(header::NATS_SCHEDULE).unwrap_or_default();
            let zone = schedule.headers.get(header::NATS_SCHEDULE_TIME_ZONE);
            let Some(recurrence) = Recurrence::parse(pattern, zone) else { continue };
            let judged = judge(&recurrence, schedule.time, now, &windows, is_first, post.config.overdue_by);
            let missed = match judged {
                Judgement::Fine => continue,
                Judgement::Wait(wait) => {
                    sooner = Some(sooner.map_or(wait, |sooner| sooner.min(wait)));
                    continue;
                }
                Judgement::Renew => None,
                Judgement::Missed(due) => Some(due),
            };
            renew(post, schedule, missed, !windows.is_empty()).await?;
        }
    }
    // Only now: a look that failed must judge by them again. What has to wait is stored again for its own reason then.
    if sooner.is_none() {
        post.store.forget(&outages);
    }
    Ok(sooner)
}

/// Two coordinators may do so at once: the firing has an id of its own, and the schedule is stored by one of them.
async fn renew(post: &Post, schedule: StoredMessage, missed: Option<Timestamp>, is_told: bool) -> Result<(), Error> {
    let subject = schedule.subject.clone();
    let made_up = missed.and_then(|due| made_up(post, &schedule, due));
    for outgoing in made_up.into_iter().chain([once_more(schedule)]) {
        match post.recorder.record(&outgoing).await {
            Ok(Settled::Stored(_) | Settled::Superseded) => {}
            // One that can never be published again must not keep the others back.
            Err(error) if error.disposition() == Disposition::Reject => {
                tracing::error!(subject, %error, "recurring schedule cannot be published again");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    if is_told {
        tracing::info!(subject, made_up_for = ?missed, "recurring schedule is published again");
        post.metrics.overdue.inc();
    }
    Ok(())
}

/// The firing that failed; none where the broker would have made more of it than a copy.
fn made_up(post: &Post, schedule: &StoredMessage, due: Timestamp) -> Option<Outgoing> {
    let known = [header::NATS_SCHEDULE, header::NATS_SCHEDULE_TARGET, header::NATS_SCHEDULE_TIME_ZONE];
    let is_more = |name: &str| {
        name.get(..header::NATS_SCHEDULE.len()).is_some_and(|start| start.eq_ignore_ascii_case(header::NATS_SCHEDULE))
            && !known.iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    if schedule.headers.iter().any(|(name, _)| is_more(name)) {
        return None;
    }
    let target = schedule.headers.get(header::NATS_SCHEDULE_TARGET)?;
    let (Subject::Request { .. } | Subject::Fire(_)) = Subject::parse(post.namespace(), target)? else { return None };
    let Some(Subject::Cron(name)) = Subject::parse(post.namespace(), &schedule.subject) else { return None };
    let is_brokers = |name: &str| {
        name.get(..header::NATS_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(header::NATS_PREFIX))
    };
    let headers: Headers = schedule
        .headers
        .iter()
        .filter(|(name, _)| !is_brokers(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let outgoing = Outgoing::new(target, schedule.body.clone()).with_headers(headers);
    Some(outgoing.with_message_id(format!("cron-{name}-{}", due.timestamp())))
}

fn judge(
    recurrence: &Recurrence,
    stored: Timestamp,
    now: Timestamp,
    windows: &[Window],
    is_first: bool,
    overdue_by: Duration,
) -> Judgement {
    let after = |moment: Timestamp| recurrence.next(stored, moment.max(stored));
    let Some(first_due) = after(stored) else { return Judgement::Fine };
    let step = after(first_due).and_then(|second| (second - first_due).to_std().ok()).unwrap_or(Duration::MAX);
    let is_often = step < OFTEN;
    let mut is_doubtful = false;
    let mut missed = None;
    for window in windows {
        is_doubtful |= after(window.stored_before - TimeDelta::seconds(1)).is_some_and(|due| due <= window.room);
        // The broker takes up to a second to fire.
        let due = after(window.first);
        missed = due.filter(|due| !is_often && *due + TimeDelta::seconds(1) <= window.last).or(missed);
    }
    is_doubtful |= match recurrence {
        Recurrence::Every(interval) => is_first && *interval <= LONG && now - stored > delta(2 * *interval),
        Recurrence::Cron(..) => !is_often && now - first_due >= delta(overdue_by),
    };
    if !is_doubtful && missed.is_none() {
        let due_in = (first_due + delta(overdue_by) - now).to_std().unwrap_or_default();
        let is_soon = matches!(recurrence, Recurrence::Cron(..)) && !is_often && now >= first_due;
        return if is_soon { Judgement::Wait(due_in) } else { Judgement::Fine };
    }
    let near = TimeDelta::from_std(NEAR).unwrap_or_default();
    let is_near = after(now - near).is_some_and(|due| due <= now + near);
    match (missed, recurrence) {
        (_, Recurrence::Cron(..)) if is_near && !is_often => Judgement::Wait(2 * NEAR),
        (Some(due), _) => Judgement::Missed(due),
        (None, _) => Judgement::Renew,
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

impl Window {
    fn of(outage: &Outage, now: Timestamp) -> Self {
        let at = |moment: Instant| now - delta(moment.elapsed());
        Self {
            stored_before: at(outage.stored_before),
            first: at(outage.first),
            last: at(outage.last),
            room: at(outage.room),
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::time;

    use super::*;

    const OVERDUE_BY: Duration = Duration::from_secs(5);

    fn at(text: &str) -> Timestamp {
        time::parse(&format!("2030-01-02T{text}Z")).unwrap()
    }

    fn window(times: [&str; 4]) -> Window {
        let [stored_before, first, last, room] = times.map(at);
        Window { stored_before, first, last, room }
    }

    #[test]
    fn what_certainly_failed_is_made_up_for_and_what_may_have_failed_is_stored_again() {
        let outage = window(["06:20:00", "06:20:10", "06:40:00", "06:40:01"]);
        let begins = window(["06:29:55", "06:30:05", "06:40:00", "06:40:01"]);
        let ends = window(["06:20:00", "06:20:10", "06:29:59", "06:30:01"]);
        let elsewhere = window(["04:20:00", "04:20:10", "04:40:00", "04:40:01"]);
        let daily = "0 30 6 * * *";
        let missed = Judgement::Missed(at("06:30:00"));
        let yesterday = "2030-01-01T12:00:00Z";
        for (pattern, stored, now, windows, is_first, expected) in [
            (daily, yesterday, at("06:40:01"), vec![outage], false, missed),
            (daily, yesterday, at("06:40:01"), vec![elsewhere, outage], false, missed),
            (daily, yesterday, at("06:40:01"), vec![begins], false, Judgement::Renew),
            (daily, yesterday, at("06:30:05"), vec![ends], false, Judgement::Renew),
            (daily, yesterday, at("06:30:01"), vec![ends], false, Judgement::Wait(2 * NEAR)),
            (daily, yesterday, at("04:40:01"), vec![elsewhere], false, Judgement::Fine),
            // Without an outage that was seen it is stored again after each firing.
            (daily, yesterday, at("06:29:00"), vec![], false, Judgement::Fine),
            (daily, yesterday, at("06:30:01"), vec![], false, Judgement::Wait(Duration::from_secs(4))),
            (daily, yesterday, at("06:30:05"), vec![], false, Judgement::Renew),
            (daily, "2030-01-02T06:30:05Z", at("06:30:30"), vec![], true, Judgement::Fine),
            // Often enough to need no making up for, and too often to be stored again for nothing.
            ("* * * * * *", yesterday, at("06:40:01"), vec![], true, Judgement::Fine),
            ("* * * * * *", yesterday, at("06:40:01"), vec![outage], false, Judgement::Renew),
            ("@every 10s", yesterday, at("06:40:01"), vec![outage], false, Judgement::Renew),
            ("@every 10s", yesterday, at("06:40:01"), vec![], false, Judgement::Fine),
            ("@every 10s", yesterday, at("06:40:01"), vec![], true, Judgement::Renew),
            // It counts from when it was stored, so it is left alone unless it may have failed.
            ("@every 1h", yesterday, at("06:40:01"), vec![], true, Judgement::Fine),
            ("@every 1h", "2030-01-01T12:30:00Z", at("06:40:01"), vec![outage], false, missed),
            ("@every 1h", yesterday, at("06:40:01"), vec![outage], false, Judgement::Fine),
        ] {
            let recurrence = Recurrence::parse(pattern, None).unwrap();
            let stored = time::parse(stored).unwrap();
            let judged = judge(&recurrence, stored, now, &windows, is_first, OVERDUE_BY);
            assert_eq!(judged, expected, "{pattern} stored {stored}, looked at {now}, {windows:?}");
        }
    }
}
