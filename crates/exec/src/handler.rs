//! What answers one capability: its schemas around its command.

use std::{collections::BTreeMap, future::Future};

use protocol::{Capability, Failure};
use serde_json::Value;
use worker::layer::Shapes;

use crate::{
    command::{Call, Command, Own, Reaper},
    definition::{CommandDefinition, Definition},
};

/// A command between the schemas of its input and its result.
#[derive(Debug)]
pub struct CommandHandler {
    command: Command,
    shapes: Shapes,
}

impl CommandHandler {
    /// Makes the handlers of a whole definition.
    ///
    /// # Errors
    /// Everything that stands against serving it on this machine, a sentence each: programs that are not there,
    /// directories that do not exist.
    pub fn all(
        definition: &Definition,
        own: Own<'_>,
        reaper: &Reaper,
    ) -> Result<BTreeMap<Capability, Self>, Vec<String>> {
        let mut handlers = BTreeMap::new();
        let mut obstacles = Vec::new();
        for (capability, command) in &definition.capabilities {
            match Self::new(definition, command, own, reaper) {
                Ok(handler) => {
                    handlers.insert(capability.clone(), handler);
                }
                Err(obstacle) => obstacles.push(format!("capability `{capability}`: {obstacle}")),
            }
        }
        if obstacles.is_empty() { Ok(handlers) } else { Err(obstacles) }
    }

    fn new(
        definition: &Definition,
        command: &CommandDefinition,
        own: Own<'_>,
        reaper: &Reaper,
    ) -> Result<Self, String> {
        let shapes = Shapes::compile(command.schema.input.as_ref(), command.schema.output.as_ref())?;
        let command = Command::new(definition, command, own, reaper);
        match command.obstacle() {
            Some(obstacle) => Err(obstacle),
            None => Ok(Self { command, shapes }),
        }
    }

    /// Answers one attempt; see [`Command::run`].
    ///
    /// # Errors
    /// Those of [`Command::run`], and before it `invalid_input`, after it `invalid_output`, where the
    /// definition has a schema that says so. Neither is retried.
    pub async fn answer(
        &self,
        call: &Call,
        input: &Value,
        on_line: &(dyn Fn(&str) + Send + Sync),
        cancelled: impl Future<Output = ()> + Send,
    ) -> Result<Value, Failure> {
        self.shapes.check_input(input)?;
        let result = self.command.run(call, input, on_line, cancelled).await?;
        self.shapes.check_output(&result)?;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::{future::pending, time::Duration};

    use protocol::{RequestId, codes};
    use serde_json::json;

    use super::*;

    fn handlers(text: &str) -> Result<BTreeMap<Capability, CommandHandler>, Vec<String>> {
        CommandHandler::all(&Definition::parse(text).unwrap(), &crate::command::own, &Reaper::default())
    }

    #[test]
    fn every_obstacle_is_told() {
        let obstacles = handlers(
            "{kind: k, version: 1.0.0, capabilities: {a: {command: [nope]}, b: {command: [sh]}, c: {command: [/nope]}}}",
        );
        let obstacles = obstacles.unwrap_err();
        assert_eq!(obstacles.len(), 2, "{obstacles:?}");
        assert!(obstacles[0].contains("`a`") && obstacles[1].contains("`/nope`"), "{obstacles:?}");
    }

    #[tokio::test]
    async fn schemas_stand_before_and_after_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("ran");
        let script = format!("echo ran >> {}; cat", trace.display());
        let definition = json!({"kind": "k", "version": "1.0.0", "capabilities": {"echo": {
            "command": ["sh", "-c", script],
            "schema": {"input": {"required": ["n"]}, "output": {"properties": {"n": {"type": "integer"}}}},
        }}});
        let handlers = handlers(&definition.to_string()).unwrap();
        let (capability, handler) = handlers.iter().next().unwrap();
        let call = Call {
            request: RequestId::generate(),
            attempt: 1,
            capability: capability.clone(),
            deadline: None,
            traceparent: None,
            timeout: Duration::from_secs(30),
        };
        let answer = async |input: Value| handler.answer(&call, &input, &|_| {}, pending()).await;
        assert_eq!(answer(json!({})).await.unwrap_err().code, codes::INVALID_INPUT);
        assert!(!trace.exists(), "the command ran on what its schema refuses");
        assert_eq!(answer(json!({"n": "x"})).await.unwrap_err().code, codes::INVALID_OUTPUT);
        assert_eq!(answer(json!({"n": 1})).await.unwrap(), json!({"n": 1}));
    }
}
