//! What events start: a run, a request, a signal. Coordinators share the events through one consumer.
//!
//! What is done for an event has an id that follows from the trigger and the event, so whoever does it again (a coordinator
//! died before it acknowledged, an event was published twice) does the same: one run, one request. The triggers are read
//! after the events that they are asked about, so that none is missed which came after `sortie trigger add` had ended.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use broker::{
    Delivery, Disposition, Error, Kind, Outgoing, PullEnd, PullEvent, PullInbox, PullRequest, SideConnection, topology,
};
use futures_util::{StreamExt, stream};
use protocol::{
    ContentType, Headers, Lane, Request, RequestId, RunId, Subject, TriggerName, header,
    run::{RunFact, Start},
    time,
    topology::{Consumer, bucket_stream, bucket_subject, triggers_consumer},
    trigger::{self, Acknowledged, TriggerSpec},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use workflow::{Trigger, trigger::Deed};

use crate::post::Post;

/// Events that are taken together.
const AT_ONCE: usize = 100;

/// How long one pull waits for an event.
const EXPIRES: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Without a word from the broker for this long, a pull is taken as lost.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// How often it is looked whether there are triggers, while there are none.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often it is noted how far the events are worked off.
const NOTED_EVERY: Duration = Duration::from_secs(1);

/// The wait before a failed turn is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long an event is put off that could not be handled.
const PUT_OFF: Duration = Duration::from_secs(1);

/// Deliveries of an event after which the object that it names is taken to be gone. A replica may not have it yet.
const OBJECT_TRIES: u64 = 5;

/// Does what triggers say.
pub(crate) struct Triggers {
    post: Post,
    known: BTreeMap<TriggerName, Known>,
    /// The last revision of any trigger that was read, at the leader.
    revision: u64,
    noted: Acknowledged,
    noted_at: Instant,
}

struct Known {
    revision: u64,
    /// None where the spec is broken: it does nothing, and was told.
    trigger: Option<Trigger>,
}

impl Triggers {
    pub(crate) fn new(post: &Post) -> Self {
        Self {
            post: post.clone(),
            known: BTreeMap::new(),
            revision: 0,
            noted: Acknowledged::default(),
            noted_at: Instant::now(),
        }
    }

    /// Handles events until `stop`.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let wait = tokio::select! {
                ended = self.turn() => match ended {
                    Ok(wait) => wait,
                    Err(error) => {
                        tracing::warn!(duty = "triggers", %error, again_in = ?AGAIN_AFTER, "events not followed");
                        AGAIN_AFTER
                    }
                },
                // What is in hand is delivered again.
                () = stop.cancelled() => return,
            };
            tokio::select! { () = tokio::time::sleep(wait) => {}, () = stop.cancelled() => {} }
        }
    }

    /// Follows events for as long as there are triggers, and says when to look again.
    async fn turn(&mut self) -> Result<Duration, Error> {
        self.read().await?;
        let Some(first) =
            self.known.values().filter_map(|known| known.trigger.as_ref()).map(|one| one.spec().after).min()
        else {
            return Ok(LOOK_EVERY);
        };
        let consumer = triggers_consumer(self.post.namespace());
        let first = first.max(self.acknowledged().await?);
        topology::ensure_consumer_from(&self.post.connection, &consumer, first + 1).await?;
        let mut inbox = PullInbox::open_apart(
            &SideConnection::new(&self.post.connection),
            std::slice::from_ref(&consumer),
            &self.post.reader,
        )
        .await?;
        for tag in 1.. {
            // One that waits, and with what it brings whatever else is there.
            let events =
                pull(&mut inbox, &consumer, PullRequest::Wait { expires: EXPIRES, heartbeat: HEARTBEAT }, tag * 2);
            let Some(mut events) = events.await? else { return Ok(Duration::ZERO) };
            if !events.is_empty() {
                let more = pull(&mut inbox, &consumer, PullRequest::Now { batch: AT_ONCE }, tag * 2 + 1).await?;
                events.extend(more.unwrap_or_default());
            }
            self.read().await?;
            if self.known.is_empty() && events.is_empty() {
                return Ok(LOOK_EVERY);
            }
            stream::iter(&events).for_each_concurrent(None, |event| self.handle(event)).await;
            self.note(&consumer).await?;
        }
        Ok(Duration::ZERO)
    }

    /// How far the events were worked off when it was noted last. A consumer that somebody deleted begins there, and not at
    /// the oldest event, whose deed would be done again once its outcome is no longer kept.
    async fn acknowledged(&self) -> Result<u64, Error> {
        let Some(entry) = self.post.state.get(trigger::ACKNOWLEDGED_KEY).await? else { return Ok(0) };
        let noted =
            entry.value.and_then(|value| serde_json::from_slice::<Acknowledged>(&value).ok()).unwrap_or_default();
        let events = topology::stream_state(&self.post.connection, &self.post.names.events).await?;
        // A stream that was made anew counts from the beginning.
        Ok(if noted.through <= events.last_sequence { noted.through } else { 0 })
    }

    /// Notes how far the events are worked off. What was done since and is done again after a loss is seconds old: its ids are
    /// known, and its outcomes are there.
    async fn note(&mut self, consumer: &Consumer) -> Result<(), Error> {
        if self.noted_at.elapsed() < NOTED_EVERY {
            return Ok(());
        }
        self.noted_at = Instant::now();
        let state = topology::consumer_state(&self.post.connection, &consumer.stream, &consumer.name).await?;
        let now = Acknowledged { through: state.ack_floor };
        if now.through > self.noted.through {
            self.post.state.put(trigger::ACKNOWLEDGED_KEY, serde_json::to_vec(&now).unwrap_or_default(), None).await?;
            self.noted = now;
        }
        Ok(())
    }

    /// Reads the triggers, if one is another than before. The leader says which revision is the last; what was read counts
    /// only if it goes that far, markers of what was removed included, because a replica may be behind.
    async fn read(&mut self) -> Result<(), Error> {
        let bucket = &self.post.names.config;
        let (stream, keys) = (bucket_stream(bucket), bucket_subject(bucket, trigger::KEYS));
        let last = self.post.reader.last_sequence_at_leader(&stream, &keys).await?;
        let revision = last.map_or(0, |(sequence, _)| sequence);
        if revision == self.revision {
            return Ok(());
        }
        let latest = self.post.reader.last_of_each(&stream, &[keys]).await?;
        if latest.iter().map(|message| message.sequence).max().unwrap_or_default() < revision {
            return Err(Error::new(Kind::TimedOut, "the triggers are not read yet"));
        }
        let before_key = bucket_subject(bucket, "");
        let mut known = BTreeMap::new();
        for message in latest {
            let Some(name) = message.subject.strip_prefix(&before_key).and_then(trigger::name_of) else { continue };
            if message.headers.get(header::KV_OPERATION).is_some() {
                known.remove(&name);
                continue;
            }
            let before = self.known.remove(&name).filter(|known| known.revision == message.sequence);
            let compiled =
                before.unwrap_or_else(|| Known { revision: message.sequence, trigger: compile(&name, &message.body) });
            known.insert(name, compiled);
        }
        (self.known, self.revision) = (known, revision);
        Ok(())
    }

    async fn handle(&self, delivery: &Delivery) {
        match self.react(delivery).await {
            Ok(()) => delivery.ack(&self.post.connection).await,
            Err(error) => {
                tracing::warn!(event = %delivery.sequence, %error, "event not handled yet");
                delivery.nak(&self.post.connection, PUT_OFF).await;
            }
        }
    }

    async fn react(&self, delivery: &Delivery) -> Result<(), Error> {
        let Some(topic) = trigger::topic(self.post.namespace(), &delivery.message.subject) else { return Ok(()) };
        let is_meant = |trigger: &Trigger| trigger.spec().is_on(topic) && delivery.sequence > trigger.spec().after;
        let meant: Vec<(&TriggerName, &Trigger)> = self
            .known
            .iter()
            .filter_map(|(name, known)| Some((name, known.trigger.as_ref().filter(|trigger| is_meant(trigger))?)))
            .collect();
        if meant.is_empty() {
            return Ok(());
        }
        if let Some(why) = delivery.unreadable() {
            tracing::error!(event = %delivery.sequence, why, "triggers do nothing for this event: its headers cannot be read");
            self.post.metrics.triggers.with_label_values(&["failed"]).inc_by(meant.len() as u64);
            return Ok(());
        }
        let event = match self.event(topic, delivery).await {
            Ok(event) => event,
            // Waiting longer for an object that is not there would keep all that follow back.
            Err(error) if delivery.delivered >= OBJECT_TRIES && is_no_object(&error) => {
                tracing::error!(event = %delivery.sequence, %error, "triggers do nothing for this event: its body cannot be had");
                self.post.metrics.triggers.with_label_values(&["failed"]).inc_by(meant.len() as u64);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let identity = trigger::identity(&delivery.message.headers, delivery.sequence);
        for (name, trigger) in meant {
            let count = |result: &str| self.post.metrics.triggers.with_label_values(&[result]).inc();
            let done = match trigger.deed(&event) {
                Ok(None) => continue,
                Ok(Some(deed)) => self.carry_out(deed, trigger::request_id(name, &identity), delivery).await,
                Err(failure) => {
                    tracing::error!(trigger = %name, event = %delivery.sequence, %failure, "trigger does nothing for this event");
                    count("failed");
                    continue;
                }
            };
            match done {
                Ok(()) => count("done"),
                // It would be refused again, and must not keep the others back.
                Err(error) if error.disposition() == Disposition::Reject => {
                    tracing::error!(trigger = %name, event = %delivery.sequence, %error, "trigger does nothing for this event");
                    count("failed");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The event as expressions see it. A body that is no data is shown as text; one that is held elsewhere is loaded.
    async fn event(&self, topic: &str, delivery: &Delivery) -> Result<Value, Error> {
        let headers = &delivery.message.headers;
        let held = match headers.get(header::PAYLOAD_REF) {
            Some(name) => Some(self.post.payloads.get(name).await?),
            None => None,
        };
        let body = held.as_ref().unwrap_or(&delivery.message.body);
        let data = match body.is_empty() {
            true => Value::Null,
            false => ContentType::read(headers.get(header::CONTENT_TYPE)).show(body),
        };
        let at = headers.get("ce-time").map_or_else(|| time::format(delivery.published_at), str::to_owned);
        Ok(workflow::trigger::event(topic, &at, headers, data))
    }

    async fn carry_out(&self, deed: Deed, id: RequestId, delivery: &Delivery) -> Result<(), Error> {
        let namespace = self.post.namespace();
        let mut request = Request::new(id.clone());
        request.trace = protocol::TraceContext::read(&delivery.message.headers);
        let mut headers = Headers::new();
        let (subject, body) = match deed {
            Deed::Start(workflow, input) => {
                let run = RunId::parse(id.as_str()).map_err(|fault| Error::new(Kind::Invalid, fault.to_string()))?;
                let lane = Lane::default();
                let start =
                    Start { request, run, lane, reply_to: None, capability: None, retry_of: None, retry_from: None };
                start.write(&mut headers);
                (Subject::Start(workflow), input)
            }
            Deed::Request(subject, input) => {
                request.write(&mut headers);
                (subject, input)
            }
            Deed::Signal(run, name, value) => (Subject::Run { run, fact: RunFact::Signal(name) }, value),
        };
        headers.set(header::CONTENT_TYPE, ContentType::Json.as_str());
        let outgoing = Outgoing::new(subject.render(namespace), body.to_string()).with_headers(headers);
        let outgoing = self.post.payloads.lighten_as(id.as_str(), outgoing).await?;
        self.post.recorder.record(&outgoing.with_message_id(id.as_str())).await.map(|_| ())
    }
}

/// Whether there is no such object, or none that can be asked for.
fn is_no_object(error: &Error) -> bool {
    error.kind() == Kind::NotFound || error.disposition() == Disposition::Reject
}

fn compile(name: &TriggerName, body: &[u8]) -> Option<Trigger> {
    let compiled = TriggerSpec::read(body).map_err(|fault| vec![fault]).and_then(Trigger::compile);
    compiled
        .map_err(|faults| tracing::error!(trigger = %name, faults = faults.join("; "), "a trigger is broken and does nothing"))
        .ok()
}

/// What a pull brings until it ends; none where the broker has let go of it.
async fn pull(
    inbox: &mut PullInbox,
    consumer: &Consumer,
    request: PullRequest,
    tag: u64,
) -> Result<Option<Vec<Delivery>>, Error> {
    inbox.pull(consumer, request, tag).await?;
    let wanted = if let PullRequest::Now { batch, .. } = request { batch } else { 1 };
    let mut brought = Vec::new();
    while brought.len() < wanted {
        let Ok(event) = tokio::time::timeout(SILENCE_MAX, inbox.next()).await else { return Ok(None) };
        match event {
            Some(PullEvent::Delivered(delivery)) => brought.push(*delivery),
            Some(PullEvent::Ended { tag: ended, end }) if ended == tag => {
                return Ok(matches!(end, PullEnd::Empty | PullEnd::Expired).then_some(brought));
            }
            Some(PullEvent::Ended { .. } | PullEvent::Alive { .. }) => {}
            // What it had not brought by then comes again.
            Some(PullEvent::Broke) => return Ok(Some(brought)),
            None => return Ok(None),
        }
    }
    Ok(Some(brought))
}
