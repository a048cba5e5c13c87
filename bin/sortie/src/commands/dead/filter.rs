//! Which dead letters are meant, as it is said on a command line.

use std::time::Duration;

use chrono::TimeDelta;
use clap::{Args, Command, FromArgMatches, ValueEnum};
use client::{Client, dead::Filter};
use process::Problem;
use protocol::{
    Capability, Category, CodePattern, duration,
    time::{self, Timestamp},
};
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::{commands::pairs, refusal};

/// Of which all must hold that are given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    /// Of this capability
    #[arg(long, value_name = "NAME")]
    capability: Option<Capability>,
    /// With this failure code, or all that a pattern matches
    #[arg(long, value_name = "CODE|http_*")]
    code: Option<CodePattern>,
    /// With a failure of this category
    #[arg(long, value_name = "NAME", value_parser = parse_category)]
    category: Option<Category>,
    /// Given up since then: a time (RFC 3339), or so long ago
    #[arg(long, value_name = "2h|TIME", value_parser = Moment::parse)]
    since: Option<Moment>,
    /// Given up before then
    #[arg(long, value_name = "1h|TIME", value_parser = Moment::parse)]
    until: Option<Moment>,
    /// Of which an attempt ran in an agent of this version
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Of which an attempt ran in this agent, by how its instance begins
    #[arg(long, value_name = "INSTANCE")]
    agent: Option<String>,
    /// With this in the id, the failure, an attempt or the body (a body over 512 KiB is not searched)
    #[arg(long, value_name = "REGEX", value_parser = parse_regex)]
    grep: Option<Regex>,
    /// Sent again before, or not
    #[arg(long, value_name = "yes|no")]
    replayed: Option<YesNo>,
    /// Any of these in one word, `code=timeout`; may be repeated
    #[arg(long = "filter", value_name = "NAME=VALUE", value_parser = pairs::parse)]
    pairs: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum YesNo {
    Yes,
    No,
}

/// A time, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    Ago(Duration),
    At(Timestamp),
}

impl Moment {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(ago) = duration::parse(text) {
            return Ok(Self::Ago(ago));
        }
        let refused = |_| format!("`{text}` is neither a duration such as 2h nor a time such as 2026-11-20T07:17:00Z");
        time::parse(text).map(Self::At).map_err(refused)
    }

    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now - TimeDelta::from_std(ago).unwrap_or_default(),
        }
    }
}

impl FilterArgs {
    /// The same with what `--filter` says put where it belongs.
    ///
    /// # Errors
    /// It names something that is no filter, or a value that it cannot have.
    pub(crate) fn resolved(self) -> Result<Self, Problem> {
        let mut all = Self { pairs: Vec::new(), ..self };
        for (name, value) in self.pairs {
            let known = ["capability", "code", "category", "since", "until", "version", "agent", "grep", "replayed"];
            let grammar = Self::augment_args(Command::new("filter").disable_help_flag(true));
            let read = pairs::read(grammar, &name, &value, &known, Self::from_arg_matches)?;
            all = Self {
                capability: read.capability.or(all.capability),
                code: read.code.or(all.code),
                category: read.category.or(all.category),
                since: read.since.or(all.since),
                until: read.until.or(all.until),
                version: read.version.or(all.version),
                agent: read.agent.or(all.agent),
                grep: read.grep.or(all.grep),
                replayed: read.replayed.or(all.replayed),
                pairs: Vec::new(),
            };
        }
        Ok(all)
    }

    /// The same for the client; times are the broker's.
    pub(crate) async fn filter(&self, client: &Client) -> Result<Filter, Problem> {
        let now = match (self.since, self.until) {
            (None, None) => Timestamp::default(),
            _ => client.now().await.map_err(refusal::problem)?,
        };
        Ok(Filter {
            capability: self.capability.clone(),
            code: self.code.clone(),
            category: self.category,
            version: self.version.clone(),
            agent: self.agent.clone(),
            since: self.since.map(|moment| moment.at(now)),
            until: self.until.map(|moment| moment.at(now)),
            grep: self.grep.clone(),
            is_replayed: self.replayed.map(|replayed| replayed == YesNo::Yes),
        })
    }

    /// Only what was not sent again, unless something else was said.
    pub(crate) fn not_replayed(self) -> Self {
        Self { replayed: self.replayed.or(Some(YesNo::No)), ..self }
    }

    /// What was said, for the audit trail.
    pub(crate) fn document(&self) -> Value {
        let moment = |moment: &Moment| match moment {
            Moment::Ago(ago) => duration::format(*ago),
            Moment::At(at) => time::format(*at),
        };
        let said = [
            ("capability", self.capability.as_ref().map(|name| json!(name))),
            ("code", self.code.as_ref().map(|code| json!(code))),
            ("category", self.category.map(|category| json!(category))),
            ("since", self.since.as_ref().map(|since| json!(moment(since)))),
            ("until", self.until.as_ref().map(|until| json!(moment(until)))),
            ("version", self.version.as_ref().map(|version| json!(version))),
            ("agent", self.agent.as_ref().map(|agent| json!(agent))),
            ("grep", self.grep.as_ref().map(|grep| json!(grep.as_str()))),
            ("replayed", self.replayed.map(|replayed| json!(replayed == YesNo::Yes))),
        ];
        let said: Map<String, Value> =
            said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Value::Object(said)
    }

    /// Whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.document() == json!({})
    }
}

fn parse_category(text: &str) -> Result<Category, String> {
    match serde_json::from_value(json!(text)) {
        // What is new to us reads as unknown, but nobody means that by a word of his own.
        Ok(Category::Unknown) if text != "unknown" => Err(format!(
            "`{text}` is none of configuration, initialization, execution, communication, resource, dependency, \
             validation, timeout, permission, external_service, process, unknown"
        )),
        other => other.map_err(|error| error.to_string()),
    }
}

fn parse_regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("`{text}` is no regular expression: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filter: FilterArgs,
    }

    fn read(line: &str) -> Result<FilterArgs, String> {
        let line = Line::try_parse_from(["x"].into_iter().chain(line.split_whitespace()));
        line.map_err(|error| error.to_string())?.filter.resolved().map_err(|problem| problem.to_string())
    }

    #[test]
    fn what_is_said_with_filter_is_the_same() {
        for line in [
            "--capability echo --code http_* --category timeout",
            "--since 2h --until 2026-11-20T07:17:00Z --version 1.0 --agent ins_1",
            "--grep ^a.b$ --replayed no",
        ] {
            let pairs: Vec<&str> = line.split_whitespace().collect();
            let pairs: Vec<String> =
                pairs.chunks(2).map(|pair| format!("--filter {}={}", &pair[0][2..], pair[1])).collect();
            let document = read(line).unwrap().document();
            assert_eq!(read(&pairs.join(" ")).unwrap().document(), document, "{line}");
            assert_ne!(document, json!({}));
        }
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_filter_is_told() {
        for (line, words) in [
            ("--since soon", "neither a duration"),
            ("--category odd", "none of configuration"),
            ("--grep (", "no regular expression"),
            ("--filter code", "NAME=VALUE"),
            ("--filter colour=red", "it knows capability"),
            ("--filter since=soon", "neither a duration"),
        ] {
            let fault = read(line).unwrap_err();
            assert!(fault.contains(words), "{line}: {fault}");
        }
    }
}
