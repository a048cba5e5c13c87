//! What operators wish and rule, as it is kept in buckets: schedules, triggers, redrive rules, settings, limits, breakers.

use std::time::Duration;

use protocol::{
    Capability, CronName, CronSpec, Headers, InstanceId, Namespace, RedriveRule, Request, RequestId,
    breaker::{Breaker, Opening},
    cron::CronTie,
    desired::{self, QueueWish},
    settings::{self, AgentSettings, Layer},
    time::{self, Timestamp},
    trigger::TriggerSpec,
};
use serde_json::{Value, json};
use workflow::{Trigger, trigger};

use crate::reads_back;

/// Feeds a document to everything that is a policy.
pub fn policies(data: &[u8]) {
    cron(data);
    events(data);
    redrive(data);
    let now = time::parse("2026-11-20T07:17:00.123456Z").expect("a time");
    if let Ok(document) = serde_json::from_slice::<Value>(data) {
        agents(&document);
    }
    let breaker = serde_json::from_slice::<Breaker>(data).ok();
    let wish = serde_json::from_slice::<QueueWish>(data).unwrap_or_default();
    desired::wanted(&wish, breaker.iter(), now);
    if let Some(breaker) = breaker {
        circuit(&breaker, now);
    }
}

fn cron(data: &[u8]) {
    reads_back::<CronSpec>(data);
    let Ok(spec) = CronSpec::read(data) else { return };
    let name = CronName::parse("nightly").expect("a name");
    let tie = CronTie { name: name.clone(), revision: 17 };
    let (_, schedule, _) = spec.schedule(&Namespace::default(), &tie);
    assert_eq!(CronTie::read(&schedule), Some(tie.clone()));
    let request = Request::read(&spec.request_headers(&tie), RequestId::of_sequence(7));
    assert!(request.is_ok(), "what it fires is refused: {request:?}");
    spec.unique(&name);
    if let Some(recurrence) = spec.recurrence() {
        recurrence.next(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    }
}

fn events(data: &[u8]) {
    reads_back::<TriggerSpec>(data);
    let Ok(spec) = TriggerSpec::read(data) else { return };
    let is_right = spec.check_topic().is_ok();
    for topic in ["order.paid", "", ".", "a..b"] {
        spec.is_on(topic);
    }
    let Ok(trigger) = Trigger::compile(spec) else { return };
    assert!(is_right, "a topic that is none was taken");
    for data in [json!({ "sum": 7, "run": "order-7", "items": [1, 2, 3] }), Value::Null, json!([[[]]])] {
        let event = trigger::event("order.paid", "2026-11-20T07:17:00Z", &Headers::new(), data);
        assert_eq!(trigger.deed(&event), trigger.deed(&event));
    }
}

fn redrive(data: &[u8]) {
    reads_back::<RedriveRule>(data);
    let Ok(rule) = RedriveRule::read(data) else { return };
    for attempt in [1, 2, rule.limit] {
        assert!(rule.delay.wait(attempt, 1.0) <= rule.delay.cap);
    }
}

fn agents(document: &Value) {
    let faults = settings::check(document);
    assert_eq!(AgentSettings::read(document).is_ok(), faults.is_empty());
    let mut twice = settings::merge([(Layer::Global, document.clone()), (Layer::Kind, document.clone())]).document;
    assert!(settings::changes(&twice, &twice).is_empty());
    settings::masked(&twice);
    for (path, value) in settings::leaves(document).into_iter().take(20) {
        settings::set(&mut twice, &path, value);
        settings::get(&twice, &path);
        settings::unset(&mut twice, &path);
    }
}

fn circuit(breaker: &Breaker, now: Timestamp) {
    let settings = breaker.settings.within_range();
    let (by, request) = (InstanceId::parse("i").expect("an instance"), RequestId::of_sequence(7));
    for moment in [now, Timestamp::UNIX_EPOCH, Timestamp::MAX_UTC, Timestamp::MIN_UTC] {
        let mut breaker = breaker.clone();
        breaker.state_at(moment);
        breaker.flow_at(moment);
        for _ in 0..3 {
            breaker.admit(&request, Duration::from_secs(60), moment);
        }
        breaker.succeed(&request, moment);
        breaker.fail(&request, Opening::new(by.clone(), "timeout", "too slow", now));
        breaker.open(Opening::new(by.clone(), "timeout", "too slow", now), settings);
        breaker.release(&request);
        let capability = Capability::parse("echo").expect("a capability");
        breaker.pauses.insert(capability);
        let written = serde_json::to_vec(&breaker).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<Breaker>(&written).ok(), Some(breaker.clone()));
        breaker.reset(now);
    }
}
