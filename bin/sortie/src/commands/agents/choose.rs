//! Which agents are meant.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use client::{AgentFilter, rank_agents};
use process::{ExitCode, Problem};
use protocol::{
    Capability, Kind, duration,
    registry::{AgentEntry, Health, State},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::named;
use crate::{refusal, session::Session};

const HEALTHS: [&str; 4] = ["healthy", "degraded", "unhealthy", "unknown"];
const STATES: [&str; 6] = ["starting", "ready", "paused", "draining", "stopped", "failed"];

/// What agents are; all that is said must hold.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filter")]
pub(super) struct FilterArgs {
    /// Instances of this kind
    #[arg(long, value_name = "NAME")]
    kind: Option<Kind>,
    /// Those that serve this capability
    #[arg(long, value_name = "NAME")]
    capability: Option<Capability>,
    /// Those with this tag; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag)]
    tag: Vec<(String, String)>,
    /// Those of this version
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Those that feel so
    #[arg(long, value_name = "HEALTH", value_parser = PossibleValuesParser::new(HEALTHS))]
    health: Option<String>,
    /// Those in this state
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(STATES))]
    state: Option<String>,
    /// Those with at most this share of their slots taken: 0.5 or 50%
    #[arg(long, value_name = "SHARE", value_parser = share)]
    load_max: Option<f64>,
}

/// Who is told.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TargetArgs {
    /// Agents: the beginning or end of their instance ids
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Every agent
    #[arg(long)]
    all: bool,
    /// Only print who would be told
    #[arg(long)]
    pub(super) dry_run: bool,
    /// How long each may take to answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    pub(super) within: Duration,
}

impl FilterArgs {
    fn filter(&self) -> AgentFilter {
        AgentFilter {
            kind: self.kind.clone(),
            capability: self.capability.clone(),
            tags: self.tag.iter().cloned().collect(),
            version: self.version.clone(),
            health: self.health.as_deref().and_then(of_word::<Health>),
            state: self.state.as_deref().and_then(of_word::<State>),
            load_max: self.load_max,
        }
    }

    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.filter() == AgentFilter::default()
    }

    /// The agents that are meant, the first to be asked first.
    pub(super) async fn agents(&self, session: &Session) -> Result<Vec<AgentEntry>, Problem> {
        let filter = self.filter();
        let mut agents = session.client().await?.agents().await.map_err(refusal::problem)?;
        agents.retain(|agent| filter.matches(agent));
        rank_agents(&mut agents);
        Ok(agents)
    }

    /// The same as words, for people and for the audit trail.
    pub(super) fn words(&self) -> String {
        let one = |name: &str, value: Option<String>| value.map(|value| format!("{name} {value}"));
        let text = |value: &Option<String>| value.clone();
        let mut words: Vec<String> = [
            one("of kind", self.kind.as_ref().map(ToString::to_string)),
            one("serving", self.capability.as_ref().map(ToString::to_string)),
            one("of version", text(&self.version)),
            text(&self.health),
            text(&self.state),
            one("loaded up to", self.load_max.map(|load| load.to_string())),
        ]
        .into_iter()
        .flatten()
        .collect();
        words.extend(self.tag.iter().map(|(name, value)| format!("tagged {name}={value}")));
        words.join(", ")
    }
}

impl TargetArgs {
    /// The agents that are to be told; there is one at least.
    pub(super) async fn agents(&self, session: &Session) -> Result<Vec<AgentEntry>, Problem> {
        let ways = [!self.agents.is_empty(), !self.filter.is_empty(), self.all];
        match ways.iter().filter(|is_taken| **is_taken).count() {
            0 => return Err(usage("say who is meant: an instance id, a filter such as --kind, or --all")),
            1 => {}
            _ => return Err(usage("instance ids, a filter and --all exclude each other: say one of them")),
        }
        if !self.agents.is_empty() {
            let mut found: Vec<AgentEntry> = Vec::new();
            for part in &self.agents {
                let agent = named(part, session).await?;
                if !found.iter().any(|other| other.instance == agent.instance) {
                    found.push(agent);
                }
            }
            return Ok(found);
        }
        let mut agents = self.filter.agents(session).await?;
        agents.retain(|agent| !agent.is_gone());
        if agents.is_empty() {
            let message =
                if self.all { "no agent is there".to_owned() } else { format!("no agent is {}", self.filter.words()) };
            return Err(Problem::new(ExitCode::WorkFailed, message).advise("`sortie agents list` shows all"));
        }
        Ok(agents)
    }

    /// Who was named, for the audit trail.
    pub(super) fn words(&self) -> String {
        match (self.all, self.agents.is_empty()) {
            (true, _) => "all agents".to_owned(),
            (false, false) => self.agents.join(", "),
            (false, true) => format!("agents {}", self.filter.words()),
        }
    }
}

fn usage(message: &str) -> Problem {
    Problem::new(ExitCode::Usage, message).advise("see `sortie agents --help`")
}

fn of_word<T: DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(Value::String(word.to_owned())).ok()
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("a tag is written like zone=blue")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.trim().parse::<f64>().ok().map(|number| number / whole);
    share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "a share is 0 to 1, or 0% to 100%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_tags_are_read() {
        assert_eq!([share("0.5"), share("50%"), share("100%")], [Ok(0.5), Ok(0.5), Ok(1.0)]);
        assert!(share("2").is_err() && share("-1%").is_err() && share("half").is_err());
        assert_eq!(tag("zone=a=b"), Ok(("zone".to_owned(), "a=b".to_owned())));
        assert!(tag("zone").is_err() && tag("=x").is_err());
    }

    #[test]
    fn the_words_of_the_filter_are_those_of_the_wire() {
        assert!(HEALTHS.iter().all(|word| of_word::<Health>(word).is_some()));
        assert!(STATES.iter().all(|word| of_word::<State>(word).is_some()));
    }
}
