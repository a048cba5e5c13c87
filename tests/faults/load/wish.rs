//! One thing that is asked for, as the dice have it, and what belongs to it.

use std::time::Duration;

use anyhow::Result;
use client::{Error, ErrorKind, RequestBuilder};
use protocol::{RequestId, RunId, Status, StepName, UniqueKey};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};
use sortie_tests::{fleet::capability, victim::Task};

use super::{Asker, again};

pub(super) const WORKFLOW: &str = "mixed";

/// What is asked for, by what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Done at once.
    Plain,
    Urgent,
    Bulk,
    /// Under an id of the caller's.
    Named,
    Unique,
    /// Done by a command.
    Command,
    /// Its body and its result are too large for a message.
    Large,
    /// Its first attempts fail.
    Retried,
    Delayed,
    /// It has a deadline that is far away, by the broker's clock.
    Timely,
    /// Its deadline passes while it is retried.
    Expired,
    /// It is given up.
    Dead,
    /// Cancelled while it waits or runs.
    Cancelled,
    /// Three steps, of which one fails once, a sleep, and a signal.
    Run,
    /// One that is cancelled.
    CancelledRun,
}

impl Kind {
    /// What such a request may come to.
    pub(crate) fn may_end(self, status: Status) -> bool {
        match self {
            Self::Dead => status == Status::Failed,
            Self::Expired => matches!(status, Status::Expired | Status::Failed),
            // It may have been done before.
            Self::Cancelled | Self::CancelledRun => matches!(status, Status::Cancelled | Status::Completed),
            _ => status == Status::Completed,
        }
    }
}

/// One thing that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) kind: Kind,
    number: u64,
    task: Task,
    padding: usize,
    delay: Duration,
    /// When what belongs to it is said.
    after: Duration,
    /// Whether a run hears its signal, or waits in vain.
    is_told: bool,
}

impl Wish {
    pub(super) fn chosen(dice: &mut StdRng, number: u64) -> Self {
        use Kind::{
            Bulk, Cancelled, CancelledRun, Command, Dead, Delayed, Expired, Large, Named, Plain, Retried, Run, Timely,
            Unique, Urgent,
        };
        let kind = match dice.random_range(0..100) {
            0..28 => Plain,
            28..33 => Urgent,
            33..38 => Bulk,
            38..42 => Named,
            42..45 => Timely,
            45..48 => Expired,
            48 => Large,
            49..57 => Unique,
            57..60 => Command,
            60..70 => Retried,
            70..79 => Delayed,
            79..84 => Dead,
            84..91 => Cancelled,
            91..98 => Run,
            _ => CancelledRun,
        };
        let works_ms = dice.random_range(0..60);
        let (works_ms, fails, gives_up) = match kind {
            Retried => (works_ms, dice.random_range(1..3), false),
            Dead if dice.random_bool(0.5) => (works_ms, 9, false),
            Dead => (works_ms, 9, true),
            Expired => (works_ms, 9, false),
            // Half of them are cancelled in an agent's hands.
            Cancelled => (dice.random_range(0..2) * 3_000, 0, false),
            _ => (works_ms, 0, false),
        };
        let delay = match kind {
            Delayed => Duration::from_millis(dice.random_range(250..3_000)),
            Cancelled if works_ms == 0 => Duration::from_secs(8),
            _ => Duration::ZERO,
        };
        let after = Duration::from_millis(dice.random_range(0..1_500));
        let padding = if kind == Large { dice.random_range(200_000..700_000) } else { 20 };
        let task = Task { works_ms, fails, gives_up, result_bytes: padding };
        Self { kind, number, task, padding, delay, after, is_told: dice.random_bool(0.7) }
    }
}

/// What an agent is asked for.
pub(super) fn task(works_ms: u64, fails: u32, gives_up: bool) -> Value {
    json!(Task { works_ms, fails, gives_up, result_bytes: 20 })
}

/// Three steps, one after the other, of which the last fails once; between them a sleep, and a signal that may not come.
pub(super) fn workflow() -> Value {
    json!({
        "workflow": WORKFLOW, "version": "1.0.0",
        "steps": {
            "first": { "call": "work", "with": task(20, 0, false) },
            "nap": { "needs": ["first"], "wait": "500ms" },
            "gate": { "needs": ["first"], "signal": "go", "timeout": "4s", "otherwise": 0 },
            "second": { "needs": ["nap", "gate"], "call": "work", "with": task(20, 0, false) },
            "third": { "needs": ["second"], "call": "work", "with": task(20, 1, false) },
        },
        "output": "${ steps.third.output }",
    })
}

impl Asker {
    pub(super) async fn submit(&self, wish: &Wish, id: Option<&RequestId>) -> Result<RequestId, Error> {
        if matches!(wish.kind, Kind::Run | Kind::CancelledRun) {
            let run = RunId::parse(&format!("run-{}", wish.number)).unwrap();
            let start = self.client.start(&self.workflow, &Value::Null).id(&run).noted_in(&self.file);
            return Ok(RequestId::from(start.submit().await?.run()));
        }
        let name = if wish.kind == Kind::Command { "copy" } else { "work" };
        let mut body = json!(wish.task);
        body["padding"] = "x".repeat(wish.padding).into();
        let mut request = self.client.request(&capability(name), &body).noted_in(&self.file);
        request = wish.dressed(request);
        if let Some(id) = id {
            request = request.id(id.clone());
        }
        Ok(request.submit().await?.id().clone())
    }

    /// The signals and cancellations that belong to it.
    pub(super) async fn follow(&self, wish: &Wish, id: &RequestId) -> Result<()> {
        match wish.kind {
            Kind::Run if wish.is_told => {
                tokio::time::sleep(wish.after).await;
                let (run, go) = (RunId::parse(id.as_str())?, StepName::parse("go")?);
                // Said twice, it is one signal.
                let own = RequestId::parse(&format!("go-{}", wish.number))?;
                let said = again(|| self.client.signal(&run, &go, &wish.number, Some(&own))).await;
                passed_over(said.map(drop), &[ErrorKind::Conflict])
            }
            Kind::Cancelled | Kind::CancelledRun => {
                tokio::time::sleep(wish.after).await;
                let said = again(|| self.client.cancel(id)).await;
                passed_over(said.map(drop), &[ErrorKind::Conflict, ErrorKind::NotFound])
            }
            _ => Ok(()),
        }
    }
}

impl Wish {
    fn dressed<'a>(&self, request: RequestBuilder<'a>) -> RequestBuilder<'a> {
        match self.kind {
            Kind::Urgent => request.urgent(),
            Kind::Bulk => request.bulk(),
            Kind::Named => request.id(RequestId::parse(&format!("named-{}", self.number)).unwrap()),
            Kind::Unique => request.unique(UniqueKey::parse(&format!("key-{}", self.number)).unwrap()),
            Kind::Timely => request.deadline_in(Duration::from_secs(600)),
            Kind::Expired => request.deadline_in(Duration::from_millis(600)),
            _ if !self.delay.is_zero() => request.delay(self.delay),
            _ => request,
        }
    }
}

/// It may be over already, or the broker away for too long: what is asked for then ends as it would have.
fn passed_over(said: Result<(), Error>, over: &[ErrorKind]) -> Result<()> {
    match said {
        Err(error) if !super::is_passing(&error) && !over.contains(error.kind()) => Err(error.into()),
        _ => Ok(()),
    }
}
