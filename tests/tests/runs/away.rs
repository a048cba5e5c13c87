//! Every coordinator is away for longer than the broker remembers ids, and what runs wait for comes meanwhile: steps end,
//! timers come due, signals and a cancellation arrive. Nothing but the logs tells those who come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use protocol::{RequestId, RunId, Status, WorkflowName, codes, run::sub_run_of, subject::filter};
use serde_json::{Value, json};
use sortie_tests::{raw, until};

use crate::site::{BOUND, Site, three_steps};

/// What the broker remembers of ids here, and how long nobody is there at least.
const WINDOW: Duration = Duration::from_secs(2);
const AWAY: Duration = Duration::from_secs(6);

/// Enough that they lie in several partitions, and few enough that all of them have begun before the first timer is due.
const RUNS: usize = 6;

/// When timers come due that are set as a run begins. Long enough to begin all runs before.
const DUE: &str = "20s";

/// Every kind of step, each waiting for something when the coordinators go.
fn everything() -> Value {
    let work = |give: Value, ms: u64| json!({ "give": give, "ms": ms });
    json!({
        "workflow": "everything", "version": "1.0.0",
        "steps": {
            "ends": { "call": "work", "with": work(json!(1), 4_000) },
            "goes_on": { "call": "work", "with": work(json!(2), 24_000) },
            "each": {
                "foreach": "${ [0, 1, 2, 3, 4] }", "max_parallel": 2, "call": "work", "with": work(json!("${ item }"), 4_000),
            },
            "nap": { "wait": DUE },
            "gate": { "signal": "never", "timeout": DUE, "otherwise": "nobody" },
            "told": { "signal": "told" },
            "limited": {
                "call": "work", "with": work(json!(3), 60_000), "timeout": "3s",
                "retry": { "attempts": 2, "backoff": "fixed", "first": "2s" }, "on_error": "continue",
            },
            "again": {
                "call": "work", "with": { "give": "second", "fails": 1 },
                "retry": { "attempts": 2, "backoff": "fixed", "first": DUE },
            },
            "turns": {
                "repeat": { "call": "work", "with": work(json!("${ turn }"), 0), "until": "last >= 1", "max": 3, "pause": DUE },
            },
            "first": {
                "race": {
                    "quick": { "call": "work", "with": work(json!("quick"), 4_000) },
                    "slow": { "call": "work", "with": work(json!("slow"), 60_000) },
                },
            },
            "under": { "workflow": "three", "with": { "n": "${ input.n }", "ms": 4_000 } },
            "event": { "needs": ["ends"], "emit": "everything.told", "with": { "n": "${ input.n }" } },
            "last": {
                "needs": ["goes_on", "each", "nap", "gate", "told", "again", "turns", "first", "under", "event"],
                "call": "work", "with": work(json!("${ input.n }"), 0),
            },
        },
        "output": {
            "each": "${ steps.each.output }", "gate": "${ steps.gate.output }", "told": "${ steps.told.output }",
            "limited": "${ steps.limited.status }", "again": "${ steps.again.output }", "turns": "${ steps.turns.output }",
            "first": "${ steps.first.output }", "under": "${ steps.under.output }", "last": "${ steps.last.output }",
        },
    })
}

fn result(number: usize) -> Value {
    json!({
        "each": [0, 1, 2, 3, 4], "gate": "nobody", "told": number, "limited": "failed", "again": "second", "turns": 1,
        "first": "quick", "under": number + 2, "last": number,
    })
}

/// One that has a time for all of it, and one that is waited for by nobody but who cancels it.
fn bounded(name: &str, timeout: &str) -> Value {
    json!({ "workflow": name, "version": "1.0.0", "timeout": timeout, "steps": { "go": { "signal": "go" } } })
}

/// Timers of `everything` that come due while nobody is there.
const TIMERS: [&str; 3] = ["nap~0", "gate~0", "turns~1"];

/// Has the broker forget ids after [`WINDOW`], as it would in two minutes.
async fn shorten_window(site: &Site) -> Result<()> {
    for stream in [&site.names.runs, &site.names.requests, &site.names.outcomes, &site.names.events] {
        let mut config = raw::api(&site.fleet, &format!("STREAM.INFO.{stream}"), &Value::Null).await?["config"].take();
        config["duplicate_window"] = json!(u64::try_from(WINDOW.as_nanos())?);
        raw::api(&site.fleet, &format!("STREAM.UPDATE.{stream}"), &config).await?;
    }
    Ok(())
}

/// How often each fact is in the log of a run that is over.
async fn told(site: &Site, run: &RunId) -> BTreeMap<String, usize> {
    let record = until("a summary", BOUND, || async {
        let record = site.fleet.client.run_record(run).await.ok()??;
        matches!(record, client::RunRecord::Ended(_)).then_some(record)
    });
    let mut facts = BTreeMap::new();
    for fact in record.await.facts() {
        *facts.entry(fact.name.clone()).or_default() += 1;
    }
    facts
}

