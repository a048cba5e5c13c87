//! The promises on three servers, everything replicated: races, lost leaders, servers that leave in good order.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Result;
use broker::{
    Connection, Kind, Outgoing, Publisher, Reader, Settled,
    task::{self, Owned},
    topology,
};
use client::{Client, Disposition};
use embedded::Config;
use futures_util::{StreamExt, stream};
use protocol::{CronName, CronSpec, Namespace, RequestId, Status, subject::filter, topology::Names};
use serde_json::Value;
use sortie_tests::{Count, Fleet, RunningWorker, fleet::capability, until};
use worker::{Backoff, CapabilityConfig, Context, Failure, RetryPolicy};

const PATIENCE: Duration = Duration::from_secs(120);

/// What is timed here is the broker, not how many brokers share this machine.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

async fn echo_workers(fleet: &Fleet, slots: usize) -> Result<[RunningWorker; 2]> {
    let one = async || fleet.run(fleet.worker("echo").slots(slots).capability("echo", echo), "echo").await;
    Ok([one().await?, one().await?])
}

/// Submits until the broker has it: what may have been stored is tried again under the same id.
async fn submit(client: &Client, number: usize) -> RequestId {
    let echo = capability("echo");
    let error = match client.request(&echo, &number).submit().await {
        Ok(receipt) => return receipt.id().clone(),
        Err(error) => error,
    };
    assert_eq!(error.disposition(), Disposition::Retry, "{error}");
    let id = error.request().expect("an error tells its request").clone();
    until("accepted", PATIENCE, || async { client.request(&echo, &number).id(id.clone()).submit().await.ok() }).await;
    id
}

async fn submit_all(client: &Client, numbers: Range<usize>) -> BTreeSet<RequestId> {
    stream::iter(numbers).map(|number| submit(client, number)).buffer_unordered(64).collect().await
}

async fn outcomes(fleet: &Fleet) -> Option<u64> {
    let stream = Names::of(&fleet.namespace).outcomes;
    topology::stream_state(&fleet.connection, &stream).await.ok().map(|state| state.messages)
}

async fn until_outcomes(fleet: &Fleet, count: usize) {
    let what = format!("{count} outcomes");
    until(&what, PATIENCE, || async { (outcomes(fleet).await? >= count as u64).then_some(()) }).await;
}

/// The member that leads a stream.
async fn leader(fleet: &mut Fleet, stream: &str) -> usize {
    let connection = fleet.connection.clone();
    let name = until("a leader", PATIENCE, || async {
        topology::stream_state(&connection, stream).await.ok().and_then(|state| state.leader)
    });
    let name = name.await;
    fleet.cluster().index_by_name(&name).expect("a member leads")
}

/// The member that leads a consumer.
async fn consumer_leader(fleet: &mut Fleet, stream: &str, consumer: &str) -> Result<usize> {
    let client = async_nats::connect(fleet.url().split(',').collect::<Vec<_>>()).await?;
    let answer = client.request(format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"), "".into()).await?;
    let info: Value = serde_json::from_slice(&answer.payload)?;
    let name = info["cluster"]["leader"].as_str().expect("a leader").to_owned();
    Ok(fleet.cluster().index_by_name(&name).expect("a member leads"))
}

/// When outcomes were told, to see for how long none was.
struct Heard {
    moments: Arc<Mutex<Vec<Instant>>>,
    _listener: Owned<()>,
}

impl Heard {
    async fn listen(connection: &Connection) -> Result<Self> {
        let mut told = connection.subscribe(filter::told(&Namespace::default())).await?;
        let moments = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&moments);
        let listener = task::spawn("heard", async move {
            while told.next().await.is_some() {
                heard.lock().unwrap().push(Instant::now());
            }
        });
        Ok(Self { moments, _listener: listener })
    }

    /// What was heard since a moment.
    fn since(&self, moment: Instant) -> Gap {
        let later: Vec<Duration> =
            self.moments.lock().unwrap().iter().filter_map(|heard| heard.checked_duration_since(moment)).collect();
        // The last few are those whose messages or answers were on their way: they are sent again after a while.
        let most = later.len() * 95 / 100;
        let starts = std::iter::once(&Duration::ZERO).chain(&later);
        let silence = starts.zip(&later[..most]).map(|(from, to)| *to - *from).max().unwrap_or_default();
        Gap { silence, last: *later.last().unwrap_or(&Duration::ZERO) }
    }
}

