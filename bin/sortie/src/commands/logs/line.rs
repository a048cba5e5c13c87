//! A log line as people read it.

use std::fmt::Write;

use owo_colors::{OwoColorize, Style};
use protocol::{
    InstanceId,
    log_line::{Level, LogLine},
    time,
};
use serde_json::Value;

use crate::commands::outcome::printable;

/// The end of an instance id that tells processes apart: what it begins with is the time of their start.
const TAIL: usize = 6;

/// In one line: when, how much it matters, who, what, about what.
pub(super) fn of(line: &LogLine, colour: bool) -> String {
    let style = match line.level {
        Level::Error => Style::new().red().bold(),
        Level::Warn => Style::new().yellow(),
        Level::Info => Style::new().green(),
        Level::Debug | Level::Trace => Style::new().dimmed(),
    };
    let level = format!("{:<5}", line.level.word());
    let level = if colour { level.style(style).to_string() } else { level };
    let mut text = format!("{} {level} {}…{}  ", time::format(line.time), line.kind, tail(&line.instance));
    text.push_str(&printable(&line.message));
    let about = [("request", &line.request), ("capability", &line.capability)];
    for (name, value) in about.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))) {
        let _ = write!(text, "  {name}={}", printable(value));
    }
    if let Some(attempt) = line.attempt {
        let _ = write!(text, "  attempt={attempt}");
    }
    for (name, value) in &line.fields {
        let value = value.as_str().map_or_else(|| Value::to_string(value), str::to_owned);
        let _ = write!(text, "  {}={}", printable(name), printable(&value));
    }
    text
}

fn tail(instance: &InstanceId) -> &str {
    let id = instance.as_str();
    &id[id.len().saturating_sub(TAIL)..]
}

#[cfg(test)]
mod tests {
    use protocol::Kind;

    use super::*;

    #[test]
    fn a_line_says_who_said_what_about_what() {
        let at = time::parse("2030-01-01T00:00:00Z").unwrap();
        let (kind, instance) = (Kind::parse("words").unwrap(), InstanceId::parse("ins_0123456789ab").unwrap());
        let mut line = LogLine::new(at, Level::Warn, "no\npaper", kind, instance);
        line.request = Some("r-1".to_owned());
        line.attempt = Some(2);
        line.fields.insert("pages".to_owned(), 7.into());
        let told = "2030-01-01T00:00:00.000Z warn  words…6789ab  no paper  request=r-1  attempt=2  pages=7";
        assert_eq!(of(&line, false), told);
    }
}
