use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn start() -> Timestamp {
    crate::time::parse("2030-01-01T00:00:00Z").unwrap()
}

fn request(number: u8) -> RequestId {
    RequestId::parse(&format!("req_{number}")).unwrap()
}

fn opening(at: Timestamp) -> Opening {
    Opening::new(InstanceId::parse("one").unwrap(), "down", "it does not answer", at)
}

fn opened() -> (Breaker, Timestamp) {
    let now = start();
    let mut breaker = Breaker::closed(Settings::default(), now);
    breaker.open(opening(now), Settings::default());
    (breaker, now)
}

#[test]
fn five_failures_in_a_row_open_it_and_a_success_between_them_does_not() {
    let settings = Settings::default();
    let mut streak = Streak::default();
    let mut fail = |times: u32| (0..times).map(|_| streak.fail(&settings)).collect::<Vec<_>>();
    assert_eq!(fail(5), [false, false, false, false, true]);
    assert_eq!(fail(4), [false; 4]);
    streak.succeed();
    assert!((0..4).all(|_| !streak.fail(&settings)));
    assert!(streak.fail(&settings));
}

#[test]
fn it_stays_open_for_thirty_seconds_then_three_trials_close_it() {
    let (mut breaker, mut now) = opened();
    assert_eq!(breaker.flow_at(now), Flow::Paused(now + Duration::from_secs(30)));
    now += Duration::from_secs(29);
    assert_eq!(breaker.admit(&request(0), PATIENCE, now), Admission::Wait(Duration::from_secs(1)));
    now += Duration::from_secs(1);
    assert_eq!((breaker.state, breaker.state_at(now)), (State::Open, State::HalfOpen));
    assert_eq!(breaker.flow_at(now), Flow::Limited(3));
    for number in 1..=3 {
        assert_eq!(breaker.admit(&request(number), PATIENCE, now), Admission::Trial);
    }
    assert_eq!(breaker.admit(&request(4), PATIENCE, now), Admission::Wait(TRIALS_TAKEN_WAIT));
    breaker.succeed(&request(1), now);
    breaker.succeed(&request(2), now);
    // What succeeded counts as taken: there are three trials, not three at a time.
    assert_eq!(breaker.admit(&request(4), PATIENCE, now), Admission::Wait(TRIALS_TAKEN_WAIT));
    assert_eq!(breaker.state, State::HalfOpen);
    breaker.succeed(&request(3), now);
    assert_eq!((breaker.state, breaker.flow_at(now)), (State::Closed, Flow::Free));
    assert_eq!(breaker.admit(&request(4), PATIENCE, now), Admission::Pass);
}

#[test]
fn any_failed_trial_opens_it_again_for_the_whole_time() {
    let (mut breaker, mut now) = opened();
    now += Duration::from_secs(40);
    assert_eq!(breaker.admit(&request(1), PATIENCE, now), Admission::Trial);
    assert_eq!(breaker.admit(&request(2), PATIENCE, now), Admission::Trial);
    breaker.succeed(&request(1), now);
    breaker.fail(&request(2), opening(now));
    assert_eq!((breaker.state, breaker.until), (State::Open, Some(now + Duration::from_secs(30))));
    // What began before that says nothing any more.
    breaker.succeed(&request(2), now);
    breaker.fail(&request(1), opening(now + Duration::from_secs(9)));
    assert_eq!((breaker.successes, breaker.until), (0, Some(now + Duration::from_secs(30))));
}

#[test]
fn calls_that_were_under_way_when_it_opened_do_not_make_the_pause_longer() {
    let (mut breaker, now) = opened();
    let until = breaker.until;
    breaker.open(opening(now + Duration::from_secs(10)), Settings::default());
    assert_eq!(breaker.until, until);
}

#[test]
fn a_trial_of_which_nothing_is_heard_makes_room() {
    let (mut breaker, mut now) = opened();
    now += Duration::from_secs(30);
    for number in 1..=3 {
        assert_eq!(breaker.admit(&request(number), PATIENCE, now), Admission::Trial);
    }
    now += PATIENCE;
    assert_eq!(breaker.admit(&request(4), PATIENCE, now), Admission::Trial);
    breaker.fail(&request(1), opening(now));
    assert_eq!(breaker.state, State::HalfOpen, "what was given up does not count");
}

