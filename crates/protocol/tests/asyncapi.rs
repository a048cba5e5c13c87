//! `schemas/asyncapi.yaml` says what the types say. What fails here names what to add to that file.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sortie_protocol::{
    BreakerName, Capability, CronName, InstanceId, Kind, Lane, Namespace, Operator, RequestId, RunFact, RunId,
    RunTimer, StepName, Subject, TriggerName, UniqueKey, WorkflowName, breaker, desired, event, mark, redrive, run,
    subject,
    subject::Verb,
    topology::{Names, Settings, Source, bucket_subject, streams},
    trigger,
};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn document() -> Value {
    let text = fs::read_to_string(folder("../../schemas/asyncapi.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("schemas/asyncapi.yaml is no YAML: {error}"))
}

/// One subject of each kind, and of each lane and verb.
fn subjects() -> Vec<Subject> {
    let capability = Capability::parse("echo").unwrap();
    let id = RequestId::parse("req-1").unwrap();
    let mut all = vec![
        Subject::Later(id.clone()),
        Subject::Cron(CronName::parse("nightly").unwrap()),
        Subject::Fire(CronName::parse("nightly").unwrap()),
        Subject::Start(WorkflowName::parse("audit").unwrap()),
        Subject::Unique { capability: capability.clone(), key: UniqueKey::parse("k").unwrap() },
        Subject::Outcome(id.clone()),
        Subject::Told(id.clone()),
        Subject::StepOutcome { run: RunId::parse("r").unwrap(), step: StepName::parse("s").unwrap(), item: 0 },
        Subject::Timer { run: RunId::parse("r").unwrap(), timer: RunTimer::Run },
        Subject::Dead { capability: capability.clone(), id: id.clone() },
        Subject::Replayed { capability: capability.clone(), id: id.clone(), request: id.clone() },
        Subject::Progress(id),
        Subject::Log { kind: Kind::parse("echo").unwrap(), instance: InstanceId::parse("ins_1").unwrap() },
    ];
    let facts = [
        RunFact::Started,
        RunFact::TimerFired(RunTimer::Run),
        RunFact::Signal(StepName::parse("s").unwrap()),
        RunFact::Cancel,
        RunFact::Pause,
        RunFact::Resume,
        RunFact::Unreadable(1),
    ];
    all.extend(facts.map(|fact| Subject::Run { run: RunId::parse("r").unwrap(), fact }));
    all.extend(Lane::ALL.map(|lane| Subject::Request { lane, capability: capability.clone() }));
    all.extend(Verb::ALL.map(|verb| Subject::Control { instance: None, verb }));
    assert!(all.iter().all(is_listed));
    all
}

/// Does not compile where a kind of subject is new: put one into the list above, and its channel into the file.
fn is_listed(subject: &Subject) -> bool {
    use Subject::*;
    match subject {
        Request { .. }
        | Later(_)
        | Cron(_)
        | Fire(_)
        | Start(_)
        | Unique { .. }
        | Outcome(_)
        | Told(_)
        | StepOutcome { .. }
        | Run { .. }
        | Timer { .. } => true,
        Dead { .. } | Replayed { .. } | Progress(_) | Control { .. } | Log { .. } => true,
    }
}

/// One subject of everything that a fleet publishes.
fn samples() -> Vec<String> {
    let namespace = Namespace::default();
    let names = Names::of(&namespace);
    let instance = InstanceId::parse("ins_1").unwrap();
    let topics = [
        event::AGENT_JOINED,
        event::AGENT_GONE,
        event::REQUEST_DEAD,
        event::CAPABILITY_UNSERVED,
        event::BREAKER_OPENED,
        event::CRON_SKIPPED,
    ];
    let capability = Capability::parse("echo").unwrap();
    let mut all: Vec<String> = subjects().iter().map(|subject| subject.render(&namespace)).collect();
    all.extend(topics.map(|topic| subject::event(&namespace, &format!("{topic}.x"))));
    all.push(subject::event(&namespace, "orders.paid"));
    all.push(subject::event(&namespace, &format!("{}.audit.completed.run-1", event::RUN)));
    all.push(subject::audit(&namespace, &Operator::nearest("me"), "queue-pause"));
    all.push(format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{}.echo", names.requests));
    all.extend([
        bucket_subject(&names.agents, &format!("echo.{instance}")),
        bucket_subject(&names.state, &breaker::key(&BreakerName::from(&Capability::parse("echo").unwrap()))),
        bucket_subject(&names.state, &run::holders_key(&WorkflowName::parse("audit").unwrap(), Some("1"))),
        bucket_subject(&names.state, &mark::mark_key(&names.requests, 1)),
        bucket_subject(&names.state, &mark::tries_key(&names.unique, 1)),
        bucket_subject(&names.state, &mark::schema_key("d")),
        bucket_subject(&names.locks, "coordinator.overdue"),
        bucket_subject(&names.desired, "a.b"),
        bucket_subject(&names.desired, &desired::queue_key(&capability, Source::Unique)),
        bucket_subject(&names.state, &desired::steered_key(&capability, Source::Unique)),
        bucket_subject(&names.config, "a.b"),
        bucket_subject(&names.config, &redrive::rule_key(&Kind::parse("slow").unwrap())),
        bucket_subject(&names.config, &trigger::key(&TriggerName::parse("paid").unwrap())),
        bucket_subject(&names.config, "cron.nightly"),
        bucket_subject(&names.config, "settings.global"),
        bucket_subject(&names.config, "settings.kind.words"),
        bucket_subject(&names.config, "settings.instance.ins_1"),
        bucket_subject(&names.workflows, "audit"),
        format!("$O.{}.C.x", names.payloads),
    ]);
    all
}

#[derive(Debug)]
struct Channel {
    name: String,
    address: String,
    stream: Option<String>,
    /// Parameters that stand for several tokens.
    many: BTreeSet<String>,
}

fn channels(document: &Value) -> Vec<Channel> {
    let all = document["channels"].as_object().unwrap();
    let channel = |(name, channel): (&String, &Value)| {
        let parameters = channel["parameters"].as_object().unwrap();
        let address = channel["address"].as_str().unwrap().to_owned();
        let braced: BTreeSet<&str> = address.split('.').filter_map(parameter).collect();
        let declared: BTreeSet<&str> = parameters.keys().map(String::as_str).collect();
        assert_eq!(braced, declared, "the parameters of channel {name} are not those of its address");
        let many = parameters.iter().filter(|(_, parameter)| parameter["x-tokens"] == "many");
        Channel {
            many: many.map(|(name, _)| name.clone()).collect(),
            stream: channel["x-stream"].as_str().map(str::to_owned),
            name: name.clone(),
            address,
        }
    };
    all.iter().map(channel).collect()
}

/// The name in `{…}`.
fn parameter(token: &str) -> Option<&str> {
    token.strip_prefix('{')?.strip_suffix('}')
}

impl Channel {
    /// How many tokens of the address are spelled out, if it fits: the channel that spells most is meant.
    fn fits(&self, subject: &str) -> Option<usize> {
        let mut tokens = subject.split('.');
        let mut spelled = 0;
        for wanted in self.address.split('.') {
            let token = tokens.next()?;
            match parameter(wanted) {
                Some(name) if self.many.contains(name) => return Some(spelled),
                Some(_) => {}
                None if wanted == token => spelled += 1,
                None => return None,
            }
        }
        tokens.next().is_none().then_some(spelled)
    }
}

fn channel_of<'a>(channels: &'a [Channel], subject: &str) -> Option<&'a Channel> {
    channels.iter().filter(|channel| channel.fits(subject).is_some()).max_by_key(|channel| channel.fits(subject))
}

/// Whether a subject is one of a stream's, which may have wildcards.
fn is_covered(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(wanted), Some(token)) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
}

