//! What stands around handlers, in real fleets: circuit breakers that the fleet shares, fallbacks, rate limits.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use client::{Answer, NamedBreaker, WhyAsk};
use futures_util::future::BoxFuture;
use protocol::{BreakerName, Lane, RequestId, Status, Subject, UniqueKey, breaker::State, codes, topology::Names};
use serde_json::{Value, json};
use sortie_tests::{Count, Fleet, Latch, PATIENCE, fleet::capability, raw, until};
use worker::{
    Backoff, CapabilityConfig, Context, Failure, Kind, RetryPolicy, Worker,
    layer::{Cache, CircuitBreaker, RateLimit, RetryRules, Then, When},
};

/// A shop that is called by handlers: open or not.
#[derive(Clone, Default)]
struct Shop {
    is_open: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Shop {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn reopen(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }

    fn handler(&self) -> impl Fn(Context, Value) -> BoxFuture<'static, Result<u32, Failure>> + use<> {
        let shop = self.clone();
        move |ctx, _| {
            let shop = shop.clone();
            Box::pin(async move {
                shop.calls.fetch_add(1, Ordering::SeqCst);
                match shop.is_open.load(Ordering::SeqCst) {
                    true => Ok(ctx.attempt()),
                    false => Err(Failure::new("shop_closed", "nobody answers")),
                }
            })
        }
    }
}

fn attempts(attempts_max: u32) -> CapabilityConfig {
    let backoff = Backoff::fixed(Duration::from_millis(300));
    CapabilityConfig::default().retry(RetryPolicy { attempts_max, backoff })
}

/// The one breaker, once it stands so.
async fn breaker(fleet: &Fleet, state: State) -> NamedBreaker {
    until(&format!("the breaker is {state:?}"), PATIENCE, || async {
        let found = fleet.client.breakers().await.ok()?.pop()?;
        (found.now == state).then_some(found)
    })
    .await
}

/// Waits until a request waits for its breaker.
async fn put_off(fleet: &Fleet, id: &RequestId) {
    until("it is put off", PATIENCE, || async {
        let waiting = fleet.client.later(100).await.ok()?;
        let found = waiting.into_iter().find(|waiting| waiting.id == *id)?;
        (found.snoozed_for.as_deref() == Some(codes::CIRCUIT_OPEN)).then_some(())
    })
    .await;
}

