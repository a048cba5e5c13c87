//! The one spelling of a duration: `250ms`, `10s`, `1m`, `2h`, `1d`.

use std::time::Duration;

/// The longest duration that is read: ten years. Longer ones are absurd and would overflow times computed from them.
pub const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a whole number directly followed by one unit of `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// A sentence that shows the accepted form; also past [`DURATION_MAX`].
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let refused = || format!("`{text}` is not a duration such as 250ms, 10s, 1m, 2h or 1d");
    let (_, unit_millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
    let number: u64 = number.parse().map_err(|_| refused())?;
    let duration = number.checked_mul(*unit_millis).map(Duration::from_millis).ok_or_else(refused)?;
    if duration > DURATION_MAX {
        return Err(format!("`{text}` is longer than ten years"));
    }
    Ok(duration)
}

/// Writes a duration in the largest unit that loses nothing; below a millisecond it is rounded up.
pub fn format(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    let (unit, unit_millis) = UNITS.iter().find(|(_, size)| millis >= *size && millis % size == 0).unwrap_or(&UNITS[3]);
    format!("{}{unit}", millis / unit_millis)
}

/// Serde for a duration field written in this spelling: `#[serde(with = "duration::text")]`.
pub mod text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes `10s`.
    ///
    /// # Errors
    /// Only those of the serializer.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format(*value))
    }

    /// Reads `10s`.
    ///
    /// # Errors
    /// What [`super::parse`] says.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse(&text).map_err(D::Error::custom)
    }
}

/// Serde for an optional duration field: `#[serde(default, with = "duration::optional")]`.
pub mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes `10s` or null.
    ///
    /// # Errors
    /// Only those of the serializer.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => serializer.serialize_some(&super::format(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads `10s` or null.
    ///
    /// # Errors
    /// What [`super::parse`] says.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table() {
        for (text, millis) in [("250ms", 250), ("10s", 10_000), ("1m", 60_000), ("2h", 7_200_000), ("1d", 86_400_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)));
            assert_eq!(format(Duration::from_millis(millis)), text);
        }
        for bad in ["", "s", "10", "-1s", "1.5s", "10 s", "1w", "99999999999999999999s", "4000000000d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(format(Duration::ZERO), "0s");
    }

    proptest! {
        #[test]
        fn every_written_duration_is_read_back(millis in 0_u64..300_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
