use super::*;
use crate::time;

fn spec() -> CronSpec {
    CronSpec {
        schedule: "0 30 6 * * *".to_owned(),
        zone: Some("Europe/Zurich".to_owned()),
        capability: Capability::parse("echo").unwrap(),
        lane: Lane::Bulk,
        overlap: Overlap::Allow,
        body: serde_json::json!({ "hi": 1 }),
        headers: BTreeMap::from([("X-Tenant".to_owned(), "blue".to_owned())]),
        timeout: Some(Duration::from_secs(5)),
        attempts: Some(2),
        backoff: None,
        deadline: None,
        paused: false,
    }
}

fn tie() -> CronTie {
    CronTie { name: CronName::parse("nightly").unwrap(), revision: 17 }
}

#[test]
fn what_may_overlap_fires_as_the_request_itself_without_an_id() {
    let (subject, headers, body) = spec().schedule(&Namespace::default(), &tie());
    let found: Vec<_> = headers.iter().collect();
    assert_eq!(
        (subject.as_str(), body.as_slice(), found.as_slice()),
        (
            "fleet.cron.nightly",
            br#"{"hi":1}"#.as_slice(),
            [
                ("X-Tenant", "blue"),
                ("Sortie-Cron", "nightly@17"),
                ("Sortie-Timeout", "5s"),
                ("Sortie-Max-Attempts", "2"),
                ("Nats-Schedule", "0 30 6 * * *"),
                ("Nats-Schedule-Target", "fleet.bulk.echo"),
                ("Nats-Schedule-Time-Zone", "Europe/Zurich"),
            ]
            .as_slice()
        )
    );
    assert_eq!(CronTie::read(&headers), Some(tie()));
}

#[test]
fn what_must_not_overlap_fires_at_the_coordinators() {
    let spec = CronSpec { overlap: Overlap::Skip, lane: Lane::Normal, ..spec() };
    let (_, headers, body) = spec.schedule(&Namespace::default(), &tie());
    assert_eq!(headers.get("Nats-Schedule-Target"), Some("fleet.fire.nightly"));
    assert_eq!((headers.get("X-Tenant"), body.len()), (None, 0));
    let unique = spec.unique(&tie().name).render(&Namespace::default());
    assert_eq!(unique, "fleet.unique.echo.cron-nightly");
}

#[test]
fn all_faults_are_told_at_once() {
    let bad = CronSpec {
        schedule: "@at 2030-01-01T00:00:00Z".to_owned(),
        attempts: Some(0),
        timeout: Some(Duration::ZERO),
        deadline: Some(Duration::ZERO),
        headers: BTreeMap::from([("Sortie-Attempt".to_owned(), "7".to_owned())]),
        body: Value::String("x".repeat(limits::CRON_BODY_BYTES_MAX)),
        ..spec()
    };
    let faults = bad.faults().join("\n");
    for word in ["schedule:", "deadline: only", "deadline: it", "timeout:", "attempts:", "Sortie-Attempt", "body:"] {
        assert!(faults.contains(word), "{word} in {faults}");
    }
    assert_eq!(spec().faults(), Vec::<String>::new());
    assert!(
        CronSpec::read(br#"{"schedule":"@daily","capability":"echo","shedule":1}"#).unwrap_err().contains("shedule")
    );
    assert!(CronSpec::read(br#"{"schedule":"@daily","capability":"echo"}"#).is_ok());
}

#[test]
fn a_schedule_is_mended_to_what_its_spec_says() {
    let cases = [
        (None, None, Mending::None),
        (None, Some((5, None)), Mending::None),
        (None, Some((5, Some(3))), Mending::Purge { through: 5 }),
        (Some(3), Some((5, Some(3))), Mending::None),
        (Some(4), Some((5, Some(3))), Mending::Publish { expecting: 5 }),
        (Some(4), Some((5, None)), Mending::Publish { expecting: 5 }),
        (Some(4), None, Mending::Publish { expecting: 0 }),
    ];
    for (spec, schedule, expected) in cases {
        assert_eq!(mending(spec, schedule), expected, "{spec:?} {schedule:?}");
    }
}

#[test]
fn the_next_firing_is_told_in_the_zone_of_the_schedule() {
    let moment = |text: &str| time::parse(text).unwrap();
    let stored = moment("2026-03-28T00:00:00.400Z");
    for (schedule, zone, after, expected) in [
        ("0 30 6 * * *", Some("Europe/Zurich"), "2026-03-28T00:00:00Z", Some("2026-03-28T05:30:00Z")),
        ("0 30 6 * * *", Some("Europe/Zurich"), "2026-03-28T05:30:00Z", Some("2026-03-29T04:30:00Z")),
        ("0 30 6 * * *", None, "2026-03-28T06:30:00Z", Some("2026-03-29T06:30:00Z")),
        ("@hourly", None, "2026-03-28T06:30:00Z", Some("2026-03-28T07:00:00Z")),
        ("@weekly", None, "2026-03-28T06:30:00Z", Some("2026-03-29T00:00:00Z")),
        ("0 0 8 * * MON-FRI", None, "2026-03-28T06:30:00Z", Some("2026-03-30T08:00:00Z")),
        ("0 0 0 1 * MON", None, "2026-03-28T06:30:00Z", Some("2026-03-30T00:00:00Z")),
        ("0 0 0 29 2 *", None, "2096-03-01T00:00:00Z", Some("2104-02-29T00:00:00Z")),
        ("0 0 0 31 2 *", None, "2026-03-28T06:30:00Z", None),
        ("@daily", None, "5000-12-31T12:00:00Z", None),
        ("@every 10s", None, "2026-03-28T00:00:00Z", Some("2026-03-28T00:00:10Z")),
        ("@every 1h30m", None, "2026-03-28T03:00:00Z", Some("2026-03-28T04:30:00Z")),
        ("@every 500ms", None, "2026-03-28T03:00:00Z", None),
        ("30 6 * * *", None, "2026-03-28T03:00:00Z", None),
        ("@daily", Some("Mars/Phobos"), "2026-03-28T03:00:00Z", None),
    ] {
        let next = Recurrence::parse(schedule, zone).and_then(|recurrence| recurrence.next(stored, moment(after)));
        assert_eq!(next, expected.map(moment), "{schedule} {zone:?} {after}");
    }
}

/// It panicked: the sum of a moment and such an interval is no moment.
#[test]
fn an_interval_beyond_all_time_has_no_next_firing() {
    let stored = time::parse("2026-03-28T00:00:00Z").unwrap();
    let recurrence = Recurrence::parse("@every 9000000000000s", None).unwrap();
    assert_eq!(recurrence.next(stored, stored), None);
}
