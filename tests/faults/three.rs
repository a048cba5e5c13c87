//! Three servers, everything stored three times: the one that leads is killed or gives that up, one stands still for long, all
//! are started again one after the other.

use std::time::Duration;

use anyhow::{Context, Result};
use broker::topology;
use protocol::topology::Names;
use rand::seq::IndexedRandom;
use serde_json::Value;
use sortie_tests::{Fleet, raw, until_some};

use crate::{crew, fire::Fire, report::Row, trial::Trial};

/// An election takes up to 9 s.
const ELECTED_WITHIN: Duration = Duration::from_secs(60);

/// How often it is waited as long as a cluster takes to begin.
const WAITED: usize = 4;

/// Rounds of the long form last so long.
const LONG: Duration = Duration::from_secs(60);

const LEADER: &str = "leaders killed";
const GIVEN_UP: &str = "leads of consumers given up";
const STOPPED: &str = "servers stopped";
const STARTED: &str = "servers started again";

/// Whoever leads one of the streams, again and again.
pub(crate) async fn leaders(trial: Trial) -> Result<Row> {
    let mut fire = light(trial).await?;
    loop {
        fire.pause(Duration::from_millis(500)..Duration::from_secs(2)).await;
        let member = leader_of_any(&mut fire).await?;
        fire.strike(LEADER);
        fire.fleet.cluster().server_mut(member).kill()?;
        fire.recovered(LEADER).await?;
        fire.fleet.cluster().server_mut(member).restart().await?;
        whole(&mut fire).await?;
        if !fire.burns() {
            return fire.prove().await;
        }
    }
}

/// Whoever leads the consumers of a stream gives that up, and is often chosen again. Nobody dies, so it happens many times.
pub(crate) async fn elections(trial: Trial) -> Result<Row> {
    let mut fire = light(trial).await?;
    let names = Names::of(&fire.fleet.namespace);
    loop {
        fire.pause(Duration::from_millis(200)..Duration::from_millis(600)).await;
        let stream = [&names.requests, &names.unique, &names.runs].choose(&mut fire.dice).copied();
        let stream = stream.context("there are streams")?;
        for consumer in topology::consumer_names(&fire.fleet.connection, stream).await? {
            fire.strike(GIVEN_UP);
            // One that has no leader at the moment has none that could.
            let _ = raw::api(&fire.fleet, &format!("CONSUMER.LEADER.STEPDOWN.{stream}.{consumer}"), &Value::Null).await;
        }
        if !fire.burns() {
            fire.recovered(GIVEN_UP).await?;
            return fire.prove().await;
        }
    }
}

/// One that stands still keeps its connections, and its clients believe it for a while.
pub(crate) async fn stopped(trial: Trial) -> Result<Row> {
    let stands = if trial.lasts < LONG { Duration::from_secs(15) } else { Duration::from_secs(180) };
    let mut fire = light(trial).await?;
    loop {
        fire.pause(Duration::from_millis(500)..Duration::from_secs(2)).await;
        let member = leader_of_any(&mut fire).await?;
        fire.strike(STOPPED);
        fire.fleet.cluster().server_mut(member).pause()?;
        fire.recovered(STOPPED).await?;
        fire.pause(stands..stands + Duration::from_secs(1)).await;
        fire.fleet.cluster().server_mut(member).resume()?;
        whole(&mut fire).await?;
        if !fire.burns() {
            return fire.prove().await;
        }
    }
}

/// Each in turn, in good order, as for a new version.
pub(crate) async fn rolling(trial: Trial) -> Result<Row> {
    let mut fire = light(trial).await?;
    loop {
        for member in 0..fire.fleet.cluster().servers().len() {
            fire.strike(STARTED);
            fire.fleet.cluster().server_mut(member).stop().await?;
            fire.recovered(STARTED).await?;
            fire.fleet.cluster().server_mut(member).restart().await?;
            whole(&mut fire).await?;
        }
        if !fire.burns() {
            return fire.prove().await;
        }
    }
}

async fn light(trial: Trial) -> Result<Fire> {
    let fleet = Fleet::start_cluster().await?;
    let posts = crew::usual(&fleet.url());
    trial.light(fleet, posts).await
}

/// Waits until all have caught up. Connections that were broken without a word are found out late, and what was sent over
/// them is sent again ever more seldom.
pub(crate) async fn whole(fire: &mut Fire) -> Result<()> {
    for _ in 1..WAITED {
        if fire.fleet.cluster().ready().await.is_ok() {
            return Ok(());
        }
    }
    Ok(fire.fleet.cluster().ready().await?)
}

/// The member that leads one of the streams.
pub(crate) async fn leader_of_any(fire: &mut Fire) -> Result<usize> {
    let names = Names::of(&fire.fleet.namespace);
    let streams = [&names.requests, &names.unique, &names.outcomes, &names.runs];
    let stream = streams.choose(&mut fire.dice).context("there are streams")?;
    let leader = until_some(ELECTED_WITHIN, || async {
        topology::stream_state(&fire.fleet.connection, stream).await.ok()?.leader
    });
    let name = leader.await.with_context(|| format!("{stream} has no leader within {ELECTED_WITHIN:?}"))?;
    fire.fleet.cluster().index_by_name(&name).with_context(|| format!("{name} is no member"))
}
