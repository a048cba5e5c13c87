//! The alerts and the dashboard, asked of a real Prometheus that watches a real fleet.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sortie_tests::{Fleet, binaries, fleet::capability, program, stock, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn configuration(path: &str) -> PathBuf {
    binaries::workspace().join("nats-config").join(path)
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A port that is free now.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn promtool(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    stock::said(command).await
}

/// The alerts by name, with what they ask.
fn alerts() -> Vec<(String, String)> {
    let file = yaml(&configuration("prometheus/alerts.yaml"));
    let rules = file["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone());
    let text = |rule: &Value, key: &str| rule[key].as_str().unwrap().to_owned();
    rules.map(|rule| (text(&rule, "alert"), text(&rule, "expr"))).collect()
}

/// The panels by title, with what they ask, as Grafana would fill it in.
fn panels() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(configuration("grafana/fleet.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let asked = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m").replace("$capability", ".*");
            found.push((panel["title"].as_str().unwrap().to_owned(), asked));
        }
    }
    found
}

/// The metrics that an expression names.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let is_metric = |word: &&str| word.starts_with("sortie_") || word.starts_with("process_") || *word == "up";
    words.filter(is_metric).map(str::to_owned).collect()
}

/// A Prometheus of this machine, with the configuration of the repository but for where the fleet is.
struct Prometheus {
    address: String,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(coordinator: u16, agents: &[u16]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let own = port();
        let mut file = yaml(&configuration("prometheus/prometheus.yml"));
        file["global"] = json!({ "scrape_interval": "1s", "evaluation_interval": "1s" });
        file["rule_files"] = json!([configuration("prometheus/alerts.yaml")]);
        for job in file["scrape_configs"].as_array_mut().unwrap() {
            let ports = match job["job_name"].as_str().unwrap() {
                "coordinator" => vec![coordinator],
                "agent" => agents.to_vec(),
                _ => vec![own],
            };
            let targets: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            job["static_configs"] = json!([{ "targets": targets }]);
            job.as_object_mut().unwrap().remove("dns_sd_configs");
        }
        // JSON is YAML.
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, file.to_string())?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .args([&format!("--web.listen-address=127.0.0.1:{own}"), "--log.level=warn"])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let child = command.spawn().context("prometheus")?;
        Ok(Self { address: format!("127.0.0.1:{own}"), _child: child, _folder: folder })
    }

    /// What its API says, by a plain socket: `promtool query` takes a while to start, and there is much to ask.
    async fn get(&self, path: &str) -> Result<Value> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
        let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        let said: Value = serde_json::from_str(body).with_context(|| answer.clone())?;
        ensure!(said["status"] == "success", "{said}");
        Ok(said["data"].clone())
    }

    /// What an expression comes to: series with their values.
    async fn ask(&self, expression: &str) -> Result<Vec<Value>> {
        let asked: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let data = self.get(&format!("/api/v1/query?query={asked}")).await;
        let data = data.with_context(|| format!("query: {expression}"))?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until an expression comes to something.
    async fn until(&self, expression: &str) {
        until(expression, PATIENCE, || async {
            let found = self.ask(expression).await.ok()?;
            (!found.is_empty()).then_some(())
        })
        .await;
    }
}

