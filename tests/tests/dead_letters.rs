//! Dead letters from a shell, with real agents: looked at, mended, sent again one by one and together, carried away and
//! back; and by a rule.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use coordinator::Coordinator;
use futures_util::{StreamExt, stream};
use prometheus::Registry;
use protocol::{RequestId, Status};
use serde_json::{Value, json};
use sortie_tests::{
    Count, Fleet, Journal, PATIENCE, RunningWorker, binaries, fleet::capability, program, stock, until,
};
use worker::{Context, Failure};

/// What a command wrote, and how it ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

async fn sortie(fleet: &Fleet, arguments: &[&str]) -> Result<Ended> {
    sortie_with(fleet, arguments, &[]).await
}

async fn sortie_with(fleet: &Fleet, arguments: &[&str], env: &[(&str, &str)]) -> Result<Ended> {
    let mut command = program::command(fleet, &binaries::path("sortie"));
    command.args(arguments).envs(env.iter().copied());
    let output = stock::run(command).await?;
    Ok(Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// Fails while it is broken, and counts.
struct Shop {
    is_broken: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    worker: RunningWorker,
}

impl Shop {
    async fn open(fleet: &Fleet) -> Result<Self> {
        let (is_broken, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (broken, counted) = (Arc::clone(&is_broken), Arc::clone(&asked));
        let handler = move |_: Context, order: Value| {
            counted.fetch_add(1, Ordering::SeqCst);
            let is_broken = broken.load(Ordering::SeqCst) || order["bad"] == true;
            async move {
                match is_broken {
                    true => Err(Failure::new("shop_closed", "nobody opens").give_up()),
                    false => Ok(order["number"].clone()),
                }
            }
        };
        let worker = fleet.run(fleet.worker("shop").slots(16).capability("buy", handler), "buy").await?;
        Ok(Self { is_broken, asked, worker })
    }

    fn mend(&self) {
        self.is_broken.store(false, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Asks, and waits until all of it is dead.
async fn die(fleet: &Fleet, count: usize) -> Result<Vec<RequestId>> {
    let ask = |number: usize| async move {
        let id = RequestId::parse(&format!("order-{number}")).unwrap();
        let order = json!({ "number": number, "bad": number.is_multiple_of(4) });
        fleet.client.request(&capability("buy"), &order).id(id).call(PATIENCE).await
    };
    let ended: Vec<_> = stream::iter(0..count).map(ask).buffered(32).collect().await;
    let mut ids = Vec::new();
    for outcome in ended {
        let outcome = outcome?;
        assert_eq!(outcome.status, Status::Failed);
        ids.push(outcome.id);
    }
    until("all letters", PATIENCE, || async {
        (fleet.client.dead_letters(None, count + 1).await.ok()?.len() == count).then_some(())
    })
    .await;
    Ok(ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_are_sent_again_at_a_rate_and_no_further_where_they_fail() -> Result<()> {
    let fleet = Fleet::start().await?;
    let shop = Shop::open(&fleet).await?;
    die(&fleet, 200).await?;

    let groups = sortie(&fleet, &["dead", "list", "--group-by", "code", "--json"]).await?.json();
    assert_eq!(
        (&groups[0]["key"], &groups[0]["count"], groups.as_array().unwrap().len()),
        (&json!("shop_closed"), &json!(200), 1)
    );
    let all = ["dead", "replay", "--all", "--filter", "code=shop_*", "--json"];
    let dry = sortie(&fleet, &[&all[..], &["--dry-run"]].concat()).await?;
    assert_eq!((dry.json()["count"].as_u64(), dry.code, shop.asked()), (Some(200), 0, 200), "{}", dry.err);

    // The shop is still closed: it is found out with ten.
    let stopped = sortie(&fleet, &[&all[..], &["--rate", "500/s", "--stop-if-failing", "20%"]].concat()).await?;
    let told = stopped.json();
    assert_eq!((stopped.code, &told["stopped"], &told["outcomes"]["failed"]), (1, &json!(true), &json!(10)), "{told}");
    assert_eq!(shop.asked(), 210);

    // Open again, but every fourth order is bad: under 90 % it goes on, where it was.
    shop.mend();
    let begun = Instant::now();
    let arguments = ["--rate", "100/s", "--stop-if-failing", "90%", "--capability", "buy"];
    let ended = sortie(&fleet, &[&all[..], &arguments].concat()).await?;
    let told = ended.json();
    // The ten replays that failed have letters of their own by now.
    assert_eq!((ended.code, &told["count"], &told["stopped"]), (0, &json!(200), &json!(false)), "{told} {}", ended.err);
    let failed = told["outcomes"]["failed"].as_u64().unwrap();
    assert_eq!(told["outcomes"]["completed"].as_u64().unwrap() + failed, 200, "{told}");
    assert_eq!(failed, 50);
    assert!(begun.elapsed() >= Duration::from_millis(1_990), "200 at 100/s: {:?}", begun.elapsed());
    until("those that failed once more", PATIENCE, || async {
        let left = sortie(&fleet, &["dead", "list", "--replayed", "no", "--json", "--limit", "1000"]).await.ok()?;
        (left.json().as_array()?.len() == 50).then_some(())
    })
    .await;
    let human = sortie(&fleet, &["dead", "replay", "--all", "--stop-if-failing", "20%"]).await?;
    assert!(human.code == 1 && human.out.contains("stopped: 10 of 10 that ended failed again"), "{}", human.out);
    shop.worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_story_is_shown_and_a_body_is_mended() -> Result<()> {
    let fleet = Fleet::start().await?;
    let shop = Shop::open(&fleet).await?;
    let dead = die(&fleet, 1).await?.remove(0);
    shop.mend();
    let again = sortie(&fleet, &["dead", "replay", dead.as_str()]).await?;
    assert!(again.code == 0 && again.out.contains("is sent again as rep_"), "{}{}", again.out, again.err);
    let again = sortie(&fleet, &["dead", "replay", dead.as_str()]).await?;
    assert!(again.code == 0 && again.out.contains("was sent again before"), "{}", again.out);
    let editor = "sed -i s/true/false/";
    let refused = sortie_with(&fleet, &["dead", "edit", dead.as_str()], &[("EDITOR", editor)]).await?;
    assert!(refused.code == 1 && refused.out.contains("--again"), "{}{}", refused.out, refused.err);
    let same = sortie_with(&fleet, &["dead", "edit", dead.as_str(), "--again"], &[("EDITOR", "true")]).await?;
    assert!(same.code == 0 && same.out.contains("nothing was changed"), "{}{}", same.out, same.err);
    let broken = sortie_with(&fleet, &["dead", "edit", dead.as_str()], &[("EDITOR", "sed -i 1d")]).await?;
    assert!(broken.code == 2 && broken.err.contains("--body @/"), "{}", broken.err);
    let mended =
        sortie_with(&fleet, &["dead", "edit", dead.as_str(), "--again", "--json"], &[("EDITOR", editor)]).await?;
    let mended: RequestId = serde_json::from_value(mended.json()["request"].clone())?;
    assert_eq!(fleet.client.wait(&mended, PATIENCE).await?.status, Status::Completed);
    let by_hand =
        sortie(&fleet, &["dead", "edit", dead.as_str(), "--again", "--body", r#"{"number":7}"#, "--json"]).await?;
    let by_hand: RequestId = serde_json::from_value(by_hand.json()["request"].clone())?;
    assert_eq!(fleet.client.wait(&by_hand, PATIENCE).await?.result::<u32>().unwrap(), 7);

    let first = fleet.client.dead_story(&dead).await?.unwrap().followed[0].replay.request.clone();
    fleet.client.wait(&first, PATIENCE).await?;
    let show = sortie(&fleet, &["dead", "show", dead.as_str()]).await?.out;
    assert!(!show.to_lowercase().contains("nats-"), "the broker's own headers are no part of the story: {show}");
    for words in [
        "code        shop_closed",
        "attempt     1 until",
        "by          ins_",
        "version",
        &format!("as {first} by"),
        ": failed: shop_closed",
        &format!("as {mended} by"),
        "with another body: completed",
        r#""bad":true"#,
    ] {
        assert!(show.contains(words), "{words} in {show}");
    }
    let audit = fleet.client.connection();
    let counts = broker::topology::subject_counts(audit, "FLEET_AUDIT", "fleet.audit.*.*").await?;
    let verbs: BTreeSet<&str> = counts.keys().filter_map(|subject| subject.rsplit('.').next()).collect();
    assert_eq!(verbs, BTreeSet::from(["dead-edit", "dead-replay"]));
    shop.worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_carried_away_and_back_with_their_bodies() -> Result<()> {
    let fleet = Fleet::start().await?;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |_: Context, text: String| {
        let is_first = noted.note(text.len().to_string()) == 1;
        async move { if is_first { Err(Failure::new("cold", "no").give_up()) } else { Ok(text.len()) } }
    };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    let large = "x".repeat(600_000);
    let outcome = fleet.client.request(&capability("tea"), large.as_str()).call(PATIENCE).await?;
    let letter = || async { fleet.client.dead_letter(&outcome.id).await.ok().flatten() };
    until("its dead letter", PATIENCE, letter).await;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("dead.jsonl");
    let exported = sortie(&fleet, &["dead", "export", "--filter", "code=cold"]).await?;
    assert!(exported.code == 0 && exported.out.len() > 600_000, "{}", exported.err);
    std::fs::write(&file, &exported.out)?;
    let path = file.to_str().unwrap();
    let import = ["dead", "import", path, "--json"];
    assert_eq!(sortie(&fleet, &import).await?.json(), json!({ "imported": 0, "present": 1 }));
    let dropped = sortie(&fleet, &["dead", "drop", "--code", "cold", "--json"]).await?;
    assert_eq!(dropped.json()["dropped"], json!([outcome.id]));
    assert!(sortie(&fleet, &["dead", "list"]).await?.out.contains("nothing was given up"));
    assert_eq!(sortie(&fleet, &import).await?.json(), json!({ "imported": 1, "present": 0 }));
    assert_eq!(sortie(&fleet, &import).await?.json(), json!({ "imported": 0, "present": 1 }));
    let replayed = sortie(&fleet, &["dead", "replay", "--code", "cold", "--json"]).await?.json();
    assert_eq!(replayed["outcomes"], json!({ "completed": 1 }), "{replayed}");
    assert_eq!(journal.lines(), ["600000", "600000"]);
    std::fs::write(&file, format!("{}no letter\n", exported.out))?;
    let broken = sortie(&fleet, &["dead", "import", path]).await?;
    assert!(broken.code == 2 && broken.err.contains("line 2"), "{}", broken.err);
    let nothing = sortie(&fleet, &["dead", "drop"]).await?;
    assert!(nothing.code == 2 && nothing.err.contains("--all"), "{}", nothing.err);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_sends_again_until_its_limit() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = coordinator::Config { redrive_every: Duration::from_millis(200), ..coordinator::Config::default() };
    let coordinator = Coordinator::start(&fleet.connection, config, &Registry::new()).await?;
    let shop = Shop::open(&fleet).await?;
    let add = [
        "dead",
        "rule",
        "add",
        "closed",
        "--code",
        "shop_*",
        "--limit",
        "2",
        "--delay",
        "fixed; first=300ms; jitter=none",
    ];
    let added = sortie(&fleet, &add).await?;
    assert_eq!(added.code, 0, "{}", added.err);
    assert_eq!(sortie(&fleet, &add).await?.code, 2, "it is there already");
    let receipt = fleet.client.request(&capability("buy"), &json!({ "number": 1, "bad": true })).submit().await?;
    until("three letters", PATIENCE, || async {
        (fleet.client.dead_letters(None, 9).await.ok()?.len() == 3).then_some(())
    })
    .await;
    shop.mend();
    let second = fleet.client.request(&capability("buy"), &json!({ "number": 2, "bad": true })).submit().await?;
    until("six letters", PATIENCE, || async {
        (fleet.client.dead_letters(None, 9).await.ok()?.len() == 6).then_some(())
    })
    .await;
    // By now the first one would have come a third time.
    assert_eq!(shop.asked(), 6);
    let show = sortie(&fleet, &["dead", "show", receipt.id().as_str()]).await?.out;
    assert_eq!(show.matches("by rule closed").count(), 2, "{show}");
    let rules = sortie(&fleet, &["dead", "rule", "list"]).await?.out;
    assert!(rules.contains("closed") && rules.contains("shop_*"), "{rules}");
    assert_eq!(sortie(&fleet, &["dead", "rule", "remove", "closed"]).await?.code, 0);
    assert_eq!(sortie(&fleet, &["dead", "rule", "remove", "closed"]).await?.code, 1);
    let third = fleet.client.request(&capability("buy"), &json!({ "number": 3, "bad": true })).call(PATIENCE).await?;
    let accepted = BTreeSet::from([receipt.id().clone(), second.id().clone(), third.id.clone()]);
    Count::whole(&fleet.client, &accepted, PATIENCE).await;
    assert_eq!(shop.asked(), 7, "without a rule it stays for a person");
    coordinator.handle().stop();
    coordinator.stopped().await;
    shop.worker.stop().await
}