/// For how long no outcome was stored, and when the last one was, after a server went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Gap {
    silence: Duration,
    last: Duration,
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_retries_and_dead_letters_work_replicated() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let fleet = Fleet::start_cluster().await?;
    let retry = RetryPolicy { attempts_max: 2, backoff: Backoff::fixed(Duration::from_millis(300)) };
    let cold = |_: Context, _: Value| async { Err::<Value, _>(Failure::new("tea_is_cold", "pour again")) };
    let builder = fleet.worker("kitchen").capability("echo", echo);
    let builder = builder.capability_with("tea", CapabilityConfig::default().retry(retry), cold);
    let worker = fleet.run(builder, "tea").await?;
    let mut accepted = submit_all(&fleet.client, 0..500).await;
    let failed = fleet.client.request(&capability("tea"), &1).call(PATIENCE).await?;
    assert_eq!((failed.status, failed.attempt), (Status::Failed, 2));
    let letter = || async { fleet.client.dead_letter(&failed.id).await.ok().flatten() };
    assert_eq!(until("a dead letter", PATIENCE, letter).await.letter.failure.attempts.len(), 2);
    accepted.insert(failed.id.clone());
    let count = Count::whole(&fleet.client, &accepted, PATIENCE).await;
    assert_eq!((count.with(Status::Completed), count.with(Status::Failed), count.dead), (500, 1, 1));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_is_only_shown_to_the_broker_leaves_the_queue_as_it_is() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let fleet = Fleet::start_cluster().await?;
    let name = CronName::parse("beat")?;
    let spec = |schedule: &str| {
        serde_json::from_value::<CronSpec>(serde_json::json!({ "schedule": schedule, "capability": "echo" }))
    };
    let refused = fleet.client.cron_add(&name, &spec("0 0 25 * * *")?, false).await.unwrap_err();
    assert_eq!(*refused.kind(), client::ErrorKind::Invalid, "{refused}");
    fleet.client.cron_add(&name, &spec("@every 1s")?, false).await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let accepted = submit_all(&fleet.client, 0..10).await;
    until("it fires too", PATIENCE, || async { (outcomes(&fleet).await? > 10).then_some(()) }).await;
    fleet.client.cron_remove(&name).await?;
    Count::whole(&fleet.client, &accepted, PATIENCE).await;
    worker.stop().await
}

