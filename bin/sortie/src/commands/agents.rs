//! `sortie agents`: who is there.

use clap::Subcommand;
use process::{ExitCode, Problem};
use protocol::{
    Capability, duration,
    registry::{AgentEntry, Health},
    time,
};

use crate::{output::Output, refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie agents list                              every agent that is alive
  sortie agents list --capability resize          those that serve it
  sortie agents list --json | jq '.[].instance'";

/// See the agents that are alive
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AgentsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List agents: what they serve, how they are and what they have done
    #[command(after_help = EXAMPLES)]
    List {
        /// Only those that serve this capability
        #[arg(long, value_name = "NAME")]
        capability: Option<Capability>,
    },
}

pub(crate) async fn run(args: AgentsArgs, session: &Session) -> Result<ExitCode, Problem> {
    let Verb::List { capability } = args.verb;
    let client = session.client().await?;
    let agents = match &capability {
        Some(capability) => client.serving(capability).await,
        None => client.agents().await,
    };
    let agents = agents.map_err(refusal::problem)?;
    session.output().show(&agents, || match (agents.is_empty(), &capability) {
        (false, _) => table(session.output(), &agents),
        (true, None) => "no agent is there".to_owned(),
        (true, Some(capability)) => format!("no agent serves {capability}"),
    })?;
    Ok(ExitCode::Done)
}

fn table(output: Output, agents: &[AgentEntry]) -> String {
    let now = time::now();
    let head = ["KIND", "INSTANCE", "VERSION", "STATE", "HEALTH", "SLOTS", "DONE", "FAILED", "UP", "SERVES", "WHERE"];
    let rows = agents.iter().map(|agent| {
        let up = (now - agent.started_at).to_std().unwrap_or_default();
        let serves: Vec<&str> = agent.capabilities.iter().map(|entry| entry.name.as_str()).collect();
        [
            agent.kind.to_string(),
            agent.instance.to_string(),
            agent.version.clone(),
            word(&agent.state),
            health(agent),
            format!("{}/{}", agent.slots_busy, agent.slots),
            agent.counts.completed.to_string(),
            agent.counts.failed.to_string(),
            duration::format(std::time::Duration::from_secs(rounded(up.as_secs()))),
            serves.join(" "),
            format!("{}:{}", agent.host, agent.pid),
        ]
    });
    output.table(&head, rows)
}

fn health(agent: &AgentEntry) -> String {
    match (&agent.health_reason, agent.health) {
        (Some(reason), health) if health != Health::Healthy => format!("{}: {reason}", word(&health)),
        (_, health) => word(&health),
    }
}

/// The word that stands on the wire.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Whole minutes, hours and days from two of them on: nobody reads more.
fn rounded(seconds: u64) -> u64 {
    [86_400, 3_600, 60].into_iter().find(|unit| seconds >= 2 * unit).map_or(seconds, |unit| seconds - seconds % unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_in_one_unit() {
        let told = |seconds| duration::format(std::time::Duration::from_secs(rounded(seconds)));
        assert_eq!([5, 119, 125, 7_205, 200_000].map(told), ["5s", "119s", "2m", "2h", "2d"]);
    }
}
