//! A worker that stands still for longer than its ack deadline, or is cut off for a minute, and comes back: it does no
//! harm to what another one has in hand by then, and it works on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use client::Receipt;
use futures_util::future::{join_all, try_join_all};
use nix::sys::signal::Signal;
use protocol::{Status, UniqueKey, topology::Names};
use sortie_tests::{
    Count, Fleet,
    count::waiting,
    fleet::capability,
    proxy::{
        Action, Direction, Flow, Moment, Proxy,
        Seen::{Publish, Says},
        Trigger, after,
    },
    until,
    victim::{CAPABILITY, Orders, Task, Victim, attempts},
};

const VICTIM: &str = env!("CARGO_BIN_EXE_victim");

/// A handler says its progress when it has begun.
const RUNNING: Trigger = Trigger {
    seen: Publish("fleet.progress."),
    nth: 1,
    moment: Moment::After,
    action: Action::Signal(Signal::SIGSTOP),
};
const TASK: Task = Task { works_ms: 100, fails: 0, gives_up: false, result_bytes: 10 };

/// Until a message is delivered again, and a worker has begun with it.
const TAKEN_WITHIN: Duration = Duration::from_secs(25);

/// The frozen worker's attempt ends a moment after it was let go; the other one's ends later.
const FROZEN_WORKS: Duration = Duration::from_secs(13);
const OTHER_WORKS: Duration = Duration::from_secs(7);

const CUT: Duration = Duration::from_secs(60);

/// How soon a worker works again that is no longer cut off: its waits between connection attempts, and a ping or two.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// One freeze.
struct Freeze {
    what: &'static str,
    /// When it freezes; none for while it waits for work.
    at: Option<Trigger>,
    /// What the frozen worker makes of its attempt.
    fails: u32,
    attempts: u32,
    is_unique: bool,
    /// What it hears when it is let go.
    hears: Option<Signal>,
    status: Status,
    /// The ways in which attempts may begin.
    begun: &'static [&'static [u32]],
    stored: u64,
}