/// How one publisher's try of a race went.
#[derive(Default)]
struct Race {
    contended: usize,
    stored: usize,
    superseded: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_conflicting_outcomes_exactly_one_is_stored_and_both_are_settled() -> Result<()> {
    const IDS: usize = 2_000;
    let _alone = ONE_AT_A_TIME.lock().await;
    let fleet = Fleet::start_cluster().await?;
    let workers = [Connection::open(fleet.worker_config().broker).await?, fleet.connection.clone()];
    let publishers = workers.each_ref().map(Publisher::new);
    let race = Mutex::new(Race::default());
    // The first answer is looked at, so that it is known that the race was one; then it is settled.
    let publish = async |publisher: &Publisher, outgoing: Outgoing| {
        if matches!(publisher.publish(&outgoing).await, Err(error) if error.kind() == Kind::Contended) {
            race.lock().unwrap().contended += 1;
        }
        publisher.settle(&outgoing).await.expect("settled")
    };
    stream::iter(0..IDS)
        .for_each_concurrent(64, |id| {
            let outcome = |from: &str| Outgoing::new(format!("fleet.outcome.race-{id}"), from.to_owned()).expecting(0);
            let (one, two) = (outcome("one"), outcome("two"));
            let publish = &publish;
            let publishers = &publishers;
            async move { drop(tokio::join!(publish(&publishers[0], one), publish(&publishers[1], two))) }
        })
        .await;
    println!(
        "conflicting outcomes: {} of {} first answers were neither stored nor refused",
        race.lock().unwrap().contended,
        2 * IDS
    );
    assert!(race.lock().unwrap().contended > 0, "nothing met on its way: this tried nothing");
    let stream = Names::of(&fleet.namespace).outcomes;
    let counts = topology::subject_counts(&fleet.connection, &stream, "fleet.outcome.*").await?;
    assert_eq!((counts.len(), counts.values().max()), (IDS, Some(&1)));

    // Whoever is settled at once is told the same thing: stored by one, superseded for the other.
    *race.lock().unwrap() = Race::default();
    stream::iter(0..IDS)
        .for_each_concurrent(64, |id| {
            let outcome = |from: &str| Outgoing::new(format!("fleet.outcome.duel-{id}"), from.to_owned()).expecting(0);
            let (one, two, publishers, race) = (outcome("one"), outcome("two"), &publishers, &race);
            async move {
                let settled = tokio::join!(publishers[0].settle(&one), publishers[1].settle(&two));
                for settled in [settled.0, settled.1] {
                    let mut race = race.lock().unwrap();
                    match settled.expect("settled") {
                        Settled::Stored(_) => race.stored += 1,
                        Settled::Superseded => race.superseded += 1,
                    }
                }
            }
        })
        .await;
    let race = race.into_inner().unwrap();
    assert_eq!((race.stored, race.superseded), (IDS, IDS));
    let counts = topology::subject_counts(&fleet.connection, &stream, "fleet.outcome.duel-*").await?;
    assert_eq!((counts.len(), counts.values().max()), (IDS, Some(&1)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_publishes_under_one_message_id_one_is_stored_and_both_are_acknowledged() -> Result<()> {
    const IDS: usize = 1_000;
    let _alone = ONE_AT_A_TIME.lock().await;
    let fleet = Fleet::start_cluster().await?;
    let other = Publisher::new(&Connection::open(fleet.worker_config().broker).await?);
    let own = Publisher::new(&fleet.connection);
    let (contended, duplicates) = (Mutex::new(0), Mutex::new(0));
    let publish = async |publisher: &Publisher, outgoing: &Outgoing| {
        if matches!(publisher.publish(outgoing).await, Err(error) if error.kind() == Kind::Contended) {
            *contended.lock().unwrap() += 1;
        }
        let Settled::Stored(stored) = publisher.settle(outgoing).await.expect("settled") else { panic!("superseded") };
        *duplicates.lock().unwrap() += usize::from(stored.duplicate);
    };
    stream::iter(0..IDS)
        .for_each_concurrent(64, |id| {
            let request = Outgoing::new("fleet.request.nobody", "1").with_message_id(format!("twice-{id}"));
            let (publish, own, other) = (&publish, &own, &other);
            async move {
                tokio::join!(publish(own, &request), publish(other, &request));
            }
        })
        .await;
    println!("one message id: {} of {} first answers were no settlement", contended.lock().unwrap(), 2 * IDS);
    assert!(*contended.lock().unwrap() > 0, "nothing met on its way: this tried nothing");
    let state = topology::stream_state(&fleet.connection, &Names::of(&fleet.namespace).requests).await?;
    assert_eq!(state.messages, IDS as u64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_killed_under_load_and_every_request_has_one_outcome() -> Result<()> {
    const ROUND: usize = 5_000;
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut fleet = Fleet::start_cluster().await?;
    let workers = echo_workers(&fleet, 100).await?;
    let heard = Heard::listen(&fleet.connection).await?;
    let names = Names::of(&fleet.namespace);
    let mut accepted = BTreeSet::new();
    let mut recoveries = Vec::new();
    for (round, victim) in
        [Some(&names.requests), Some(&names.outcomes), Some(&names.requests), None].iter().enumerate()
    {
        let (from, to) = (round * ROUND, (round + 1) * ROUND);
        let client = fleet.client.clone();
        let submitting = task::spawn("submit", async move { submit_all(&client, from..to).await });
        if let Some(stream) = victim {
            until_outcomes(&fleet, from + ROUND / 4).await;
            let member = leader(&mut fleet, stream).await;
            let killed = Instant::now();
            fleet.cluster().server_mut(member).kill()?;
            accepted.extend(submitting.join().await.expect("submitted"));
            until_outcomes(&fleet, to).await;
            recoveries.push(heard.since(killed));
            fleet.cluster().server_mut(member).restart().await?;
            fleet.cluster().ready().await?;
        } else {
            accepted.extend(submitting.join().await.expect("submitted"));
            until_outcomes(&fleet, to).await;
        }
    }
    assert_eq!(accepted.len(), 4 * ROUND);
    let count = Count::whole(&fleet.client, &accepted, PATIENCE).await;
    assert_eq!(count.with(Status::Completed), 4 * ROUND);
    let longest = *recoveries.iter().max().unwrap();
    println!("three leaders killed under {} requests: longest {longest:?} of {recoveries:?}", 4 * ROUND);
    // An election takes up to 9 s, what was in flight is sent again after 5 s, what was delivered and lost after 20 s.
    assert!(recoveries.iter().all(|gap| gap.silence < Duration::from_secs(20)), "{recoveries:?}");
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_starts_no_live_attempt_again() -> Result<()> {
    const JOBS: usize = 60;
    const LONG: Duration = Duration::from_secs(15);
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut fleet = Fleet::start_cluster().await?;
    let starts = Arc::new(Mutex::new(BTreeMap::<RequestId, usize>::new()));
    let handler = |ctx: Context, input: Value| async move {
        let starts = ctx.shared::<Arc<Mutex<BTreeMap<RequestId, usize>>>>();
        *starts.lock().unwrap().entry(ctx.id().clone()).or_default() += 1;
        tokio::time::sleep(LONG).await;
        Ok::<_, Failure>(input)
    };
    let mut workers = Vec::new();
    for _ in 0..2 {
        let builder = fleet.worker("slow").slots(JOBS / 2).shared(Arc::clone(&starts)).capability("echo", handler);
        workers.push(fleet.run(builder, "echo").await?);
    }
    let accepted = submit_all(&fleet.client, 0..JOBS).await;
    until("all begun", PATIENCE, || async { (starts.lock().unwrap().len() == JOBS).then_some(()) }).await;
    // Extensions go to the consumer's leader, and are lost while there is none.
    let member = consumer_leader(&mut fleet, "FLEET_REQUESTS", "echo").await?;
    fleet.cluster().server_mut(member).kill()?;
    Count::whole(&fleet.client, &accepted, PATIENCE).await;
    let again: BTreeMap<_, _> = starts.lock().unwrap().clone().into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(again.is_empty(), "begun again though their workers lived: {again:?}");
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_leave_in_good_order_hardly_hold_anything_up() -> Result<()> {
    const ROUND: usize = 3_000;
    let _alone = ONE_AT_A_TIME.lock().await;
    // Half a minute is the shortest that the server takes.
    let brief = "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"".to_owned();
    let mut fleet = Fleet::start_cluster_with(Config { extra: brief, ..Config::default() }).await?;
    let workers = echo_workers(&fleet, 100).await?;
    let heard = Heard::listen(&fleet.connection).await?;
    let mut accepted = BTreeSet::new();
    for (round, is_lame_duck) in [false, true].into_iter().enumerate() {
        let (from, to) = (round * ROUND, (round + 1) * ROUND);
        let client = fleet.client.clone();
        let submitting = task::spawn("submit", async move { submit_all(&client, from..to).await });
        until_outcomes(&fleet, from + ROUND / 4).await;
        let member = leader(&mut fleet, "FLEET_REQUESTS").await;
        let left = Instant::now();
        let server = fleet.cluster().server_mut(member);
        match is_lame_duck {
            true => server.lame_duck()?,
            false => server.stop().await?,
        }
        accepted.extend(submitting.join().await.expect("submitted"));
        until_outcomes(&fleet, to).await;
        let gap = heard.since(left);
        println!("leader left in good order (lame duck: {is_lame_duck}): {gap:?}");
        assert!(gap.silence < Duration::from_secs(10), "{gap:?}");
        let server = fleet.cluster().server_mut(member);
        if is_lame_duck {
            tokio::time::timeout(PATIENCE, server.ended()).await??;
        }
        server.restart().await?;
        fleet.cluster().ready().await?;
    }
    let count = Count::whole(&fleet.client, &accepted, PATIENCE).await;
    assert_eq!(count.with(Status::Completed), 2 * ROUND);
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_certain_at_the_leader() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let fleet = Fleet::start_cluster().await?;
    let (publisher, reader) = (Publisher::new(&fleet.connection), Reader::new(&fleet.connection));
    let stream = Names::of(&fleet.namespace).outcomes;
    for number in 0..300 {
        let subject = format!("fleet.outcome.sure-{number}");
        let stored = publisher.publish(&Outgoing::new(&subject, "1").expecting(0)).await?;
        let (sequence, _) = reader.last_sequence_at_leader(&stream, &subject).await?.expect("it is there");
        assert_eq!(sequence, stored.sequence);
        assert!(reader.is_at_leader(&stream, stored.sequence).await?);
    }
    Ok(())
}
