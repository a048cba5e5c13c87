//! `steps.a.output.b[0]`: found in the data itself.

use std::{borrow::Cow, fmt, sync::Arc};

use serde_json::Value;

use super::{Scope, names::Root};
use crate::Payload;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub root: Root,
    pub segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Key(String),
    Index(usize),
}

impl Path {
    /// Whether it names something as a whole, which can be handed on without a look into it.
    pub(super) fn is_bare(&self) -> bool {
        self.segments.is_empty()
    }

    /// What the root stands for.
    pub(super) fn payload<'s>(&self, scope: &'s dyn Scope) -> Result<Cow<'s, Payload>, String> {
        let step = |name: &str| scope.step(name).ok_or_else(|| format!("there is no step `{name}`"));
        let whole = |value: &Value| Cow::Owned(Payload::Value(Arc::new(value.clone())));
        Ok(match &self.root {
            Root::Input => Cow::Borrowed(scope.input()),
            Root::Run => whole(scope.run()),
            Root::StepOutput(name) => Cow::Borrowed(step(name)?.output),
            Root::StepStatus(name) => whole(&Value::from(step(name)?.status)),
            Root::StepError(name) => whole(step(name)?.error),
            Root::Local(name) => Cow::Borrowed(scope.local(name).ok_or_else(|| format!("`{name}` is not known here"))?),
        })
    }

    /// What it names, where it is.
    pub(super) fn find<'s>(&self, scope: &'s dyn Scope) -> Result<Cow<'s, Value>, String> {
        match &self.root {
            Root::Run => self.follow(scope.run()).map(Cow::Borrowed),
            Root::StepError(name) => {
                let step = scope.step(name).ok_or_else(|| format!("there is no step `{name}`"))?;
                self.follow(step.error).map(Cow::Borrowed)
            }
            _ => match self.payload(scope)? {
                Cow::Borrowed(payload) => self.follow(self.at_hand(payload)?).map(Cow::Borrowed),
                Cow::Owned(payload) => self.follow(self.at_hand(&payload)?).cloned().map(Cow::Owned),
            },
        }
    }

    /// Whether the last segment is there: `has(…)`.
    pub(super) fn is_there(&self, scope: &dyn Scope) -> Result<bool, String> {
        let Some((Segment::Key(last), before)) = self.segments.split_last() else { return Ok(true) };
        let parent = Self { root: self.root.clone(), segments: before.to_vec() };
        match parent.find(scope)?.as_ref() {
            Value::Object(map) => Ok(map.contains_key(last)),
            other => Err(format!("`{parent}` is {} and has no `{last}`", kind(other))),
        }
    }

    fn at_hand<'p>(&self, payload: &'p Payload) -> Result<&'p Value, String> {
        match payload {
            Payload::Value(value) => Ok(value),
            Payload::Held { .. } => Err(format!("`{self}` is too large to be read, and can only be handed on")),
        }
    }

    fn follow<'v>(&self, mut value: &'v Value) -> Result<&'v Value, String> {
        for (done, segment) in self.segments.iter().enumerate() {
            let before = || Self { root: self.root.clone(), segments: self.segments[..done].to_vec() };
            value = match (segment, value) {
                (Segment::Key(key), Value::Object(map)) => {
                    map.get(key).ok_or_else(|| format!("`{}` has no `{key}`", before()))?
                }
                (Segment::Index(index), Value::Array(list)) => list
                    .get(*index)
                    .ok_or_else(|| format!("`{}` has {} items and no [{index}]", before(), list.len()))?,
                (Segment::Key(key), other) => {
                    return Err(format!("`{}` is {} and has no `{key}`", before(), kind(other)));
                }
                (Segment::Index(index), other) => {
                    return Err(format!("`{}` is {} and has no [{index}]", before(), kind(other)));
                }
            };
        }
        Ok(value)
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Input => f.write_str("input")?,
            Root::Run => f.write_str("run")?,
            Root::StepOutput(name) => write!(f, "steps.{name}.output")?,
            Root::StepStatus(name) => write!(f, "steps.{name}.status")?,
            Root::StepError(name) => write!(f, "steps.{name}.error")?,
            Root::Local(name) => f.write_str(name)?,
        }
        for segment in &self.segments {
            match segment {
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
