//! What docker-compose.yml and the servers' configurations say, against what is there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{net::TcpListener, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use broker::{Connection, Options, topology};
use protocol::{Namespace, duration, topology::Settings};
use serde_json::Value;
use sortie_tests::{PATIENCE, binaries, stock};
use tokio::process::Command;

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(binaries::workspace().join(path)).unwrap()).unwrap()
}

/// The services by name, with what they take from `x-…` written out.
fn services() -> Vec<(String, Value)> {
    let mut file = yaml("docker-compose.yml");
    let services = file["services"].as_object_mut().unwrap();
    let merged = services.iter().map(|(name, service)| {
        let mut whole = service["<<"].clone();
        match (whole.as_object_mut(), service.as_object()) {
            (Some(whole), Some(own)) => whole.extend(own.clone()),
            _ => whole = service.clone(),
        }
        (name.clone(), whole)
    });
    merged.collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().map(|items| items.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

#[test]
fn only_this_machine_reaches_the_ports_and_what_is_mounted_is_there() {
    for (name, service) in services() {
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} opens {port} to everybody");
        }
        for volume in texts(&service["volumes"]) {
            let from = volume.rsplit_once(":/").unwrap().0;
            if from.starts_with("./") {
                assert!(binaries::workspace().join(from).exists(), "{name} mounts {from}, which is not there");
            }
        }
    }
}

#[test]
fn our_containers_are_asked_how_they_are_and_have_time_to_drain() {
    let worker = worker::Config::default();
    let drain = worker.drain_grace + worker.stop_grace + Duration::from_secs(2);
    let ours = services().into_iter().filter(|(_, service)| service["image"] == "sortie");
    let mut count = 0;
    for (name, service) in ours {
        let grace = duration::parse(service["stop_grace_period"].as_str().unwrap()).unwrap();
        assert!(grace > drain, "{name} is killed after {grace:?}, and a drain may take {drain:?}");
        assert!(service["restart"].is_string() && service["healthcheck"].is_object(), "{name}");
        assert!(service["read_only"] == true && texts(&service["cap_drop"]) == ["ALL"], "{name}");
        count += 1;
    }
    assert!(count >= 4, "a topology, coordinators and agents of two kinds");
}

/// What the health check runs, after `CMD` and the program; nothing where none is made.
fn probe(service: &Value) -> Vec<&str> {
    texts(&service["healthcheck"]["test"]).into_iter().skip(2).collect()
}

#[tokio::test]
async fn the_commands_of_our_containers_are_commands() -> Result<()> {
    for (name, service) in services().into_iter().filter(|(_, service)| service["image"] == "sortie") {
        for words in [texts(&service["command"]), probe(&service)] {
            if !words.is_empty() {
                let mut command = Command::new(binaries::path("sortie"));
                command.args(words).arg("--help").stdin(Stdio::null());
                stock::said(command).await.with_context(|| name.clone())?;
            }
        }
    }
    Ok(())
}

#[test]
fn prometheus_asks_services_that_are_there_at_the_port_that_they_have() {
    let services = services();
    let file = yaml("nats-config/prometheus/prometheus.yml");
    let jobs = file["scrape_configs"].as_array().unwrap();
    let looked_up: Vec<&Value> = jobs.iter().filter_map(|job| job["dns_sd_configs"].get(0)).collect();
    assert_eq!(looked_up.len(), 2, "coordinators and agents");
    for asked in looked_up {
        for name in texts(&asked["names"]) {
            let (_, service) = services.iter().find(|(known, _)| known == name).expect(name);
            let address = service["environment"]["SORTIE_METRICS"].as_str().unwrap();
            assert!(address.ends_with(&format!(":{}", asked["port"])), "{name} serves its metrics at {address}");
        }
    }
}

fn configuration(name: &str) -> String {
    binaries::workspace().join("nats-config").join(name).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_server_takes_every_configuration() -> Result<()> {
    let server = embedded::binary::find()?;
    for name in ["dev.conf", "durable.conf", "compose.conf"] {
        let mut command = Command::new(&server);
        command.args(["-t", "-c", &configuration(name)]).stdin(Stdio::null());
        stock::said(command).await.context(name)?;
    }
    let durable = std::fs::read_to_string(configuration("durable.conf"))?;
    ensure!(durable.lines().any(|line| line.trim() == "sync_interval: always"));
    Ok(())
}

#[tokio::test]
async fn who_names_no_user_is_the_fleet_of_the_composition_and_knows_its_bound() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let text = std::fs::read_to_string(configuration("compose.conf"))?
        .replace("0.0.0.0:4222", &format!("127.0.0.1:{port}"))
        .replace("http: 0.0.0.0:8222", "")
        .replace("store_dir: /data", &format!("store_dir: {:?}", folder.path().join("data")));
    let file = folder.path().join("compose.conf");
    std::fs::write(&file, text)?;
    let mut command = Command::new(embedded::binary::find()?);
    command.arg("-c").arg(&file).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let _server = command.spawn()?;
    let options =
        Options { servers: vec![format!("127.0.0.1:{port}")], connect_within: PATIENCE, ..Options::default() };
    let connection = Connection::open(options).await?;
    topology::apply(&connection, &Namespace::default(), &Settings::default()).await?;
    let store = topology::inspect::account(&connection).await?;
    ensure!(store.stored_max == Some(20 << 30), "{store:?}");
    Ok(())
}
