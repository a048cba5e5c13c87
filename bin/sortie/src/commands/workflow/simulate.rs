//! `sortie workflow simulate`: a dry run with invented outcomes.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use process::{ExitCode, Problem};
use protocol::{Status, StepName, time};
use serde_json::Value;
use workflow::{
    Program,
    plan::Target,
    simulate::{Invented, Simulation, What, simulate},
    validate,
};

use super::source;
use crate::{commands::submit::body::Body, refusal, session::Session};

/// What is given of a dry run.
#[derive(Debug, clap::Args)]
pub(super) struct SimulateArgs {
    /// A file, or the name of a workflow that is kept
    #[arg(value_name = "NAME|FILE")]
    source: String,
    /// The run's input: JSON, `-` for standard input, `@path` for a file [default: null]
    #[arg(long, value_name = "JSON|-|@FILE")]
    input: Option<String>,
    /// What a step's requests give, as JSON; of one item, turn or branch: `step.2={}` [default: what fits]
    #[arg(long = "output", value_name = "STEP=JSON")]
    outputs: Vec<Given>,
    /// A step whose requests fail, with or without a message; of one item, turn or branch: `step.2`
    #[arg(long = "fail", value_name = "STEP[=MESSAGE]")]
    failures: Vec<String>,
    /// A signal that comes, with what it carries as JSON [default: timeouts pass]
    #[arg(long = "signal", value_name = "NAME=JSON")]
    signals: Vec<Given>,
    /// Do not look what agents say they give
    #[arg(long)]
    offline: bool,
}

/// `name=JSON`.
#[derive(Clone, Debug)]
struct Given {
    name: String,
    value: Value,
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, json) = text.split_once('=').ok_or("write NAME=JSON")?;
        let value = serde_json::from_str(json)
            .map_err(|error| format!("`{json}` is not JSON ({error}); quote text twice: {name}='\"text\"'"))?;
        Ok(Self { name: name.to_owned(), value })
    }
}

pub(super) async fn dry_run(args: SimulateArgs, session: &Session) -> Result<ExitCode, Problem> {
    let plan = source::plan(&args.source, session).await?;
    let input = Body::read(args.input.as_deref(), false)?.value()?;
    let faults: Vec<String> = validate::input(&plan, &input).iter().map(ToString::to_string).collect();
    if !faults.is_empty() {
        let problem = Problem::new(ExitCode::Usage, format!("the input is not what is taken:\n{}", faults.join("\n")));
        return Err(problem.advise("give one with --input"));
    }
    let program = Program::new(plan).map_err(|failure| Problem::new(ExitCode::Usage, failure.to_string()))?;
    let (outputs, failures, signals) = given(&args, &program)?;
    let schemas = match args.offline {
        true => BTreeMap::new(),
        false => session.client().await?.capability_outputs().await.map_err(refusal::problem)?,
    };
    let output_schema = |target: &Target| match target {
        Target::Capability(capability) => schemas.get(capability).filter(|schema| schema.is_object()).cloned(),
        Target::Workflow(_) => None,
    };
    let invented = Invented { outputs, failures, signals, output_schema: &output_schema };
    let simulation = simulate(&Arc::new(program), input, &invented, time::now());
    session.output().show(&simulation, || lines(&simulation))?;
    let is_completed = simulation
        .happened
        .last()
        .is_some_and(|last| matches!(last.what, What::Ended { status: Status::Completed, .. }));
    Ok(if is_completed { ExitCode::Done } else { ExitCode::WorkFailed })
}

type All = (BTreeMap<String, Value>, BTreeMap<String, String>, BTreeMap<StepName, Value>);

/// What was given, each for a step that there is.
fn given(args: &SimulateArgs, program: &Program) -> Result<All, Problem> {
    let refused = |message: String| Problem::new(ExitCode::Usage, message);
    let known = |name: &str| {
        let step = name.split('.').next().unwrap_or_default();
        let step = step.strip_prefix("undo_").unwrap_or(step);
        let is_known = program.plan().steps.iter().any(|known| known.name.as_str() == step);
        is_known.then_some(()).ok_or_else(|| refused(format!("there is no step `{step}`")))
    };
    let mut outputs = BTreeMap::new();
    for Given { name, value } in &args.outputs {
        known(name)?;
        outputs.insert(name.clone(), value.clone());
    }
    let mut failures = BTreeMap::new();
    for text in &args.failures {
        let (name, message) = text.split_once('=').unwrap_or((text, "as it was told to"));
        known(name)?;
        failures.insert(name.to_owned(), message.to_owned());
    }
    let mut signals = BTreeMap::new();
    for Given { name, value } in &args.signals {
        let name = StepName::parse(name).map_err(|error| refused(error.to_string()))?;
        signals.insert(name, value.clone());
    }
    Ok((outputs, failures, signals))
}

fn lines(simulation: &Simulation) -> String {
    let mut lines: Vec<String> = simulation.happened.iter().map(ToString::to_string).collect();
    if !simulation.waiting.is_empty() {
        let waiting: Vec<&str> = simulation.waiting.iter().map(StepName::as_str).collect();
        lines.push(format!("and then {} would wait for ever; give its signal with --signal", waiting.join(", ")));
    }
    lines.push("nobody was asked: this was a dry run".to_owned());
    lines.join("\n")
}
