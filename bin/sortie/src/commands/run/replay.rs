//! `sortie run replay`: a run as it was at any fact of its log.

use process::{ExitCode, Problem};
use protocol::{LoggedFact, RunId, time};
use serde_json::Value;
use workflow::State;

use super::{facts::Told, fold, show};
use crate::{refusal, session::Session};

/// Which run is looked at, and at which moment.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// The run
    #[arg(value_name = "ID")]
    run: RunId,
    /// As it was when this fact of its log had come [default: list the facts with their numbers]
    #[arg(long, value_name = "N")]
    to: Option<usize>,
    /// Of a step that asks many times, so many requests
    #[arg(long, value_name = "N", default_value_t = 10)]
    items: usize,
}

pub(super) async fn replay(args: ReplayArgs, session: &Session) -> Result<ExitCode, Problem> {
    let ReplayArgs { run, to, items } = args;
    let client = session.client().await?;
    let Some(record) = client.run_record(&run).await.map_err(refusal::problem)? else {
        return Err(fold::missing(client, &run).await?);
    };
    // Without what goes by itself, so that a fact keeps its number.
    let facts: Vec<LoggedFact> = record.facts().iter().filter(|fact| !fold::is_timer(fact)).cloned().collect();
    let Some(number) = to else {
        let mut state = State::new(run.clone());
        let mut rows = Vec::new();
        let mut documents: Vec<Value> = Vec::new();
        for (place, fact) in facts.iter().enumerate() {
            let told = Told::next(client, &mut state, place + 1, fact).await?;
            match session.output().is_json() {
                true => documents.push(told.document()),
                false => rows.push([told.number.to_string(), told.clock(), told.name(), told.text()]),
            }
        }
        session.output().show(&documents, || session.output().table(&["N", "AT", "FACT", "WHAT"], rows))?;
        return Ok(ExitCode::Done);
    };
    let Some(last) = number.checked_sub(1).and_then(|place| facts.get(place)) else {
        let message = format!("the log of run {run} has facts 1 to {}, and no fact {number}", facts.len());
        return Err(Problem::new(ExitCode::Usage, message).advise(format!("`sortie run replay {run}` lists them")));
    };
    let view = fold::folded(client, &run, &facts[..number]).await?.view();
    session.output().show(&view, || {
        let head = format!("after fact {number} of {}, {}, at {}", facts.len(), last.name, time::format(last.at));
        format!("{head}\n\n{}", show::text(&view, last.at, items, session.output()))
    })?;
    Ok(ExitCode::Done)
}
