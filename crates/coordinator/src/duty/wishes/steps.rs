//! What is to be done to one consumer, as a function of what is wanted, what was done, and what is there.

use protocol::{
    desired::{QueueWish, Steered, Wanted},
    time::Timestamp,
};

/// The consumer as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Until when it is paused, if it is.
    pub(super) paused_until: Option<Timestamp>,
    pub(super) max_ack_pending: i64,
    /// What it has where nobody wishes otherwise.
    pub(super) max_ack_pending_default: i64,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Pause(Timestamp),
    Resume,
    Limit(i64),
    Unlimit(i64),
}

impl Step {
    /// Whether it gives back what was set.
    pub(super) fn is_taking_back(self) -> bool {
        matches!(self, Self::Resume | Self::Unlimit(_))
    }
}

/// What is to be done, and what is to be remembered of it.
pub(super) fn steps(wanted: &Wanted, wish: &QueueWish, before: &Steered, found: &Found) -> (Vec<Step>, Steered) {
    let mut after = before.clone();
    let pause = pause(wanted, wish, before, found, &mut after);
    let limit = limit(wanted, wish, before, found, &mut after);
    (pause.into_iter().chain(limit).collect(), after)
}

fn pause(wanted: &Wanted, wish: &QueueWish, before: &Steered, found: &Found, after: &mut Steered) -> Option<Step> {
    let is_ours = found.paused_until.is_some() && found.paused_until == before.paused_until;
    match wanted.paused_until {
        Some(until) if found.paused_until == Some(until) => {
            after.paused_until = Some(until);
            None
        }
        // Somebody's own pause that lasts longer covers ours, and is not ours to end.
        Some(until) if !is_ours && found.paused_until.is_some_and(|found| found > until) => {
            after.paused_until = None;
            None
        }
        Some(until) => {
            after.paused_until = Some(until);
            Some(Step::Pause(until))
        }
        None => {
            after.paused_until = None;
            after.resumed_at = wish.resumed_at;
            let is_asked_for = wish.resumed_at.is_some() && wish.resumed_at != before.resumed_at;
            (found.paused_until.is_some() && (is_ours || is_asked_for)).then_some(Step::Resume)
        }
    }
}

