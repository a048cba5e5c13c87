use protocol::{InstanceId, StepName, time};
use serde_json::json;

use super::*;
use crate::fact::TimerName;

fn read(tail: &str, headers: &[(&str, &str)], body: &[u8]) -> Event {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let at = time::parse("2027-01-15T08:00:00Z").unwrap();
    let fact = Fact::read(tail, 7, at, &headers, body);
    assert_eq!((fact.sequence, fact.at), (7, at));
    fact.event
}

fn outcome_of(headers: &[(&str, &str)], body: &[u8]) -> StepOutcome {
    match read("step.scan.4.outcome", headers, body) {
        Event::StepEnded { step, item, outcome } => {
            assert_eq!((step.as_str(), item), ("scan", 4));
            *outcome
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_outcome_is_what_a_worker_published() {
    let headers = [("Sortie-Status", "completed"), ("Sortie-Attempt", "3"), ("Sortie-Instance", "ins_1")];
    let outcome = outcome_of(&headers, b"{\"n\":1}");
    assert_eq!(
        (outcome.status, outcome.attempt, outcome.instance),
        (Status::Completed, 3, InstanceId::parse("ins_1").ok())
    );
    assert_eq!(outcome.output, Payload::from(json!({ "n": 1 })));

    let failure = Failure::new(codes::TIMEOUT, "too slow");
    let outcome = outcome_of(&[("Sortie-Status", "failed")], &serde_json::to_vec(&failure).unwrap());
    assert_eq!((outcome.status, outcome.output, outcome.failure), (Status::Failed, Payload::default(), Some(failure)));
    let outcome = outcome_of(&[("Sortie-Status", "cancelled")], b"not JSON");
    assert_eq!((outcome.status, outcome.failure.is_some()), (Status::Cancelled, true));
}

#[test]
fn results_keep_their_type_or_are_refused() {
    let packed = ContentType::MessagePack.encode(&json!([1, 2])).unwrap();
    assert_eq!(outcome_of(&[("Content-Type", "application/msgpack")], &packed).output, Payload::from(json!([1, 2])));
    assert_eq!(outcome_of(&[("Content-Type", "text/plain")], b"words").output, Payload::from(json!("words")));
    assert_eq!(outcome_of(&[], b"").output, Payload::default());
    for (headers, body, code) in [
        (vec![], &b"{"[..], codes::INVALID_OUTPUT),
        (vec![("Content-Type", "application/msgpack")], b"\xc1", codes::INVALID_OUTPUT),
        (vec![("Content-Type", "image/png")], b"\x89PNG", codes::CONTENT_TYPE_UNSUPPORTED),
    ] {
        let outcome = outcome_of(&headers, body);
        let found = outcome.failure.map(|failure| failure.code);
        assert_eq!((outcome.status, found.as_deref()), (Status::Failed, Some(code)), "{headers:?}");
    }
}

#[test]
fn a_result_in_the_object_store_is_held() {
    let headers = [("Sortie-Payload-Ref", "object-1"), ("Content-Type", "application/msgpack")];
    let held = Payload::Held { reference: "object-1".to_owned(), content_type: "application/msgpack".to_owned() };
    assert_eq!(outcome_of(&headers, b"").output, held);
    assert_eq!(
        read("signal.go", &headers, b""),
        Event::Signalled { name: StepName::parse("go").unwrap(), value: held }
    );
}

#[test]
fn what_people_publish_by_hand_is_understood() {
    for (body, expected) in
        [("", ""), ("enough", "enough"), ("\"enough\"", "enough"), ("{\"reason\":\"enough\"}", "enough"), ("{}", "")]
    {
        assert_eq!(
            read("cancel", &[], body.as_bytes()),
            Event::CancelRequested { reason: expected.to_owned() },
            "{body}"
        );
    }
    let signalled = |value| Event::Signalled { name: StepName::parse("go").unwrap(), value: Payload::from(value) };
    assert_eq!(read("signal.go", &[], b""), signalled(Value::Null));
    assert_eq!(read("signal.go", &[], b"{\"by\":\"ann\"}"), signalled(json!({ "by": "ann" })));
    assert_eq!(read("pause", &[], b""), Event::PauseRequested);
    assert_eq!(read("resume", &[], b"x"), Event::ResumeRequested);
}

#[test]
fn timers_have_one_spelling() {
    let step = |step: &str, item| TimerName::Step { step: StepName::parse(step).unwrap(), item };
    for timer in [TimerName::Run, step("run", 0), step("poll", 17)] {
        assert_eq!(TimerName::parse(&timer.to_string()), Some(timer.clone()));
        assert_eq!(read(&format!("timer.{timer}"), &[], b""), Event::TimerSet(timer.clone()));
        assert_eq!(read(&format!("timer.{timer}.fired"), &[], b""), Event::TimerFired(timer));
    }
    for bad in ["", "poll", "poll~", "poll~01", "poll~+1", "poll~x", "~1", "a b~1", "poll~99999999999999999999"] {
        assert_eq!(TimerName::parse(bad), None, "{bad}");
    }
}

#[test]
fn what_is_no_fact_says_so() {
    for (tail, body) in [
        ("", ""),
        ("started", "{}"),
        ("started", "nonsense"),
        ("start", ""),
        ("step.a.outcome", ""),
        ("step.a.01.outcome", "1"),
        ("step.a.-1.outcome", "1"),
        ("step.a b.0.outcome", "1"),
        ("timer.x", ""),
        ("timer.run.fired.twice", ""),
        ("signal", ""),
        ("signal.go", "{"),
        ("cancel.me", ""),
    ] {
        let Event::Unreadable { name, why } = read(tail, &[], body.as_bytes()) else { panic!("{tail} was read") };
        assert!(name == tail && !why.is_empty(), "{tail}");
    }
}

#[test]
fn headers_that_cannot_be_read_fail_a_step_and_change_nothing_else() {
    let with = |status| [("Sortie-Status", status), ("unreadable: not UTF-8", "")];
    for status in ["completed", "failed"] {
        let outcome = outcome_of(&with(status), b"{\"n\":1}");
        let failure = outcome.failure.unwrap();
        assert_eq!((outcome.status, failure.code.as_str()), (Status::Failed, codes::INVALID_HEADER));
        assert!(!failure.retryable && failure.message.contains("not UTF-8"), "{failure}");
    }
    for tail in ["started", "signal.go", "cancel", "pause", "resume", "timer.run.fired"] {
        let Event::Unreadable { why, .. } = read(tail, &with("x"), b"1") else { panic!("{tail} was read") };
        assert!(why.contains("not UTF-8"), "{why}");
    }
    let Event::Unreadable { why, .. } = read("unreadable.3", &[], b"cancel: not UTF-8") else { panic!("it was read") };
    assert!(why.contains("message 3 ") && why.contains("cancel: not UTF-8"), "{why}");
}

#[test]
fn a_beginning_is_read_with_what_it_leaves_out() {
    let body = json!({ "definition": { "workflow": "w" }, "input": { "value": 4 } }).to_string();
    let Event::Started(started) = read("started", &[], body.as_bytes()) else { panic!("it was not read") };
    assert_eq!((started.input, started.copied.len(), started.deadline), (Payload::from(json!(4)), 0, None));
}
