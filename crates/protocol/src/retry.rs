//! How often and when a failed attempt is followed by another: a pure function of policy, number and chance.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{duration, limits};

/// How the wait grows from one attempt to the next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// `first × factor^(n-1)`.
    Exponential,
    /// `first × n`.
    Linear,
    /// `first × fib(n)`: 1, 1, 2, 3, 5 …
    Fibonacci,
    /// Always `first`.
    Fixed,
}

/// How chance spreads the waits, so that what failed together does not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Anything between nothing and the whole wait ("Full Jitter" of the AWS Architecture Blog, 2015).
    Full,
    /// Half of the wait, and anything up to the other half ("Equal Jitter" there).
    Equal,
    /// Exactly the wait.
    None,
}

/// The wait between attempts, written `exponential; first=1s; factor=2; cap=5m; jitter=full`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Backoff {
    /// How it grows. Defaults to exponential.
    pub curve: Curve,
    /// The wait after the first attempt. Defaults to one second.
    pub first: Duration,
    /// What an exponential wait is multiplied by, from 1 to 100. Defaults to 2.
    pub factor: f64,
    /// The longest wait. Defaults to five minutes.
    pub cap: Duration,
    /// How chance spreads it. Defaults to full.
    pub jitter: Jitter,
}

/// How often, and how long to wait in between.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RetryPolicy {
    /// Attempts in all, the first one counted; 1 means no retry. Defaults to 3, at most [`limits::ATTEMPTS_MAX`].
    pub attempts_max: u32,
    /// The wait between them.
    pub backoff: Backoff,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            curve: Curve::Exponential,
            first: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(300),
            jitter: Jitter::Full,
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts_max: 3, backoff: Backoff::default() }
    }
}

impl RetryPolicy {
    /// No second attempt.
    pub fn none() -> Self {
        Self { attempts_max: 1, ..Self::default() }
    }

    /// This many attempts in all with the default back-off.
    pub fn attempts(attempts_max: u32) -> Self {
        Self { attempts_max, ..Self::default() }
    }
}

impl Backoff {
    /// The same wait each time.
    pub fn fixed(wait: Duration) -> Self {
        Self { curve: Curve::Fixed, first: wait, jitter: Jitter::None, ..Self::default() }
    }

    /// The wait after the attempt with this number (from 1). `chance` is anywhere in 0 to 1.
    pub fn wait(&self, attempt: u32, chance: f64) -> Duration {
        let number = attempt.max(1);
        let times = match self.curve {
            Curve::Exponential => self.factor.powi(i32::try_from(number - 1).unwrap_or(i32::MAX)),
            Curve::Linear => f64::from(number),
            Curve::Fibonacci => fibonacci(number),
            Curve::Fixed => 1.0,
        };
        let whole = (self.first.as_secs_f64() * times).min(self.cap.as_secs_f64());
        let chance = chance.clamp(0.0, 1.0);
        let spread = match self.jitter {
            Jitter::Full => whole * chance,
            Jitter::Equal => whole * 0.5 * (1.0 + chance),
            Jitter::None => whole,
        };
        Duration::try_from_secs_f64(spread).unwrap_or(self.cap).min(self.cap)
    }
}

fn fibonacci(number: u32) -> f64 {
    let (mut current, mut next) = (1.0_f64, 1.0_f64);
    for _ in 1..number.min(1_000) {
        (current, next) = (next, current + next);
    }
    current
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let curve = match self.curve {
            Curve::Exponential => "exponential",
            Curve::Linear => "linear",
            Curve::Fibonacci => "fibonacci",
            Curve::Fixed => "fixed",
        };
        let jitter = match self.jitter {
            Jitter::Full => "full",
            Jitter::Equal => "equal",
            Jitter::None => "none",
        };
        write!(f, "{curve}; first={}; ", duration::format(self.first))?;
        if self.curve == Curve::Exponential {
            write!(f, "factor={}; ", self.factor)?;
        }
        write!(f, "cap={}; jitter={jitter}", duration::format(self.cap))
    }
}

impl FromStr for Backoff {
    type Err = String;