#[test]
fn every_subject_has_its_channel_and_every_channel_its_subject() {
    let channels = channels(&document());
    let mut found = BTreeSet::new();
    for subject in samples() {
        let channel = channel_of(&channels, &subject).unwrap_or_else(|| {
            panic!(
                "schemas/asyncapi.yaml has no channel for {subject}: add it to `channels`, with x-stream and message"
            )
        });
        found.insert(&channel.name);
    }
    let all: BTreeSet<_> = channels.iter().map(|channel| &channel.name).collect();
    assert_eq!(all, found, "channels that nothing publishes to: remove them, or add a subject to `samples` here");
}

#[test]
fn every_control_verb_and_lane_has_a_channel_of_its_own() {
    let channels = channels(&document());
    let names: BTreeSet<_> = subjects()
        .iter()
        .map(|subject| channel_of(&channels, &subject.render(&Namespace::default())).map(|channel| &channel.name))
        .collect();
    assert_eq!(names.len(), subjects().len());
}

#[test]
fn channels_name_the_streams_that_store_them() {
    let channels = channels(&document());
    let streams = streams(&Namespace::default(), &Settings::default());
    let mut stored = BTreeSet::new();
    for subject in samples() {
        let Some(channel) = channel_of(&channels, &subject) else { continue };
        let covers = |filter: &String| is_covered(filter, &subject);
        let stream = streams.iter().find(|stream| stream.subjects.iter().any(covers)).map(|stream| &stream.name);
        assert_eq!(channel.stream.as_ref(), stream, "x-stream of channel {}, as {subject} is stored", channel.name);
        stored.extend(stream);
    }
    for stream in &streams {
        assert!(stored.contains(&stream.name), "no channel of schemas/asyncapi.yaml is stored in {}", stream.name);
    }
}

