//! `sortie trigger`: what events start.

use clap::{ArgGroup, Subcommand};
use client::StoredTrigger;
use process::{ExitCode, Problem};
use protocol::{
    Capability, Lane, StepName, TriggerName, WorkflowName,
    trigger::{self, Reaction, TriggerSpec},
};
use serde_json::{Value, json};
use workflow::Trigger;

use crate::{output::Output, refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie trigger add audit-paid --on order.paid --start audit
  sortie trigger add big --on 'order.*' --if 'event.data.sum > 1000' --request review --lane urgent
  sortie trigger add paid --on order.paid --signal paid --run '${event.data.run}'
  sortie trigger add note --on 'sys.request.dead.>' --request notify --with '{\"text\":\"${event.data.code}\"}'
  sortie trigger list                      what events start
  sortie trigger remove paid

An event is whatever is published below `fleet.event.`: `nats pub -J fleet.event.order.paid '{\"sum\":7}'`. An expression
knows event.data, event.id, event.source, event.type, event.topic and event.time. Each event is acted upon once,
however many coordinators run; one that is published twice with the same ce-source and ce-id is one event.";

/// Start a run, ask for something or tell a run something whenever an event comes
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TriggerArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Keep a trigger: it is for every event from now on
    #[command(after_help = EXAMPLES)]
    Add(Box<AddArgs>),
    /// List what events start, by name
    List,
    /// Forget one; what it started goes on
    Remove {
        /// Which one
        name: TriggerName,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("then").required(true).args(["start", "request", "signal"]))]
struct AddArgs {
    /// Its name
    name: TriggerName,
    /// The topic behind `fleet.event.`; `*` is one token, `>` all that follow
    #[arg(long, value_name = "TOPIC")]
    on: String,
    /// A CEL expression over `event` that must be true
    #[arg(long = "if", value_name = "EXPRESSION")]
    condition: Option<String>,
    /// Start a run of this workflow
    #[arg(long, value_name = "WORKFLOW")]
    start: Option<WorkflowName>,
    /// Ask this capability
    #[arg(long, value_name = "CAPABILITY")]
    request: Option<Capability>,
    /// Where in the order of the capability: urgent, normal or bulk
    #[arg(long, requires = "request", value_parser = lane)]
    lane: Option<Lane>,
    /// Tell a run something under this name
    #[arg(long, value_name = "NAME", requires = "run")]
    signal: Option<StepName>,
    /// The run that is told, an id with `${…}` in it
    #[arg(long, value_name = "RUN", requires = "signal")]
    run: Option<String>,
    /// The input or value: JSON with `${…}` in it. Defaults to the event's data
    #[arg(long, value_name = "JSON", value_parser = json_value)]
    with: Option<Value>,
    /// Also where there is one of that name
    #[arg(long)]
    replace: bool,
}

fn lane(text: &str) -> Result<Lane, String> {
    Lane::named(text).ok_or_else(|| "is not urgent, normal or bulk".to_owned())
}

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("is not JSON: {error}; put text in double quotes within single ones"))
}

pub(crate) async fn run(args: TriggerArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb {
        Verb::Add(args) => add(*args, session).await,
        Verb::List => list(session).await,
        Verb::Remove { name } => remove(&name, session).await,
    }
}

async fn add(args: AddArgs, session: &Session) -> Result<ExitCode, Problem> {
    let then = match (args.start, args.request, args.signal) {
        (Some(workflow), ..) => Reaction::Start(workflow),
        (_, Some(capability), _) => Reaction::Request { capability, lane: args.lane.unwrap_or_default() },
        (_, _, Some(name)) => Reaction::Signal { name, run: args.run.unwrap_or_default() },
        _ => return Err(Problem::new(ExitCode::Usage, "say what is to be done: --start, --request or --signal")),
    };
    let with = args.with.unwrap_or_else(trigger::with_default);
    let spec = TriggerSpec { on: args.on, condition: args.condition, then, with, after: 0 };
    let checked = Trigger::compile(spec.clone());
    checked.map_err(|faults| Problem::new(ExitCode::Usage, faults.join("\n")))?;
    let name = args.name;
    session.audit("trigger-add", name.as_str(), json!({ "spec": spec })).await?;
    let client = session.client().await?;
    let revision = client.trigger_add(&name, &spec, args.replace).await.map_err(refusal::problem)?;
    let document = json!({ "name": name, "spec": spec, "revision": revision });
    session.output().show(&document, || format!("trigger {name}: on {} {}", spec.on, deed(&spec.then)))?;
    Ok(ExitCode::Done)
}

async fn list(session: &Session) -> Result<ExitCode, Problem> {
    let all = session.client().await?.triggers().await.map_err(refusal::problem)?;
    session.output().show(&all, || match all.is_empty() {
        true => "no event starts anything; `sortie trigger add --help` shows how".to_owned(),
        false => table(session.output(), &all),
    })?;
    Ok(ExitCode::Done)
}

async fn remove(name: &TriggerName, session: &Session) -> Result<ExitCode, Problem> {
    session.audit("trigger-remove", name.as_str(), Value::Null).await?;
    if !session.client().await?.trigger_remove(name).await.map_err(refusal::problem)? {
        let problem = Problem::new(ExitCode::WorkFailed, format!("there is no trigger {name}"));
        return Err(problem.advise("`sortie trigger list` shows what there is"));
    }
    session.output().show(&json!({ "name": name, "done": "removed" }), || format!("trigger {name} is removed"))?;
    Ok(ExitCode::Done)
}

fn table(output: Output, all: &[StoredTrigger]) -> String {
    let rows = all.iter().map(|stored| match &stored.spec {
        Some(spec) => [
            stored.name.to_string(),
            spec.on.clone(),
            spec.condition.clone().unwrap_or_default(),
            deed(&spec.then),
            spec.with.to_string(),
        ],
        None => {
            let fault = stored.fault.clone().unwrap_or_default();
            [stored.name.to_string(), String::new(), String::new(), "nothing: it is broken".to_owned(), fault]
        }
    });
    output.table(&["NAME", "ON", "IF", "THEN", "WITH"], rows)
}

fn deed(then: &Reaction) -> String {
    match then {
        Reaction::Start(workflow) => format!("starts {workflow}"),
        Reaction::Request { capability, lane } => format!("asks {capability} ({})", lane.name()),
        Reaction::Signal { name, run } => format!("tells {run} {name}"),
    }
}
