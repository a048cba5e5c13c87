//! Which of all that keeps a request back is the answer.

use protocol::{Service, breaker::State, codes};

use super::{Answer, Place};
use crate::{Queue, queues::BreakerNow};

/// The answer for a request that lies in a queue, and what keeps it back besides: what must change first comes first.
pub(super) fn decide(place: &Place) -> (Answer, Vec<Answer>) {
    let mut all = Vec::new();
    if place.was_delivered {
        all.extend(match &place.tries {
            Some((_, _, Some(code))) if code == codes::RATE_LIMITED => Some(Answer::RateLimited { due: None }),
            Some((attempt, after, put_off_for)) => {
                Some(Answer::Retrying { attempt: *attempt, after: after.clone(), put_off_for: put_off_for.clone() })
            }
            None if place.queue.running == 0 => Some(Answer::GivenUp),
            // Nobody has it any more: that nobody serves it is the answer.
            None if place.queue.service == Service::Unserved => None,
            None => Some(Answer::Taken { silent: Vec::new() }),
        });
    }
    all.extend(kept_back(&place.queue, place.was_delivered));
    if !place.was_delivered && place.ahead > 0 {
        // A backlog is why, and that nobody has a free slot is why there is one.
        let at = all.iter().position(|answer| matches!(answer, Answer::AllBusy { .. })).unwrap_or(all.len());
        all.insert(at, Answer::Behind { others: place.ahead });
    }
    let mut all = all.into_iter();
    (all.next().unwrap_or(Answer::Next), all.collect())
}

/// What keeps back whatever waits in a queue.
fn kept_back(queue: &Queue, was_delivered: bool) -> Vec<Answer> {
    let mut all = Vec::new();
    if let Some(pause) = queue.paused.as_ref().filter(|pause| pause.is_in_force) {
        let (by, reason) = (pause.by.clone(), pause.reason.clone());
        all.push(Answer::Paused { by, reason, since: pause.at, until: pause.until });
    }
    let is_full = queue.is_at_limit();
    if let Some(BreakerNow { name, state, until, after }) = &queue.breaker
        && (*state == State::Open || is_full)
    {
        let (name, after) = (name.clone(), after.clone());
        all.push(Answer::BreakerOpen { name, state: *state, until: *until, after });
    } else if is_full {
        all.push(Answer::LimitReached { max: queue.max_in_hand.unwrap_or(0), running: queue.running });
    }
    match queue.service {
        Service::Unserved => all.push(Answer::Unserved { was_delivered: was_delivered && queue.running > 0 }),
        Service::Paused => all.push(Answer::AgentsPaused),
        Service::Served if queue.pulls == 0 && !was_delivered => {
            all.push(Answer::AllBusy { agents: queue.agents, slots: queue.slots });
        }
        Service::Served => {}
    }
    all
}

#[cfg(test)]
mod tests {
    use protocol::{BreakerName, Capability, Lane, Operator, time, topology::Source};

    use super::*;
    use crate::{Limit, Pause};

    /// One that two agents serve and that has nothing to do.
    fn queue() -> Queue {
        Queue {
            capability: Capability::parse("echo").unwrap(),
            lane: Source::Lane(Lane::Normal),
            waiting: 1,
            running: 0,
            redelivered: 0,
            lost: 0,
            scheduled: 0,
            oldest: None,
            rate_in: None,
            rate_out: None,
            service: Service::Served,
            agents: 2,
            slots: 8,
            slots_free: 8,
            pulls: 2,
            is_known: true,
            max_in_hand: Some(10_000),
            paused: None,
            limit: None,
            breaker: None,
        }
    }

    fn breaker(state: State) -> Option<BreakerNow> {
        Some(BreakerNow { name: BreakerName::parse("bank").unwrap(), state, until: None, after: None })
    }

    fn words(answers: &[Answer]) -> Vec<String> {
        let word = |answer: &Answer| serde_json::to_value(answer).unwrap()["why"].as_str().unwrap().to_owned();
        answers.iter().map(word).collect()
    }