/// Goes through all of it; `is_broker_killed` says whether the broker dies, too, while nobody is there.
async fn everybody_is_away(is_broker_killed: bool) -> Result<()> {
    let mut site = Site::start().await?;
    shorten_window(&site).await?;
    let two = [site.coordinator_process()?, site.coordinator_process()?];
    site.apply(&three_steps()).await?;
    let everything = site.apply(&everything()).await?;
    let bounded: [WorkflowName; 2] =
        [site.apply(&bounded("bounded", DUE)).await?, site.apply(&bounded("unbounded", "1h")).await?];
    let mut started = Vec::new();
    for number in 0..RUNS {
        started.push(site.fleet.client.start(&everything, &json!({ "n": number })).submit().await?);
    }
    let late = site.fleet.client.start(&bounded[0], &json!({})).submit().await?;
    let unwanted = site.fleet.client.start(&bounded[1], &json!({})).submit().await?;
    // All that is due while nobody is there has been asked for.
    for run in &started {
        for timer in TIMERS {
            site.fleet.has_timer(run.run(), timer).await;
        }
    }
    site.fleet.has_timer(late.run(), "run").await;
    site.fleet.has_timer(unwanted.run(), "run").await;
    until("everything is begun", BOUND, || async {
        let begun = site.begun.all();
        let asked = ["ends~0", "goes_on~0", "each~0", "each~1", "limited~0", "again~0", "first~0", "first~1"];
        let is_begun = |run: &RunId| {
            let under = sub_run_of(&RequestId::of_step(run, &"under".parse().unwrap(), 0));
            let first = RequestId::of_step(&under, &"a".parse().unwrap(), 0);
            begun.contains_key(first.as_str()) && asked.iter().all(|step| begun.contains_key(&format!("{run}~{step}")))
        };
        started.iter().all(|run| is_begun(run.run())).then_some(())
    })
    .await;
    for one in two {
        one.signal(Signal::SIGKILL)?;
        one.ended(BOUND).await?;
    }
    let away = Instant::now();
    for run in &started {
        let facts = site.facts(run.run()).await;
        assert!(!facts.iter().any(|fact| fact.ends_with(".fired")), "too slow to begin with: {facts:?}");
    }
    if is_broker_killed {
        site.fleet.server().kill()?;
        site.fleet.server().restart().await?;
    }
    for (number, run) in started.iter().enumerate() {
        raw::publish(&site.fleet, &format!("fleet.run.{}.signal.told", run.run()), &[], number.to_string()).await?;
    }
    site.fleet.client.cancel_run(unwanted.run(), None).await?;
    let queued = site.fleet.client.start(&everything, &json!({ "n": RUNS })).submit().await?;
    site.fleet.client.signal(queued.run(), &"told".parse()?, &RUNS, None).await?;

    // It all comes with nobody there.
    let ended = ["ends.0", "each.0", "each.1", "limited.0", "again.0", "first.0"];
    for run in &started {
        for timer in TIMERS {
            site.has_fact(run.run(), &format!("timer.{timer}.fired")).await;
        }
        for step in ended {
            site.has_fact(run.run(), &format!("step.{step}.outcome")).await;
        }
        let request = RequestId::of_step(run.run(), &"under".parse()?, 0);
        site.has_fact(&sub_run_of(&request), "step.a.0.outcome").await;
    }
    site.has_fact(late.run(), "timer.run.fired").await;
    until("longer than ids are remembered", BOUND, || async { (away.elapsed() > AWAY).then_some(()) }).await;
    println!("nobody was there for {:?}", away.elapsed());

    let _two = [site.coordinator_process()?, site.coordinator_process()?];
    let back = Instant::now();
    started.push(queued);
    for (number, run) in started.iter().enumerate() {
        let outcome = run.outcome(2 * BOUND).await?;
        assert_eq!(outcome.result::<Value>().map_err(|failure| failure.to_string()), Ok(result(number)));
    }
    let failure = late.outcome(BOUND).await?.failure().context("a failure")?;
    assert_eq!(failure.code, codes::RUN_TIMEOUT);
    assert_eq!(unwanted.outcome(BOUND).await?.status, Status::Cancelled);
    println!("all had ended {:?} after somebody came", back.elapsed());
    site.is_empty().await;
    for run in &started {
        let facts = told(&site, run.run()).await;
        let twice: Vec<_> = facts.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "facts of {} that came twice: {twice:?}", run.run());
        let fired: Vec<_> = facts.keys().filter(|name| name.ends_with(".fired")).map(String::as_str).collect();
        assert_eq!(fired, ["timer.gate~0.fired", "timer.nap~0.fired", "timer.turns~1.fired"]);
    }
    assert_eq!(told(&site, late.run()).await["timer.run.fired"], 1);
    // Beyond the window a step may be begun twice; it has one outcome all the same.
    let begun = site.begun.all();
    let twice: BTreeMap<_, _> = begun.into_iter().filter(|(_, times)| *times > 1).collect();
    println!("broker killed: {is_broker_killed}; begun more than once: {twice:?}");
    // So may an event be published, under the id that it has.
    let topic = filter::event(&site.fleet.namespace, "everything");
    let page = site.reader.page(&site.names.events, &topic, 1, 100).await?;
    let ids: BTreeSet<_> = page.messages.iter().filter_map(|message| message.headers.get("ce-id")).collect();
    println!("{} events of {} ids", page.messages.len(), ids.len());
    assert_eq!(ids.len(), RUNS + 1, "every event is published");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_coordinators_away_for_longer_than_ids_are_remembered_cost_no_run_and_no_timer_fires_twice() -> Result<()> {
    everybody_is_away(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_while_all_coordinators_are_away_costs_no_run_and_no_timer_fires_twice() -> Result<()> {
    everybody_is_away(true).await
}