    /// Reads the spelling above; what is left out has its default.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(';').map(str::trim);
        let mut backoff = Self {
            curve: match parts.next().unwrap_or_default() {
                "exponential" => Curve::Exponential,
                "linear" => Curve::Linear,
                "fibonacci" => Curve::Fibonacci,
                "fixed" => Curve::Fixed,
                other => return Err(format!("back-off `{other}` is none of exponential, linear, fibonacci, fixed")),
            },
            ..Self::default()
        };
        for part in parts.filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("back-off `{part}` is not `key=value`"))?;
            match (key.trim(), value.trim()) {
                ("first", value) => backoff.first = duration::parse(value)?,
                ("cap", value) => backoff.cap = duration::parse(value)?,
                ("factor", value) => {
                    let factor = value.parse().ok().filter(|factor: &f64| (1.0..=100.0).contains(factor));
                    backoff.factor = factor.ok_or_else(|| format!("back-off factor `{value}` is not from 1 to 100"))?;
                }
                ("jitter", "full") => backoff.jitter = Jitter::Full,
                ("jitter", "equal") => backoff.jitter = Jitter::Equal,
                ("jitter", "none") => backoff.jitter = Jitter::None,
                (key, value) => {
                    return Err(format!("back-off has no `{key}={value}`; it knows first, factor, cap, jitter"));
                }
            }
        }
        if backoff.curve != Curve::Exponential {
            // No other curve has one, and it is not written for them.
            backoff.factor = Self::default().factor;
        }
        Ok(backoff)
    }
}

impl TryFrom<String> for Backoff {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Backoff> for String {
    fn from(backoff: Backoff) -> Self {
        backoff.to_string()
    }
}

/// Reads a number of attempts.
///
/// # Errors
/// One sentence that names the bounds.
pub fn parse_attempts(text: &str) -> Result<u32, String> {
    let number = text.trim().parse().ok().filter(|number| (1..=limits::ATTEMPTS_MAX).contains(number));
    number.ok_or_else(|| format!("`{}` is not a number from 1 to {}", limits::truncate(text, 40), limits::ATTEMPTS_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str, attempt: u32) -> f64 {
        text.parse::<Backoff>().unwrap().wait(attempt, 1.0).as_secs_f64()
    }

    #[test]
    fn curves() {
        for (text, waits) in [
            ("exponential", [1.0, 2.0, 4.0, 8.0, 16.0]),
            ("linear; first=2s", [2.0, 4.0, 6.0, 8.0, 10.0]),
            ("fibonacci", [1.0, 1.0, 2.0, 3.0, 5.0]),
            ("fixed; first=3s", [3.0; 5]),
            ("exponential; first=10s; factor=10; cap=1m", [10.0, 60.0, 60.0, 60.0, 60.0]),
        ] {
            let found: Vec<f64> = (1..=5).map(|attempt| seconds(text, attempt)).collect();
            assert_eq!(found, waits, "{text}");
        }
    }

    #[test]
    fn spelling() {
        assert_eq!(Backoff::default().to_string(), "exponential; first=1s; factor=2; cap=5m; jitter=full");
        for bad in ["", "soon", "fixed; first", "fixed; first=-1s", "exponential; factor=0", "fixed; colour=red"] {
            assert!(bad.parse::<Backoff>().is_err(), "{bad}");
        }
        assert!(parse_attempts("-1").is_err() && parse_attempts("0").is_err() && parse_attempts("99999").is_err());
    }

    #[test]
    fn a_factor_of_a_curve_that_has_none_is_no_difference() {
        for curve in ["linear", "fibonacci", "fixed"] {
            let read: Backoff = format!("{curve}; factor=100").parse().unwrap();
            assert_eq!(Ok(read), curve.parse());
            assert_eq!(read.to_string().parse(), Ok(read));
        }
    }

    proptest! {
        #[test]
        fn a_wait_is_never_beyond_its_cap(attempt: u32, chance in -1.0..2.0_f64, factor in 1.0..100.0_f64) {
            let backoff = Backoff { factor, ..Backoff::default() };
            prop_assert!(backoff.wait(attempt, chance) <= backoff.cap);
        }

        #[test]
        fn every_written_backoff_is_read_back(first in 1_u64..100_000, cap in 1_u64..1_000_000, curve in 0..4_usize) {
            let backoff = Backoff {
                curve: [Curve::Exponential, Curve::Linear, Curve::Fibonacci, Curve::Fixed][curve],
                first: Duration::from_millis(first),
                cap: Duration::from_millis(cap),
                ..Backoff::default()
            };
            prop_assert_eq!(backoff.to_string().parse::<Backoff>(), Ok(backoff));
        }
    }
}
