use broker::topology;
use protocol::{Lane, Status, codes, topology::Source};

use crate::fleet::{Fleet, quick, until};

const NORMAL: Source = Source::Lane(Lane::Normal);
const PAST: (&str, &str) = ("Sortie-Deadline", "2020-01-01T00:00:00Z");

#[tokio::test]
async fn a_deadline_holds_when_nobody_serves_the_capability() {
    let fleet = Fleet::start().await;
    let soon = protocol::time::format(fleet.in_seconds(1));
    fleet.publish("fleet.bulk.echo", &[("Sortie-Request-Id", "soon"), ("Sortie-Deadline", &soon)], "{}").await;
    fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", "a"), PAST], "{}").await;
    let second = fleet.publish("fleet.request.echo", &[PAST], "{}").await;
    let open = fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", "open")], "{}").await;
    fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", "behind"), PAST], "{}").await;
    let unique = fleet.publish("fleet.unique.echo.key", &[PAST], "{}").await;

    let two = [fleet.coordinate(quick()).await, fleet.coordinate(quick()).await];
    let expired =
        ["soon".to_owned(), "a".to_owned(), format!("seq-{second}"), "behind".to_owned(), format!("useq-{unique}")];
    for id in &expired {
        let outcome = until("it expires", || fleet.outcome(id)).await;
        assert_eq!(outcome.status, Status::Expired, "{id}");
        assert_eq!(outcome.failure().unwrap().code, codes::DEADLINE_EXCEEDED);
        assert_eq!(outcome.capability.unwrap().as_str(), "echo");
    }
    // The head goes; what still may be done stays, and with it what is behind it.
    until("the heads are purged", || async {
        let lanes = fleet.count(&fleet.names.requests, "fleet.*.echo").await;
        let unique = fleet.count(&fleet.names.unique, "fleet.unique.>").await;
        (lanes == 2 && unique == 0).then_some(())
    })
    .await;
    let left = fleet.reader.page(&fleet.names.requests, "fleet.request.echo", 1, 10).await.unwrap().messages;
    assert_eq!(left.iter().map(|message| message.sequence).collect::<Vec<_>>(), [open, open + 1]);
    assert_eq!(fleet.count(&fleet.names.outcomes, "fleet.outcome.*").await, 5);
    assert_eq!(two.iter().map(|one| one.metric("expired_total", "")).sum::<f64>(), 5.0);
}

#[tokio::test]
async fn who_waits_for_work_minds_its_deadlines_itself() {
    let fleet = Fleet::start().await;
    let consumer = fleet.patient_consumer("echo", Source::Lane(Lane::Urgent)).await;
    let mut inbox = broker::PullInbox::open(&fleet.connection).await.unwrap();
    let wait = broker::PullRequest::Wait {
        expires: std::time::Duration::from_secs(60),
        heartbeat: std::time::Duration::from_secs(5),
    };
    for tag in 0..3 {
        inbox.pull(&consumer, wait, tag).await.unwrap();
    }
    fleet.publish("fleet.urgent.echo", &[("Sortie-Request-Id", "a"), PAST], "{}").await;
    assert!(matches!(inbox.next().await, Some(broker::PullEvent::Delivered(_))));
    let running = fleet.coordinate(quick()).await;
    running.looks("deadlines", 3.0).await;
    assert_eq!(fleet.outcome("a").await, None);
    assert_eq!(fleet.count(&fleet.names.requests, "fleet.urgent.echo").await, 1);
}

#[tokio::test]
async fn unique_work_in_hands_keeps_its_key_past_its_deadline() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", Source::Unique, 100).await;
    let in_hands = fleet.publish("fleet.unique.echo.a", &[PAST], "{}").await;
    let delivery = fleet.take(&consumer).await;
    let waiting = fleet.publish("fleet.unique.echo.b", &[PAST], "{}").await;
    let running = fleet.coordinate(quick()).await;
    for sequence in [in_hands, waiting] {
        until("it expires", || async { fleet.outcome(&format!("useq-{sequence}")).await }).await;
    }
    until("what nobody has is purged", || async {
        (fleet.count(&fleet.names.unique, "fleet.unique.echo.b").await == 0).then_some(())
    })
    .await;
    running.looks("deadlines", 2.0).await;
    assert_eq!(fleet.count(&fleet.names.unique, "fleet.unique.echo.a").await, 1);
    delivery.ack_confirmed(&fleet.connection).await.unwrap();
    assert_eq!(fleet.count(&fleet.names.unique, "fleet.unique.echo.a").await, 0);
}

