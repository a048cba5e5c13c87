use protocol::{
    InstanceId, Kind, Lane, Namespace,
    desired::{LimitWish, PauseWish, far},
    registry::{CapabilityEntry, Counts, Health},
    time,
};

use super::*;

fn at(second: u32) -> Timestamp {
    time::parse(&format!("2030-01-01T00:00:{second:02}Z")).unwrap()
}

fn echo() -> Capability {
    Capability::parse("echo").unwrap()
}

fn counters(waiting: u64, running: u64, deliveries: u64) -> Counters {
    Counters { waiting, running, deliveries, max_ack_pending: Some(10_000), ..Counters::default() }
}

#[test]
fn rates_come_from_counters_and_not_from_sizes() {
    // (waiting, running, deliveries) before and after two seconds; what came and went a second.
    for (case, before, after, came, went) in [
        ("nothing happens", (5, 2, 10), (5, 2, 10), 0.0, 0.0),
        ("as much comes as goes", (5, 2, 10), (5, 2, 30), 10.0, 10.0),
        ("it only comes", (5, 2, 10), (11, 2, 10), 3.0, 0.0),
        ("it comes and is taken", (0, 0, 10), (0, 4, 14), 2.0, 0.0),
        ("what was taken is done", (0, 4, 14), (0, 0, 14), 0.0, 2.0),
        ("a queue is worked off", (100, 4, 14), (60, 4, 54), 0.0, 20.0),
        ("what waited is purged", (100, 0, 14), (0, 0, 14), 0.0, 0.0),
        ("the consumer was made again", (0, 4, 1_000), (10, 4, 4), 0.0, 0.0),
    ] {
        let counters = |(waiting, running, deliveries)| counters(waiting, running, deliveries);
        let found = rates(Some(&counters(before)), Some(&counters(after)), Duration::from_secs(2));
        assert_eq!(found, (came, went), "{case}");
    }
    let without_consumer = Counters { waiting: 4, ..Counters::default() };
    assert_eq!(rates(None, Some(&without_consumer), Duration::from_secs(2)), (2.0, 0.0));
}

#[test]
fn a_pause_is_told_with_who_made_it_and_whether_it_holds() {
    let by = Operator::nearest("ann");
    let wish = |until| {
        let pause = PauseWish { by: by.clone(), at: at(0), reason: Some("hot".to_owned()), until };
        QueueWish { paused: Some(pause), ..QueueWish::default() }
    };
    for (case, found, wish, expected) in [
        ("nothing", None, None, None),
        ("by hand", Some(at(30)), None, Some((false, Some(at(30)), true))),
        ("by hand, for good", Some(far()), None, Some((false, None, true))),
        ("wished, and so it is", Some(at(30)), Some(wish(Some(at(30)))), Some((true, Some(at(30)), true))),
        ("wished for good", Some(far()), Some(wish(None)), Some((true, None, true))),
        ("wished, and not yet so", None, Some(wish(None)), Some((true, None, false))),
        (
            "wished for longer than it is by hand",
            Some(at(20)),
            Some(wish(Some(at(30)))),
            Some((true, Some(at(30)), false)),
        ),
        (
            "by hand for longer than is wished",
            Some(at(40)),
            Some(wish(Some(at(30)))),
            Some((false, Some(at(40)), true)),
        ),
        ("wished, and over", None, Some(wish(Some(at(5)))), None),
    ] {
        let now = Counters { paused_until: found, ..counters(0, 0, 0) };
        let pause = pause(Some(&now), wish.as_ref(), None, at(10));
        let told = pause.map(|pause| (pause.by.is_some(), pause.until, pause.is_in_force));
        assert_eq!(told, expected, "{case}");
    }
}

#[test]
fn a_limit_is_told_with_who_set_it_and_whether_it_holds() {
    let wish = |max| {
        let limit = LimitWish { max, by: Operator::nearest("ann"), at: at(0), reason: None };
        QueueWish { limit: Some(limit), ..QueueWish::default() }
    };
    for (found, wish, expected) in [
        (10_000, None, None),
        (50, None, Some((50, false, true))),
        (5, Some(wish(5)), Some((5, true, true))),
        (10_000, Some(wish(5)), Some((5, true, false))),
    ] {
        let now = Counters { max_ack_pending: Some(found), ..counters(0, 0, 0) };
        let limit = limit(Some(&now), wish.as_ref(), None, 10_000);
        assert_eq!(limit.map(|limit| (limit.max, limit.by.is_some(), limit.is_in_force)), expected);
    }
}

