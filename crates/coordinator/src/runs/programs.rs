//! What definitions compile to, shared by all runs of the same one: most runs of a fleet are of a few.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use workflow::Program;

/// Programs that are remembered; past that all are forgotten, and made again as they are needed.
const KEPT_MAX: usize = 256;

/// Programs by their definitions.
#[derive(Debug, Default)]
pub(super) struct Programs {
    kept: Mutex<HashMap<Value, Arc<Program>>>,
}

impl Programs {
    /// The program of a definition; none where it cannot be run, which whoever folds it finds out by itself.
    pub(super) fn get(&self, definition: &Value) -> Option<Arc<Program>> {
        if let Some(program) = self.kept().get(definition) {
            return Some(Arc::clone(program));
        }
        let program = Arc::new(Program::read(definition).ok()?);
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(definition.clone(), Arc::clone(&program));
        Some(program)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Value, Arc<Program>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
