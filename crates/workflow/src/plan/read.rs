//! A definition to a plan, or everything that is wrong with it.
//!
//! The JSON Schema finds wrong keys and spellings; each step is then looked at by itself, so that one that cannot be read
//! hides no fault of the others.

mod action;

use std::{collections::HashMap, sync::LazyLock};

use document::{Checker, Document, Fault, Located, below};
use protocol::{Capability, StepName, WorkflowName, limits};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Action, Concurrency, Exceeding, OnError, OnFailure, Plan, Step, StepIndex, Stop, Target, Wait,
    order::{self, Waits},
};
use crate::{
    Expression, Template,
    definition::{
        ConcurrencyDefinition, Definition, OnErrorDefinition, OnFailureDefinition, STEPS_MAX, StepDefinition,
        StopDefinition, ThenDefinition, UNDONE_NAME_BYTES_MAX,
    },
    expression::{Names, Reference, Root},
    template,
};
use action::Knobs;

/// Compiling the schema costs more than all the rest.
static SCHEMA: LazyLock<Checker> = LazyLock::new(Checker::of::<Definition>);

/// What was found out about a definition.
pub(crate) struct Found {
    /// The plan; none if there are faults, or what is read is no workflow at all.
    pub plan: Option<Plan>,
    /// Every fault, in the order of the text.
    pub faults: Vec<Fault>,
    /// Who is asked, by the pointer of the step or body that says so.
    pub asked: Vec<(String, Target)>,
    /// What is read of the outputs of steps.
    pub reads: Vec<OutputRead>,
    /// What may be meant, and is most likely not.
    pub warnings: Vec<Fault>,
}

/// A property of a step's output that an expression reads.
pub(crate) struct OutputRead {
    /// The step whose output it is.
    pub step: StepName,
    pub key: String,
    /// The text that the expression is in, and the place in that.
    pub pointer: String,
    pub line: u64,
    pub column: u64,
}

pub(crate) fn read(located: &Located) -> Found {
    let mut reader = Reader::new(located);
    let plan = reader.plan();
    let warnings = reader.warnings(plan.as_ref());
    let reads = reader.mentions.iter().filter_map(Mention::output_read).collect();
    let Reader { mut faults, asked, .. } = reader;
    faults.sort_by_key(|fault| (fault.line, fault.column));
    faults.dedup();
    Found { plan: plan.filter(|_| faults.is_empty()), faults, asked, reads, warnings }
}

struct Reader<'d> {
    located: &'d Located,
    names: Vec<String>,
    indexes: HashMap<String, usize>,
    mentions: Vec<Mention>,
    asked: Vec<(String, Target)>,
    faults: Vec<Fault>,
}

/// A name in an expression.
struct Mention {
    /// The text that it is in.
    pointer: String,
    root: Root,
    key: Option<String>,
    is_read: bool,
    line: u64,
    column: u64,
    by: Mentioner,
}

/// Who names something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mentioner {
    /// A step, before it has an output.
    Step(usize),
    /// The undoing of a step.
    Undo(usize),
    /// The whole workflow, when every step has ended.
    Output,
    /// The whole workflow, before a step has begun.
    Beginning,
}

impl<'d> Reader<'d> {
    fn new(located: &'d Located) -> Self {
        let names = order::names(located);
        let indexes = names.iter().enumerate().map(|(index, name)| (name.clone(), index)).collect();
        Self { located, names, indexes, mentions: Vec::new(), asked: Vec::new(), faults: Vec::new() }
    }

