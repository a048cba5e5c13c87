//! Plans by hand, a line per step.

use std::{sync::Arc, time::Duration};

use protocol::{Capability, StepName, WorkflowName};
use serde_json::{Value, json};

use crate::{
    Expression, Plan, Program, Template,
    expression::Names,
    plan::{Action, Body, OnError, OnFailure, Step, StepIndex, Stop, Success, Target, Wait},
};

/// A step before its needs are numbers.
pub(crate) struct Draft {
    pub(crate) name: String,
    needs: Vec<String>,
    needs_any: Vec<String>,
    fallback: Option<String>,
    step: Step,
}

pub(crate) struct PlanDraft {
    plan: Plan,
    drafts: Vec<Draft>,
}

pub(crate) fn name(text: &str) -> StepName {
    StepName::parse(text).unwrap()
}

pub(crate) fn capability(text: &str) -> Target {
    Target::Capability(Capability::parse(text).unwrap())
}

pub(crate) fn expression(source: &str) -> Expression {
    let names = Names { has_step: &|_| true, locals: &["item", "index", "turn", "last"] };
    Expression::compile(source, &names).unwrap_or_else(|faults| panic!("{source}: {faults:?}"))
}

pub(crate) fn template(value: Value) -> Template {
    let names = Names { has_step: &|_| true, locals: &["item", "index", "turn", "last"] };
    Template::compile(&value, &names).unwrap_or_else(|faults| panic!("{value}: {faults:?}"))
}

pub(crate) fn body(with: Value) -> Body {
    Body { target: capability("work"), with: template(with), lane: None, timeout: None, deadline: None, retry: None }
}

fn draft(name: &str, action: Action) -> Draft {
    Draft {
        name: name.to_owned(),
        needs: Vec::new(),
        needs_any: Vec::new(),
        fallback: None,
        step: Step {
            name: self::name(name),
            needs: Vec::new(),
            needs_any: Vec::new(),
            dependents: Vec::new(),
            condition: None,
            action,
            on_error: OnError::Fail,
            fallback_of: None,
            undo: None,
            is_output_read: true,
        },
    }
}

pub(crate) fn call(name: &str) -> Draft {
    call_with(name, Value::Null)
}

pub(crate) fn call_with(name: &str, with: Value) -> Draft {
    draft(name, Action::Once(body(with)))
}

pub(crate) fn sub_run(name: &str, workflow: &str) -> Draft {
    let target = Target::Workflow(WorkflowName::parse(workflow).unwrap());
    draft(name, Action::Once(Body { target, ..body(Value::Null) }))
}

pub(crate) fn for_each(name: &str, items: &str, max_parallel: usize, success: Success) -> Draft {
    let action =
        Action::ForEach { items: expression(items), max_parallel, success, body: body(json!({ "item": "${ item }" })) };
    draft(name, action)
}

pub(crate) fn repeat(name: &str, until: &str, turns_max: u64, pause: Option<u64>) -> Draft {
    let with = json!({ "turn": "${ turn }", "last": "${ last }" });
    let pause = pause.map(Duration::from_secs);
    draft(name, Action::Repeat { body: body(with), until: expression(until), turns_max, pause })
}

pub(crate) fn race(name: &str, branches: usize) -> Draft {
    let branches = (0..branches).map(|number| (format!("branch-{number}"), body(json!(number)))).collect();
    draft(name, Action::Race { branches })
}

pub(crate) fn wait(name: &str, seconds: u64) -> Draft {
    draft(name, Action::Wait(Wait::For(Duration::from_secs(seconds))))
}

pub(crate) fn wait_until(name: &str, moment: &str) -> Draft {
    draft(name, Action::Wait(Wait::Until(expression(moment))))
}

pub(crate) fn signal(name: &str, signal: &str, timeout: Option<u64>, otherwise: Option<Value>) -> Draft {
    let timeout = timeout.map(Duration::from_secs);
    draft(name, Action::Signal { name: self::name(signal), timeout, otherwise: otherwise.map(template) })
}

pub(crate) fn emit(name: &str, with: Value) -> Draft {
    draft(name, Action::Emit { topic: "order.done".to_owned(), with: template(with) })
}

impl Draft {
    pub(crate) fn needs(mut self, needs: &[&str]) -> Self {
        self.needs.extend(needs.iter().map(|need| (*need).to_owned()));
        self
    }

    pub(crate) fn needs_any(mut self, needs: &[&str]) -> Self {
        self.needs_any.extend(needs.iter().map(|need| (*need).to_owned()));
        self
    }

    pub(crate) fn when(mut self, condition: &str) -> Self {
        self.step.condition = Some(expression(condition));
        self
    }

    pub(crate) fn go_on(mut self) -> Self {
        self.step.on_error = OnError::Continue;
        self
    }

    pub(crate) fn or(mut self, fallback: &str) -> Self {
        self.fallback = Some(fallback.to_owned());
        self
    }

    pub(crate) fn undo(self) -> Self {
        self.undo_with(Value::Null)
    }

    pub(crate) fn undo_with(mut self, with: Value) -> Self {
        self.step.undo = Some(Body { target: capability("undo-work"), ..body(with) });
        self
    }
}

pub(crate) fn plan(drafts: Vec<Draft>) -> PlanDraft {
    let plan = Plan {
        workflow: WorkflowName::parse("test").unwrap(),
        version: "1.0.0".to_owned(),
        serves: None,
        input: None,
        timeout: None,
        concurrency: None,
        on_failure: OnFailure { stop: Stop::FailFast, undo: false },
        steps: Vec::new(),
        output: None,
        is_input_read: true,
    };
    PlanDraft { plan, drafts }
}

impl PlanDraft {
    pub(crate) fn output(mut self, output: Value) -> Self {
        self.plan.output = Some(template(output));
        self
    }

    pub(crate) fn timeout(mut self, seconds: u64) -> Self {
        self.plan.timeout = Some(Duration::from_secs(seconds));
        self
    }

    pub(crate) fn on_failure(mut self, stop: Stop, undo: bool) -> Self {
        self.plan.on_failure = OnFailure { stop, undo };
        self
    }

    pub(crate) fn program(self) -> Arc<Program> {
        Arc::new(Program::new(self.plan()).unwrap())
    }

    pub(crate) fn plan(mut self) -> Plan {
        let names: Vec<String> = self.drafts.iter().map(|draft| draft.name.clone()).collect();
        let find = |name: &String| StepIndex(names.iter().position(|known| known == name).unwrap());
        for draft in self.drafts {
            let mut step = draft.step;
            step.needs = draft.needs.iter().map(find).collect();
            step.needs_any = draft.needs_any.iter().map(find).collect();
            if let Some(fallback) = &draft.fallback {
                step.on_error = OnError::Fallback(find(fallback));
            }
            self.plan.steps.push(step);
        }
        self.plan
    }
}
