//! What happens in a fleet, live, as core messages tell it. It is for looking on: what is told while nobody listens is
//! not told again, and nothing may be decided by it.

use std::{
    collections::{HashSet, VecDeque},
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
};

use broker::{Message, Subscription};
use protocol::{
    Capability, Lane, Outcome, RequestId, Subject, UniqueKey,
    control::Progress,
    header,
    subject::{self, filter},
};
use serde_json::Value;

use crate::{Client, Error};

/// Requests of the capability watched that are remembered, because progress names no capability: the latest.
const KNOWN_MAX: usize = 10_000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// Somebody published a request. Whether it was stored is not known here.
    Asked {
        /// Its id, where its publisher gave one.
        id: Option<RequestId>,
        /// What is asked for.
        capability: Capability,
        /// In which lane.
        lane: Lane,
        /// Under which key, where it is unique.
        key: Option<UniqueKey>,
    },
    /// A running request says how far it is.
    Progressed {
        /// The request.
        id: RequestId,
        /// What it says.
        progress: Progress,
    },
    /// A request has its outcome. A large body is left where it is.
    Ended(Outcome),
    /// An event of the system: agents that came and went, requests given up.
    Event {
        /// Its topic, `sys.agent.joined.<instance>` for one.
        topic: String,
        /// Its data.
        data: Value,
    },
}

/// Messages that wait because others came in before them, at most.
const EARLIER_MAX: usize = 1_000;

/// What happens, from when this was made.
#[derive(Debug)]
pub struct Watcher {
    client: Client,
    capability: Option<Capability>,
    /// Ordered by what causes what: requests, progress, outcomes, events.
    subscriptions: Vec<Subscription>,
    waiting: VecDeque<Message>,
    known: Known,
}

/// The latest requests of the capability that is watched.
#[derive(Debug, Default)]
struct Known {
    set: HashSet<RequestId>,
    order: VecDeque<RequestId>,
}

impl Client {
    /// Watches a capability, or the whole fleet. Of one capability, progress is shown of requests that were published
    /// under an id of their own since then, and of events those that name it.
    ///
    /// # Errors
    /// What subscribing says.
    pub async fn watch(&self, capability: Option<&Capability>) -> Result<Watcher, Error> {
        let (connection, namespace) = (self.connection(), self.namespace());
        let [urgent, normal, bulk] = match capability.cloned() {
            None => filter::requests(namespace),
            Some(capability) => {
                Lane::ALL.map(|lane| Subject::Request { lane, capability: capability.clone() }.render(namespace))
            }
        };
        let mut subscriptions = Vec::new();
        for subject in [
            urgent,
            normal,
            bulk,
            filter::unique(namespace, capability),
            filter::progress(namespace),
            filter::told(namespace),
            filter::event(namespace, "sys"),
        ] {
            subscriptions.push(connection.subscribe(subject).await?);
        }
        Ok(Watcher {
            client: self.clone(),
            capability: capability.cloned(),
            subscriptions,
            waiting: VecDeque::new(),
            known: Known::default(),
        })
    }
}

impl Watcher {
    /// What happens next; none when the connection is closed for good. What was caused comes after its cause.
    pub async fn next(&mut self) -> Option<Happening> {
        loop {
            let message = self.next_message().await?;
            if let Some(happening) = self.read(&message).filter(|happening| self.is_wanted(happening)) {
                self.known.note(self.capability.is_some(), &happening);
                return Some(happening);
            }
        }
    }

    /// Each subscription has its own order. What came in before a message is there when the message is, so it is taken
    /// first: progress of a request that was not seen yet would be nobody's.
    async fn next_message(&mut self) -> Option<Message> {
        if let Some(message) = self.waiting.pop_front() {
            return Some(message);
        }
        let any = poll_fn(|context| match poll_first(&mut self.subscriptions, context) {
            Some(first) => Poll::Ready(first),
            None => Poll::Pending,
        });
        let (index, message) = any.await;
        let message = message?;
        let causes = &mut self.subscriptions[..index];
        while self.waiting.len() < EARLIER_MAX
            && let Some((_, Some(earlier))) = poll_fn(|context| Poll::Ready(poll_first(causes, context))).await
        {
            self.waiting.push_back(earlier);
        }
        self.waiting.push_back(message);
        self.waiting.pop_front()
    }

    fn read(&self, message: &Message) -> Option<Happening> {
        let namespace = self.client.namespace();
        let events = subject::event(namespace, "");
        if let Some(topic) = message.subject.strip_prefix(&events) {
            let data = serde_json::from_slice(&message.body).unwrap_or(Value::Null);
            return Some(Happening::Event { topic: topic.to_owned(), data });
        }
        let named = |name| message.headers.get(name).and_then(|text| RequestId::from_client(text).ok());
        let id = || named(header::REQUEST_ID).or_else(|| named(header::NATS_MSG_ID));
        Some(match Subject::parse(namespace, &message.subject)? {
            Subject::Request { lane, capability } => Happening::Asked { id: id(), capability, lane, key: None },
            Subject::Unique { capability, key } => {
                Happening::Asked { id: None, capability, lane: Lane::default(), key: Some(key) }
            }
            Subject::Progress(id) => {
                Happening::Progressed { id, progress: serde_json::from_slice(&message.body).ok()? }
            }
            Subject::Told(id) => Happening::Ended(Outcome::read(id, &message.headers, &message.body)),
            _ => return None,
        })
    }

    fn is_wanted(&self, happening: &Happening) -> bool {
        let Some(wanted) = &self.capability else { return true };
        match happening {
            Happening::Asked { capability, .. } => capability == wanted,
            Happening::Progressed { id, .. } => self.known.set.contains(id),
            Happening::Ended(outcome) => match &outcome.capability {
                Some(capability) => capability == wanted,
                None => self.known.set.contains(&outcome.id),
            },
            Happening::Event { topic, data } => {
                let named = data.get("capability").and_then(Value::as_str);
                named == Some(wanted.as_str()) || topic.rsplit('.').next() == Some(wanted.as_str())
            }
        }
    }
}

/// The first of these subscriptions that has a message, or has ended.
fn poll_first(subscriptions: &mut [Subscription], context: &mut Context<'_>) -> Option<(usize, Option<Message>)> {
    subscriptions.iter_mut().enumerate().find_map(|(index, subscription)| {
        match pin!(subscription.next()).poll(context) {
            Poll::Ready(message) => Some((index, message)),
            Poll::Pending => None,
        }
    })
}

impl Known {
    fn note(&mut self, is_filtered: bool, happening: &Happening) {
        let Happening::Asked { id: Some(id), .. } = happening else { return };
        if !is_filtered || !self.set.insert(id.clone()) {
            return;
        }
        self.order.push_back(id.clone());
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }
}