    fn plan(&mut self) -> Option<Plan> {
        self.faults = SCHEMA.faults(self.located);
        if self.names.len() > STEPS_MAX {
            // The schema has said so; looking at each of very many is no help.
            return None;
        }
        document::check_schema(self.located, "/input", &mut self.faults);
        let mut steps: Vec<Option<Step>> = (0..self.names.len()).map(|index| self.step(index)).collect();
        self.check_order();
        let waits = self.waits();
        self.fallbacks(&mut steps);
        let workflow: Option<WorkflowName> = self.of("/workflow");
        let output = self.output();
        let concurrency = self.concurrency();
        let after = order::check(&waits, &self.names, self.located, &mut self.faults);
        self.check_mentions(&after);
        let mut steps: Vec<Step> = steps.into_iter().collect::<Option<_>>()?;
        for (index, wait) in waits.iter().enumerate() {
            for need in wait.needs.iter().chain(&wait.needs_any) {
                let dependents = &mut steps[*need].dependents;
                if dependents.last() != Some(&StepIndex(index)) {
                    dependents.push(StepIndex(index));
                }
            }
            let numbers = |list: &[usize]| list.iter().copied().map(StepIndex).collect();
            steps[index].needs = numbers(&wait.needs);
            steps[index].needs_any = numbers(&wait.needs_any);
        }
        for step in self.mentions.iter().filter_map(|mention| mention.read_output(&self.indexes)) {
            steps[step].is_output_read = true;
        }
        let is_input_read = self.mentions.iter().any(|mention| mention.is_read && mention.root == Root::Input);
        Some(Plan {
            workflow: workflow?,
            version: self.of("/version")?,
            serves: self.of::<Capability>("/serves"),
            input: self.located.value.get("input").filter(|schema| !schema.is_null()).cloned(),
            timeout: self.text("/timeout").and_then(|text| protocol::duration::parse(text).ok()),
            concurrency,
            on_failure: self.on_failure(),
            steps,
            output,
            is_input_read,
        })
    }

    /// What is at this pointer, if it is that. If not, the schema has said so.
    fn of<T: DeserializeOwned>(&self, pointer: &str) -> Option<T> {
        serde_json::from_value(self.located.value.pointer(pointer)?.clone()).ok()
    }

