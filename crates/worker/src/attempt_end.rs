//! What an attempt's end means: one pure decision in one place.

use std::time::Duration;

use protocol::{Capability, Failure, RetryPolicy, codes, duration, limits, time::Timestamp};

use crate::Reply;

/// Causes that a failure keeps.
const CAUSES_MAX: usize = 10;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AttemptEnd {
    /// The handler gave a result.
    Completed(Reply),
    /// The handler failed, panicked, or took too long.
    Failed(Failure),
    /// It was stopped because the request is cancelled: its outcome is already stored.
    Cancelled,
    /// It was stopped, or never begun, because this worker leaves.
    HandedBack,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// Store the completed outcome.
    Complete(Reply),
    /// Another attempt after a while.
    Retry { failure: Failure, delay: Duration },
    /// The same attempt after a while.
    Snooze { delay: Duration, code: String },
    /// The same attempt by another capability.
    HandOver { to: Capability },
    /// Store the failed outcome and the dead letter.
    GiveUp(Failure),
    /// Store the expired outcome.
    Expire,
    /// Nothing: whatever is to be known is stored.
    Drop,
    /// Give the message back at once.
    HandBack,
}

/// What is known of the request when its attempt ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    /// Which attempt ended.
    pub(crate) attempt: u32,
    /// The policy that holds.
    pub(crate) policy: &'a RetryPolicy,
    /// Codes that are never retried.
    pub(crate) give_up_codes: &'a [String],
    /// When it is over.
    pub(crate) deadline: Option<Timestamp>,
    /// Now, on the broker's clock.
    pub(crate) now: Timestamp,
    /// Anywhere in 0 to 1.
    pub(crate) chance: f64,
}

/// The decision.
pub(crate) fn decide(end: AttemptEnd, situation: &Situation<'_>) -> Next {
    let is_over = |moment: Timestamp| situation.deadline.is_some_and(|deadline| moment >= deadline);
    let failure = match end {
        AttemptEnd::Cancelled => return Next::Drop,
        AttemptEnd::HandedBack => return Next::HandBack,
        _ if is_over(situation.now) => return Next::Expire,
        AttemptEnd::Completed(reply) => return Next::Complete(reply),
        AttemptEnd::Failed(failure) => bounded(failure),
    };
    let after = |delay: Duration| situation.now + chrono::TimeDelta::from_std(delay).unwrap_or_default();
    if let Some(delay) = failure.snoozed() {
        let delay = delay.min(duration::DURATION_MAX);
        return if is_over(after(delay)) { Next::Expire } else { Next::Snooze { delay, code: failure.code } };
    }
    if let Some(to) = failure.handed_over() {
        return Next::HandOver { to: to.clone() };
    }
    let is_final = !failure.retryable || situation.give_up_codes.contains(&failure.code);
    if is_final || situation.attempt >= situation.policy.attempts_max {
        return Next::GiveUp(failure);
    }
    let wait = situation.policy.backoff.wait(situation.attempt, situation.chance);
    let delay = failure.retry_after.unwrap_or(wait);
    // Nobody may start it after its deadline, so waiting for that attempt would only hide the failure.
    if is_over(after(delay)) {
        return Next::GiveUp(failure);
    }
    Next::Retry { failure, delay }
}

/// A failure as it may travel: handlers fill it as they like, and it has to fit into headers and messages.
fn bounded(mut failure: Failure) -> Failure {
    if failure.code.is_empty() {
        failure.code = codes::HANDLER_FAILED.to_owned();
    }
    failure.code = limits::truncate(&failure.code, limits::CODE_BYTES_MAX);
    failure.message = limits::truncate(&failure.message, limits::FAILURE_MESSAGE_BYTES_MAX);
    failure.retry_after = failure.retry_after.map(|delay| delay.min(duration::DURATION_MAX));
    failure.causes.truncate(CAUSES_MAX);
    for cause in &mut failure.causes {
        *cause = limits::truncate(cause, limits::FAILURE_MESSAGE_BYTES_MAX);
    }
    let bytes = failure.details.as_ref().map_or(0, |details| details.to_string().len());
    if bytes > limits::BODY_INLINE_BYTES_MAX {
        failure.details = None;
        failure.causes.push(format!("its details of {bytes} bytes were left out"));
    }
    failure
}

