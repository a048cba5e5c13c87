//! Durations, times, sizes, back-offs, schedules, patterns: what stands in headers, flags and documents. A line each.

use std::time::Duration;

use protocol::{
    Backoff, CodePattern, byte_size,
    cron::{CronTie, Recurrence},
    duration, log_line,
    retry::parse_attempts,
    settings,
    time::{self, Timestamp},
};

use crate::text_of;

/// Moments from which schedules are asked for their next: an ordinary one, the changes of a summer time, and the ends.
const MOMENTS: [&str; 6] = [
    "2026-11-20T07:17:00.5Z",
    "2026-03-29T00:59:59Z",
    "2026-10-25T00:59:59Z",
    "2028-02-29T23:59:59Z",
    "1970-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
];

/// Feeds words: what is read is written in a way that reads as the same.
pub fn words(data: &[u8]) {
    for line in text_of(data).lines().take(50) {
        if let Ok(read) = duration::parse(line) {
            assert_eq!(duration::parse(&duration::format(read)), Ok(read));
        }
        if let Ok(bytes) = byte_size::parse(line) {
            byte_size::format(bytes);
            assert_eq!(byte_size::parse(&bytes.to_string()), Ok(bytes));
        }
        if let Ok(moment) = time::parse(line) {
            assert_eq!(time::parse(&time::format_exactly(moment)), Ok(moment));
            assert!(time::parse(&time::format(moment)).is_ok(), "{}", time::format(moment));
        }
        back_off(line);
        if let Ok(attempts) = parse_attempts(line) {
            assert_eq!(parse_attempts(&attempts.to_string()), Ok(attempts));
        }
        if let Ok(pattern) = CodePattern::parse(line) {
            assert!(pattern.matches(line), "a pattern is among what it stands for");
            assert_eq!(CodePattern::parse(&pattern.to_string()), Ok(pattern));
        }
        if let Ok(tie) = line.parse::<CronTie>() {
            assert_eq!(tie.to_string().parse(), Ok(tie));
        }
        if let Ok(level) = line.parse::<log_line::Level>() {
            assert_eq!(level.word().parse(), Ok(level));
        }
        if let Some(id) = log_line::trace_id(line) {
            assert_eq!(id.len(), 32);
        }
        // A reference to a secret is only read; whether it is there is the agent's affair.
        let _ = settings::reference(line);
        schedule(line);
    }
}

fn back_off(line: &str) {
    let Ok(backoff) = line.parse::<Backoff>() else { return };
    assert_eq!(backoff.to_string().parse(), Ok(backoff));
    for attempt in [0, 1, 2, 3, 10, 1_000, u32::MAX] {
        for chance in [-1.0, 0.0, 0.5, 1.0, f64::NAN] {
            assert!(backoff.wait(attempt, chance) <= backoff.cap);
        }
    }
}

fn schedule(line: &str) {
    let (zone, schedule) = match line.split_once('|') {
        Some((zone, schedule)) => (Some(zone), schedule),
        None => (None, line),
    };
    let Some(recurrence) = Recurrence::parse(schedule, zone) else { return };
    let moments: Vec<Timestamp> = MOMENTS.iter().filter_map(|text| time::parse(text).ok()).collect();
    let (stored, after) = match &recurrence {
        Recurrence::Every(interval) => {
            assert!(*interval >= Duration::from_secs(1));
            (&moments[..], &moments[..])
        }
        // A day that never comes takes a millisecond to be looked for: one of eight is, where there are millions.
        Recurrence::Cron(..) if cfg!(feature = "libfuzzer") && !schedule.len().is_multiple_of(8) => return,
        // Cron fields do not count from there. Another moment for each.
        Recurrence::Cron(..) => {
            let chosen = schedule.len() % moments.len();
            (&moments[..1], &moments[chosen..=chosen])
        }
    };
    for (stored, after) in stored.iter().flat_map(|stored| after.iter().map(move |after| (stored, after))) {
        if let Some(next) = recurrence.next(*stored, *after) {
            assert!(next > *after, "{schedule}: {next} is not after {after}");
        }
    }
}