#[test]
fn it_survives_the_bucket() {
    let (mut breaker, now) = opened();
    breaker.pauses.insert(Capability::parse("charge").unwrap());
    breaker.admit(&request(1), PATIENCE, now + Duration::from_secs(31));
    let text = serde_json::to_string(&breaker).unwrap();
    assert!(text.contains(r#""open_for":"30s""#) && text.contains(r#""state":"half_open""#), "{text}");
    assert_eq!(serde_json::from_str::<Breaker>(&text).unwrap(), breaker);
    let name = BreakerName::parse("payments").unwrap();
    assert_eq!((key(&name).as_str(), name_of(&key(&name))), ("breaker.payments", Some(name)));
}

/// What can happen to a breaker.
#[derive(Clone, Copy, Debug)]
enum Act {
    Pass(u64),
    Open,
    Admit(u8),
    Succeed(u8),
    Fail(u8),
    Release(u8),
    Reset,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..40_000u64).prop_map(Act::Pass),
        Just(Act::Open),
        (0..6u8).prop_map(Act::Admit),
        (0..6u8).prop_map(Act::Admit),
        (0..6u8).prop_map(Act::Succeed),
        (0..6u8).prop_map(Act::Fail),
        (0..6u8).prop_map(Act::Release),
        Just(Act::Reset),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_lets_through_what_it_may_and_never_blocks_for_ever(
        acts in proptest::collection::vec(act(), 0..60),
        failures in 0..4u32,
        open_millis in 0..60_000u64,
        trials in 0..5u32,
    ) {
        let settings = Settings { failures, open_for: Duration::from_millis(open_millis), trials };
        let mut now = start();
        let mut breaker = Breaker::closed(settings, now);
        let settings = breaker.settings;
        for act in acts {
            let before = breaker.clone();
            let state = before.state_at(now);
            let was_trial = |number| state == State::HalfOpen
                && before.trials.iter().any(|trial| trial.request == request(number));
            match act {
                Act::Pass(millis) => now += Duration::from_millis(millis),
                Act::Open => {
                    breaker.open(opening(now), settings);
                    prop_assert_eq!(breaker == before, before.state != State::Closed);
                }
                Act::Admit(number) => {
                    let admission = breaker.admit(&request(number), PATIENCE, now);
                    match state {
                        State::Closed => prop_assert_eq!(admission, Admission::Pass),
                        State::Open => prop_assert!(matches!(admission, Admission::Wait(_))),
                        State::HalfOpen => prop_assert!(admission != Admission::Pass),
                    }
                }
                Act::Succeed(number) => {
                    breaker.succeed(&request(number), now);
                    prop_assert_eq!(breaker == before, !was_trial(number));
                }
                Act::Fail(number) => {
                    breaker.fail(&request(number), opening(now));
                    if was_trial(number) {
                        prop_assert_eq!(breaker.state, State::Open);
                        prop_assert_eq!(breaker.until, Some(now + settings.open_for));
                    } else {
                        prop_assert_eq!(&breaker, &before);
                    }
                }
                Act::Release(number) => {
                    breaker.release(&request(number));
                    prop_assert_eq!(breaker.state, before.state);
                    prop_assert_eq!(breaker.successes, before.successes);
                }
                Act::Reset => {
                    breaker.reset(now);
                    prop_assert_eq!(breaker.flow_at(now), Flow::Free);
                }
            }
            let taken = breaker.trials.len() + breaker.successes as usize;
            prop_assert!(taken <= settings.trials as usize, "{:?}", breaker);
            prop_assert_eq!(breaker.state == State::Open, breaker.until.is_some());
            prop_assert!(breaker.state == State::HalfOpen || taken == 0);
        }
        // However it stands: after its time, and without a word of what ran, trials that succeed close it.
        now += settings.open_for.max(PATIENCE);
        for number in 10..20 {
            if breaker.admit(&request(number), PATIENCE, now) == Admission::Trial {
                breaker.succeed(&request(number), now);
            }
        }
        prop_assert_eq!(breaker.state, State::Closed);
    }
}

/// It panicked: what is written by others may name any moment.
#[test]
fn a_breaker_at_the_end_of_all_time_still_opens() {
    let settings = Settings { open_for: duration::DURATION_MAX, ..Settings::default() };
    let mut breaker = Breaker::closed(settings, Timestamp::MAX_UTC);
    let opening = Opening::new(InstanceId::generate(), "timeout", "too slow", Timestamp::MAX_UTC);
    breaker.open(opening, settings);
    assert_eq!(breaker.until, Some(Timestamp::MAX_UTC));
}