/// The failure of an attempt that took too long.
pub(crate) fn timed_out(timeout: Duration, ended_late: bool) -> Failure {
    let timeout = protocol::duration::format(timeout);
    let late = if ended_late { "" } else { " and has not ended since: it holds its slot" };
    Failure::new(codes::TIMEOUT, format!("the attempt took longer than {timeout}{late}"))
}

#[cfg(test)]
mod tests {
    use protocol::{Backoff, ContentType};

    use super::*;

    fn situation<'a>(attempt: u32, policy: &'a RetryPolicy, codes: &'a [String]) -> Situation<'a> {
        let now = protocol::time::parse("2030-01-01T00:00:00Z").unwrap();
        Situation { attempt, policy, give_up_codes: codes, deadline: None, now, chance: 1.0 }
    }

    #[test]
    fn table() {
        let policy = RetryPolicy { attempts_max: 3, backoff: Backoff::fixed(Duration::from_secs(2)) };
        let never = vec!["no_way".to_owned()];
        let busy = Failure::new("busy", "try later");
        let reply = Reply { body: b"1".to_vec(), content_type: ContentType::Json };
        let seconds = Duration::from_secs;
        let retry = |failure: &Failure, delay| Next::Retry { failure: failure.clone(), delay };
        let later = busy.clone().retry_after(seconds(9));
        let no_way = Failure::new("no_way", "no");
        let give_up = busy.clone().give_up();
        let snoozed = |delay| Next::Snooze { delay, code: "snoozed".to_owned() };
        let other = Capability::parse("other").unwrap();
        for (attempt, end, expected) in [
            (1, AttemptEnd::Completed(reply.clone()), Next::Complete(reply.clone())),
            (1, AttemptEnd::Failed(busy.clone()), retry(&busy, seconds(2))),
            (2, AttemptEnd::Failed(later.clone()), retry(&later, seconds(9))),
            (3, AttemptEnd::Failed(busy.clone()), Next::GiveUp(busy.clone())),
            (1, AttemptEnd::Failed(no_way.clone()), Next::GiveUp(no_way.clone())),
            (1, AttemptEnd::Failed(give_up.clone()), Next::GiveUp(give_up.clone())),
            (3, AttemptEnd::Failed(Failure::snooze(seconds(5))), snoozed(seconds(5))),
            (3, AttemptEnd::Failed(Failure::snooze(Duration::MAX)), snoozed(duration::DURATION_MAX)),
            (3, AttemptEnd::Failed(Failure::hand_over(other.clone())), Next::HandOver { to: other }),
            (3, AttemptEnd::Cancelled, Next::Drop),
            (3, AttemptEnd::HandedBack, Next::HandBack),
        ] {
            assert_eq!(decide(end.clone(), &situation(attempt, &policy, &never)), expected, "{attempt} {end:?}");
        }
    }

    #[test]
    fn a_deadline_ends_it() {
        let policy = RetryPolicy { attempts_max: 3, backoff: Backoff::fixed(Duration::from_secs(2)) };
        let mut past = situation(1, &policy, &[]);
        past.deadline = Some(past.now);
        let reply = Reply { body: Vec::new(), content_type: ContentType::Json };
        assert_eq!(decide(AttemptEnd::Completed(reply), &past), Next::Expire);
        let mut soon = situation(1, &policy, &[]);
        soon.deadline = Some(soon.now + chrono::TimeDelta::seconds(1));
        let busy = Failure::new("busy", "try later");
        assert_eq!(decide(AttemptEnd::Failed(busy.clone()), &soon), Next::GiveUp(busy));
        assert_eq!(decide(AttemptEnd::Failed(Failure::snooze(Duration::from_secs(5))), &soon), Next::Expire);
    }
}
