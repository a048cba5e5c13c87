//! Faults of the broker and its streams.

use anyhow::Result;
use embedded::Config;
use serde_json::{Value, json};
use sortie_tests::{Fleet, fleet::capability, raw};

use crate::bystander::{PATIENCE, doctor, found, gone, remedy, repair, seen, sortie, start, told};

async fn edit(fleet: &Fleet, stream: &str, field: &str, value: Value) -> Result<()> {
    let mut config = raw::api(fleet, &format!("STREAM.INFO.{stream}"), &Value::Null).await?["config"].take();
    config[field] = value;
    raw::api(fleet, &format!("STREAM.UPDATE.{stream}"), &config).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_well_has_nothing_wrong_but_a_missing_coordinator() -> Result<()> {
    let fleet = Fleet::start().await?;
    let echo = |_: worker::Context, input: Value| async move { Ok::<_, worker::Failure>(input) };
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    fleet.client.request(&capability("echo"), &1).call(PATIENCE).await?;
    let told = doctor(&fleet).await;
    // Nobody but the system account is told the sync_interval.
    let expected = [("durability", "unknown"), ("coordinator", "error")];
    assert_eq!(told.unwell(), expected.map(|(check, severity)| (check.to_owned(), severity.to_owned())));
    assert_eq!(told.code, 1);

    let finding = found(&fleet, "coordinator").await;
    assert!(seen(&finding).contains("no coordinator runs"), "{finding}");
    let mut coordinator = start(&fleet, &remedy(&finding));
    gone(&fleet, "coordinator").await;
    assert_eq!(doctor(&fleet).await.code, 0);
    let text = sortie(&fleet, &["doctor", "--all"]).await;
    let text = String::from_utf8(text.stdout)?;
    assert!(text.contains("ok server: nats-server 2.") && text.ends_with("as they should be\n"), "{text}");
    coordinator.kill().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_deletes_what_was_acknowledged_is_an_error_and_other_drift_a_warning() -> Result<()> {
    let fleet = Fleet::start().await?;
    edit(&fleet, "FLEET_REQUESTS", "max_age", json!(3_600_000_000_000_u64)).await?;
    let finding = found(&fleet, "limits").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!("FLEET_REQUESTS")));
    assert!(seen(&finding).contains("max_age is 1h, not none"), "{finding}");
    repair(&fleet, &finding).await?;
    gone(&fleet, "limits").await;

    edit(&fleet, "FLEET_RUNS", "duplicate_window", json!(10_000_000_000_u64)).await?;
    let finding = found(&fleet, "drift").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("warning"), &json!("FLEET_RUNS")));
    assert!(seen(&finding).contains("duplicate_window is 10s, not 2m"), "{finding}");
    assert!(seen(&found(&fleet, "duplicate-window").await).contains("queued twice"));
    repair(&fleet, &finding).await?;
    gone(&fleet, "drift").await;
    gone(&fleet, "duplicate-window").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_differs_is_mended_while_it_works() -> Result<()> {
    let fleet = Fleet::start().await?;
    let echo = |_: worker::Context, input: Value| async move { Ok::<_, worker::Failure>(input) };
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let set = async |field: &str, value: Value| {
        let mut config = raw::api(&fleet, "CONSUMER.INFO.FLEET_REQUESTS.echo", &Value::Null).await?["config"].take();
        config[field] = value;
        let question = json!({ "stream_name": "FLEET_REQUESTS", "action": "update", "config": config });
        raw::api(&fleet, "CONSUMER.CREATE.FLEET_REQUESTS.echo.fleet.request.echo", &question).await
    };
    for (field, value, told) in [
        ("max_deliver", json!(2), "max_deliver is 2, not 100"),
        ("ack_wait", json!(1_000_000_000), "ack_wait is 1s, not 10s"),
    ] {
        set(field, value).await?;
        let finding = found(&fleet, "consumers").await;
        assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!("FLEET_REQUESTS/echo")));
        assert!(seen(&finding).contains(told), "{finding}");
        repair(&fleet, &finding).await?;
        gone(&fleet, "consumers").await;
        gone(&fleet, "ack-deadline").await;
    }
    // Another number of waiting pulls is changed in no consumer: it is made anew, and the worker goes on with it.
    raw::api(&fleet, "CONSUMER.DELETE.FLEET_REQUESTS.echo", &Value::Null).await?;
    let other = json!({ "stream_name": "FLEET_REQUESTS", "config": {
        "durable_name": "echo", "ack_policy": "explicit", "filter_subject": "fleet.request.echo",
        "ack_wait": 10_000_000_000_u64, "max_deliver": 100, "max_waiting": 512 } });
    // The worker makes it again as it should be; whoever is second is refused, so this is tried until it is the first.
    let made = async || {
        let made = raw::api(&fleet, "CONSUMER.CREATE.FLEET_REQUESTS.echo.fleet.request.echo", &other).await;
        if made.is_err() {
            raw::api(&fleet, "CONSUMER.DELETE.FLEET_REQUESTS.echo", &Value::Null).await.ok();
        }
        made.ok()
    };
    sortie_tests::until("the other consumer is made", PATIENCE, made).await;
    let finding = found(&fleet, "consumers").await;
    assert!(seen(&finding).contains("max_waiting is 512, not 4096"), "{finding}");
    assert!(remedy(&finding).contains(&"--recreate"), "{finding}");
    repair(&fleet, &finding).await?;
    gone(&fleet, "consumers").await;
    let outcome = fleet.client.request(&capability("echo"), &1).call(PATIENCE).await?;
    assert_eq!(outcome.status, protocol::Status::Completed);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_deletes_outcomes_and_dead_letters_early_is_found() -> Result<()> {
    let fleet = Fleet::start().await?;
    for (stream, field, value, told) in [
        ("FLEET_OUTCOMES", "max_msgs", 1_000, "max_messages is 1000, not none"),
        ("FLEET_DEAD", "max_bytes", 1_000_000, "max_bytes is 1000000, not none"),
    ] {
        edit(&fleet, stream, field, json!(value)).await?;
        let finding = found(&fleet, "limits").await;
        assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!(stream)));
        assert!(seen(&finding).contains(told), "{finding}");
        repair(&fleet, &finding).await?;
        gone(&fleet, "limits").await;
    }
    // The broker shortens the window with the age, and takes neither back without the other.
    edit(&fleet, "FLEET_OUTCOMES", "duplicate_window", json!(30_000_000_000_u64)).await?;
    edit(&fleet, "FLEET_OUTCOMES", "max_age", json!(30_000_000_000_u64)).await?;
    let finding = found(&fleet, "retention").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("warning"), &json!("FLEET_OUTCOMES")));
    assert!(seen(&finding).contains("keeps for 30s") && seen(&finding).contains("runs again"), "{finding}");
    assert_eq!(remedy(&finding), ["topology", "apply", "--outcomes-kept", "1d"]);
    repair(&fleet, &finding).await?;
    gone(&fleet, "retention").await;
    gone(&fleet, "drift").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_missing_are_told_at_once_and_what_needs_them_is_unknown() -> Result<()> {
    let fleet = Fleet::start().await?;
    raw::api(&fleet, "STREAM.DELETE.FLEET_DEAD", &Value::Null).await?;
    raw::api(&fleet, "STREAM.DELETE.KV_fleet-agents", &Value::Null).await?;
    let told = doctor(&fleet).await;
    let [finding] = told.of("streams").try_into().expect("one finding");
    assert!(seen(&finding).contains("2 streams not there: FLEET_DEAD, KV_fleet-agents"), "{finding}");
    for check in ["dead-letters", "health", "answering", "consuming", "unserved"] {
        assert_eq!(told.of(check)[0]["severity"], "unknown", "{check}");
    }
    assert_eq!(told.of("overdue"), [] as [Value; 0], "the others go on");
    repair(&fleet, &finding).await?;
    gone(&fleet, "streams").await;
    gone(&fleet, "health").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_missing_permissions_are_findings() -> Result<()> {
    let users = r#"
        authorization { users: [
          { user: fleet, password: right }
          { user: asker, password: right, permissions: { publish: ["fleet.request.*", "$JS.API.STREAM.INFO.*", "$SYS.REQ.USER.INFO"] } }
          { user: blind, password: right, permissions: { publish: ["fleet.event.>"] } }
          { user: deaf, password: right, permissions: { publish: ">", subscribe: ["fleet.>"] } }
        ] }
        no_auth_user: fleet"#;
    let fleet = Fleet::start_with(Config { extra: users.to_owned(), ..Config::default() }).await?;
    let run = async |user: &str, password: &str, arguments: &[&str]| {
        let mut command = tokio::process::Command::new(sortie_tests::binaries::path("sortie"));
        command.args(["--server", &fleet.url(), "--user", user]).args(arguments).env("SORTIE_PASSWORD", password);
        tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs")
    };
    let as_user = async |user: &str, password: &str| told(&run(user, password, &["doctor", "--json"]).await);
    let refused = as_user("fleet", "wrong").await;
    let [finding] = refused.of("connection").try_into().expect("one finding");
    assert_eq!((refused.code, &finding["severity"]), (1, &json!("error")));
    for way in ["--user NAME and SORTIE_PASSWORD", "--creds", "SORTIE_CREDS", "--nkey", "SORTIE_TOKEN", "--context"] {
        assert!(finding["remedy"].as_str().unwrap().contains(way), "{way}: {finding}");
    }
    assert!(seen(&finding).contains("does not let user fleet with this password in"), "{finding}");

    let limited = as_user("asker", "right").await;
    let [finding] = limited.of("permissions").try_into().expect("one finding");
    for words in ["we are asker", "read what is stored", "pause and limit queues", "cancel requests"] {
        assert!(seen(&finding).contains(words), "{words}: {finding}");
    }
    assert!(!seen(&finding).contains("look at streams"), "{finding}");
    assert_eq!((limited.code, &finding["severity"]), (1, &json!("error")), "{finding}");
    // What it may not look at is unknown, and the rest goes on.
    let [unknown] = limited.of("given-up").try_into().expect("one finding");
    assert_eq!(unknown["severity"], "unknown");
    assert_eq!(unknown["about"], "this user may not publish on $JS.API.CONSUMER.LIST.FLEET_REQUESTS");
    assert_eq!(limited.of("streams"), [] as [Value; 0]);

    // Who may not even ask what it may, or hears no answer, is told so once, and at once.
    for (user, words) in [("blind", "may not look at streams, look at consumers, read"), ("deaf", "may not look at")] {
        let output = run(user, "right", &["doctor"]).await;
        let (text, errors) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        assert_eq!((output.status.code(), errors.as_str()), (Some(1), ""), "no log lines beside it: {errors}");
        assert!(text.contains("ERROR permissions: this user ") && text.contains(words), "{user}: {text}");
        let unknown = text.lines().filter(|line| line.starts_with("unknown ")).count();
        assert!(unknown <= 2, "{user}: {text}");
        assert!(text.contains("streams, drift, limits, retention,"), "what is not seen is not well: {text}");
    }
    let submitted = run("blind", "right", &["submit", "echo", "1"]).await;
    let errors = String::from_utf8(submitted.stderr)?;
    assert_eq!(submitted.status.code(), Some(77), "{errors}");
    let refused = "sortie: this user may not publish on fleet.request.echo\n";
    assert!(errors.starts_with(refused) && errors.contains("SORTIE_PASSWORD"), "{errors}");
    let submitted = run("asker", "right", &["submit", "echo", "1"]).await;
    assert_eq!((submitted.status.code(), submitted.stderr.as_slice()), (Some(0), &b""[..]), "{submitted:?}");

    let unknown = run("fleet", "wrong", &["why", "seq-1"]).await;
    let errors = String::from_utf8(unknown.stderr)?;
    assert_eq!(unknown.status.code(), Some(77), "{errors}");
    assert!(errors.starts_with("sortie: ") && errors.contains("--user NAME and SORTIE_PASSWORD"), "{errors}");

    let allowed = as_user("fleet", "right").await;
    assert_eq!((allowed.of("connection"), allowed.of("permissions")), (Vec::new(), Vec::new()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_a_finding() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    fleet.server().kill()?;
    let told = doctor(&fleet).await;
    assert_eq!(told.unwell(), [("connection".to_owned(), "error".to_owned())]);
    assert_eq!(remedy(&told.of("connection")[0]), ["up"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_jetstream_is_one_error() -> Result<()> {
    let accounts = r#"
        accounts {
          MAIN: { jetstream: enabled, users: [{ user: fleet, password: right }] }
          PLAIN: { users: [{ user: plain, password: right }] }
        }
        no_auth_user: fleet"#;
    let fleet = Fleet::start_with(Config { extra: accounts.to_owned(), ..Config::default() }).await?;
    let mut command = tokio::process::Command::new(sortie_tests::binaries::path("sortie"));
    command.args(["--server", &fleet.url(), "--user", "plain", "doctor", "--json"]).env("SORTIE_PASSWORD", "right");
    let told = told(&tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends")?);
    let errors: Vec<_> = told.unwell().into_iter().filter(|(_, severity)| severity == "error").collect();
    assert_eq!(errors, [("jetstream".to_owned(), "error".to_owned())]);
    let [finding] = told.of("jetstream").try_into().expect("one finding");
    assert!(seen(&finding).contains("JetStream is off for this account"), "{finding}");
    let advice = finding["remedy"].as_str().unwrap();
    assert!(advice.contains("--creds") && advice.contains("`jetstream` block"), "{finding}");
    assert!(told.of("streams").iter().all(|finding| seen(finding).contains("see jetstream")), "the others follow");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lets_nobody_look_up_what_it_holds() -> Result<()> {
    let fleet = Fleet::start().await?;
    edit(&fleet, "FLEET_REQUESTS", "allow_direct", json!(false)).await?;
    let finding = found(&fleet, "drift").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!("FLEET_REQUESTS")));
    assert!(seen(&finding).contains("allow_direct is false, not true"), "{finding}");
    assert!(seen(&finding).contains("can be looked up"), "{finding}");
    let queues = sortie(&fleet, &["queues"]).await;
    let errors = String::from_utf8(queues.stderr)?;
    assert!(errors.contains("allow_direct is off") && errors.contains("`sortie topology apply`"), "{errors}");
    repair(&fleet, &finding).await?;
    gone(&fleet, "drift").await;
    assert!(sortie(&fleet, &["queues"]).await.status.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_kept_for_moments_are_told_with_what_sets_them_back() -> Result<()> {
    let fleet = Fleet::start().await?;
    let shortened = sortie(&fleet, &["topology", "apply", "--events-kept", "10s"]).await;
    assert!(shortened.status.success(), "{shortened:?}");
    let finding = found(&fleet, "retention").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("warning"), &json!("FLEET_EVENTS")));
    assert!(seen(&finding).contains("keeps for 10s"), "{finding}");
    assert_eq!(remedy(&finding), ["topology", "apply", "--events-kept", "7d"]);
    repair(&fleet, &finding).await?;
    gone(&fleet, "retention").await;
    Ok(())
}
