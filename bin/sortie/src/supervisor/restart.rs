//! Whether a child that ended is started again, and when.

use std::time::Duration;

use process::ExitCode;

/// Crashes in a row after which a child is given up.
pub(crate) const CRASHES_MAX: u32 = 5;

/// What ran for this long was no failed start: what came before is forgotten.
pub(crate) const STEADY_AFTER: Duration = Duration::from_secs(10);

const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Killed(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(signal) => write!(f, "was killed by {signal}"),
                Err(_) => write!(f, "was killed by signal {signal}"),
            },
        }
    }
}

/// What its ends so far were like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streak {
    /// Crashes in a row.
    crashes: u32,
    /// Short lives in a row, crashes or not.
    short_lives: u32,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It had done what it was there for.
    Ended,
    /// It is started again after this wait.
    Again(Duration),
    /// Starting it again does not help.
    GivenUp(&'static str),
}

/// Decides after a child ended that had run for `ran`, and was not told to end.
pub(crate) fn next(before: Streak, end: End, ran: Duration) -> (Streak, Next) {
    const AGAIN: i32 = ExitCode::Again as i32;
    const CONFIGURATION: i32 = ExitCode::Configuration as i32;
    const USAGE: i32 = ExitCode::Usage as i32;
    let before = if ran >= STEADY_AFTER { Streak::default() } else { before };
    let short_lives = before.short_lives + 1;
    match end {
        End::Exited(0) => (Streak::default(), Next::Ended),
        End::Exited(AGAIN) => (Streak { crashes: 0, short_lives }, Next::Again(wait(short_lives))),
        End::Exited(CONFIGURATION | USAGE) => (before, Next::GivenUp("its settings are wrong, see above")),
        End::Exited(126 | 127) => (before, Next::GivenUp("its program cannot be run")),
        End::Exited(_) | End::Killed(_) => {
            let streak = Streak { crashes: before.crashes + 1, short_lives };
            let next = match streak.crashes {
                CRASHES_MAX.. => Next::GivenUp("it crashed 5 times in a row"),
                _ => Next::Again(wait(short_lives)),
            };
            (streak, next)
        }
    }
}

/// 100 ms, doubled with each short life, 5 s at most.
fn wait(short_lives: u32) -> Duration {
    let doubled = short_lives.saturating_sub(1).min(16);
    WAIT_FIRST.saturating_mul(1 << doubled).min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Next {
        Next::Again(Duration::from_millis(millis))
    }

    /// What happens after each of these ends, one after the other.
    fn story(ends: &[(End, u64)]) -> Vec<Next> {
        let mut streak = Streak::default();
        let mut after = |(end, seconds): &(End, u64)| {
            let (now, next) = next(streak, *end, Duration::from_secs(*seconds));
            streak = now;
            next
        };
        ends.iter().map(&mut after).collect()
    }

    #[test]
    fn crashes_are_followed_by_longer_waits_and_then_by_giving_up() {
        let crash = (End::Exited(1), 0);
        let given_up = Next::GivenUp("it crashed 5 times in a row");
        assert_eq!(story(&[crash; 5]), [millis(100), millis(200), millis(400), millis(800), given_up]);
        let signals = [(End::Killed(9), 0), (End::Killed(11), 0), (End::Exited(101), 0)];
        assert_eq!(story(&signals), [millis(100), millis(200), millis(400)]);
    }

    #[test]
    fn a_steady_run_makes_good_for_the_crashes_before() {
        let (crash, late) = ((End::Exited(70), 9), (End::Exited(70), 10));
        let told = story(&[crash, crash, crash, crash, late, crash]);
        assert_eq!(told[3..], [millis(800), millis(100), millis(200)]);
    }

    #[test]
    fn what_asks_to_be_started_again_always_is() {
        let again = (End::Exited(75), 0);
        let told = story(&[again; 12]);
        assert_eq!(told[..3], [millis(100), millis(200), millis(400)]);
        assert!(told[6..].iter().all(|next| *next == millis(5_000)), "{told:?}");
        let crash = (End::Exited(1), 0);
        let mixed = story(&[crash, crash, crash, crash, again, crash, crash, crash, crash]);
        assert!(mixed.iter().all(|next| matches!(next, Next::Again(_))), "{mixed:?}");
    }

    #[test]
    fn some_ends_are_the_end() {
        for (code, expected) in [
            (0, Next::Ended),
            (2, Next::GivenUp("its settings are wrong, see above")),
            (64, Next::GivenUp("its settings are wrong, see above")),
            (127, Next::GivenUp("its program cannot be run")),
        ] {
            assert_eq!(story(&[(End::Exited(code), 0)]), [expected], "{code}");
        }
    }

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(End::Exited(70).to_string(), "exited with 70");
        assert_eq!(End::Killed(9).to_string(), "was killed by SIGKILL");
    }
}
