//! Outputs that nobody gave: examples of a schema, and values in which everything is that expressions read.

use std::collections::BTreeMap;

use protocol::StepName;
use serde_json::{Map, Value, json};

use crate::{
    Expression, Plan,
    expression::{Root, Segment},
    plan::{Action, Body, Wait},
};

/// How deep an example goes.
const DEPTH_MAX: usize = 8;

/// How many values an example has. A schema that refers to itself may have a thousand properties that do the same.
const VALUES_MAX: usize = 1_000;

/// How long an invented list is.
const ITEMS: usize = 2;

/// The largest index that an invented list is made for.
const INDEX_MAX: usize = 100;

/// Something that a JSON Schema takes, in most cases.
pub(super) fn example(schema: &Value) -> Value {
    example_of(schema, &mut Example { whole: schema, values: 0 }, 0)
}

struct Example<'s> {
    whole: &'s Value,
    values: usize,
}

fn example_of(schema: &Value, example: &mut Example<'_>, depth: usize) -> Value {
    example.values += 1;
    if depth > DEPTH_MAX || example.values > VALUES_MAX {
        return Value::Null;
    }
    let first = |key: &str| schema.get(key).and_then(|list| list.get(0));
    let said = schema.get("const").or_else(|| schema.get("default")).or_else(|| first("examples"));
    if let Some(value) = said.or_else(|| first("enum")) {
        return value.clone();
    }
    if let Some(pointer) = schema.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix('#')) {
        return example.whole.pointer(pointer).map_or(Value::Null, |schema| example_of(schema, example, depth + 1));
    }
    if let Some(choice) = first("oneOf").or_else(|| first("anyOf")).or_else(|| first("allOf")) {
        return example_of(choice, example, depth + 1);
    }
    let kind = schema.get("type");
    let kind = kind.and_then(|kind| kind.as_str().or_else(|| kind.get(0)?.as_str()));
    match kind {
        Some("string") => json!("text"),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(true),
        Some("array") => {
            let item = schema.get("items").map_or(Value::Null, |items| example_of(items, example, depth + 1));
            Value::from(vec![item; ITEMS])
        }
        Some("object") => object(schema, example, depth),
        None if schema.get("properties").is_some() => object(schema, example, depth),
        _ => Value::Null,
    }
}

fn object(schema: &Value, example: &mut Example<'_>, depth: usize) -> Value {
    let properties = schema.get("properties").and_then(Value::as_object);
    let entries =
        properties.into_iter().flatten().map(|(name, schema)| (name.clone(), example_of(schema, example, depth + 1)));
    Value::Object(entries.collect())
}

/// For each step whose output is looked into, a value that has what is looked for: lists where they are gone through, text
/// elsewhere.
pub(super) fn by_use(plan: &Plan) -> BTreeMap<StepName, Value> {
    let mut shapes = Shapes::default();
    for (index, step) in plan.steps.iter().enumerate() {
        let name = step.name.as_str();
        shapes.read(&step.condition, name);
        match &step.action {
            Action::Once(body) => shapes.read_body(body, name),
            Action::ForEach { items, body, .. } => {
                shapes.read_body(body, name);
                let item = shapes.locals.remove(&(name.to_owned(), "item")).unwrap_or_else(|| json!("item"));
                for (root, segments) in items.paths() {
                    shapes.put(root, segments, Value::from(vec![item.clone(); ITEMS]), name);
                }
            }
            Action::Repeat { body, until, .. } => {
                shapes.read_body(body, name);
                shapes.read([until], name);
            }
            Action::Race { branches } => branches.iter().for_each(|(_, body)| shapes.read_body(body, name)),
            Action::Wait(Wait::Until(moment)) => shapes.read([moment], name),
            Action::Signal { otherwise, .. } => shapes.read(otherwise.iter().flat_map(|with| with.expressions()), name),
            Action::Emit { with, .. } => shapes.read(with.expressions(), name),
            Action::Wait(Wait::For(_)) => {}
        }
        if let Some(undo) = &plan.steps[index].undo {
            shapes.read_body(undo, name);
        }
    }
    shapes.read(plan.output.iter().flat_map(|output| output.expressions()), "");
    let named = |(name, shape): (String, Value)| StepName::parse(&name).ok().map(|name| (name, shape));
    shapes.outputs.into_iter().filter_map(named).collect()
}

#[derive(Default)]
struct Shapes {
    outputs: BTreeMap<String, Value>,
    /// `item` by the step that knows it.
    locals: BTreeMap<(String, &'static str), Value>,
}

impl Shapes {
    fn read_body(&mut self, body: &Body, step: &str) {
        self.read(body.with.expressions(), step);
    }

    fn read<'e>(&mut self, expressions: impl IntoIterator<Item = &'e Expression>, step: &str) {
        for expression in expressions {
            for (root, segments) in expression.paths() {
                let text = match (segments.last(), root) {
                    (Some(Segment::Key(key)), _) => key.clone(),
                    (_, Root::StepOutput(name)) => name.clone(),
                    (_, Root::Local(name)) => (*name).to_owned(),
                    _ => "text".to_owned(),
                };
                self.put(root, segments, Value::from(text), step);
            }
        }
    }

    fn put(&mut self, root: &Root, segments: &[Segment], leaf: Value, step: &str) {
        let shape = match root {
            Root::StepOutput(name) => self.outputs.entry(name.clone()).or_default(),
            Root::Local("last") => self.outputs.entry(step.to_owned()).or_default(),
            Root::Local(name) => self.locals.entry((step.to_owned(), *name)).or_default(),
            _ => return,
        };
        put(shape, segments, leaf);
    }
}

fn put(shape: &mut Value, segments: &[Segment], leaf: Value) {
    let Some((first, rest)) = segments.split_first() else {
        // What is known of the inside is worth more than that it is used.
        if !shape.is_object() && !shape.is_array() {
            *shape = leaf;
        }
        return;
    };
    match first {
        Segment::Key(key) => {
            if !shape.is_object() {
                *shape = Value::Object(Map::new());
            }
            if let Some(map) = shape.as_object_mut() {
                put(map.entry(key.clone()).or_insert(Value::Null), rest, leaf);
            }
        }
        Segment::Index(index) => {
            if !shape.is_array() {
                *shape = Value::from(vec![Value::Null; ITEMS]);
            }
            if let Some(list) = shape.as_array_mut()
                && *index <= INDEX_MAX
            {
                list.resize(list.len().max(index + 1), Value::Null);
                put(&mut list[*index], rest, leaf);
            }
        }
    }
}
