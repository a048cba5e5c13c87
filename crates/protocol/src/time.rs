//! The one door to the wall clock, and the one spelling of a time on the wire: RFC 3339, UTC, milliseconds.

use chrono::{DateTime, Datelike, SecondsFormat, Utc};

/// A moment on the wire and in documents, always UTC.
pub type Timestamp = DateTime<Utc>;

/// The wall clock of this machine. Times meant for the broker are computed on the broker's clock instead, because the
/// two may differ.
#[allow(clippy::disallowed_methods, reason = "this is the door that the ban points to")]
pub fn now() -> Timestamp {
    Utc::now()
}

/// Writes a moment as `2026-11-20T07:17:00.123Z`.
pub fn format(moment: Timestamp) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Writes a moment with all its nanoseconds, where an order follows from it.
pub fn format_exactly(moment: Timestamp) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// Reads an RFC 3339 moment with any offset.
///
/// # Errors
/// A sentence that shows the accepted form; also where the year is none of four digits in UTC, which could not be written.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    let moment = DateTime::parse_from_rfc3339(text.trim()).map(|moment| moment.with_timezone(&Utc));
    let moment = moment.ok().filter(|moment| (0..=9999).contains(&moment.year()));
    moment.ok_or_else(|| format!("`{text}` is not an RFC 3339 time such as 2026-11-20T07:17:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_wire() {
        let moment = parse("2026-11-20T08:17:00.123+01:00").unwrap();
        assert_eq!(format(moment), "2026-11-20T07:17:00.123Z");
        assert_eq!(parse(&format(moment)), Ok(moment));
        assert!(parse("tomorrow").unwrap_err().contains("RFC 3339"));
    }

    /// With an offset such a moment is well formed, and a retry that carried it would have been refused.
    #[test]
    fn a_moment_that_could_not_be_written_is_not_read() {
        for text in ["9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00+00:01"] {
            assert!(parse(text).unwrap_err().contains(text));
        }
        for text in ["9999-12-31T23:59:59.999Z", "0000-01-01T00:00:00.000Z"] {
            assert_eq!(parse(text).map(format).as_deref(), Ok(text));
        }
    }
}
