//! `sortie dead rule`: what is sent again by itself.

use clap::Subcommand;
use client::dead::StoredRule;
use process::{ExitCode, Problem};
use protocol::{Backoff, Capability, CodePattern, Kind, RedriveRule, redrive, time};
use serde_json::{Value, json};

use crate::{output::Output, refusal, session::Session};

/// Say which letters a coordinator sends again by itself
#[derive(Debug, clap::Args)]
pub(super) struct RuleArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(AddArgs),
    /// List the rules, and what is wrong with those that are broken
    List,
    /// Remove a rule; what it has sent again already goes on
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        name: Kind,
    },
}

/// Add a rule for letters that come from now on
///
/// Where several rules are for one letter, the first by name has it. A letter that was sent again, by whomever, is left to
/// people; so is one whose work was sent again as often as the limit says.
#[derive(Debug, clap::Args)]
struct AddArgs {
    /// Its name: a-z, 0-9 and `-`
    #[arg(value_name = "NAME")]
    name: Kind,
    /// The failure code, or all that a pattern matches; `poison` only where it is named in full
    #[arg(long, value_name = "CODE|http_*")]
    code: CodePattern,
    /// Only of this capability
    #[arg(long, value_name = "NAME")]
    capability: Option<Capability>,
    /// The wait after the first death, the second, and so on
    #[arg(long, value_name = "CURVE", default_value_t = redrive::delay_default())]
    delay: Backoff,
    /// How often one piece of work is sent again, replays by people counted
    #[arg(long, value_name = "N", default_value_t = redrive::limit_default())]
    limit: u32,
    /// Also letters that are there already
    #[arg(long)]
    also_old: bool,
    /// Replace the rule of this name
    #[arg(long)]
    replace: bool,
}

pub(super) async fn run(args: RuleArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb {
        Verb::Add(args) => add(args, session).await,
        Verb::List => list(session).await,
        Verb::Remove { name } => remove(&name, session).await,
    }
}

async fn add(args: AddArgs, session: &Session) -> Result<ExitCode, Problem> {
    let AddArgs { name, code, capability, delay, limit, also_old, replace } = args;
    if !(1..=redrive::LIMIT_MAX).contains(&limit) {
        let message = format!("--limit {limit}: from 1 to {} is allowed", redrive::LIMIT_MAX);
        return Err(Problem::new(ExitCode::Usage, message));
    }
    let client = session.client().await?;
    let since = if also_old { None } else { Some(client.now().await.map_err(refusal::problem)?) };
    let rule = RedriveRule { code, capability, delay, limit, since };
    session.audit("dead-rule-add", name.as_str(), json!(rule)).await?;
    client.add_redrive_rule(&name, &rule, replace).await.map_err(refusal::problem)?;
    session.output().show(&document(&StoredRule { name: name.clone(), rule: Ok(rule) }), || {
        format!("rule {name} is added; a coordinator follows it within seconds")
    })?;
    Ok(ExitCode::Done)
}

async fn list(session: &Session) -> Result<ExitCode, Problem> {
    let rules = session.client().await?.redrive_rules().await.map_err(refusal::problem)?;
    let documents: Vec<Value> = rules.iter().map(document).collect();
    session.output().show(&documents, || match rules.is_empty() {
        true => "there are no rules: every letter stays for a person".to_owned(),
        false => table(session.output(), &rules),
    })?;
    Ok(ExitCode::Done)
}

async fn remove(name: &Kind, session: &Session) -> Result<ExitCode, Problem> {
    session.audit("dead-rule-remove", name.as_str(), Value::Null).await?;
    session
        .client()
        .await?
        .remove_redrive_rule(name)
        .await
        .map_err(|error| refusal::problem(error).advise("`sortie dead rule list` shows those that there are"))?;
    session.output().show(&json!({ "name": name, "removed": true }), || format!("rule {name} is removed"))?;
    Ok(ExitCode::Done)
}

fn document(stored: &StoredRule) -> Value {
    let mut document = match &stored.rule {
        Ok(rule) => json!(rule),
        Err(fault) => json!({ "fault": fault }),
    };
    document["name"] = json!(stored.name);
    document
}

fn table(output: Output, rules: &[StoredRule]) -> String {
    let rows = rules.iter().map(|stored| match &stored.rule {
        Ok(rule) => [
            stored.name.to_string(),
            rule.code.to_string(),
            rule.capability.as_ref().map_or_else(|| "any".to_owned(), Capability::to_string),
            rule.delay.to_string(),
            rule.limit.to_string(),
            rule.since.map_or_else(|| "ever".to_owned(), time::format),
        ],
        Err(fault) => [
            stored.name.to_string(),
            format!("broken: {fault}"),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ],
    });
    output.table(&["RULE", "CODE", "CAPABILITY", "DELAY", "LIMIT", "SINCE"], rows)
}
