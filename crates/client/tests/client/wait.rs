use std::time::Duration;

use broker::{Options, Outgoing, Publisher, task};
use futures_util::future::join_all;
use protocol::{Outcome, RequestId, RunId, StepName, control::Progress};
use serde_json::json;
use sortie_client::{Error, ErrorKind};
use tokio::sync::mpsc;

use crate::fleet::{Fleet, SOON, echo, id, until, until_within};

#[tokio::test]
async fn an_outcome_is_heard_whether_it_comes_before_or_after() {
    let fleet = Fleet::start().await;
    let receipt = fleet.client.request(&echo(), &1).submit().await.unwrap();
    let waiting = task::spawn("waiting", {
        let receipt = receipt.clone();
        async move { receipt.outcome(SOON).await }
    });
    fleet.complete(receipt.id(), &json!(41)).await;
    assert_eq!(waiting.join().await.unwrap().unwrap().result::<u32>(), Ok(41));
    assert_eq!(receipt.outcome(Duration::ZERO).await.unwrap().result::<u32>(), Ok(41));
    assert_eq!(fleet.client.outcome(receipt.id()).await.unwrap().unwrap().result::<u32>(), Ok(41));
    assert_eq!(fleet.client.outcome(&id("nobody")).await.unwrap(), None);
}

#[tokio::test]
async fn an_absurdly_long_wait_is_a_wait() {
    let mut fleet = Fleet::start().await;
    fleet.client = fleet.client_with(Options { connect_within: Duration::MAX, ..Options::default() }).await;
    broker::topology::wait_for_stream(fleet.connection(), "FLEET_OUTCOMES", Duration::MAX).await.unwrap();
    let request = Outgoing::new("fleet.request.echo", "1");
    Publisher::new(fleet.connection()).publish_within(&request, Duration::MAX).await.unwrap();
    let client = fleet.client.clone();
    let waits = task::spawn("waits", async move {
        let (named, counted) = (id("named"), id("seq-1"));
        tokio::join!(
            client.wait(&counted, Duration::MAX),
            client.request(&echo(), &1).id(named.clone()).call(Duration::MAX),
            client.request(&echo(), &1).id(named).follow(Duration::MAX, |_| {}),
        )
    });
    until("all are queued", async || fleet.count("FLEET_REQUESTS").await >= 2).await;
    fleet.complete(&id("seq-1"), &json!(1)).await;
    fleet.complete(&id("named"), &json!(1)).await;
    let (waited, called, followed) = tokio::time::timeout(SOON, waits.join()).await.unwrap().unwrap();
    for outcome in [waited, called, followed] {
        assert_eq!(outcome.unwrap().result::<u32>(), Ok(1));
    }
}

