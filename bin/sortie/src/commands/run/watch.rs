//! `sortie run watch`: the facts of a run as they come, and its end.

use std::time::Duration;

use client::Client;
use process::{ExitCode, Problem};
use protocol::{LoggedFact, RunId, Status, duration, time};
use serde_json::json;
use tokio::time::Instant;
use workflow::{State, View, state::view::RunStatus};

use super::{brief, facts::Told, fold};
use crate::{output::Output, refusal, session::Session};

/// How often it is looked for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a run that has ended may take to be put away.
const PUT_AWAY_WITHIN: Duration = Duration::from_secs(30);

/// Bytes of a result in a line.
const VALUE_BYTES_MAX: usize = 200;

/// Which run is watched.
#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// The run
    #[arg(value_name = "ID")]
    run: RunId,
    /// How long to wait for it to start
    #[arg(long, value_name = "10s", value_parser = duration::parse, default_value = "10s")]
    start_within: Duration,
}

/// What was told of a run so far.
struct Watch<'a> {
    client: &'a Client,
    output: Output,
    run: RunId,
    state: State,
    count: usize,
}

pub(super) async fn watch(args: WatchArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let state = State::new(args.run.clone());
    let mut watch = Watch { client, output: session.output(), run: args.run, state, count: 0 };
    let start_until = Instant::now() + args.start_within;
    let mut put_away_until = None;
    loop {
        let above = watch.state.last_sequence();
        let news = client.run_facts(&watch.run, above).await.map_err(refusal::problem)?;
        watch.tell_all(&news).await?;
        if news.is_empty() && !client.is_run_alive(&watch.run).await.map_err(refusal::problem)? {
            if let Some(view) = watch.rest().await? {
                return watch.end(&view);
            }
            let is_unknown = !watch.state.is_started() && Instant::now() >= start_until;
            let until = *put_away_until.get_or_insert_with(|| Instant::now() + PUT_AWAY_WITHIN);
            if is_unknown || (watch.state.is_started() && Instant::now() >= until) {
                return Err(fold::missing(client, &watch.run).await?);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Watch<'_> {
    async fn tell_all(&mut self, facts: &[LoggedFact]) -> Result<(), Problem> {
        for fact in facts {
            if fold::is_timer(fact) {
                fold::fold(self.client, &mut self.state, fact).await?;
                continue;
            }
            self.count += 1;
            let told = Told::next(self.client, &mut self.state, self.count, fact).await?;
            match self.output.is_json() {
                true => self.output.text(&told.document().to_string())?,
                false => {
                    let line = format!("{}  {:<3} {:<24} {}", told.clock(), told.number, told.name(), told.text());
                    self.output.text(line.trim_end())?;
                }
            }
        }
        Ok(())
    }

    /// Of a run that is over, what was not told yet, and how it ended.
    async fn rest(&mut self) -> Result<Option<View>, Problem> {
        if let Some(summary) = self.client.run_summary(&self.run).await.map_err(refusal::problem)? {
            let told = self.state.last_sequence();
            let left: Vec<LoggedFact> = summary.facts.iter().filter(|fact| fact.sequence > told).cloned().collect();
            self.tell_all(&left).await?;
            let state = std::mem::replace(&mut self.state, State::new(self.run.clone()));
            return Ok(Some(fold::Course { state, summary: Some(Box::new(summary)) }.view()));
        }
        // A start that was refused has no log.
        if self.state.is_started() { Ok(None) } else { fold::ended(self.client, &self.run).await }
    }

    fn end(&self, view: &View) -> Result<ExitCode, Problem> {
        let took = view.started.zip(view.ended).map(|(started, ended)| brief::took(ended - started));
        if self.output.is_json() {
            let document = json!({
                "ended": brief::status(view.status),
                "at": view.ended.map(time::format),
                "output": brief::plain(&view.output),
                "failure": view.failure,
            });
            self.output.text(&document.to_string())?;
        } else {
            let what = match &view.failure {
                Some(failure) => brief::text(&failure.to_string(), VALUE_BYTES_MAX),
                None => brief::value(&view.output, VALUE_BYTES_MAX),
            };
            let took = took.map(|took| format!(" in {took}")).unwrap_or_default();
            let line = format!("run {} {}{took}  {what}", self.run, brief::status(view.status));
            self.output.text(line.trim_end())?;
        }
        let is_completed = view.status == RunStatus::Ended(Status::Completed);
        Ok(if is_completed { ExitCode::Done } else { ExitCode::WorkFailed })
    }
}
