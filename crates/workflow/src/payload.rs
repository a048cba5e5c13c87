//! A value that a step gave or takes: at hand, or in the object store.

use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A value, or where it is held. What is only handed on from one step to the next is never loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// At hand.
    Value(Arc<Value>),
    /// In the object store: what `Sortie-Payload-Ref` names, with the encoding of what it names.
    Held {
        /// The reference, as the header carries it.
        reference: String,
        /// The media type of the object.
        content_type: String,
    },
}

impl Default for Payload {
    fn default() -> Self {
        // Most steps of most runs have none: they share it.
        static NULL: LazyLock<Arc<Value>> = LazyLock::new(|| Arc::new(Value::Null));
        Self::Value(Arc::clone(&NULL))
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        Self::Value(Arc::new(value))
    }
}
