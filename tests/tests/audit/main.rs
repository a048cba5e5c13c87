//! `sortie audit`: what is well is proved, also while it moves and while workers die; every fault that is planted by hand is
//! found, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod command;
mod moving;
mod planted;
mod site;
mod structure;
