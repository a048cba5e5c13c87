//! What golden logs are written from: a definition and what happens, a second apart.

use protocol::{Failure, RequestId, Status, time};
use serde_json::{Value, json};
use sortie_workflow::Plan;

use super::Message;

/// One run.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    definition: &'static str,
    started: Value,
    happens: Vec<(&'static str, What)>,
}

/// What a message says.
pub(crate) enum What {
    Done(Value),
    Failed(&'static str),
    Cancelled,
    Says(Value),
    Held(&'static str),
    Nothing,
}

use What::{Cancelled, Done, Failed, Held, Nothing, Says};

pub(crate) fn all() -> Vec<Scenario> {
    vec![repo_audit(), saga(), approval(), polling(), cancelled(), odd_facts(), again()]
}

const AUDIT: &str = include_str!("../repo-audit.yaml");

fn repo_audit() -> Scenario {
    Scenario {
        name: "repo-audit",
        about: "A fan-out, a gate that somebody opens, a report; one item needed three attempts.",
        definition: AUDIT,
        started: json!({ "input": { "value": { "path": "/src" } } }),
        happens: vec![
            ("timer.run", Nothing),
            ("step.files.0.outcome", Done(json!(["a.rs", "b.rs", "c.rs"]))),
            ("step.examine.1.outcome", Done(json!({ "lines": 20 }))),
            ("step.secrets.0.outcome", Done(json!([{ "file": "b.rs", "line": 3 }]))),
            ("timer.gate~0", Nothing),
            ("step.examine.0.outcome", Done(json!({ "lines": 10 }))),
            ("signal.approve", Says(json!({ "approved": true, "by": "ann" }))),
            ("step.examine.2.outcome", Done(json!({ "lines": 30 }))),
            ("step.report.0.outcome", Held("report-1")),
        ],
    }
}

fn saga() -> Scenario {
    Scenario {
        name: "order-saga",
        about: "An order whose shipping fails: what was paid and reserved is undone, and one undo fails.",
        definition: "
workflow: order
version: 2.0.0
steps:
  reserve: { call: reserve, with: { order: '${ input.order }' }, undo: { call: release, with: { of: '${ steps.reserve.output }' } } }
  pay: { needs: [reserve], call: pay, lane: urgent, undo: { call: refund, with: { of: '${ steps.pay.output.id }' } } }
  label: { needs: [reserve], call: label, timeout: 5s, deadline: 1m, retry: { attempts: 2, backoff: fixed, first: 1s }, undo: { call: unlabel } }
  ship: { needs: [pay, label], call: ship }
  told: { needs: [ship], emit: order.shipped, with: { order: '${ input.order }' } }
",
        started: json!({ "input": { "value": { "order": 17 } }, "lane": "bulk" }),
        happens: vec![
            ("step.reserve.0.outcome", Done(json!("r-1"))),
            ("step.pay.0.outcome", Done(json!({ "id": "p-1" }))),
            ("step.label.0.outcome", Done(json!(1))),
            ("step.ship.0.outcome", Failed("no_truck")),
            ("step.undo_label.0.outcome", Done(Value::Null)),
            ("step.undo_pay.0.outcome", Failed("bank_closed")),
            ("step.undo_pay.0.outcome", Done(Value::Null)),
            ("step.undo_reserve.0.outcome", Done(Value::Null)),
        ],
    }
}

fn approval() -> Scenario {
    Scenario {
        name: "approval",
        about: "Nobody approves in time, so it goes to somebody else; it is paused on the way, and still runs.",
        definition: "
workflow: approval
version: 1.0.0
steps:
  ask: { signal: approve, timeout: 1h, otherwise: { by: nobody } }
  escalate: { needs: [ask], if: \"steps.ask.output.by == 'nobody'\", call: tell-boss }
  boss: { needs: [escalate], if: \"steps.escalate.status == 'completed'\", signal: boss-approves }
  pause: { needs: [boss], wait: 10m }
  after: { needs: [pause], race: { quick: { call: quick }, slow: { call: slow } } }
",
        started: json!({ "input": { "value": null } }),
        happens: vec![
            ("signal.boss-approves", Says(json!("early"))),
            ("timer.ask~0.fired", Nothing),
            ("pause", Nothing),
            ("step.escalate.0.outcome", Done(json!(1))),
            ("resume", Nothing),
            ("timer.pause~0.fired", Nothing),
            ("step.after.1.outcome", Done(json!("slow was quick"))),
        ],
    }
}

fn polling() -> Scenario {
    Scenario {
        name: "polling",
        about: "A loop with a pause that is not done in time: the run's timeout ends it.",
        definition: "
workflow: polling
version: 1.0.0
timeout: 1m
on_failure: { stop: finish_what_runs, undo: true }
steps:
  poll:
    repeat: { call: look, with: { turn: '${ turn }', last: '${ last }' }, until: 'last.done', max: 10, pause: 5s }
    undo: { call: forget, with: { what: '${ last }' } }
  each: { foreach: '[1, 2, 3]', max_parallel: 2, success: 2, call: work, with: { item: '${ item }', index: '${ index }' }, on_error: { fallback: instead } }
  instead: { call: instead }
",
        started: json!({ "input": { "value": null } }),
        happens: vec![
            ("step.poll.0.outcome", Done(json!({ "done": false }))),
            ("step.each.0.outcome", Failed("no")),
            ("step.each.1.outcome", Failed("no")),
            ("step.each.2.outcome", Done(json!(3))),
            ("timer.poll~1.fired", Nothing),
            ("timer.run.fired", Nothing),
            ("step.poll.1.outcome", Cancelled),
            ("step.instead.0.outcome", Cancelled),
            ("step.undo_poll.1.outcome", Done(Value::Null)),
            ("step.undo_poll.0.outcome", Done(Value::Null)),
        ],
    }
}

fn cancelled() -> Scenario {
    Scenario {
        name: "cancelled",
        about: "Cancelled in the middle of a sub-run, and undone.",
        definition: "
workflow: outer
version: 1.0.0
steps:
  first: { call: first, undo: { call: undo-first } }
  inner: { needs: [first], workflow: inner, with: { n: 1 }, undo: { workflow: undo-inner } }
  last: { needs: [inner], call: last }
",
        started: json!({ "input": { "value": null }, "parent": "run-0~outer~4", "deadline": "2027-01-16T08:00:00Z" }),
        happens: vec![
            ("step.first.0.outcome", Done(json!(1))),
            ("cancel", Says(json!({ "reason": "not needed any more" }))),
            ("step.inner.0.outcome", Cancelled),
            ("cancel", Nothing),
            ("step.undo_inner.0.outcome", Done(Value::Null)),
            ("timer.run.fired", Nothing),
            ("step.undo_first.0.outcome", Done(Value::Null)),
        ],
    }
}

fn odd_facts() -> Scenario {
    Scenario {
        name: "odd-facts",
        about: "Facts that come twice, late, for nobody, or cannot be read; the run is not disturbed.",
        definition: "
workflow: plain
version: 1.0.0
steps:
  a: { call: a }
  b: { needs: [a], call: b, with: '${ steps.a.output }' }
output: { a: '${ steps.a.output }', text: 'b is ${ steps.b.output }' }
",
        started: json!({ "input": { "value": null } }),
        happens: vec![
            ("step.a.0.outcome", Done(json!({ "n": 1 }))),
            ("step.a.0.outcome", Failed("late")),
            ("step.b.7.outcome", Done(json!(1))),
            ("step.c.0.outcome", Done(json!(1))),
            ("timer.a~0.fired", Nothing),
            ("step.a.x.outcome", Nothing),
            ("nonsense", Nothing),
            ("resume", Nothing),
            ("started", Says(json!({}))),
            ("step.b.0.outcome", Done(json!("B"))),
            ("signal.late", Nothing),
        ],
    }
}

fn again() -> Scenario {
    let done = |step: &str, output: Value| json!({ "step": step, "item": 0, "outcome": { "status": "completed", "output": { "value": output }, "attempt": 2 } });
    Scenario {
        name: "again",
        about: "A run that does another one again: what that had done is taken over.",
        definition: AUDIT,
        started: json!({
            "input": { "value": { "path": "/src" } },
            "retry_of": "run-0",
            "copied": [done("files", json!(["a.rs"])), done("secrets", json!([])), done("gone", json!(1))],
        }),
        happens: vec![
            ("step.examine.0.outcome", Done(json!({ "lines": 10 }))),
            ("step.report.0.outcome", Done(json!("r"))),
        ],
    }
}

impl Scenario {
    pub(crate) fn messages(&self) -> Vec<Message> {
        let (_, definition) = Plan::parse(self.definition).unwrap_or_else(|faults| panic!("{}: {faults:?}", self.name));
        let mut started = self.started.clone();
        started["definition"] = definition;
        let mut messages = vec![message(0, "started", &Says(started))];
        for (place, (subject, what)) in self.happens.iter().enumerate() {
            messages.push(message(place + 1, subject, what));
        }
        messages
    }
}

fn message(place: usize, subject: &str, what: &What) -> Message {
    let id = RequestId::parse("run-1~step~0").unwrap();
    let headers = |outcome: protocol::Outcome| {
        let mut headers = outcome.headers();
        headers.set("Sortie-Attempt", "2");
        headers.set("Sortie-Instance", "ins_1");
        headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let text = |body: Vec<u8>| String::from_utf8(body).unwrap();
    let (headers, body) = match what {
        Done(value) => {
            let outcome = protocol::Outcome::completed(id, Default::default(), serde_json::to_vec(value).unwrap());
            (headers(outcome.clone()), text(outcome.body))
        }
        Held(reference) => {
            let mut outcome = protocol::Outcome::completed(id, Default::default(), Vec::new());
            outcome.payload_ref = Some((*reference).to_owned());
            (headers(outcome), String::new())
        }
        Failed(_) | Cancelled => {
            let (status, code) = match what {
                Failed(code) => (Status::Failed, *code),
                _ => (Status::Cancelled, "cancelled"),
            };
            let outcome = protocol::Outcome::not_completed(id, status, &Failure::new(code, "as it happened"));
            (headers(outcome.clone()), text(outcome.body))
        }
        Says(value) => (Vec::new(), value.to_string()),
        Nothing => (Vec::new(), String::new()),
    };
    let at = time::parse("2027-01-15T08:00:00Z").unwrap() + std::time::Duration::from_secs(place as u64);
    Message { sequence: 100 + 7 * place as u64, at: time::format(at), subject: subject.to_owned(), headers, body }
}
