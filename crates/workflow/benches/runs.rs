//! What a run costs the engine: reading its definition, folding its log, deciding what follows. `cargo bench -p sortie-workflow`.
#![allow(clippy::expect_used, reason = "a bench that cannot begin ends with a panic")]

use std::{hint::black_box, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use criterion::{BatchSize, Criterion, Throughput};
use protocol::{Headers, RunId};
use serde_json::{Value, json};
use sortie_workflow::{Expression, Fact, Plan, Program, State, expression::Names};

const THREE_STEPS: &str = "
workflow: order
version: 1.0.0
steps:
  reserve: { call: reserve, with: { article: '${ input.article }', count: '${ input.count }' } }
  charge: { needs: [reserve], call: charge, with: { cents: '${ input.count * 250 }', of: '${ steps.reserve.output.id }' } }
  ship: { needs: [charge], call: ship, with: '${ steps.charge.output }' }
output: { shipped: '${ steps.ship.output }' }
";

const THOUSAND_ITEMS: &str = "
workflow: audit
version: 1.0.0
steps:
  list: { call: list }
  examine: { needs: [list], foreach: '${ steps.list.output }', call: examine, with: { file: '${ item }' } }
output: '${ size(steps.examine.output) }'
";

const ITEMS: u64 = 1_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("run of 3 steps");
    let log = Log::new(THREE_STEPS, &json!({ "article": "tea", "count": 3 }), &three_outcomes());
    group.bench_function("read its definition", |bencher| bencher.iter(|| Plan::parse(black_box(THREE_STEPS))));
    group.bench_function("fold its log, and decide after each fact", |bencher| bencher.iter(|| log.folded(true)));
    group.bench_function("read and fold its first fact, definition and all", |bencher| {
        bencher.iter(|| State::new(run()).fold(&read(&log.messages[0], 1)));
    });
    group.finish();

    let mut group = criterion.benchmark_group("run of 1,000 items");
    let log = Log::new(THOUSAND_ITEMS, &Value::Null, &thousand_outcomes());
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function("fold its log", |bencher| bencher.iter(|| log.folded(false)));
    group.bench_function("decide what is wanted with all items asked", |bencher| {
        let mut state = log.begun();
        log.facts[..2].iter().for_each(|fact| _ = state.fold(fact));
        bencher.iter(|| black_box(&state).commands_since(0));
    });
    group.bench_function("fold one outcome, and decide", |bencher| {
        let halfway = || {
            let mut state = log.begun();
            log.facts[..500].iter().for_each(|fact| _ = state.fold(fact));
            state
        };
        bencher.iter_batched_ref(
            halfway,
            |state| {
                state.fold(&log.facts[500]);
                state.commands_since(log.facts[499].sequence)
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();

    let names = Names { has_step: &|_| true, locals: &[] };
    let source = "input.list.filter(x, x > 2).map(x, x * 2).size() > 0 && input.name.startsWith('a')";
    criterion.bench_function("compile an expression", |bencher| {
        bencher.iter(|| Expression::compile(black_box(source), &names));
    });
    criterion.final_summary();
}

type Posted = (String, Vec<u8>);

/// A whole log of a run.
struct Log {
    program: Arc<Program>,
    messages: Vec<Posted>,
    facts: Vec<Fact>,
}

impl Log {
    fn new(text: &str, input: &Value, outcomes: &[Posted]) -> Self {
        let (plan, definition) = Plan::parse(text).expect("a right definition");
        let started = json!({ "definition": definition, "input": { "value": input } }).to_string();
        let mut messages = vec![("started".to_owned(), started.into_bytes())];
        messages.extend_from_slice(outcomes);
        let facts = (1..).zip(&messages).map(|(sequence, message)| read(message, sequence)).collect();
        let log = Self { program: Arc::new(Program::new(plan).expect("a right plan")), messages, facts };
        assert!(log.folded(false).ending().is_some(), "the log is whole");
        log
    }

    /// As a coordinator begins: whoever started another run of this definition has read it.
    fn begun(&self) -> State {
        State::with_program(run(), Arc::clone(&self.program))
    }

    fn folded(&self, decides: bool) -> State {
        let mut state = self.begun();
        for fact in &self.facts {
            let before = state.last_sequence();
            state.fold(black_box(fact));
            if decides {
                black_box(state.commands_since(before));
            }
        }
        state
    }
}

fn run() -> RunId {
    RunId::parse("order-17").expect("a run's id")
}

fn read((name, body): &Posted, sequence: u64) -> Fact {
    let at: DateTime<Utc> = DateTime::UNIX_EPOCH + TimeDelta::seconds(1_800_000_000);
    Fact::read(name, sequence, at, &Headers::new(), body)
}

fn three_outcomes() -> Vec<Posted> {
    let outcome = |step: &str, body: Value| (format!("step.{step}.0.outcome"), body.to_string().into_bytes());
    vec![
        outcome("reserve", json!({ "id": "r-17", "until": "2026-11-20T07:17:00Z" })),
        outcome("charge", json!({ "payment": "p-17", "cents": 750 })),
        outcome("ship", json!("tomorrow")),
    ]
}

fn thousand_outcomes() -> Vec<Posted> {
    let files: Value = (0..ITEMS).map(|number| json!(format!("src/file-{number}.rs"))).collect();
    let mut outcomes = vec![("step.list.0.outcome".to_owned(), files.to_string().into_bytes())];
    let examined =
        |item| (format!("step.examine.{item}.outcome"), json!({ "lines": 17, "ok": true }).to_string().into_bytes());
    outcomes.extend((0..ITEMS).map(examined));
    outcomes
}
