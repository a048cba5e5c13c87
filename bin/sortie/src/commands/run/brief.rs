//! Words and values of runs, short enough for a line.

use std::time::Duration;

use chrono::TimeDelta;
use protocol::{duration, limits};
use serde_json::{Value, json};
use workflow::{Payload, StepStatus, state::view::RunStatus};

use crate::commands::outcome::printable;

/// A value in a line, of so many bytes at most; nothing for nothing.
pub(super) fn value(payload: &Payload, bytes_max: usize) -> String {
    match payload {
        Payload::Value(value) if value.is_null() => String::new(),
        Payload::Value(value) => text(&value.to_string(), bytes_max),
        Payload::Held { reference, .. } => text(&format!("(large, held as {reference})"), bytes_max),
    }
}

/// A value as data; what is held elsewhere, as where that is.
pub(super) fn plain(payload: &Payload) -> Value {
    match payload {
        Payload::Value(value) => Value::clone(value),
        Payload::Held { reference, content_type } => {
            json!({ "held": { "reference": reference, "content_type": content_type } })
        }
    }
}

/// Text of others in a line, of so many bytes at most.
pub(super) fn text(text: &str, bytes_max: usize) -> String {
    printable(&limits::truncate(text, bytes_max))
}

/// Where a run is.
pub(super) fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Waiting => "waiting",
        RunStatus::Running => "running",
        RunStatus::Paused => "paused",
        RunStatus::Stopping => "stopping",
        RunStatus::Undoing => "undoing",
        RunStatus::Ended(status) => status.as_str(),
    }
}

/// Where a step is: of one that waits for something to happen, `waiting` would say too little.
pub(super) fn step_status(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Waiting => "",
        status => status.as_str(),
    }
}

/// How long something took, as exact as one reads it.
pub(super) fn took(took: TimeDelta) -> String {
    let took = took.to_std().unwrap_or_default();
    match took.as_millis() {
        0..1_000 => format!("{}ms", took.as_millis()),
        1_000..60_000 => format!("{:.1}s", took.as_secs_f64()),
        _ => {
            let seconds = took.as_secs();
            let (unit, part, name) = match seconds {
                0..3_600 => (60, 1, "s"),
                3_600..86_400 => (3_600, 60, "m"),
                _ => (86_400, 3_600, "h"),
            };
            let whole = duration::format(Duration::from_secs(seconds - seconds % unit));
            match seconds % unit / part {
                0 => whole,
                rest => format!("{whole} {rest}{name}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_exactly_as_it_is_read() {
        let told = [7, 1_240, 61_000, 120_000, 7_380_000, 97_200_000].map(|ms| took(TimeDelta::milliseconds(ms)));
        assert_eq!(told, ["7ms", "1.2s", "1m 1s", "2m", "2h 3m", "1d 3h"]);
        assert_eq!(took(TimeDelta::milliseconds(-5)), "0ms", "clocks of two servers");
    }

    #[test]
    fn a_value_is_one_line() {
        assert_eq!(value(&Payload::from(json!({ "a": [1, 2] })), 60), r#"{"a":[1,2]}"#);
        assert_eq!(value(&Payload::default(), 60), "");
        assert!(value(&Payload::from(json!("x".repeat(100))), 20).len() <= 24);
        assert!(!text("a\u{1b}[2Jb", 20).contains('\u{1b}'));
    }
}
