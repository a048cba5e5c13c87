//! Subjects, names, and the keys of buckets, a line each.

use std::{fmt::Debug, str::FromStr};

use protocol::{
    BreakerName, Capability, CronName, InstanceId, Kind, Namespace, Operator, Origin, RequestId, RunFact, RunId,
    RunTimer, StepName, Subject, TriggerName, UniqueKey, WorkflowName, cron, desired, mark, redrive,
    run::{StoredFact, step_outcome_of},
    settings::Scope,
    subject::{Lane, Verb},
    trigger,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::text_of;

/// Feeds subjects, names and keys: what is read is written as it was.
pub fn subjects(data: &[u8]) {
    for line in text_of(data).lines().take(100) {
        subject(line);
        names(line);
        keys(line);
    }
}

fn subject(line: &str) {
    let own = line.split('.').next().and_then(|token| Namespace::parse(token).ok());
    for namespace in [Namespace::default()].into_iter().chain(own) {
        if let Some(subject) = Subject::parse(&namespace, line) {
            assert_eq!(subject.render(&namespace), line);
        }
        if let Some(stored) = StoredFact::parse(&namespace, line) {
            let published = format!("{namespace}.run.{}.{}", stored.run, stored.name);
            if let Some(fact) = RunFact::parse(&stored.name) {
                let run = stored.run.clone();
                assert_eq!(Subject::parse(&namespace, &published), Some(Subject::Run { run, fact }));
            }
        }
        if let Some(topic) = trigger::topic(&namespace, line) {
            assert!(line.ends_with(topic));
        }
    }
    if let Some(fact) = RunFact::parse(line) {
        assert_eq!(fact.to_string(), line);
    }
    if let Some(timer) = RunTimer::parse(line) {
        assert_eq!(timer.to_string(), line);
    }
    if let Some((step, item)) = step_outcome_of(line) {
        assert_eq!(format!("step.{step}.{item}.outcome"), line);
    }
}

fn names(line: &str) {
    let request = name::<RequestId>(line);
    name::<Namespace>(line);
    name::<Capability>(line);
    name::<CronName>(line);
    name::<InstanceId>(line);
    name::<Kind>(line);
    name::<Operator>(line);
    name::<StepName>(line);
    name::<TriggerName>(line);
    name::<UniqueKey>(line);
    name::<WorkflowName>(line);
    name::<BreakerName>(line);
    if let Some(run) = name::<RunId>(line) {
        assert_eq!(RequestId::from(&run).as_str(), line);
    }
    let Some(id) = request else { return };
    if let Origin::Step { run, step, item } = id.origin() {
        assert_eq!(RequestId::of_step(&run, &step, item), id);
    }
    let fleet = Namespace::default();
    for subject in [Subject::outcome_of(&id), Subject::Later(id.clone()), Subject::Progress(id.clone())] {
        assert_eq!(Subject::parse(&fleet, &subject.render(&fleet)), Some(subject));
    }
    if RequestId::from_client(line).is_ok() {
        assert_eq!(id.origin(), Origin::Client);
    }
    protocol::replay::number_of(&id);
    let again = protocol::replay::replay_id(&id, 7, Some(b"{}"));
    assert_eq!(protocol::replay::number_of(&again), Some(7), "{again}");
}

/// What is a name is written as it was read, by itself and in JSON.
fn name<T>(line: &str) -> Option<T>
where
    T: FromStr + ToString + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let name: T = line.parse().ok()?;
    assert_eq!(name.to_string(), line);
    let json = serde_json::to_string(&name).expect("a name is a text");
    assert_eq!(serde_json::from_str::<T>(&json).ok().as_ref(), Some(&name));
    Some(name)
}

fn keys(line: &str) {
    if let Some((capability, source)) = desired::parse_queue_key(line) {
        assert_eq!(desired::queue_key(&capability, source), line);
    }
    if let Some((capability, source)) = desired::parse_steered_key(line) {
        assert_eq!(desired::steered_key(&capability, source), line);
    }
    if let Some((stream, _, sequence)) = mark::parse_mark_key(&Namespace::default(), line) {
        assert_eq!(mark::mark_key(&stream, sequence), line);
    }
    if let Some((stream, sequence)) = mark::parse_tries_key(line) {
        assert_eq!(mark::tries_key(stream, sequence), line);
    }
    if let Some(name) = cron::name_of(line) {
        assert_eq!(cron::key(&name), line);
    }
    if let Some(name) = redrive::rule_name(line) {
        assert_eq!(redrive::rule_key(&name), line);
    }
    if let Some(scope) = Scope::of_key(line) {
        assert_eq!(scope.key(), line);
    }
    if let Some(verb) = Verb::parse(line) {
        assert_eq!(verb.token(), line);
    }
    if let Some(lane) = Lane::named(line) {
        assert_eq!(lane.name(), line);
    }
}