#[test]
fn slots_are_those_of_agents_that_take_it() {
    let agent = |state, slots, slots_busy, cap| AgentEntry {
        instance: InstanceId::generate(),
        kind: Kind::parse("k").unwrap(),
        version: "1.0.0".to_owned(),
        host: "h".to_owned(),
        pid: 1,
        state,
        health: Health::Healthy,
        health_reason: None,
        capabilities: vec![CapabilityEntry {
            name: echo(),
            description: None,
            input_schema: None,
            output_schema: None,
            slots: cap,
        }],
        slots,
        slots_busy,
        counts: Counts::default(),
        started_at: at(0),
        seen_at: at(0),
        tags: BTreeMap::new(),
    };
    let mut facts = Facts {
        namespace: Namespace::default(),
        now: BTreeMap::new(),
        before: None,
        oldest: BTreeMap::new(),
        scheduled: BTreeMap::new(),
        agents: vec![
            agent(State::Ready, 10, 4, None),
            agent(State::Ready, 10, 4, Some(2)),
            agent(State::Draining, 10, 0, None),
            agent(State::Paused, 10, 0, None),
        ],
        wishes: BTreeMap::new(),
        breakers: Vec::new(),
    };
    let found = queue(&echo(), Source::Lane(Lane::Normal), &facts, at(0));
    assert_eq!((found.agents, found.slots, found.slots_free, found.is_known), (2, 12, 8, false));
    assert!(found.is_idle() && !found.is_at_limit());
    // The registry is late, the broker is not: nine run by now.
    for (lane, running) in [(Lane::Normal, 4), (Lane::Bulk, 5)] {
        facts.now.insert((echo(), Source::Lane(lane)), counters(0, running, running));
    }
    assert_eq!(queue(&echo(), Source::Lane(Lane::Normal), &facts, at(0)).slots_free, 3);
}

#[test]
fn what_a_breaker_does_is_no_persons_doing() {
    let settings = breaker::Settings::default();
    let mut open = breaker::Breaker::closed(settings, at(0));
    open.open(breaker::Opening::new(InstanceId::generate(), "down", "it is down", at(0)), settings);
    open.pauses.insert(echo());
    let named = |now, breaker: &breaker::Breaker| NamedBreaker {
        name: BreakerName::from(&echo()),
        now,
        breaker: breaker.clone(),
    };
    let source = Source::Lane(Lane::Normal);
    let told = |breakers: Vec<NamedBreaker>, paused_until, max_ack_pending| {
        let now = Counters { paused_until, max_ack_pending: Some(max_ack_pending), ..counters(1, 3, 3) };
        let facts = Facts {
            namespace: Namespace::default(),
            now: [((echo(), source), now)].into(),
            before: None,
            oldest: BTreeMap::new(),
            scheduled: BTreeMap::new(),
            agents: Vec::new(),
            wishes: BTreeMap::new(),
            breakers,
        };
        let queue = queue(&echo(), source, &facts, at(10));
        let breaker = queue.breaker.as_ref().map(|breaker| (breaker.state, breaker.until));
        (queue.paused.is_some(), queue.limit.is_some(), breaker, queue.is_at_limit())
    };
    let (now_open, now_half_open) = (breaker::State::Open, breaker::State::HalfOpen);
    let opened = told(vec![named(now_open, &open)], Some(at(30)), 3);
    assert_eq!(opened, (false, false, Some((now_open, Some(at(30)))), true));
    let half_open = told(vec![named(now_half_open, &open)], None, 3);
    assert_eq!(half_open, (false, false, Some((now_half_open, None)), true));
    let by_hand = told(vec![named(now_open, &open)], Some(at(50)), 7);
    assert_eq!(by_hand, (true, true, Some((now_open, Some(at(30)))), false), "longer and other than the breaker's");
    assert_eq!(told(vec![named(breaker::State::Closed, &open)], None, 10_000), (false, false, None, false));
}
