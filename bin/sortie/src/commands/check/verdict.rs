//! A judgement of numbers: as a line of a monitoring plugin, as Prometheus text, as JSON.

use std::{collections::BTreeMap, fmt::Write};

use process::ExitCode;
use serde::Serialize;

/// How bad it is, in the numbers of monitoring plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Ok,
    Warning,
    Critical,
    Unknown,
}

impl Level {
    /// The exit code of that number: the names are those of the other commands, which mean something else by them.
    pub(super) fn exit_code(self) -> ExitCode {
        match self {
            Self::Ok => ExitCode::Done,
            Self::Warning => ExitCode::WorkFailed,
            Self::Critical => ExitCode::Usage,
            Self::Unknown => ExitCode::Unknown,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// From where on a number is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    /// This much and more.
    From { warning: u64, critical: u64 },
    /// Less than this.
    Below { warning: u64, critical: u64 },
}

impl Bounds {
    pub(super) fn judge(self, value: u64) -> Level {
        let is_bad = |bound: u64| match self {
            Self::From { .. } => value >= bound,
            Self::Below { .. } => value < bound,
        };
        let (Self::From { warning, critical } | Self::Below { warning, critical }) = self;
        match (is_bad(critical), is_bad(warning)) {
            (true, _) => Level::Critical,
            (false, true) => Level::Warning,
            (false, false) => Level::Ok,
        }
    }

    /// As plugins write ranges: `1000;10000` alerts above, `2:;1:` below. A range alerts outside of it, its end included.
    fn perfdata(self) -> String {
        match self {
            Self::From { warning, critical } => format!("{};{}", warning.saturating_sub(1), critical.saturating_sub(1)),
            Self::Below { warning, critical } => format!("{warning}:;{critical}:"),
        }
    }
}

/// One number.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reading {
    /// The metric, such as `queue_waiting`.
    pub(super) metric: &'static str,
    /// What it counts, for people.
    #[serde(skip)]
    pub(super) help: &'static str,
    /// What it is of.
    pub(super) of: BTreeMap<&'static str, String>,
    pub(super) value: u64,
    /// Whether it is seconds.
    #[serde(skip)]
    pub(super) is_seconds: bool,
    /// What it is judged by, if it is.
    #[serde(skip)]
    pub(super) bounds: Option<Bounds>,
}

/// What there is to say.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) message: String,
    pub(super) readings: Vec<Reading>,
}

/// The same as one document.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    check: &'a str,
    status: Level,
    message: &'a str,
    readings: &'a [Reading],
}

impl Verdict {
    pub(super) fn unknown(reason: String) -> Self {
        Self { level: Level::Unknown, message: reason, readings: Vec::new() }
    }

    /// The worst of the readings that are judged.
    pub(super) fn of(readings: Vec<Reading>, message: String) -> Self {
        let judged = readings.iter().filter_map(|reading| Some(reading.bounds?.judge(reading.value)));
        Self { level: judged.max().unwrap_or(Level::Ok), message, readings }
    }

    pub(super) fn document<'a>(&'a self, check: &'a str) -> Document<'a> {
        Document { check, status: self.level, message: &self.message, readings: &self.readings }
    }

    /// `QUEUE WARNING - echo: 1200 waiting | 'echo.normal.queue_waiting'=1200;999;9999;0`
    pub(super) fn line(&self, check: &str) -> String {
        // A line is a line, whatever the broker said.
        let message = self.message.replace(['\n', '|'], " ");
        let mut line = format!("{} {} - {message}", check.to_uppercase(), self.level.word());
        // Lanes that hold nothing would make the line long; Prometheus is told all.
        let is_told =
            |reading: &&Reading| reading.value > 0 || reading.of.get("lane").is_none_or(|lane| lane == "normal");
        for (place, reading) in self.readings.iter().filter(is_told).enumerate() {
            let of: String = reading.of.values().map(|value| format!("{value}.")).collect();
            let unit = if reading.is_seconds { "s" } else { "" };
            let bounds = reading.bounds.map_or_else(|| ";".to_owned(), Bounds::perfdata);
            let separator = if place == 0 { " | " } else { " " };
            let _ = write!(line, "{separator}'{of}{}'={}{unit};{bounds};0", reading.metric, reading.value);
        }
        line
    }

