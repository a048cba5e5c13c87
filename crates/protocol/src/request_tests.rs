use proptest::prelude::*;

use super::*;

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(pairs: &[(&str, &str)]) -> Result<Request, Invalid> {
    Request::read(&headers(pairs), RequestId::of_sequence(7))
}

#[test]
fn no_header_at_all_is_a_complete_request() {
    let request = read(&[]).unwrap();
    assert_eq!(request, Request::new(RequestId::of_sequence(7)));
}

#[test]
fn the_id_is_the_first_that_is_there() {
    let id = |pairs: &[(&str, &str)]| read(pairs).unwrap().id.to_string();
    assert_eq!(id(&[("Sortie-Request-Id", "a"), ("Nats-Msg-Id", "b")]), "a");
    assert_eq!(id(&[("Nats-Msg-Id", "b")]), "b");
    assert_eq!(id(&[("Nats-Msg-Id", "not valid")]), "seq-7");
    assert_eq!(id(&[("Nats-Msg-Id", "seq-1")]), "seq-7", "an id of the fleet's is not taken from a client");
    assert_eq!(id(&[("Sortie-Request-Id", "seq-3"), ("Nats-Scheduler", "fleet.later.seq-3")]), "seq-3");
    let unique = Request::read(&headers(&[("Sortie-Request-Id", "a")]), RequestId::of_unique_sequence(9)).unwrap();
    assert_eq!(unique.id.to_string(), "useq-9");
}

#[test]
fn headers_that_lie_are_refused_under_the_sequence() {
    let huge = "x".repeat(10_000);
    for (name, value) in [
        ("Sortie-Attempt", "-1"),
        ("Sortie-Attempt", "0"),
        ("Sortie-Max-Attempts", "1000000"),
        ("Sortie-Timeout", "9999999999999h"),
        ("Sortie-Timeout", "0s"),
        ("Sortie-Deadline", "yesterday"),
        ("Sortie-Deadline", "99999-01-01T00:00:00Z"),
        ("Sortie-Backoff", "never"),
        ("Sortie-Request-Id", "a.b"),
        ("Sortie-Request-Id", "a*"),
        ("Sortie-Request-Id", "a b"),
        ("Sortie-Request-Id", "seq-1"),
        ("Sortie-Request-Id", "run~step~0"),
        ("Sortie-Request-Id", huge.as_str()),
        ("Sortie-Reply-To", "fleet.outcome.x"),
        ("Sortie-Reply-To", "fleet.run.r.step.s.x.outcome"),
        ("Sortie-Failures", "{}"),
        ("Sortie-Payload-Ref", ""),
    ] {
        let invalid = read(&[(name, value)]).unwrap_err();
        assert_eq!(invalid.id.as_str(), "seq-7", "{name}: {value}");
        assert_eq!(invalid.failure.code, codes::INVALID_HEADER);
        assert!(invalid.failure.message.contains(name), "{}", invalid.failure.message);
    }
}

#[test]
fn all_faults_are_named_at_once() {
    let invalid = read(&[("Sortie-Attempt", "x"), ("Sortie-Timeout", "y")]).unwrap_err();
    assert!(invalid.failure.message.contains("Sortie-Attempt") && invalid.failure.message.contains("Sortie-Timeout"));
}

#[test]
fn a_step_request_has_its_steps_id() {
    let request = read(&[("Sortie-Reply-To", "fleet.run.r1.step.scan.0.outcome")]).unwrap();
    assert_eq!(request.id.as_str(), "r1~scan~0");
    let lie = read(&[("Sortie-Reply-To", "fleet.run.r1.step.scan.0.outcome"), ("Sortie-Request-Id", "other")]);
    assert!(lie.unwrap_err().failure.message.contains("does not belong"));
}

#[test]
fn a_request_survives_its_headers() {
    let mut request = Request::new(RequestId::parse("order-1").unwrap());
    request.attempt = 2;
    request.snoozes = 1;
    request.attempts_max = Some(5);
    request.backoff = Some(Backoff::default());
    request.timeout = Some(Duration::from_secs(10));
    request.deadline = Some(time::parse("2030-01-01T00:00:00Z").unwrap());
    request.parent = Some("order-0".to_owned());
    request.payload_ref = Some("sha256-00".to_owned());
    request.content_type = ContentType::MessagePack;
    request.trace.parent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    request.failures = vec![Failure::new("x", "y").record(1, None, Some("1.0.0"), request.deadline.unwrap())];
    let mut headers = Headers::new();
    request.write(&mut headers);
    assert_eq!(Request::read(&headers, RequestId::of_sequence(1)).unwrap(), request);
}

proptest! {
    #[test]
    fn no_header_makes_it_panic(name in "Sortie-[A-Za-z-]{0,20}|Nats-Msg-Id|Content-Type", value in "\\PC{0,300}") {
        let _ = read(&[(&name, &value)]);
    }
}
