//! The server: whether it is new enough, whether JetStream is on, and when what it acknowledges is on the disk.

use std::time::Duration;

use broker::{SERVER_VERSION_MIN, topology::inspect};
use protocol::duration;

use super::Found;
use crate::{
    Patient,
    finding::{CREDENTIALS, Finding},
    patient::Unknown,
};

/// The level of the JetStream API that has everything we use: cron schedules came with it.
const API_LEVEL_MIN: u64 = 4;

pub(super) async fn version(patient: &Patient) -> Found {
    let server = inspect::server(patient.connection());
    let seen = match &server.cluster {
        Some(cluster) => format!("nats-server {} ({}, cluster {cluster})", server.version, server.name),
        None => format!("nats-server {} ({})", server.version, server.name),
    };
    let numbers: Vec<i64> = server.version.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
    let (major, minor, patch) = SERVER_VERSION_MIN;
    let is_new_enough = numbers.as_slice() >= [major, minor, patch].as_slice();
    Ok(vec![match is_new_enough {
        true => Finding::ok(seen),
        false => Finding::error(format!("{seen} is older than {major}.{minor}"))
            .remedy("update it: schedules with cron, message TTL and atomic batches are missing there"),
    }])
}

pub(super) async fn jetstream(patient: &Patient) -> Found {
    if patient.is_without_jetstream().await {
        return Ok(vec![
            Finding::error("JetStream is off for this account, or the server is still starting")
                .remedy(format!(
                    "be somebody of an account that has it, {CREDENTIALS}; or give the server's configuration a \
                     `jetstream` block, and the account `jetstream: enabled`"
                ))
                .command("sortie doctor --user NAME"),
        ]);
    }
    match inspect::account(patient.connection()).await {
        Ok(account) if account.api_level < API_LEVEL_MIN => {
            let seen = format!(
                "the JetStream API of this server is level {}, and {API_LEVEL_MIN} is needed",
                account.api_level
            );
            Ok(vec![Finding::error(seen).remedy("some server of the cluster is older than 2.14: update it")])
        }
        Ok(_) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// With one copy, what was acknowledged since the last flush is lost when the machine loses power. With three, all three
/// would have to.
pub(super) async fn durability(patient: &Patient) -> Found {
    let store = patient.store().await.map_err(|unknown| Unknown {
        reason: format!("sync_interval: {}; name that with --monitor http://HOST:8222", unknown.reason),
        ..unknown
    })?;
    let Some(interval) = store.sync_interval else {
        return Err(Unknown { reason: "the server does not tell its sync_interval".into(), is_forbidden: false });
    };
    let copies = patient.settings().await.replicas;
    let seen = match interval {
        Duration::ZERO => "sync_interval: always".to_owned(),
        interval => format!("sync_interval: {}, copies: {copies}", duration::format(interval)),
    };
    Ok(vec![if interval.is_zero() || copies > 1 || interval <= Duration::from_secs(1) {
        Finding::ok(seen)
    } else {
        let finding = Finding::warning(format!("{seen}: a power cut may lose what was acknowledged within that time"));
        // A server that is alone can keep no second copy.
        match inspect::server(patient.connection()).cluster {
            Some(_) => finding
                .remedy("where that matters, keep three copies, or run the servers with nats-config/durable.conf")
                .command("sortie topology apply --replicas 3"),
            None => finding
                .remedy("where that matters, run the server with nats-config/durable.conf (sync_interval: always)"),
        }
    }])
}