    /// Every reading as a gauge, and the status of the check itself.
    pub(super) fn prometheus(&self, check: &str) -> String {
        let mut text = String::new();
        let mut families: BTreeMap<&str, Vec<&Reading>> = BTreeMap::new();
        for reading in &self.readings {
            families.entry(reading.metric).or_default().push(reading);
        }
        for (metric, readings) in families {
            let seconds = if readings.iter().any(|reading| reading.is_seconds) { "_seconds" } else { "" };
            let help = readings.first().map_or("", |reading| reading.help);
            let _ = writeln!(text, "# HELP sortie_{metric}{seconds} {help}\n# TYPE sortie_{metric}{seconds} gauge");
            for reading in readings {
                let labels: Vec<String> =
                    reading.of.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
                let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let _ = writeln!(text, "sortie_{metric}{seconds}{labels} {}", reading.value);
            }
        }
        let _ = writeln!(
            text,
            "# HELP sortie_check_status How a check ended: 0 ok, 1 warning, 2 critical, 3 unknown.\n\
             # TYPE sortie_check_status gauge\nsortie_check_status{{check=\"{check}\"}} {}",
            self.level as u8
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(capability: &str, value: u64, bounds: Option<Bounds>) -> Reading {
        let of = BTreeMap::from([("capability", capability.to_owned())]);
        Reading { metric: "queue_waiting", help: "Requests that wait.", of, value, is_seconds: false, bounds }
    }

    #[test]
    fn bounds_are_judged_as_they_are_written() {
        let from = Bounds::From { warning: 10, critical: 20 };
        let below = Bounds::Below { warning: 2, critical: 1 };
        for (bounds, value, level) in [
            (from, 9, Level::Ok),
            (from, 10, Level::Warning),
            (from, 20, Level::Critical),
            (below, 2, Level::Ok),
            (below, 1, Level::Warning),
            (below, 0, Level::Critical),
        ] {
            assert_eq!(bounds.judge(value), level, "{bounds:?} {value}");
        }
        assert_eq!((from.perfdata(), below.perfdata()), ("9;19".to_owned(), "2:;1:".to_owned()));
    }

    #[test]
    fn the_worst_reading_decides_and_a_line_stays_one() {
        let bounds = Some(Bounds::From { warning: 10, critical: 20 });
        let readings = vec![reading("a", 3, bounds), reading("b", 12, bounds), reading("c", 99, None)];
        let verdict = Verdict::of(readings, "b: 12\nwaiting".to_owned());
        assert_eq!(
            verdict.line("queue"),
            "QUEUE WARNING - b: 12 waiting | 'a.queue_waiting'=3;9;19;0 'b.queue_waiting'=12;9;19;0 \
             'c.queue_waiting'=99;;;0"
        );
        assert_eq!(Level::Critical.exit_code().number(), 2);
        assert_eq!(Verdict::unknown("no".to_owned()).level.exit_code().number(), 3);
    }

    #[test]
    fn prometheus_text_names_each_metric_once() {
        let verdict = Verdict::of(vec![reading("a", 3, None), reading("b", 4, None)], String::new());
        assert_eq!(
            verdict.prometheus("queue"),
            "# HELP sortie_queue_waiting Requests that wait.\n# TYPE sortie_queue_waiting gauge\n\
             sortie_queue_waiting{capability=\"a\"} 3\nsortie_queue_waiting{capability=\"b\"} 4\n\
             # HELP sortie_check_status How a check ended: 0 ok, 1 warning, 2 critical, 3 unknown.\n\
             # TYPE sortie_check_status gauge\nsortie_check_status{check=\"queue\"} 0\n"
        );
    }
}