#[tokio::test]
async fn a_failed_outcome_is_an_answer_and_a_missing_one_is_pending() {
    let fleet = Fleet::start().await;
    fleet.fail(&id("a"), "tea_is_cold").await;
    let outcome = fleet.client.wait(&id("a"), SOON).await.unwrap();
    assert_eq!(outcome.result::<u32>().unwrap_err().code, "tea_is_cold");

    let receipt = fleet.client.request(&echo(), &1).submit().await.unwrap();
    let error = receipt.outcome(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((error.kind(), error.request()), (&ErrorKind::Pending, Some(receipt.id())));
    assert_eq!(fleet.count("FLEET_REQUESTS").await, 1, "it lives on");
}

#[tokio::test]
async fn a_call_hears_an_answer_that_comes_at_once() {
    let fleet = Fleet::start().await;
    let mut asked = fleet.connection().subscribe("fleet.request.echo").await.unwrap();
    fleet.connection().flush().await.unwrap();
    let client = fleet.client.clone();
    let call = task::spawn("call", async move { client.request(&echo(), &1).call(SOON).await });
    let request = asked.next().await.unwrap();
    fleet.complete(&id(request.headers.get("Sortie-Request-Id").unwrap()), &json!("here")).await;
    assert_eq!(call.join().await.unwrap().unwrap().result::<String>().unwrap(), "here");
}

/// Calls that listen already, more than have a subscription of their own.
async fn calls(fleet: &Fleet) -> (Vec<RequestId>, task::Owned<Vec<Result<Outcome, Error>>>) {
    let ids: Vec<_> = (0..200).map(|number| id(&format!("order-{number}"))).collect();
    let (client, called) = (fleet.client.clone(), ids.clone());
    let calls = task::spawn("calls", async move {
        join_all(called.into_iter().map(|id| client.request(&echo(), &1).id(id).call(6 * SOON))).await
    });
    until("all are queued", async || fleet.count("FLEET_REQUESTS").await == 200).await;
    (ids, calls)
}

#[tokio::test]
async fn waits_outlive_a_crash_of_the_broker() {
    let mut fleet = Fleet::start().await;
    let (ids, calls) = calls(&fleet).await;
    fleet.server.kill().unwrap();
    fleet.server.restart().await.unwrap();
    join_all(ids.iter().map(async |id| fleet.complete(id, &json!(1)).await)).await;
    for outcome in calls.join().await.unwrap() {
        assert_eq!(outcome.unwrap().result::<u32>(), Ok(1));
    }
}

#[tokio::test]
async fn an_outcome_that_nobody_was_told_of_is_found_by_looking() {
    let fleet = Fleet::start().await;
    let (ids, calls) = calls(&fleet).await;
    // From here on the broker stores outcomes, and tells nobody.
    let config = json!({ "name": "FLEET_OUTCOMES", "subjects": ["fleet.outcome.*"], "allow_direct": true });
    for (verb, body) in [("DELETE", json!({})), ("CREATE", config)] {
        let subject = format!("$JS.API.STREAM.{verb}.FLEET_OUTCOMES");
        fleet.connection().request(subject, None, body.to_string().into(), SOON).await.unwrap();
    }
    join_all(ids.iter().map(async |id| fleet.complete(id, &json!(1)).await)).await;
    for outcome in calls.join().await.unwrap() {
        assert_eq!(outcome.unwrap().result::<u32>(), Ok(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_requests_in_flight() {
    const COUNT: usize = 20_000;
    let fleet = Fleet::start().await;
    let (sender, mut answers) = mpsc::channel(COUNT);
    let client = fleet.client.clone();
    let calls = task::spawn("calls", async move {
        let calls = (0..COUNT).map(|number| {
            let (client, sender) = (client.clone(), sender.clone());
            task::spawn("call", async move {
                let outcome = client.request(&echo(), &number).call(Duration::from_secs(120)).await;
                sender.send((number, outcome)).await.unwrap();
            })
        });
        let calls: Vec<_> = calls.collect();
        for call in calls {
            call.join().await.unwrap();
        }
    });
    until_within(Duration::from_secs(60), "all are queued", async || {
        fleet.count("FLEET_REQUESTS").await == COUNT as u64
    })
    .await;
    // As a worker would: everything that is queued is answered, from another connection.
    let other = fleet.another_client().await;
    let reader = broker::Reader::new(other.connection());
    let publisher = Publisher::new(other.connection());
    let mut from = Some(1);
    while let Some(sequence) = from {
        let page = reader.page("FLEET_REQUESTS", "fleet.request.echo", sequence, 500).await.unwrap();
        join_all(page.messages.iter().map(|message| {
            let subject = format!("fleet.outcome.{}", message.headers.get("Sortie-Request-Id").unwrap());
            let answer = Outgoing::new(subject, message.body.clone()).expecting(0);
            let publisher = &publisher;
            async move { publisher.settle(&answer).await.unwrap() }
        }))
        .await;
        from = page.next;
    }
    for _ in 0..COUNT {
        let (number, outcome) = answers.recv().await.unwrap();
        assert_eq!(outcome.unwrap().result::<usize>(), Ok(number));
    }
    calls.join().await.unwrap();
}

#[tokio::test]
async fn a_steps_outcome_is_found_in_its_runs_log() {
    let fleet = Fleet::start().await;
    let (run, step) = (RunId::parse("run-1").unwrap(), StepName::parse("scan").unwrap());
    let id = RequestId::of_step(&run, &step, 3);
    assert_eq!(fleet.client.outcome(&id).await.unwrap(), None);
    let client = fleet.client.clone();
    let wait = task::spawn("wait", {
        let id = id.clone();
        async move { client.wait(&id, SOON).await }
    });
    fleet.complete(&id, &json!("found")).await;
    assert_eq!(wait.join().await.unwrap().unwrap().result::<String>().unwrap(), "found");
}

#[tokio::test]
async fn progress_is_heard_until_the_outcome_comes() {
    let fleet = Fleet::start().await;
    let mut asked = fleet.connection().subscribe("fleet.request.echo").await.unwrap();
    fleet.connection().flush().await.unwrap();
    let client = fleet.client.clone();
    let call = task::spawn("call", async move {
        let mut heard = Vec::new();
        let outcome = client.request(&echo(), &1).follow(SOON, |progress| heard.push(progress.percent)).await;
        (outcome, heard)
    });
    let request = asked.next().await.unwrap();
    let id = id(request.headers.get("Sortie-Request-Id").unwrap());
    for percent in [10.0, 90.0] {
        let progress = Progress { percent: Some(percent), attempt: 1, ..Progress::default() };
        let body = serde_json::to_vec(&progress).unwrap();
        fleet.connection().publish_core(Outgoing::new(format!("fleet.progress.{id}"), body)).await.unwrap();
    }
    fleet.connection().publish_core(Outgoing::new(format!("fleet.progress.{id}"), "no progress")).await.unwrap();
    fleet.complete(&id, &json!(true)).await;
    let (outcome, heard) = call.join().await.unwrap();
    assert!(outcome.unwrap().result::<bool>().unwrap());
    assert_eq!(heard, [Some(10.0), Some(90.0)]);
}
