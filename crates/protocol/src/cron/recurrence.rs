//! When a recurring schedule fires next, as far as that can be told without the broker. The broker decides; this shows,
//! and judges what should have fired.

use std::{str::FromStr, time::Duration};

use chrono::{Datelike, TimeDelta};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use crate::time::Timestamp;

/// What recurs at all does so within this many years: the 29th of February falls on the same weekday after 40 at most, about a
/// year such as 2100 that has none. A day that never comes is looked for no further: day by day to the end of time, that is
/// seconds of work.
const YEARS_MAX: i32 = 40;

/// What recurs.
#[derive(Clone, Debug)]
pub enum Recurrence {
    /// Every so often from when the schedule was stored, in whole seconds.
    Every(Duration),
    /// At these times of this zone. In the hour that a change to summer time leaves out, and the one that a change back
    /// repeats, the broker may fire differently.
    Cron(Fields, Tz),
}

/// Six cron fields, from seconds to weekdays, that can be read.
#[derive(Clone, Debug)]
pub struct Fields(String);

impl Fields {
    fn parse(fields: &str) -> Option<Self> {
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
        parser.parse(fields).ok().map(|_| Self(fields.to_owned()))
    }

    /// The same in the years from this one on.
    fn in_years_from(&self, year: i32) -> Option<Cron> {
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Required).build();
        let last = (year + YEARS_MAX).min(croner::YEAR_UPPER_LIMIT);
        parser.parse(&format!("{} {year}-{last}", self.0)).ok()
    }
}

impl Recurrence {
    /// Reads a schedule in the broker's words; none where it is not understood here.
    pub fn parse(schedule: &str, zone: Option<&str>) -> Option<Self> {
        if let Some(text) = schedule.strip_prefix("@every ") {
            return interval(text.trim()).map(Self::Every);
        }
        let fields = match schedule {
            "@yearly" | "@annually" => "0 0 0 1 1 *",
            "@monthly" => "0 0 0 1 * *",
            "@weekly" => "0 0 0 * * 0",
            "@daily" | "@midnight" => "0 0 0 * * *",
            "@hourly" => "0 0 * * * *",
            other => other,
        };
        let zone = zone.filter(|zone| !zone.is_empty()).map_or(Ok(Tz::UTC), Tz::from_str).ok()?;
        Some(Self::Cron(Fields::parse(fields)?, zone))
    }

    /// The first time after a moment. `stored` is when its schedule was stored: from there an interval counts.
    pub fn next(&self, stored: Timestamp, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(interval) => {
                let (start, step) = (whole_seconds(stored), i64::try_from(interval.as_secs()).ok()?.max(1));
                let passed = (after - start).num_seconds().max(0) / step;
                start.checked_add_signed(TimeDelta::try_seconds(passed.checked_add(1)?.checked_mul(step)?)?)
            }
            Self::Cron(fields, zone) => {
                let after = after.with_timezone(zone);
                let next = fields.in_years_from(after.year())?.find_next_occurrence(&after, false).ok()?;
                Some(next.to_utc())
            }
        }
    }
}

/// The broker rounds to the nearest second.
fn whole_seconds(moment: Timestamp) -> Timestamp {
    let up = i64::from(moment.timestamp_subsec_millis() >= 500);
    Timestamp::from_timestamp(moment.timestamp() + up, 0).unwrap_or(moment)
}

/// An interval in the broker's language, `1h30m`, of whole seconds.
fn interval(text: &str) -> Option<Duration> {
    let (mut rest, mut seconds) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit = match tail.as_bytes().first()? {
            b'h' => 3_600,
            b'm' if !tail.starts_with("ms") => 60,
            b's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = &tail[1..];
    }
    (seconds > 0).then(|| Duration::from_secs(seconds))
}