/// A process of the fleet that serves its metrics at a port.
fn process(fleet: &Fleet, port: u16, arguments: &[&str]) -> Command {
    let mut command = program::command(fleet, &binaries::path("sortie"));
    command.arg("process").args(arguments).args(["--metrics", &port.to_string()]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_alerts_and_the_dashboard_names_metrics_that_exist() -> Result<()> {
    if !stock::has_prometheus().await {
        return Ok(());
    }
    let fleet = Fleet::start_with(embedded::Config { extra: ACCOUNT.to_owned(), ..Default::default() }).await?;
    let [coordinator, files, words] = [port(), port(), port()];
    let _coordinator = process(&fleet, coordinator, &["coordinator"]).spawn()?;
    let root = binaries::workspace().join("schemas");
    let files_agent = process(&fleet, files, &["agent-files", "--root", root.to_str().unwrap()]);
    let _files = program::serving(&fleet, files_agent, "examine-file").await?;
    let definition = configuration("words.yaml");
    let words_agent = process(&fleet, words, &["agent-exec", definition.to_str().unwrap()]);
    let _words = program::serving(&fleet, words_agent, "count-words").await?;
    let prometheus = Prometheus::start(coordinator, &[files, words])?;

    // Something is done, something is given up, and something waits.
    let counted = fleet.client.request(&capability("count-words"), &"a b c").submit().await?;
    counted.outcome(PATIENCE).await?;
    let missing =
        fleet.client.request(&capability("examine-file"), &json!({ "path": "no-such-file" })).submit().await?;
    missing.outcome(PATIENCE).await?;
    fleet.client.request(&capability("nobody-does"), &1).submit().await?;
    prometheus.until("count(up == 1) == 4").await;
    prometheus.until("sortie_coordinator_queue_pending{capability='nobody-does',lane='normal'} == 1").await;
    prometheus.until("sortie_worker_attempts_total{capability='examine-file',end='given_up'} == 1").await;
    prometheus.until("sortie_coordinator_dead_letters_kept == 1").await;
    prometheus.until("sortie_coordinator_agents{state='ready'} == 2").await;
    prometheus.until("rate(sortie_worker_attempts_total{capability='count-words',end='completed'}[1m])").await;

    let there = prometheus.get("/api/v1/label/__name__/values").await?;
    let there: BTreeSet<&str> = there.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for (name, asked) in alerts().iter().chain(&panels()) {
        let named = metrics(asked);
        ensure!(!named.is_empty(), "{name} names no metric of ours: {asked}");
        for metric in named {
            ensure!(there.contains(metric.as_str()), "{name} names {metric}, which nothing exports: {asked}");
        }
        prometheus.ask(asked).await.with_context(|| name.clone())?;
    }
    // A panel that shows nothing of a fleet where everything has happened shows nothing at all.
    for (_, asked) in panels() {
        prometheus.until(&asked).await;
    }
    let rules = prometheus.get("/api/v1/rules").await?;
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        ensure!(rule["health"] == "ok", "{rule}");
    }
    prometheus.until("ALERTS{alertname='SortieCapabilityUnserved'}").await;
    Ok(())
}

/// The account of nats-config/compose.conf: with a bound, so that the store has a share.
const ACCOUNT: &str = r#"
accounts { FLEET { jetstream: { max_file: 4GB, max_mem: 64MB }, users: [ { user: fleet, password: "fleet" } ] } }
no_auth_user: fleet
"#;

#[tokio::test]
async fn the_files_are_what_prometheus_takes() -> Result<()> {
    if !stock::has_prometheus().await {
        return Ok(());
    }
    let file = |path: &str| configuration(path).to_str().unwrap().to_owned();
    promtool(&["check", "rules", &file("prometheus/alerts.yaml")]).await?;
    promtool(&["check", "config", &file("prometheus/prometheus.yml")]).await?;
    Ok(())
}

#[tokio::test]
async fn each_alert_rings_for_what_it_is_about() -> Result<()> {
    let path = binaries::workspace().join("tests/prometheus/alerts_test.yaml");
    let file = yaml(&path);
    let tests = file["tests"].as_array().unwrap().iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap());
    let rung = tests.filter(|test| !test["exp_alerts"].as_array().unwrap().is_empty());
    let rung: BTreeSet<&str> = rung.map(|test| test["alertname"].as_str().unwrap()).collect();
    for (name, _) in alerts() {
        ensure!(rung.contains(name.as_str()), "no case of {} makes {name} ring", path.display());
    }
    if !stock::has_prometheus().await {
        return Ok(());
    }
    promtool(&["test", "rules", path.to_str().unwrap()]).await?;
    Ok(())
}