fn limit(wanted: &Wanted, wish: &QueueWish, before: &Steered, found: &Found, after: &mut Steered) -> Option<Step> {
    let is_ours = before.limit == Some(found.max_ack_pending);
    match wanted.max_ack_pending.map(i64::from) {
        Some(max) => {
            after.limit = Some(max);
            if before.limit.is_none() {
                after.limit_before = Some(found.max_ack_pending);
            }
            (found.max_ack_pending != max).then_some(Step::Limit(max))
        }
        None => {
            let default = found.max_ack_pending_default;
            let is_asked_for = wish.unlimited_at.is_some() && wish.unlimited_at != before.unlimited_at;
            (after.limit, after.limit_before, after.unlimited_at) = (None, None, wish.unlimited_at);
            let back = match (is_asked_for, is_ours) {
                (true, _) => default,
                (false, true) => before.limit_before.unwrap_or(default),
                (false, false) => return None,
            };
            (found.max_ack_pending != back).then_some(Step::Unlimit(back))
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::time;

    use super::*;

    fn at(hour: u32) -> Timestamp {
        time::parse(&format!("2030-01-01T{hour:02}:00:00Z")).unwrap()
    }

    /// Steps with these, and what is remembered of the pause.
    fn paused(wanted: u32, resumed: u32, before: (u32, u32), found: u32) -> (Vec<Step>, Option<Timestamp>) {
        let hour = |hour: u32| (hour > 0).then(|| at(hour));
        let wanted = Wanted { paused_until: hour(wanted), max_ack_pending: None };
        let wish = QueueWish { resumed_at: hour(resumed), ..QueueWish::default() };
        let before = Steered { paused_until: hour(before.0), resumed_at: hour(before.1), ..Steered::default() };
        let found = Found { paused_until: hour(found), max_ack_pending: 10_000, max_ack_pending_default: 10_000 };
        let (steps, after) = steps(&wanted, &wish, &before, &found);
        assert!(hour(resumed).is_none() || wanted.paused_until.is_some() || after.resumed_at == hour(resumed));
        (steps, after.paused_until)
    }

    #[test]
    fn only_our_own_pause_is_taken_back() {
        for (case, wanted, resumed, before, found, expected, remembered) in [
            ("nothing is wished", 0, 0, (0, 0), 0, vec![], 0),
            ("a pause is wished", 5, 0, (0, 0), 0, vec![Step::Pause(at(5))], 5),
            ("it holds", 5, 0, (5, 0), 5, vec![], 5),
            ("somebody resumed it by hand", 5, 0, (5, 0), 0, vec![Step::Pause(at(5))], 5),
            ("the consumer was made again", 5, 0, (5, 0), 0, vec![Step::Pause(at(5))], 5),
            ("it is wished for longer", 6, 0, (5, 0), 5, vec![Step::Pause(at(6))], 6),
            ("it is wished for less long", 4, 0, (5, 0), 5, vec![Step::Pause(at(4))], 4),
            ("it is no longer wished", 0, 0, (5, 0), 5, vec![Step::Resume], 0),
            ("it ran out", 0, 0, (5, 0), 0, vec![], 0),
            ("somebody paused it by hand", 0, 0, (0, 0), 7, vec![], 0),
            ("by hand over ours", 0, 0, (5, 0), 7, vec![], 0),
            ("by hand, longer than is wished", 5, 0, (0, 0), 7, vec![], 0),
            ("by hand, shorter than is wished", 5, 0, (0, 0), 3, vec![Step::Pause(at(5))], 5),
            ("by hand, and to be resumed", 0, 1, (0, 0), 7, vec![Step::Resume], 0),
            ("by hand, after it was resumed", 0, 1, (0, 1), 7, vec![], 0),
            ("to be resumed, and runs", 0, 1, (0, 0), 0, vec![], 0),
        ] {
            let remembered = (remembered > 0).then(|| at(remembered));
            assert_eq!(paused(wanted, resumed, before, found), (expected, remembered), "{case}");
        }
    }

    #[test]
    fn only_our_own_limit_is_taken_back() {
        // (wanted, unlimited wished at, (limit, before it, unlimited done), found) -> (steps, (limit, before it)).
        for (case, wanted, unlimited, before, found, expected, remembered) in [
            ("nothing is wished", 0, 0, (0, 0, 0), 10_000, vec![], (0, 0)),
            ("a limit is wished", 5, 0, (0, 0, 0), 10_000, vec![Step::Limit(5)], (5, 10_000)),
            ("it holds", 5, 0, (5, 10_000, 0), 5, vec![], (5, 10_000)),
            ("somebody changed it by hand", 5, 0, (5, 10_000, 0), 50, vec![Step::Limit(5)], (5, 10_000)),
            ("another is wished", 6, 0, (5, 50, 0), 5, vec![Step::Limit(6)], (6, 50)),
            ("it is no longer wished", 0, 0, (5, 10_000, 0), 5, vec![Step::Unlimit(10_000)], (0, 0)),
            ("what was set by hand comes back", 0, 0, (5, 50, 0), 5, vec![Step::Unlimit(50)], (0, 0)),
            ("by hand since, and no longer wished", 0, 0, (5, 10_000, 0), 50, vec![], (0, 0)),
            ("somebody's own", 0, 0, (0, 0, 0), 50, vec![], (0, 0)),
            ("somebody's own, and none is wished", 0, 1, (0, 0, 0), 50, vec![Step::Unlimit(10_000)], (0, 0)),
            ("somebody's own, after none was wished", 0, 1, (0, 0, 1), 50, vec![], (0, 0)),
            ("ours over somebody's own, and none is wished", 0, 1, (5, 50, 0), 5, vec![Step::Unlimit(10_000)], (0, 0)),
        ] {
            let some = |value: i64| (value > 0).then_some(value);
            let hour = |hour: u32| (hour > 0).then(|| at(hour));
            let wanted = Wanted { paused_until: None, max_ack_pending: (wanted > 0).then_some(wanted) };
            let wish = QueueWish { unlimited_at: hour(unlimited), ..QueueWish::default() };
            let before = Steered {
                limit: some(before.0),
                limit_before: some(before.1),
                unlimited_at: hour(before.2),
                ..Steered::default()
            };
            let found = Found { paused_until: None, max_ack_pending: found, max_ack_pending_default: 10_000 };
            let (steps, after) = steps(&wanted, &wish, &before, &found);
            assert_eq!(
                (steps, (after.limit, after.limit_before)),
                (expected, (some(remembered.0), some(remembered.1))),
                "{case}"
            );
        }
    }
}