/// Rust sources without their tests.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push(text.split("#[cfg(test)]").next().unwrap().to_owned());
        }
    }
}

/// Every header that this crate spells.
fn headers_of_the_types() -> BTreeSet<String> {
    const FOREIGN: [&str; 4] = ["Content-Type", "traceparent", "tracestate", "baggage"];
    let is_ours = |text: &str| ["Sortie-", "Nats-", "ce-"].iter().any(|prefix| text.starts_with(prefix));
    let is_name =
        |text: &str| !text.ends_with('-') && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    let mut texts = Vec::new();
    sources(&folder("src"), &mut texts);
    let spelled = texts.iter().flat_map(|text| text.split('"'));
    spelled.filter(|text| FOREIGN.contains(text) || is_ours(text) && is_name(text)).map(str::to_owned).collect()
}

#[test]
fn every_header_is_described_and_exists() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let of_headers = schemas.iter().filter(|(name, _)| name.ends_with("Headers"));
    let properties = of_headers.flat_map(|(_, schema)| schema["properties"].as_object().unwrap().keys());
    let described: BTreeSet<String> = properties.cloned().collect();
    let spelled = headers_of_the_types();
    assert!(spelled.len() > 20, "{spelled:?}");
    for name in &spelled {
        assert!(
            described.contains(name),
            "schemas/asyncapi.yaml does not describe header {name}: add it to a schema `…Headers` under components"
        );
    }
    for name in &described {
        assert!(spelled.contains(name), "schemas/asyncapi.yaml describes header {name}, which nothing spells");
    }
}

/// Every `$ref` below a value.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                found.insert(reference.to_owned());
            }
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_file_is_referred_to() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for pointer in found.iter().filter_map(|reference| reference.strip_prefix('#')) {
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere in schemas/asyncapi.yaml");
    }
    let files: BTreeSet<&str> = found.iter().filter_map(|reference| reference.strip_prefix("./")).collect();
    let names = fs::read_dir(folder("../../schemas")).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    // What stands in files travels as it is in no message.
    let is_message = |name: &&str| name.ends_with(".json") && !["workflow.json", "accepted.json"].contains(name);
    let schemas: BTreeSet<&str> = names.iter().map(String::as_str).filter(is_message).collect();
    assert_eq!(
        schemas, files,
        "files of schemas/ against those that schemas/asyncapi.yaml refers to as `$ref: ./…`: each is some message's \
         payload or header"
    );
    for kind in ["messages", "parameters", "schemas"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(found.contains(&reference), "nothing refers to {reference}");
        }
    }
}
