//! The facts of a run, a line each: what happened, and what it led to.

use std::collections::BTreeMap;

use client::Client;
use process::Problem;
use protocol::{LoggedFact, StepName, time};
use serde_json::{Value, json};
use workflow::{
    Fact, Folded, Payload, State, Why,
    command::{Command, Order},
    fact::{Event, StepOutcome},
};

use super::{brief, fold};

/// Bytes of a value in a line.
const VALUE_BYTES_MAX: usize = 100;

/// Things that a line says a fact led to.
const ORDERS_NAMED: usize = 4;

/// A fact, folded.
pub(super) struct Told<'a> {
    /// Its place in the log, from 1.
    pub(super) number: usize,
    logged: &'a LoggedFact,
    fact: Fact,
    folded: Folded,
    /// What it led to.
    orders: Vec<Command>,
}

impl<'a> Told<'a> {
    /// Folds the next fact.
    pub(super) async fn next(
        client: &Client,
        state: &mut State,
        number: usize,
        logged: &'a LoggedFact,
    ) -> Result<Self, Problem> {
        let (fact, folded) = fold::fold(client, state, logged).await?;
        let orders = state.commands_since(logged.sequence.saturating_sub(1));
        Ok(Self { number, logged, fact, folded, orders })
    }

    /// Its name: the end of its subject.
    pub(super) fn name(&self) -> String {
        brief::text(&self.logged.name, VALUE_BYTES_MAX)
    }

    /// When it was stored, in the day.
    pub(super) fn clock(&self) -> String {
        self.logged.at.format("%H:%M:%S%.3f").to_string()
    }

    /// What it says and what it led to, in a line.
    pub(super) fn text(&self) -> String {
        let mut parts = vec![says(&self.fact.event)];
        match self.folded {
            Folded::Nothing(Why::Tells) | Folded::Changed => {}
            Folded::Nothing(why) => parts.push(format!("changes nothing: it {why}")),
        }
        let orders = grouped(&self.orders);
        let named: Vec<&str> = orders.iter().take(ORDERS_NAMED).map(String::as_str).collect();
        if !named.is_empty() {
            let more = match orders.len().saturating_sub(ORDERS_NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            parts.push(format!("-> {}{more}", named.join(", ")));
        }
        parts.retain(|part| !part.is_empty());
        parts.join("  ")
    }

    /// The same as data.
    pub(super) fn document(&self) -> Value {
        let why = match self.folded {
            Folded::Changed => None,
            Folded::Nothing(why) => Some(why.as_str()),
        };
        json!({
            "number": self.number,
            "sequence": self.logged.sequence,
            "at": time::format(self.logged.at),
            "fact": self.logged.name,
            "says": data(&self.fact.event),
            "changes": why.is_none(),
            "why": why,
            "leads_to": grouped(&self.orders),
        })
    }
}

fn says(event: &Event) -> String {
    let value = |payload: &Payload| brief::value(payload, VALUE_BYTES_MAX);
    match event {
        Event::Started(started) => {
            let name = |key: &str| started.definition[key].as_str().unwrap_or_default();
            let again = started.retry_of.as_ref().map(|run| format!(", {run} again")).unwrap_or_default();
            let head = format!("{} {}{again}", name("workflow"), name("version"));
            format!("{}  {}", brief::text(&head, VALUE_BYTES_MAX), value(&started.input))
        }
        Event::StepEnded { outcome, .. } => ended(outcome),
        Event::TimerSet(_) | Event::TimerFired(_) | Event::PauseRequested | Event::ResumeRequested => String::new(),
        Event::Signalled { value: carried, .. } => value(carried),
        Event::CancelRequested { reason } => brief::text(reason, VALUE_BYTES_MAX),
        Event::Unreadable { why, .. } => brief::text(why, VALUE_BYTES_MAX),
    }
}

fn ended(outcome: &StepOutcome) -> String {
    let mut parts = vec![outcome.status.to_string()];
    if outcome.attempt > 1 {
        parts.push(format!("attempt {}", outcome.attempt));
    }
    parts.extend(outcome.instance.as_ref().map(|agent| format!("by {agent}")));
    let what = match &outcome.failure {
        Some(failure) => brief::text(&failure.to_string(), VALUE_BYTES_MAX),
        None => brief::value(&outcome.output, VALUE_BYTES_MAX),
    };
    format!("{}  {what}", parts.join(", ")).trim_end().to_owned()
}

fn data(event: &Event) -> Value {
    match event {
        Event::Started(started) => json!({
            "workflow": started.definition["workflow"],
            "version": started.definition["version"],
            "input": brief::plain(&started.input),
            "retry_of": started.retry_of,
        }),
        Event::StepEnded { outcome, .. } => json!({
            "status": outcome.status,
            "attempt": outcome.attempt,
            "agent": outcome.instance,
            "output": brief::plain(&outcome.output),
            "failure": outcome.failure,
        }),
        Event::Signalled { value, .. } => brief::plain(value),
        Event::CancelRequested { reason } => json!({ "reason": reason }),
        Event::Unreadable { why, .. } => json!({ "unreadable": why }),
        Event::TimerSet(_) | Event::TimerFired(_) | Event::PauseRequested | Event::ResumeRequested => Value::Null,
    }
}

/// What is asked of a step many times is one line.
fn grouped(orders: &[Command]) -> Vec<String> {
    let mut asked: BTreeMap<(&'static str, &StepName), usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for command in orders {
        match &command.order {
            Order::Ask { step, .. } => *asked.entry(("asks", step)).or_default() += 1,
            Order::Withdraw { step, .. } => *asked.entry(("cancels", step)).or_default() += 1,
            Order::SetTimer { timer, due } => {
                lines.push(format!("timer {} until {}", timer, time::format(*due)));
            }
            Order::ClearTimer { timer } => lines.push(format!("no timer {}", timer)),
            Order::Emit { topic, .. } => lines.push(format!("tells {topic}")),
            Order::End(ending) => lines.push(format!("ends {}", ending.status)),
        }
    }
    let asked = asked.into_iter().map(|((verb, step), count)| match count {
        1 => format!("{verb} {step}"),
        count => format!("{verb} {step} {count} times"),
    });
    asked.chain(lines).collect()
}