async fn ask(fleet: &Fleet, name: &str) -> Result<RequestId> {
    Ok(fleet.client.request(&capability(name), &1).submit().await?.id().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_that_one_instance_opened_holds_for_the_others_until_trials_close_it() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (theirs, ours) = (Shop::default(), Shop::default());
    let open_for = Duration::from_secs(10);
    let breaker_of = |failures| CircuitBreaker::new().failures(failures).open_for(open_for);
    let first = fleet.worker("shop").slots(1).capability_with("buy", attempts(1), theirs.handler());
    let first = fleet.run(first.circuit_breaker(breaker_of(5)), "buy").await?;
    // It would never open it by itself.
    let second = fleet.worker("shop").slots(1).capability_with("buy", attempts(1), ours.handler());
    let second = fleet.run(second.circuit_breaker(breaker_of(u32::MAX)), "buy").await?;

    while theirs.calls() < 5 {
        let outcome = fleet.client.request(&capability("buy"), &1).call(PATIENCE).await?;
        assert_eq!(outcome.failure().unwrap().code, "shop_closed");
    }
    let opened = breaker(&fleet, State::Open).await.breaker;
    assert_eq!((theirs.calls(), opened.until), (5, Some(opened.since + open_for)));
    assert_eq!(opened.pauses, BTreeSet::from([capability("buy")]));
    let opening = opened.opened.unwrap();
    assert_eq!((opening.code.as_str(), opening.message.as_str()), ("shop_closed", "nobody answers"));
    first.stop().await?;
    ours.reopen();
    // The other one heard of it: it calls nobody, and the requests burn no attempt.
    until("the other one knows", PATIENCE, || async {
        let id = ask(&fleet, "buy").await.ok()?;
        let is_done = until("it is done or waits", PATIENCE, || async {
            let waiting = fleet.client.later(100).await.ok()?;
            let waits = waiting.iter().any(|one| one.id == id && one.snoozed_for.is_some());
            let is_done = fleet.client.outcome(&id).await.ok()?.is_some();
            (waits || is_done).then_some(is_done)
        });
        (!is_done.await).then_some(())
    })
    .await;
    let before = ours.calls();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(ask(&fleet, "buy").await?);
    }
    for id in &ids {
        put_off(&fleet, id).await;
    }
    assert_eq!((ours.calls(), breaker(&fleet, State::Open).await.now), (before, State::Open));
    for id in &ids {
        let outcome = fleet.client.wait(id, PATIENCE).await?;
        assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 1));
    }
    assert_eq!(breaker(&fleet, State::Closed).await.breaker.trials, []);
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_a_breaker_comes_when_it_is_reset_and_nothing_else_does() -> Result<()> {
    let fleet = Fleet::start().await?;
    let shop = Shop::default();
    let breaker_of = CircuitBreaker::new().named("till").failures(1).open_for(Duration::from_secs(3_600));
    let builder = fleet.worker("shop").slots(1).capability_with("buy", attempts(5), shop.handler());
    let worker = fleet.run(builder.circuit_breaker(breaker_of), "buy").await?;
    let key =
        fleet.client.request(&capability("buy"), &1).unique(UniqueKey::parse("basket")?).submit().await?.id().clone();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(ask(&fleet, "buy").await?);
    }
    for id in &ids {
        put_off(&fleet, id).await;
    }
    until("the unique one is put off", PATIENCE, || async {
        let why = fleet.client.why(&key, &WhyAsk::default()).await.ok()?;
        let is_put_off = |code: &Option<String>| code.as_deref() == Some(codes::CIRCUIT_OPEN);
        matches!(why.answer, Answer::Retrying { ref put_off_for, .. } if is_put_off(put_off_for)).then_some(())
    })
    .await;
    // Somebody wanted this one later: no breaker has to do with it.
    let in_an_hour = fleet.client.request(&capability("buy"), &1).delay(Duration::from_secs(3_600));
    let delayed = in_an_hour.submit().await?.id().clone();
    shop.reopen();
    let pauses = fleet.client.reset_breaker(&BreakerName::parse("till")?).await?.breaker.pauses;
    let none = fleet.client.bring_forward(&BTreeSet::from([capability("sell")])).await?;
    assert_eq!((none.brought, none.held.len()), (0, 0));
    let forward = fleet.client.bring_forward(&pauses).await?;
    assert_eq!((forward.brought, forward.moved, forward.refused), (5, 0, Vec::new()));
    assert_eq!(forward.held, [key]);
    for id in &ids {
        assert_eq!(fleet.client.wait(id, PATIENCE).await?.status, Status::Completed);
    }
    let waiting: Vec<RequestId> = fleet.client.later(100).await?.into_iter().map(|one| one.id).collect();
    assert_eq!(waiting, [delayed]);
    // Each of the five was done once; one call, the unique one's or the first of the others', opened it.
    assert_eq!(shop.calls(), 6);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_three_are_let_through_and_one_that_fails_opens_it_again() -> Result<()> {
    let fleet = Fleet::start().await?;
    let calls = Arc::new(AtomicUsize::new(0));
    let (gate, mended) = (Latch::new(), Latch::new());
    // By its number, not by the time: two open the breaker, three are the trials that open it again.
    let handler = {
        let (calls, gate, mended) = (calls.clone(), gate.clone(), mended.clone());
        move |_: Context, _: Value| {
            let (calls, gate, mended) = (calls.clone(), gate.clone(), mended.clone());
            async move {
                match calls.fetch_add(1, Ordering::SeqCst) {
                    0 | 1 => Err(Failure::new("down", "it is down")),
                    2..=4 => {
                        gate.passed().await;
                        Err(Failure::new("still_down", "still"))
                    }
                    _ => {
                        mended.passed().await;
                        Ok(())
                    }
                }
            }
        }
    };
    // One may be both of the first two and a trial.
    let builder = fleet.worker("shop").capability_with("buy", attempts(4), handler);
    let settings = CircuitBreaker::new().named("till").failures(2).open_for(Duration::from_millis(500));
    let worker = fleet.run(builder.circuit_breaker(settings), "buy").await?;
    let mut ids = vec![ask(&fleet, "buy").await?, ask(&fleet, "buy").await?];
    // It may be half open again before it is looked at.
    let opened = until("it opened", PATIENCE, || async {
        let found = fleet.client.breakers().await.ok()?.pop()?;
        found.breaker.opened.is_some().then_some(found)
    })
    .await;
    assert_eq!((opened.name.as_str(), opened.breaker.opened.as_ref().unwrap().code.as_str()), ("till", "down"));
    for _ in 0..6 {
        ids.push(ask(&fleet, "buy").await?);
    }
    let trials = until("three trials run", PATIENCE, || async {
        let found = fleet.client.breakers().await.ok()?.pop()?;
        let have_begun = calls.load(Ordering::SeqCst) >= 5;
        (have_begun && found.breaker.trials.len() == 3).then_some(found.breaker.trials)
    })
    .await;
    // Whoever comes while they run is sent away, again and again.
    until("the others were sent away", PATIENCE, || async {
        let waiting = fleet.client.later(100).await.ok()?;
        (waiting.len() >= 5 && waiting.iter().all(|one| one.snoozed_for.is_some() || one.attempt > 1)).then_some(())
    })
    .await;
    assert_eq!((calls.load(Ordering::SeqCst), trials.len()), (5, 3));
    gate.open();
    until("it opens again", PATIENCE, || async {
        let found = fleet.client.breakers().await.ok()?.pop()?.breaker;
        (found.since > opened.breaker.since && found.opened?.code == "still_down").then_some(())
    })
    .await;
    mended.open();
    for id in &ids {
        assert_eq!(fleet.client.wait(id, PATIENCE).await?.status, Status::Completed);
    }
    breaker(&fleet, State::Closed).await;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_did_wrong_opens_no_breaker_and_time_outs_do() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |_: Context, hangs: bool| async move {
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok::<_, Failure>(())
    };
    let config = attempts(1).timeout(Duration::from_millis(200));
    let builder = fleet.worker("shop").capability_with("buy", config, handler);
    let worker = fleet.run(builder.circuit_breaker(CircuitBreaker::new().failures(2)), "buy").await?;
    for _ in 0..4 {
        let outcome = fleet.client.request(&capability("buy"), "wrong").call(PATIENCE).await?;
        assert_eq!(outcome.failure().unwrap().code, codes::INVALID_INPUT);
    }
    assert_eq!(fleet.client.breakers().await?, []);
    for _ in 0..2 {
        let outcome = fleet.client.request(&capability("buy"), &true).call(PATIENCE).await?;
        assert_eq!(outcome.failure().unwrap().code, codes::TIMEOUT);
    }
    assert_eq!(breaker(&fleet, State::Open).await.breaker.opened.unwrap().code, codes::TIMEOUT);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_does_it_under_the_same_id_and_there_is_one_outcome() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (shop, market) = (Shop::default(), Shop::default());
    market.reopen();
    let breaker_of = CircuitBreaker::new().failures(1).open_for(Duration::from_secs(10)).fallback("buy-elsewhere");
    let builder = fleet.worker("shop").capability_with("buy", attempts(1), shop.handler()).circuit_breaker(breaker_of);
    let worker = fleet.run(builder, "buy").await?;
    let builder = fleet.worker("market").capability_with("buy-elsewhere", attempts(1), market.handler());
    let other = fleet.run(builder, "buy-elsewhere").await?;
    let mut accepted = BTreeSet::from([ask(&fleet, "buy").await?]);
    let opened = breaker(&fleet, State::Open).await.breaker;
    assert!(opened.pauses.is_empty(), "what has a fallback is not paused");
    shop.reopen();

    let receipt = fleet.client.request(&capability("buy"), &1).urgent().submit().await?;
    let outcome = receipt.outcome(PATIENCE).await?;
    assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 1));
    assert_eq!(outcome.capability, Some(capability("buy-elsewhere")));
    accepted.insert(outcome.id);
    // An id by a sequence stays one, too.
    let by_sequence = raw::request(&fleet, "buy", &[("X-Tenant", "blue")], "1").await?;
    let outcome = fleet.client.wait(&by_sequence, PATIENCE).await?;
    assert_eq!((outcome.status, outcome.capability), (Status::Completed, Some(capability("buy-elsewhere"))));
    accepted.insert(by_sequence);
    // Unique work cannot leave its key: it waits, and is done by whom it was meant for.
    let unique = Subject::Unique { capability: capability("buy"), key: protocol::UniqueKey::parse("k")? };
    let sequence = raw::publish(&fleet, &unique.render(&fleet.namespace), &[], "1").await?;
    let unique = RequestId::of_unique_sequence(sequence);
    let outcome = fleet.client.wait(&unique, PATIENCE).await?;
    assert_eq!((outcome.status, outcome.capability), (Status::Completed, Some(capability("buy"))));
    accepted.insert(unique);

    assert_eq!((shop.calls(), market.calls()), (2, 2));
    worker.stop().await?;
    other.stop().await?;
    let count = Count::whole(&fleet.client, &accepted, PATIENCE).await;
    assert_eq!((count.outcomes.values().sum::<usize>(), count.missing.len()), (4, 0));
    assert_eq!((count.duplicated, count.foreign, count.waiting), (Vec::new(), 0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn fallbacks_that_lead_in_a_circle_are_refused() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (one, two) = (Shop::default(), Shop::default());
    let falls_back = |to: &str| CircuitBreaker::new().failures(1).open_for(Duration::from_secs(60)).fallback(to);
    let circle = Worker::builder("shop").config(fleet.worker_config());
    let circle = circle.capability("a", one.handler()).circuit_breaker(falls_back("b"));
    let circle = circle.capability("b", two.handler()).circuit_breaker(falls_back("a"));
    let circle = circle.capability("c", two.handler()).circuit_breaker(falls_back("c").named("No Name"));
    let refused = circle.run().await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Configuration);
    for part in ["a: its fallback leads back", "c: its fallback leads back", "`No Name` is not a valid breaker name"] {
        assert!(refused.to_string().contains(part), "{part} in {refused}");
    }
    // Over two programs nobody sees the circle before a request goes round: it goes once, and waits.
    let builder = fleet.worker("one").capability_with("a", attempts(1), one.handler()).circuit_breaker(falls_back("b"));
    let first = fleet.run(builder, "a").await?;
    let builder = fleet.worker("two").capability_with("b", attempts(1), two.handler()).circuit_breaker(falls_back("a"));
    let second = fleet.run(builder, "b").await?;
    for name in ["a", "b"] {
        fleet.client.request(&capability(name), &1).call(PATIENCE).await?;
    }
    until("both are open", PATIENCE, || async {
        let breakers = fleet.client.breakers().await.ok()?;
        (breakers.len() == 2 && breakers.iter().all(|one| one.now == State::Open)).then_some(())
    })
    .await;
    let id = ask(&fleet, "a").await?;
    put_off(&fleet, &id).await;
    let waiting = fleet.client.later(10).await?;
    assert_eq!((waiting.len(), waiting[0].capability.clone()), (1, Some(capability("b"))));
    let at = Subject::Later(id).render(&fleet.namespace);
    let stored = raw::last(&fleet, &Names::of(&fleet.namespace).requests, &at).await?.unwrap();
    assert_eq!(stored.headers.get("Sortie-Came-From"), Some("a"));
    assert_eq!((one.calls(), two.calls()), (1, 1));
    first.stop().await?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_holds_for_each_key_and_burns_no_attempt() -> Result<()> {
    let fleet = Fleet::start().await?;
    let began: Arc<Mutex<Vec<(String, Instant)>>> = Arc::default();
    let handler = {
        let began = began.clone();
        move |_: Context, input: Value| {
            began.lock().unwrap().push((input["who"].to_string(), Instant::now()));
            async move { Ok::<_, Failure>(()) }
        }
    };
    let every = Duration::from_millis(250);
    let limit = RateLimit::new(4, Duration::from_secs(1)).burst(2).key("/who");
    let builder = fleet.worker("shop").capability_with("buy", attempts(1), handler).rate_limit(limit);
    let worker = fleet.run(builder, "buy").await?;
    let mut receipts = Vec::new();
    for number in 0..8 {
        for who in ["ada", "bob"] {
            let input = json!({ "who": who, "number": number });
            receipts.push(fleet.client.request(&capability("buy"), &input).lane(Lane::Normal).submit().await?);
        }
    }
    for receipt in &receipts {
        let outcome = receipt.outcome(PATIENCE).await?;
        assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 1));
    }
    let began = began.lock().unwrap().clone();
    for who in ["\"ada\"", "\"bob\""] {
        let mut times: Vec<Instant> = began.iter().filter(|(key, _)| key == who).map(|(_, at)| *at).collect();
        times.sort();
        assert_eq!(times.len(), 8);
        // Two at once, then one with each token; a handler begins a little after its token was taken.
        for (index, pair) in times.windows(3).enumerate() {
            let gap = pair[2] - pair[0];
            assert!(gap >= every - Duration::from_millis(50), "{who} {index}: {gap:?}");
        }
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_answers_what_was_asked_before_until_its_time_is_over() -> Result<()> {
    let fleet = Fleet::start().await?;
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = {
        let calls = calls.clone();
        move |_: Context, input: Value| {
            let number = calls.fetch_add(1, Ordering::SeqCst);
            async move { if input["fails"] == true { Err(Failure::new("no", "no").give_up()) } else { Ok(number) } }
        }
    };
    let cache = Cache::new(Duration::from_secs(8), 1024 * 1024).key("/item");
    // What is found costs no token, though it was asked within the hour.
    let limit = RateLimit::new(4, Duration::from_secs(3_600));
    let builder = fleet.worker("shop").capability_with("price", attempts(1), handler).rate_limit(limit).cache(cache);
    let worker = fleet.run(builder, "price").await?;
    let price = async |input: Value| fleet.client.request(&capability("price"), &input).call(PATIENCE).await;
    assert_eq!(price(json!({"item": "tea", "fails": true})).await?.status, Status::Failed);
    let first: usize = price(json!({"item": "tea"})).await?.result().unwrap();
    assert_eq!(first, 1, "a failure is not kept");
    for _ in 0..5 {
        assert_eq!(price(json!({"item": "tea", "who": "somebody else"})).await?.result::<usize>().unwrap(), first);
    }
    assert_eq!(price(json!({"item": "coffee"})).await?.result::<usize>().unwrap(), 2);
    until("it is asked anew", PATIENCE, || async {
        let again = price(json!({"item": "tea"})).await.ok()?.result::<usize>().ok()?;
        (again == 3).then_some(())
    })
    .await;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_decide_about_failures_and_a_substitute_is_a_completed_outcome() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |ctx: Context, code: String| async move {
        match (code.as_str(), ctx.attempt()) {
            ("hard", 2) => Ok(json!("at last")),
            ("hard", _) => Err(Failure::new("hard", "it was final").give_up()),
            (code, _) => Err(Failure::new(code, "no")),
        }
    };
    let rules = RetryRules::new()
        .rule(When::message("("), Then::Substitute(json!("a broken rule is left out")))
        .rule(When::code("no_such_user"), Then::Substitute(json!({"name": "somebody"})))
        .rule(When::code_matches("^never"), Then::GiveUp)
        .rule(When::message("final"), Then::RetryAfter(Duration::from_millis(300)));
    let builder = fleet.worker("shop").capability_with("look-up", attempts(3), handler).retry_rules(rules);
    let worker = fleet.run(builder, "look-up").await?;
    let mut accepted = BTreeSet::new();
    let mut ends = Vec::new();
    for code in ["no_such_user", "never_again", "hard"] {
        let outcome = fleet.client.request(&capability("look-up"), code).call(PATIENCE).await?;
        ends.push((outcome.status, outcome.attempt, outcome.result::<Value>().ok()));
        accepted.insert(outcome.id);
    }
    let expected = [
        (Status::Completed, 1, Some(json!({"name": "somebody"}))),
        (Status::Failed, 1, None),
        (Status::Completed, 2, Some(json!("at last"))),
    ];
    assert_eq!(ends, expected);
    worker.stop().await?;
    let count = Count::whole(&fleet.client, &accepted, PATIENCE).await;
    assert_eq!((count.dead, count.waiting), (1, 0), "what was made good leaves no dead letter");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_held_to_and_every_fault_is_told() -> Result<()> {
    let fleet = Fleet::start().await?;
    let schema = json!({"type": "object", "required": ["who"], "properties": {"count": {"minimum": 1}}});
    let config =
        CapabilityConfig { input_schema: Some(schema), output_schema: Some(json!({"type": "string"})), ..attempts(3) };
    let handler = |_: Context, input: Value| async move { Ok::<_, Failure>(input["gives"].clone()) };
    let builder = fleet.worker("shop").capability_with("buy", config, handler).validated();
    let worker = fleet.run(builder, "buy").await?;
    for (input, code, pointers) in [
        (json!({"count": 0}), codes::INVALID_INPUT, vec!["", "/count"]),
        (json!({"who": "ada", "gives": 7}), codes::INVALID_OUTPUT, vec![""]),
    ] {
        let outcome = fleet.client.request(&capability("buy"), &input).call(PATIENCE).await?;
        let failure = outcome.failure().unwrap();
        assert_eq!((failure.code.as_str(), outcome.attempt), (code, 1));
        let details = failure.details.unwrap();
        let mut found: Vec<&str> =
            details["faults"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, pointers);
    }
    let fine = fleet.client.request(&capability("buy"), &json!({"who": "ada", "gives": "tea"})).call(PATIENCE).await?;
    assert_eq!(fine.result::<String>().unwrap(), "tea");
    worker.stop().await
}
