//! Runs other programs as children: each in a process group of its own, each line of their output with a name in front,
//! each started again when it crashes and ended in good order when that is wished.
//!
//! ```text
//!   Spec --> Keeper --> Child --> lines --> Console
//!              |  ^       |
//!              |  +-- restart::next(how it ended) --> again after a while | ended | given up
//!              +-- Condition, for whoever waits
//! ```

mod child;
mod console;
mod keeper;
mod lines;
pub(crate) mod restart;

pub(crate) use child::Spec;
pub(crate) use console::Console;
pub(crate) use keeper::{Condition, Keeper};
