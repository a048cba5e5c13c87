//! When and how often a failed attempt is tried again, spelled for people.

use std::time::Duration;

use protocol::{
    Backoff, RetryPolicy,
    retry::{Curve, Jitter},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When and how often a failed attempt is tried again; what is left out has the fleet's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, the first included. Defaults to 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1000))]
    pub attempts: Option<u32>,
    /// How delays grow. Defaults to `exponential`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Curve")]
    pub backoff: Option<Curve>,
    /// The delay before the second attempt. Defaults to `1s`.
    #[serde(default, with = "protocol::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-duration"))]
    pub first: Option<Duration>,
    /// By how much an exponential delay is multiplied each time. Defaults to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64", range(min = 1.0, max = 100.0))]
    pub factor: Option<f64>,
    /// The longest delay. Defaults to `5m`.
    #[serde(default, with = "protocol::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-duration"))]
    pub cap: Option<Duration>,
    /// How chance spreads the delays. Defaults to `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Jitter")]
    pub jitter: Option<Jitter>,
}

impl Retry {
    /// The policy this spells.
    pub fn policy(&self) -> RetryPolicy {
        let default = RetryPolicy::default();
        RetryPolicy {
            attempts_max: self.attempts.unwrap_or(default.attempts_max),
            backoff: Backoff {
                curve: self.backoff.unwrap_or(default.backoff.curve),
                first: self.first.unwrap_or(default.backoff.first),
                factor: self.factor.unwrap_or(default.backoff.factor),
                cap: self.cap.unwrap_or(default.backoff.cap),
                jitter: self.jitter.unwrap_or(default.backoff.jitter),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_the_default() {
        assert_eq!(Retry::default().policy(), RetryPolicy::default());
        let retry = Retry {
            attempts: Some(5),
            backoff: Some(Curve::Fixed),
            first: Some(Duration::from_secs(3)),
            ..Retry::default()
        };
        let policy = retry.policy();
        assert_eq!((policy.attempts_max, policy.backoff.curve), (5, Curve::Fixed));
        assert_eq!(policy.backoff.wait(4, 1.0), Duration::from_secs(3));
    }
}