    #[test]
    fn the_first_that_must_change_is_the_answer() {
        let by = Some(Operator::nearest("ann"));
        let pause = |is_in_force| {
            Some(Pause { by: by.clone(), at: None, reason: Some("hot".to_owned()), until: None, is_in_force })
        };
        let limit = |max| Some(Limit { max, by: None, at: None, reason: None, is_in_force: true });
        let busy = Queue { pulls: 0, running: 8, slots_free: 0, ..queue() };
        let nobody = Queue { service: Service::Unserved, pulls: 0, agents: 0, slots: 0, slots_free: 0, ..queue() };
        let resting = Queue { service: Service::Paused, pulls: 0, agents: 0, slots: 0, slots_free: 0, ..queue() };
        let full = Queue { running: 3, max_in_hand: Some(3), limit: limit(3), ..queue() };
        for (case, queue, ahead, expected) in [
            ("nothing", queue(), 0, &["next"][..]),
            ("others", queue(), 7, &["behind"]),
            ("all are busy", busy.clone(), 0, &["all_busy"]),
            ("all are busy with others before it", busy.clone(), 7, &["behind", "all_busy"]),
            ("nobody", nobody.clone(), 0, &["unserved"]),
            ("nobody, and others before it", nobody.clone(), 7, &["unserved", "behind"]),
            ("no consumer", Queue { is_known: false, max_in_hand: None, ..nobody.clone() }, 0, &["unserved"]),
            (
                "a program without an entry is busy",
                Queue { agents: 0, pulls: 0, running: 1, ..queue() },
                0,
                &["all_busy"],
            ),
            ("nobody, and some in dead hands", Queue { running: 3, lost: 3, ..nobody.clone() }, 0, &["unserved"]),
            ("agents are paused", resting.clone(), 0, &["agents_paused"]),
            ("agents are paused with some in hand", Queue { running: 1, ..resting }, 0, &["agents_paused"]),
            ("paused", Queue { paused: pause(true), ..queue() }, 7, &["paused", "behind"]),
            ("paused, and nobody", Queue { paused: pause(true), ..nobody }, 0, &["paused", "unserved"]),
            ("to be paused", Queue { paused: pause(false), ..queue() }, 0, &["next"]),
            ("at its limit", full.clone(), 0, &["limit_reached"]),
            (
                "at its limit, and all busy",
                Queue { pulls: 0, ..full.clone() },
                2,
                &["limit_reached", "behind", "all_busy"],
            ),
            ("below its limit", Queue { running: 2, ..full.clone() }, 0, &["next"]),
            ("breaker open", Queue { breaker: breaker(State::Open), ..queue() }, 0, &["breaker_open"]),
            ("breaker half open", Queue { breaker: breaker(State::HalfOpen), ..queue() }, 0, &["next"]),
            (
                "breaker half open, trials run",
                Queue { breaker: breaker(State::HalfOpen), ..full },
                0,
                &["breaker_open"],
            ),
            (
                "paused, and the breaker open",
                Queue { paused: pause(true), breaker: breaker(State::Open), ..busy },
                0,
                &["paused", "breaker_open", "all_busy"],
            ),
        ] {
            let (answer, besides) = decide(&Place { queue, was_delivered: false, ahead, tries: None });
            assert_eq!(words(&[vec![answer], besides].concat()), expected, "{case}");
        }
    }

    #[test]
    fn what_was_delivered_is_with_somebody_or_waits_or_was_given_up() {
        let taken = Queue { waiting: 0, running: 1, ..queue() };
        let tries = |after: Option<&str>, put_off_for: Option<&str>| {
            Some((2, after.map(str::to_owned), put_off_for.map(str::to_owned)))
        };
        let nobody =
            Queue { service: Service::Unserved, pulls: 0, agents: 0, slots: 0, slots_free: 0, ..taken.clone() };
        for (case, queue, tries, expected) in [
            ("somebody has it", taken.clone(), None, &["taken"][..]),
            ("nobody is left", nobody.clone(), None, &["unserved"]),
            ("nobody is left for a unique retry", nobody, tries(Some("bank_busy"), None), &["retrying", "unserved"]),
            (
                "its agent is paused",
                Queue { service: Service::Paused, ..taken.clone() },
                None,
                &["taken", "agents_paused"],
            ),
            ("it is waited for", Queue { pulls: 0, ..taken.clone() }, None, &["taken"]),
            ("a unique retry", taken.clone(), tries(Some("bank_busy"), None), &["retrying"]),
            ("a unique one put off", taken.clone(), tries(None, Some("snoozed")), &["retrying"]),
            ("a unique one paced", taken.clone(), tries(None, Some("rate_limited")), &["rate_limited"]),
            ("nothing is in hand", Queue { running: 0, ..taken }, None, &["given_up"]),
        ] {
            let (answer, besides) = decide(&Place { queue, was_delivered: true, ahead: 0, tries });
            assert_eq!(words(&[vec![answer], besides].concat()), expected, "{case}");
        }
    }

    #[test]
    fn what_waits_for_a_rate_limit_is_told_apart() {
        let at = time::parse("2030-01-01T00:00:00Z").ok();
        let put_off = |code: &str| Answer::scheduled(at, 1, None, Some(code.to_owned()));
        assert_eq!(put_off("rate_limited"), Answer::RateLimited { due: at });
        assert!(matches!(put_off("circuit_open"), Answer::Scheduled { .. }));
        assert!(matches!(Answer::scheduled(at, 2, Some("x".to_owned()), None), Answer::Scheduled { attempt: 2, .. }));
    }
}
