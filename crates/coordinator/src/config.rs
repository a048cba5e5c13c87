use std::time::Duration;

use protocol::Namespace;

/// How a coordinator does its duties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The fleet. Defaults to `fleet`.
    pub namespace: Namespace,
    /// How long the streams are waited for at the start. Defaults to 30 s.
    pub topology_within: Duration,
    /// How long a duty stays with a coordinator that no longer says so. Whole seconds. Defaults to 30 s.
    pub lease_ttl: Duration,
    /// How often a lease is renewed, and how often one of another coordinator is tried. Defaults to 10 s.
    pub lease_renewed_every: Duration,
    /// How often messages that the broker gave up are looked for. Two looks in a row must find one. Defaults to 30 s.
    pub dead_letters_every: Duration,
    /// How often schedules are looked at. Defaults to 60 s.
    pub overdue_every: Duration,
    /// How often specs of recurring requests are compared with their schedules. Defaults to 10 s.
    pub crons_every: Duration,
    /// How late a schedule must be before it is published again. Defaults to 5 s.
    pub overdue_by: Duration,
    /// How often deadlines and the unserved are looked at. Defaults to 5 s.
    pub deadlines_every: Duration,
    /// The least time between two events about whether one capability is served. Defaults to 60 s.
    pub unserved_told_every: Duration,
    /// How often what operators wish of queues is looked at. Defaults to 1 s.
    pub wishes_every: Duration,
    /// How often the registry is looked at for agents that are gone. Defaults to 3 s.
    pub agents_every: Duration,
    /// How often the figures of the fleet as a whole are asked for. Defaults to 10 s.
    pub gauges_every: Duration,
    /// How often facts are looked for that belong to no run. Defaults to 5 min.
    pub strays_every: Duration,
    /// How old a fact must be that came before its run, before it counts as one of no run. Defaults to 1 h.
    pub strays_kept: Duration,
    /// How often some of the runs are looked at for timers that the broker has lost, all in turn. Defaults to 5 min.
    pub timers_every: Duration,
    /// How often dead letters are looked at for those that a rule sends again. Defaults to 5 s.
    pub redrive_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            namespace: Namespace::default(),
            topology_within: Duration::from_secs(30),
            lease_ttl: Duration::from_secs(30),
            lease_renewed_every: Duration::from_secs(10),
            dead_letters_every: Duration::from_secs(30),
            overdue_every: Duration::from_secs(60),
            crons_every: Duration::from_secs(10),
            overdue_by: Duration::from_secs(5),
            deadlines_every: Duration::from_secs(5),
            unserved_told_every: Duration::from_secs(60),
            wishes_every: Duration::from_secs(1),
            agents_every: Duration::from_secs(3),
            gauges_every: Duration::from_secs(10),
            strays_every: Duration::from_secs(300),
            strays_kept: Duration::from_secs(3_600),
            timers_every: Duration::from_secs(300),
            redrive_every: Duration::from_secs(5),
        }
    }
}