const FREEZE: Freeze = Freeze {
    what: "",
    at: Some(RUNNING),
    fails: 0,
    attempts: 1,
    is_unique: false,
    hears: None,
    status: Status::Completed,
    begun: &[&[1, 1]],
    stored: 1,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_that_comes_back_does_no_harm() -> Result<()> {
    let stop = |seen| Some(after(seen).then(Action::Signal(Signal::SIGSTOP)));
    let freezes = [
        Freeze { what: "it would complete", ..FREEZE },
        Freeze { what: "it would give up", fails: 1, ..FREEZE },
        Freeze { what: "it would retry", fails: 1, attempts: 3, ..FREEZE },
        Freeze { what: "it would retry unique work", fails: 1, attempts: 3, is_unique: true, ..FREEZE },
        Freeze { what: "it would hand back", hears: Some(Signal::SIGTERM), ..FREEZE },
        Freeze { what: "it would hand back unique work", hears: Some(Signal::SIGTERM), is_unique: true, ..FREEZE },
        // What came while it was frozen is known to be another one's by now, and not begun.
        Freeze { what: "it froze with an open pull", at: None, fails: 1, begun: &[&[1]], ..FREEZE },
        Freeze {
            what: "it froze with an open pull, retrying",
            at: None,
            fails: 1,
            attempts: 3,
            begun: &[&[1]],
            ..FREEZE
        },
        Freeze {
            what: "it froze between failed outcome and dead letter",
            at: stop(Publish("fleet.outcome.")),
            fails: 1,
            status: Status::Failed,
            begun: &[&[1]],
            ..FREEZE
        },
        Freeze {
            what: "it froze between schedule and ack",
            at: stop(Publish("fleet.later.")),
            fails: 1,
            attempts: 3,
            // Its open pull may have caught the second attempt.
            begun: &[&[1, 2], &[1, 1, 2], &[1, 2, 1]],
            stored: 3,
            ..FREEZE
        },
        Freeze { what: "it froze after it extended", at: stop(Says("+WPI")), fails: 1, ..FREEZE },
    ];
    let tried = join_all(freezes.iter().map(|freeze| async { freeze.tell().await.context(freeze.what) })).await;
    let longest = tried.iter().flatten().max().copied().unwrap_or_default();
    let failed: Vec<String> = tried.iter().filter_map(|tried| Some(format!("{:#}", tried.as_ref().err()?))).collect();
    println!("{} freezes, {} harmful, longest recovery {longest:.1?}", tried.len(), failed.len());
    ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}

impl Freeze {
    /// How long it took from the freeze until everything was settled, the other worker's time to work not counted.
    async fn tell(&self) -> Result<Duration> {
        let mut fleet = Fleet::start().await?;
        let folder = tempfile::tempdir()?;
        let (diary, log) = (folder.path().join("diary"), folder.path().join("log"));
        let proxy = Proxy::start(fleet.server().port(), self.at.into_iter().collect()).await?;
        let works = if self.at == Some(RUNNING) { FROZEN_WORKS } else { Duration::from_secs(1) };
        // One that is to extend first has to work for longer than an interval.
        let works = if self.what.contains("extended") { Duration::from_secs(17) } else { works };
        let orders = Orders {
            works: Some(works),
            fails: Some(self.fails),
            drain_grace: Duration::from_millis(100),
            ..Orders::new(proxy.url(), &diary)
        };
        let frozen = Victim::start(VICTIM, &orders, &log)?;
        proxy.set_victim(frozen.pid()?);
        frozen.serves(&fleet).await?;
        if self.at.is_none() {
            until("a pull waits", TAKEN_WITHIN, || async { pulls(&fleet).await.filter(|pulls| *pulls > 0) }).await;
            frozen.freeze().await?;
        }
        let receipt = self.submit(&fleet).await?;
        let froze = match self.at {
            Some(_) => proxy.tripped(1, TAKEN_WITHIN).await?,
            None => Instant::now(),
        };
        let orders = Orders { works: Some(OTHER_WORKS), slots: 2, ..Orders::new(fleet.url(), &diary) };
        let other = Victim::start(VICTIM, &orders, &log)?;
        let own = usize::from(self.at.is_some());
        let taken = until("another takes it", TAKEN_WITHIN, || async {
            let begun = attempts(&diary).len() > own && self.stored == 1;
            (begun || waiting(&fleet.client).await.ok()? == 0).then(|| froze.elapsed())
        })
        .await;
        frozen.signal(Signal::SIGCONT)?;
        if let Some(signal) = self.hears {
            frozen.signal(signal)?;
        }
        receipt.outcome(TAKEN_WITHIN).await?;
        until("nothing waits", TAKEN_WITHIN, || async { (waiting(&fleet.client).await.ok()? == 0).then_some(()) })
            .await;
        other.serves(&fleet).await?;
        other.drain(TAKEN_WITHIN).await?;
        match self.hears {
            Some(_) => ensure!({ frozen }.ended(TAKEN_WITHIN).await?.success(), "it did not end well"),
            None => frozen.drain(TAKEN_WITHIN).await?,
        }
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        self.check(&fleet, &receipt, &attempts(&diary)).await.with_context(|| log)?;
        Ok(taken)
    }

    async fn submit(&self, fleet: &Fleet) -> Result<Receipt> {
        let capability = capability(CAPABILITY);
        let request = fleet.client.request(&capability, &TASK).attempts(self.attempts);
        let request = if self.is_unique { request.unique(UniqueKey::parse("key")?) } else { request };
        Ok(request.submit().await?)
    }

    async fn check(&self, fleet: &Fleet, receipt: &Receipt, begun: &[u32]) -> Result<()> {
        let count = Count::of(&fleet.client, &BTreeSet::from([receipt.id().clone()])).await?;
        ensure!(count.with(self.status) == 1 && count.duplicated.is_empty(), "one outcome: {count:?}");
        ensure!(count.foreign == 0 && count.waiting == 0, "nothing else: {count:?}");
        ensure!(count.dead == usize::from(self.status == Status::Failed), "dead letters: {count:?}");
        ensure!(self.begun.contains(&begun), "attempts {begun:?}, expected {:?}", self.begun);
        let names = Names::of(&fleet.namespace);
        let stream = if self.is_unique { &names.unique } else { &names.requests };
        let stored = broker::topology::stream_state(&fleet.connection, stream).await?.last_sequence;
        ensure!(stored == self.stored, "{stored} messages were stored, expected {}", self.stored);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stood_still_takes_nothing_that_it_does_not_begin() -> Result<()> {
    const REQUESTS: u64 = 60;
    let fleet = Fleet::start().await?;
    let folder = tempfile::tempdir()?;
    let diary = folder.path().join("diary");
    let orders = Orders { slots: 4, ..Orders::new(fleet.url(), &diary) };
    let frozen = Victim::start(VICTIM, &orders, &folder.path().join("log"))?;
    frozen.serves(&fleet).await?;
    until("a pull waits", TAKEN_WITHIN, || async { pulls(&fleet).await.filter(|pulls| *pulls > 0) }).await;
    frozen.freeze().await?;
    let froze = Instant::now();
    let work = capability(CAPABILITY);
    let mut receipts = Vec::new();
    for _ in 0..REQUESTS {
        receipts.push(fleet.client.request(&work, &TASK).submit().await?);
    }
    let (deadline, _) = protocol::topology::ack_deadline(1);
    until("it has lost what it had", TAKEN_WITHIN, || async { (froze.elapsed() > deadline).then_some(()) }).await;
    frozen.signal(Signal::SIGCONT)?;
    try_join_all(receipts.iter().map(|receipt| receipt.outcome(2 * TAKEN_WITHIN))).await?;
    let deliveries = delivered(&fleet).await.context("the consumer is there")?;
    // Its open pull caught one while it was frozen, which had to be delivered again.
    ensure!(deliveries <= REQUESTS + 1, "{deliveries} deliveries of {REQUESTS} requests");
    frozen.drain(TAKEN_WITHIN).await
}

/// Pulls that wait at the consumer of the normal lane.
async fn pulls(fleet: &Fleet) -> Option<u64> {
    consumer(fleet).await?["num_waiting"].as_u64()
}

/// Deliveries of that consumer, each counted that was made of one message.
async fn delivered(fleet: &Fleet) -> Option<u64> {
    consumer(fleet).await?["delivered"]["consumer_seq"].as_u64()
}

async fn consumer(fleet: &Fleet) -> Option<serde_json::Value> {
    let subject = format!("$JS.API.CONSUMER.INFO.{}.{CAPABILITY}", Names::of(&fleet.namespace).requests);
    let answer = fleet.connection.request(subject, None, "".into(), Duration::from_secs(2)).await.ok()?;
    serde_json::from_slice(&answer.body).ok()
}

/// How a worker is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Off {
    /// Its connection ends, and no other one can be made.
    Cut,
    /// Its connection stands, and nothing comes or goes.
    Stalled,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_away_for_a_minute_comes_back() -> Result<()> {
    let ways = [(Off::Cut, true), (Off::Cut, false), (Off::Stalled, true), (Off::Stalled, false)];
    let back = try_join_all(ways.map(|(off, has_other)| async move {
        let what = format!("{off:?}, {} another worker", if has_other { "with" } else { "without" });
        away(off, has_other).await.context(what)
    }))
    .await?;
    println!("{} minutes away, longest recovery {:.1?}", back.len(), back.iter().max().unwrap());
    Ok(())
}

/// How long it took from the end of the cut until everything was settled.
async fn away(off: Off, has_other: bool) -> Result<Duration> {
    let mut fleet = Fleet::start().await?;
    let folder = tempfile::tempdir()?;
    let (diary, log) = (folder.path().join("diary"), folder.path().join("log"));
    let proxy = Proxy::start(fleet.server().port(), Vec::new()).await?;
    let orders = Orders { slots: 4, ..Orders::new(proxy.url(), &diary) };
    let mut cut_off = Victim::start(VICTIM, &orders, &log)?;
    cut_off.serves(&fleet).await?;
    let work = capability(CAPABILITY);
    let mut accepted = BTreeSet::new();
    // Its attempt ends while it is away.
    let long = Task { works_ms: 20_000, ..TASK };
    accepted.insert(fleet.client.request(&work, &long).submit().await?.id().clone());
    until("it has begun", TAKEN_WITHIN, || async { (!attempts(&diary).is_empty()).then_some(()) }).await;
    let connections = proxy.connections();
    match off {
        Off::Cut => proxy.cut(),
        Off::Stalled => {
            proxy.set_flow(Direction::ToServer, Flow::Stalled);
            proxy.set_flow(Direction::ToWorker, Flow::Stalled);
        }
    }
    let over = tokio::time::Instant::now() + CUT;
    let other = match has_other {
        true => Some(Victim::start(VICTIM, &Orders::new(fleet.url(), &diary), &log)?),
        false => None,
    };
    for _ in 0..5 {
        accepted.insert(fleet.client.request(&work, &TASK).submit().await?.id().clone());
    }
    if let Some(other) = other {
        for id in &accepted {
            fleet.client.wait(id, CUT).await.context("while the other one is away")?;
        }
        other.drain(TAKEN_WITHIN).await?;
    }
    tokio::time::sleep_until(over).await;
    ensure!(cut_off.lives()?, "it did not outlive the cut:\n{}", cut_off.log());
    // It begins with this one only when it is back.
    accepted.insert(fleet.client.request(&work, &TASK).submit().await?.id().clone());
    proxy.mend();
    let back = Instant::now();
    until("it is back", BACK_WITHIN, || async { (proxy.connections() > connections).then_some(()) }).await;
    for id in &accepted {
        fleet.client.wait(id, BACK_WITHIN + Duration::from_secs(40)).await.context("when it is back")?;
    }
    until("nothing waits", TAKEN_WITHIN, || async { (waiting(&fleet.client).await.ok()? == 0).then_some(()) }).await;
    let recovered = back.elapsed();
    cut_off.drain(TAKEN_WITHIN).await?;
    let count = Count::of(&fleet.client, &accepted).await?;
    count.assert_whole();
    ensure!(count.with(Status::Completed) == accepted.len() && count.dead == 0, "all done: {count:?}");
    Ok(recovered)
}