#[tokio::test]
async fn more_than_one_look_reads_expires_look_by_look() {
    let fleet = Fleet::start().await;
    let consumer = fleet.consumer("echo", NORMAL, 100).await;
    for _ in 0..1_200 {
        let request = broker::Outgoing::new("fleet.request.echo", "{}");
        let headers = [PAST].map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        fleet.publisher.publish(&request.with_headers(headers)).await.unwrap();
    }
    // A worker took the first one and died: nobody pulls, so it stays in its hands.
    drop(fleet.take(&consumer).await);
    let _running = fleet.coordinate(quick()).await;
    until("all expire", || async {
        (fleet.count(&fleet.names.outcomes, "fleet.outcome.*").await == 1_200).then_some(())
    })
    .await;
    until("the queue is empty", || async {
        (fleet.count(&fleet.names.requests, "fleet.request.*").await == 0).then_some(())
    })
    .await;
    // The next pull frees what was in dead hands.
    until("nothing is in hands", || async {
        let inbox = broker::PullInbox::open(&fleet.connection).await.unwrap();
        inbox.pull(&consumer, broker::PullRequest::Now { batch: 1 }, 1).await.unwrap();
        let state = topology::consumer_state(&fleet.connection, &consumer.stream, &consumer.name).await.unwrap();
        (state.ack_pending == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_forged_place_purges_nothing_of_others() {
    let fleet = Fleet::start().await;
    for _ in 0..3 {
        fleet.publish("fleet.request.victim", &[], "{}").await;
    }
    // As the broker itself writes it when it answers a read.
    let forged = "Nats-Subject: fleet.request.victim\r\nNats-Sequence: 999\r\nNats-Num-Pending: 0\r\n";
    let past = "Sortie-Deadline: 2020-01-01T00:00:00Z\r\n";
    for (id, status) in [("a", ""), ("b", " 404 No Messages"), ("c", " 204 EOB")] {
        let block = format!("NATS/1.0{status}\r\nSortie-Request-Id: {id}\r\n{forged}{past}\r\n");
        fleet.publish_bytes("fleet.request.echo", block.as_bytes(), b"{}");
    }
    let _running = fleet.coordinate(quick()).await;
    for id in ["a", "b", "c"] {
        until("it expires", || fleet.outcome(id)).await;
    }
    until("the queue is purged", || async {
        (fleet.count(&fleet.names.requests, "fleet.request.echo").await == 0).then_some(())
    })
    .await;
    assert_eq!(fleet.count(&fleet.names.requests, "fleet.request.victim").await, 3);
}

/// Blocks that the client library cannot read: it drops the connection over the first ones, and ends over the last.
pub(crate) const UNREADABLE: [&[u8]; 4] = [
    b"NATS/1.0\r\nX: \xff\r\n\r\n",
    b"NATS/1.0\r\nnonsense\r\n\r\n",
    b"NATS/1.0\r\nX: a\rb\r\n\r\n",
    b"NATS/1.0\r\nX: a\r\n\r\n and more\r\n\r\n",
];

#[tokio::test]
async fn what_cannot_be_read_keeps_no_other_back() {
    let fleet = Fleet::start().await;
    for (number, block) in UNREADABLE.iter().enumerate() {
        let id = format!("before-{number}");
        fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", &id), PAST], "{}").await;
        fleet.publish_bytes("fleet.request.echo", block, b"{}");
    }
    fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", "behind"), PAST], "{}").await;
    let running = fleet.coordinate(quick()).await;
    for id in ["before-0", "before-1", "before-2", "before-3", "behind"] {
        until("it expires", || fleet.outcome(id)).await;
    }
    running.looks("deadlines", 3.0).await;
    // What cannot be read has no deadline; the head before it goes.
    assert_eq!(fleet.count(&fleet.names.requests, "fleet.request.echo").await, 8);
    assert_eq!(fleet.count(&fleet.names.outcomes, "fleet.outcome.*").await, 5);
}

#[tokio::test]
async fn a_failed_request_keeps_its_dead_letter_when_its_deadline_passes() {
    let fleet = Fleet::start().await;
    let step = ("Sortie-Reply-To", "fleet.run.r1.step.scan.0.outcome");
    for (id, status) in [("failed", "failed"), ("done", "completed")] {
        fleet.publish("fleet.request.echo", &[("Sortie-Request-Id", id), PAST], "{\"n\":1}").await;
        let body = if status == "failed" { r#"{"code":"tea_is_cold","message":"no"}"# } else { "1" };
        fleet.publish(&format!("fleet.outcome.{id}"), &[("Sortie-Status", status)], body).await;
    }
    fleet.publish("fleet.request.echo", &[step, PAST], "{}").await;
    fleet.publish("fleet.run.r1.step.scan.0.outcome", &[("Sortie-Status", "failed")], "{}").await;
    let _running = fleet.coordinate(quick()).await;
    until("the queue is purged", || async {
        (fleet.count(&fleet.names.requests, "fleet.request.*").await == 0).then_some(())
    })
    .await;
    assert_eq!(fleet.dead_letter("echo", "failed").await.expect("a dead letter").failure.code, "tea_is_cold");
    assert_eq!(fleet.count(&fleet.names.dead, "fleet.dead.*.*").await, 1);
    assert_eq!(fleet.count(&fleet.names.outcomes, "fleet.outcome.*").await, 2);
}

#[tokio::test]
async fn what_was_cancelled_leaves_the_queue_that_nobody_serves() {
    let fleet = Fleet::start().await;
    let consumer = fleet.patient_consumer("held", NORMAL).await;
    for (subject, id, status) in [
        ("fleet.request.echo", "a", Some("cancelled")),
        ("fleet.request.echo", "b", Some("failed")),
        ("fleet.request.echo", "open", None),
        ("fleet.request.echo", "behind", Some("cancelled")),
        ("fleet.bulk.echo", "other", None),
    ] {
        fleet.publish(subject, &[("Sortie-Request-Id", id)], "{}").await;
        if let Some(status) = status {
            let body = r#"{"code":"tea_is_cold","message":"no"}"#;
            fleet.publish(&format!("fleet.outcome.{id}"), &[("Sortie-Status", status)], body).await;
        }
    }
    let unique = fleet.publish("fleet.unique.echo.key", &[], "{}").await;
    fleet.publish(&format!("fleet.outcome.useq-{unique}"), &[("Sortie-Status", "cancelled")], "{}").await;
    // What is in hand is so for as long as its ack deadline.
    for id in ["in-hand", "waiting"] {
        fleet.publish("fleet.request.held", &[("Sortie-Request-Id", id)], "{}").await;
        if id == "in-hand" {
            fleet.take(&consumer).await;
        }
        fleet.publish(&format!("fleet.outcome.{id}"), &[("Sortie-Status", "cancelled")], "{}").await;
    }
    let _running = fleet.coordinate(quick()).await;
    until("what has ended goes", || async {
        let lane = fleet.count(&fleet.names.requests, "fleet.request.echo").await;
        let held = fleet.count(&fleet.names.requests, "fleet.request.held").await;
        let unique = fleet.count(&fleet.names.unique, "fleet.unique.>").await;
        ((lane, held, unique) == (1, 1, 0)).then_some(())
    })
    .await;
    let left = fleet.reader.page(&fleet.names.requests, "fleet.*.*", 1, 10).await.unwrap().messages;
    let left: Vec<_> = left.iter().filter_map(|message| message.headers.get("Sortie-Request-Id")).collect();
    assert_eq!(left, ["open", "other", "in-hand"]);
    assert!(fleet.dead_letter("echo", "b").await.is_some(), "a failed one leaves its letter");
}
