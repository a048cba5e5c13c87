//! The table of checks.

mod agents;
mod breakers;
mod clocks;
mod consumers;
mod coordinator;
mod crons;
mod dead;
mod marks;
mod permissions;
mod poison;
mod runs;
mod server;
mod store;
mod streams;
mod topology;
mod work;

use futures_util::future::BoxFuture;

use crate::{Patient, finding::Finding, patient::Fact};

/// What a check found; nothing means that all is well.
type Found = Fact<Vec<Finding>>;

/// One check.
#[derive(Debug)]
pub struct Check {
    /// Its name, one word.
    pub name: &'static str,
    /// What there is to say where it finds nothing.
    pub fine: &'static str,
    run: for<'a> fn(&'a Patient) -> BoxFuture<'a, Found>,
}

impl Check {
    pub(crate) fn run<'a>(&self, patient: &'a Patient) -> BoxFuture<'a, Found> {
        (self.run)(patient)
    }

    /// Whether it says nothing of its own where the account has no JetStream.
    pub(crate) fn needs_jetstream(&self) -> bool {
        !["server", "jetstream"].contains(&self.name)
    }
}

macro_rules! checks {
    ($($name:literal, $run:path, $fine:literal;)*) => {
        &[$(Check { name: $name, fine: $fine, run: |patient| Box::pin($run(patient)) }),*]
    };
}

/// Every check, in the order in which findings are told: the broker, its streams, work, agents.
pub const CHECKS: &[Check] = checks! {
    "server", server::version, "the server is new enough";
    "jetstream", server::jetstream, "JetStream answers";
    "permissions", permissions::permissions, "we may do what an operator does";
    "durability", server::durability, "what is acknowledged is on the disk";
    "store", store::store, "the store takes what is published";
    "clocks", clocks::servers, "the clocks of broker and this machine agree";
    "streams", streams::answering, "every stream is there and answers";
    "drift", topology::drift, "every stream is as the topology says";
    "limits", topology::limits, "no limit deletes what was acknowledged";
    "retention", topology::retention, "what proves something is kept for as long as usual";
    "replicas", streams::replicas, "every copy of every stream is current";
    "consumer-cap", streams::consumer_cap, "there is room for more consumers";
    "duplicate-window", streams::duplicate_window, "publishes may be repeated for long enough";
    "consumers", topology::consumers, "every consumer is as workers make it";
    "ack-deadline", consumers::ack_deadline, "nothing is delivered again while it runs";
    "in-flight", consumers::in_flight, "consumers deliver as much as there are slots for";
    "coordinator", coordinator::coordinator, "a coordinator does its duties";
    "coordinator-consumers", coordinator::consumers, "coordinators are given all that they share";
    "unserved", work::unserved, "whatever has work is served";
    "paused", work::paused, "nothing that has work is paused";
    "breaker", breakers::breakers, "no circuit breaker is open";
    "given-up", work::given_up, "the broker has given nothing up";
    "overdue", work::overdue, "no schedule is overdue";
    "timers", runs::timers, "no timer of a run is overdue";
    "run-owners", runs::owners, "every run that is alive is followed by a coordinator";
    "cron", crons::crons, "every recurring request has its schedule";
    "poison", poison::poison, "no message has killed a worker";
    "dead-letters", dead::dead_letters, "nothing was given up lately";
    "dead-marks", marks::marks, "every dead letter says what became of it";
    "health", agents::health, "every agent is healthy";
    "answering", agents::answering, "every agent answers";
    "consuming", agents::consuming, "every agent with free slots takes work";
    "agents-clock", clocks::agents, "what agents say is recent";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_stand_once() {
        let mut names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
    }
}