    fn text(&self, pointer: &str) -> Option<&'d str> {
        self.located.value.pointer(pointer)?.as_str()
    }

    fn fault(&mut self, pointer: &str, message: impl Into<String>) {
        self.faults.push(self.located.fault(pointer, message.into()));
    }

    fn step(&mut self, index: usize) -> Option<Step> {
        let name = StepName::parse(&self.names[index]).ok();
        let pointer = below("/steps", &self.names[index]);
        let definition: Option<StepDefinition> = self.of(&pointer);
        let (name, definition) = (name?, definition?);
        let condition = definition
            .condition
            .as_ref()
            .and_then(|source| self.expression(&below(&pointer, "if"), source, &[], Mentioner::Step(index)));
        let action = self.action(index, &pointer, &definition);
        let undo = definition.undo.as_ref().and_then(|undo| {
            let at = below(&pointer, "undo");
            if name.as_str().len() > UNDONE_NAME_BYTES_MAX {
                let message = format!(
                    "the name of a step with an `undo` has at most {UNDONE_NAME_BYTES_MAX} characters, for its undoing is the step `undo_{name}`"
                );
                self.fault(&at, message);
            }
            let knobs = Knobs::of_body(undo).or(&Knobs::of_step(&definition));
            let asked = (undo.call.as_ref(), undo.workflow.as_ref(), undo.with.as_ref());
            self.body(&at, asked, &knobs, undo_locals(&definition), Mentioner::Undo(index))
        });
        Some(Step {
            name,
            needs: Vec::new(),
            needs_any: Vec::new(),
            dependents: Vec::new(),
            condition,
            action: action?,
            on_error: match &definition.on_error {
                Some(OnErrorDefinition::Word(word)) if word == "continue" => OnError::Continue,
                // A fallback is put in when all steps are known.
                _ => OnError::Fail,
            },
            fallback_of: None,
            undo,
            is_output_read: false,
        })
    }

    /// Who waits for whom, as far as it is readable.
    fn waits(&mut self) -> Vec<Waits> {
        let mut waits: Vec<Waits> = Vec::with_capacity(self.names.len());
        for index in 0..self.names.len() {
            let pointer = below("/steps", &self.names[index]);
            let needs = self.needs(index, &below(&pointer, "needs"));
            let needs_any = self.needs(index, &below(&pointer, "needs_any"));
            waits.push(Waits { needs, needs_any, fallback_of: None });
        }
        for index in 0..self.names.len() {
            let at = format!("{}/on_error/fallback", below("/steps", &self.names[index]));
            let Some(target) = self.text(&at) else { continue };
            match self.indexes.get(target).copied() {
                None => self.unknown_step(&at, target),
                Some(target) if target == index => self.fault(&at, "a step is no fallback of itself"),
                Some(target) => match waits[target].fallback_of {
                    Some(other) => {
                        let message = format!(
                            "`{}` is the fallback of `{}` already; a step stands for one other",
                            self.names[target], self.names[other]
                        );
                        self.fault(&at, message);
                    }
                    None => waits[target].fallback_of = Some(index),
                },
            }
        }
        waits
    }

    fn needs(&mut self, index: usize, pointer: &str) -> Vec<usize> {
        let listed = self.located.value.pointer(pointer).and_then(Value::as_array);
        let mut needs = Vec::new();
        for (place, name) in listed.into_iter().flatten().enumerate().take(STEPS_MAX) {
            let Some(name) = name.as_str() else { continue };
            let at = below(pointer, &place.to_string());
            match self.indexes.get(name).copied() {
                None => self.unknown_step(&at, name),
                Some(need) if need == index => self.fault(&at, "a step cannot need itself"),
                Some(need) => needs.push(need),
            }
        }
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    fn unknown_step(&mut self, pointer: &str, name: &str) {
        let shown = limits::truncate(name, 80);
        let hint = nearest(name, &self.names).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        self.fault(pointer, format!("there is no step `{shown}`{hint}"));
    }

    fn fallbacks(&mut self, steps: &mut [Option<Step>]) {
        for index in 0..steps.len() {
            let at = format!("{}/on_error/fallback", below("/steps", &self.names[index]));
            let target = self.text(&at).and_then(|target| self.indexes.get(target).copied());
            let Some(target) = target.filter(|target| *target != index) else { continue };
            if let Some(step) = &mut steps[index] {
                step.on_error = OnError::Fallback(StepIndex(target));
            }
            if let Some(step) = &mut steps[target] {
                step.fallback_of = Some(StepIndex(index));
            }
        }
    }

    fn check_order(&mut self) {
        let order: Vec<String> = self.of("/order").unwrap_or_default();
        for (place, name) in order.iter().enumerate() {
            let at = format!("/order/{place}");
            if !self.indexes.contains_key(name) {
                self.unknown_step(&at, name);
            }
        }
    }

    fn output(&mut self) -> Option<Template> {
        let value = self.located.value.get("output").filter(|value| !value.is_null())?;
        self.template("/output", value, &[], Mentioner::Output)
    }

    fn concurrency(&mut self) -> Option<Concurrency> {
        let definition: ConcurrencyDefinition = self.of("/concurrency")?;
        let key = definition.key.and_then(|key| {
            let begin = self.mentions.len();
            let template = self.template("/concurrency/key", &Value::from(key), &[], Mentioner::Beginning);
            // It is made into text before there is a run.
            self.mentions[begin..].iter_mut().for_each(|mention| mention.is_read = true);
            template
        });
        let then = match definition.then {
            ThenDefinition::Queue => Exceeding::Queue,
            ThenDefinition::Reject => Exceeding::Reject,
        };
        Some(Concurrency { key, limit: definition.limit, then })
    }

    fn on_failure(&self) -> OnFailure {
        let definition: OnFailureDefinition = self.of("/on_failure").unwrap_or_default();
        let stop = match definition.stop {
            StopDefinition::FailFast => Stop::FailFast,
            StopDefinition::FinishWhatRuns => Stop::FinishWhatRuns,
        };
        OnFailure { stop, undo: definition.undo }
    }

    /// An expression, bare or in `${ … }`.
    fn expression(&mut self, pointer: &str, text: &str, locals: &[&'static str], by: Mentioner) -> Option<Expression> {
        let compiled = {
            let has_step = |name: &str| self.indexes.contains_key(name);
            template::expression(text, &Names { has_step: &has_step, locals })
        };
        match compiled {
            Ok(expression) => {
                for reference in expression.references() {
                    let (pointer, reference) = (pointer.to_owned(), reference.clone());
                    self.mentions.push(Mention::new(pointer, reference, true, by));
                }
                Some(expression)
            }
            Err(faults) => {
                for fault in faults {
                    self.fault(pointer, fault.to_string());
                }
                None
            }
        }
    }

    fn template(&mut self, pointer: &str, value: &Value, locals: &[&'static str], by: Mentioner) -> Option<Template> {
        let compiled = {
            let has_step = |name: &str| self.indexes.contains_key(name);
            Template::compile(value, &Names { has_step: &has_step, locals })
        };
        match compiled {
            Ok(template) => {
                for template::Reference { pointer: inner, reference, is_read } in template.references() {
                    let pointer = format!("{pointer}{inner}");
                    self.mentions.push(Mention::new(pointer, reference, is_read, by));
                }
                Some(template)
            }
            Err(faults) => {
                for template::Fault { pointer: inner, fault } in faults {
                    self.fault(&format!("{pointer}{inner}"), fault.to_string());
                }
                None
            }
        }
    }

    /// What can be run, and will most likely not do what is meant.
    fn warnings(&self, plan: Option<&Plan>) -> Vec<Fault> {
        let mut warnings = Vec::new();
        let schema = self.located.value.get("input");
        let known: Vec<String> = schema
            .and_then(|schema| schema.get("properties")?.as_object())
            .map(|properties| properties.keys().cloned().collect())
            .unwrap_or_default();
        for mention in self.mentions.iter().filter(|mention| mention.root == Root::Input && !known.is_empty()) {
            let Some(key) = mention.key.as_ref().filter(|key| !known.contains(key)) else { continue };
            let hint = nearest(key, &known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let message = format!("the schema of the input has no `{}`{hint}", limits::truncate(key, 80));
            let place = crate::expression::Fault { line: mention.line, column: mention.column, message };
            warnings.push(self.located.fault(&mention.pointer, place.to_string()));
        }
        for step in plan.into_iter().flat_map(|plan| &plan.steps) {
            let (key, waits) = match &step.action {
                Action::Signal { timeout, .. } => ("timeout", *timeout),
                Action::Wait(Wait::For(duration)) => ("wait", Some(*duration)),
                _ => continue,
            };
            let Some((waits, timeout)) = waits.zip(plan.and_then(|plan| plan.timeout)) else { continue };
            if waits >= timeout {
                let (waits, timeout) = (protocol::duration::format(waits), protocol::duration::format(timeout));
                let message = format!("a run is given up after {timeout}, before these {waits} are over");
                warnings.push(self.located.fault(&below(&below("/steps", step.name.as_str()), key), message));
            }
        }
        warnings
    }

    /// Whether what each expression names has ended by then.
    fn check_mentions(&mut self, after: &order::After) {
        let mut found = Vec::new();
        for mention in &self.mentions {
            let Some(named) = mention.root.step().and_then(|name| self.indexes.get(name).copied()) else { continue };
            let name = &self.names[named];
            let message = match mention.by {
                Mentioner::Output => continue,
                Mentioner::Step(step) | Mentioner::Undo(step) if after.is_after(step, named) => continue,
                Mentioner::Undo(step) if step == named => continue,
                Mentioner::Step(step) if step == named => "a step cannot read itself".to_owned(),
                Mentioner::Step(_) | Mentioner::Undo(_) => {
                    format!("it reads `steps.{name}` but does not wait for it; add `{name}` to `needs`")
                }
                Mentioner::Beginning => "no step has begun when this is looked at; it knows `input`".to_owned(),
            };
            let place = crate::expression::Fault { line: mention.line, column: mention.column, message };
            found.push(self.located.fault(&mention.pointer, place.to_string()));
        }
        self.faults.extend(found);
    }
}

impl Mention {
    fn new(pointer: String, reference: Reference, is_read: bool, by: Mentioner) -> Self {
        let Reference { root, key, line, column } = reference;
        Self { pointer, root, key, is_read, line, column, by }
    }

    /// The property of an output that it names.
    fn output_read(&self) -> Option<OutputRead> {
        let Root::StepOutput(step) = &self.root else { return None };
        Some(OutputRead {
            step: StepName::parse(step).ok()?,
            key: self.key.clone()?,
            pointer: self.pointer.clone(),
            line: self.line,
            column: self.column,
        })
    }

    /// The step whose output has to be at hand for it.
    fn read_output(&self, indexes: &HashMap<String, usize>) -> Option<usize> {
        match (&self.root, self.by) {
            _ if !self.is_read => None,
            (Root::StepOutput(name), _) => indexes.get(name).copied(),
            // What a turn gave is read by the next, and what something gave by what undoes it.
            (Root::Local("last"), Mentioner::Step(index) | Mentioner::Undo(index)) => Some(index),
            _ => None,
        }
    }
}

/// What the undo of one item, turn or branch knows of it: what its input knew, and with `last` its output.
fn undo_locals(step: &StepDefinition) -> &'static [&'static str] {
    if step.foreach.is_some() {
        &["item", "index", "last"]
    } else if step.repeat.is_some() {
        &["turn", "last"]
    } else if step.race.is_some() {
        &["last"]
    } else {
        &[]
    }
}

impl Plan {
    /// Reads a definition that was stored: the JSON of a [`Definition`].
    ///
    /// # Errors
    /// Everything that is wrong with it, without lines; never an empty list.
    pub fn read(definition: &Value) -> Result<Self, Vec<Fault>> {
        plan_of(read(&Located::of(definition.clone())))
    }

    /// Reads the text of a definition, YAML or JSON. Gives the plan, and the definition as it is to be stored.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text; never an empty list.
    pub fn parse(text: &str) -> Result<(Self, Value), Vec<Fault>> {
        let located = locate(text)?;
        let plan = plan_of(read(&located))?;
        let definition = stored(&located, &plan);
        Ok((plan, definition))
    }

    /// The JSON Schema of a definition, for editors. The checks are made with it.
    pub fn schema() -> Value {
        Definition::schema()
    }
}

/// A definition with the order of its text, which JSON does not keep.
pub(crate) fn stored(located: &Located, plan: &Plan) -> Value {
    let mut definition = located.value.clone();
    if let Some(map) = definition.as_object_mut() {
        map.insert("order".to_owned(), plan.steps.iter().map(|step| step.name.as_str()).collect());
    }
    definition
}

/// A text with its places.
pub(crate) fn locate(text: &str) -> Result<Located, Vec<Fault>> {
    if text.len() as u64 > document::FILE_BYTES_MAX {
        let message =
            format!("{} bytes are too many for a definition; {} is the limit", text.len(), document::FILE_BYTES_MAX);
        return Err(vec![Fault { line: 0, column: 0, path: String::new(), message }]);
    }
    Located::read(text)
}

pub(crate) fn plan_of(found: Found) -> Result<Plan, Vec<Fault>> {
    match (found.plan, found.faults) {
        (Some(plan), faults) if faults.is_empty() => Ok(plan),
        (_, faults) if faults.is_empty() => {
            let message = "this is not the definition of a workflow".to_owned();
            Err(vec![Fault { line: 0, column: 0, path: String::new(), message }])
        }
        (_, faults) => Err(faults),
    }
}

/// The name that was most likely meant: one edit away, or the same but for case.
pub(crate) fn nearest<'n>(name: &str, names: &'n [String]) -> Option<&'n String> {
    let is_near = |known: &&String| {
        let (a, b) = (known.as_bytes(), name.as_bytes());
        if a.eq_ignore_ascii_case(b) {
            return true;
        }
        let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let (rest_a, rest_b) = (&a[same..], &b[same..]);
        let cut = |rest: &[u8], by: usize| rest.get(by..).map(<[u8]>::to_vec);
        !(rest_a.is_empty() && rest_b.is_empty())
            && (cut(rest_a, 1) == cut(rest_b, 1)
                || cut(rest_a, 1) == cut(rest_b, 0)
                || cut(rest_a, 0) == cut(rest_b, 1))
    };
    names.iter().find(is_near)
}
