//! `sortie check agent`: agents that are ready and well.

use std::collections::BTreeMap;

use client::Client;
use protocol::registry::{AgentEntry, Health, State};

use super::{
    Common,
    verdict::{Bounds, Reading, Verdict},
};

#[derive(Debug, clap::Args)]
pub(super) struct AgentArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// A warning with fewer than this
    #[arg(long, value_name = "N", default_value_t = 2)]
    warn: u64,
    /// Critical with fewer than this
    #[arg(long, value_name = "N", default_value_t = 1)]
    crit: u64,
}

pub(super) async fn ask(args: &AgentArgs, client: &Client) -> Result<Verdict, String> {
    let found = match &args.common.capability {
        Some(capability) => client.serving(capability).await,
        None => client.agents().await,
    };
    let agents = found.map_err(|error| error.to_string())?;
    let bounds = Bounds::Below { warning: args.warn, critical: args.crit };
    let is_well = |agent: &&AgentEntry| !matches!(agent.health, Health::Degraded | Health::Unhealthy);
    let ready = agents.iter().filter(|agent| agent.state == State::Ready);
    let well: Vec<&AgentEntry> = ready.clone().filter(is_well).collect();
    let unwell = ready.count() - well.len();
    let free: usize = well.iter().map(|agent| agent.slots.saturating_sub(agent.slots_busy)).sum();
    let of: BTreeMap<_, _> =
        args.common.capability.iter().map(|capability| ("capability", capability.to_string())).collect();
    let reading = |metric, help, value: usize, bounds| Reading {
        metric,
        help,
        of: of.clone(),
        value: value as u64,
        is_seconds: false,
        bounds,
    };
    let readings = vec![
        reading("agents_ready", "Agents that are ready and well.", well.len(), Some(bounds)),
        reading("agents_unwell", "Agents that are ready, and degraded or unhealthy.", unwell, None),
        reading("agents_slots_free", "Slots of the former that are free.", free, None),
    ];
    let whom = args.common.capability.as_ref().map_or_else(String::new, |capability| format!(" for {capability}"));
    let message = format!("{} ready and well{whom}, {unwell} unwell, {free} slots free", well.len());
    Ok(Verdict::of(readings, message))
}
