//! What an attempt knows of itself, and what it can say and ask while it runs.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use broker::{Bucket, Connection, Outgoing, Publisher};
use bytes::Bytes;
use client::{Client, RequestBuilder};
use protocol::{
    Capability, Failure, InstanceId, Kind, Namespace, Request, RequestId, Subject, TraceContext, control::Progress,
    event, limits, subject, time::Timestamp,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    breakers::Breakers,
    configured::{Configured, CustomSettings},
};

/// Values shared by all attempts of a process, by type.
pub(crate) type Shared = Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>;

/// What every attempt of a worker has in common.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) connection: Connection,
    pub(crate) client: Client,
    pub(crate) publisher: Publisher,
    pub(crate) namespace: Namespace,
    pub(crate) instance: InstanceId,
    pub(crate) kind: Kind,
    pub(crate) state: Bucket,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) configured: Arc<Configured>,
    pub(crate) shared: Shared,
}

impl Surroundings {
    /// Who ships this worker's log lines.
    pub(crate) fn sender(&self) -> process::logging::Sender {
        let (namespace, kind, instance) = (self.namespace.clone(), self.kind.clone(), self.instance.clone());
        process::logging::Sender { namespace, kind, instance }
    }
}

/// One attempt: what it knows of itself, and what it can say and ask while it runs. Clones are the same attempt.
#[derive(Clone, Debug)]
pub struct Context {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    request: Request,
    capability: Capability,
    timeout: Duration,
    cancelled: CancellationToken,
    is_watched: AtomicBool,
    is_timed_out: AtomicBool,
    surroundings: Arc<Surroundings>,
}

impl Context {
    pub(crate) fn new(
        request: Request,
        capability: Capability,
        timeout: Duration,
        cancelled: CancellationToken,
        surroundings: Arc<Surroundings>,
    ) -> Self {
        let (is_watched, is_timed_out) = (AtomicBool::new(false), AtomicBool::new(false));
        let inner = Inner { request, capability, timeout, cancelled, is_watched, is_timed_out, surroundings };
        Self { inner: Arc::new(inner) }
    }

    /// The request's id.
    pub fn id(&self) -> &RequestId {
        &self.inner.request.id
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.request.attempt
    }

    /// What is asked for.
    pub fn capability(&self) -> &Capability {
        &self.inner.capability
    }

    /// How long this attempt may take.
    pub fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    /// After which nobody should finish the request.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.inner.request.deadline
    }

    /// The same for every attempt of a request: hand it to whatever must not take effect twice.
    pub fn idempotency_key(&self) -> &str {
        self.inner.request.id.as_str()
    }

    /// The request, or run and step, that asked for this.
    pub fn parent(&self) -> Option<&str> {
        self.inner.request.parent.as_deref()
    }

    /// The capabilities that handed this request over to a fallback, first to last.
    pub fn came_from(&self) -> &[Capability] {
        &self.inner.request.came_from
    }

    /// What this worker knows of its circuit breakers.
    pub(crate) fn breakers(&self) -> &Breakers {
        &self.inner.surroundings.breakers
    }

    /// The caller's trace context.
    pub fn trace(&self) -> &TraceContext {
        &self.inner.request.trace
    }

    /// The worker process that runs this.
    pub fn instance(&self) -> &InstanceId {
        &self.inner.surroundings.instance
    }

    /// The fleet.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.surroundings.namespace
    }

    /// The worker's connection.
    pub fn connection(&self) -> &Connection {
        &self.inner.surroundings.connection
    }

    /// Cancelled when the attempt should end: its timeout, a cancellation, or a drain whose grace is over. Whoever asks
    /// for it gets the worker's stop grace (5 s) to end by itself; a handler that never asked is dropped at once.
    pub fn cancellation(&self) -> CancellationToken {
        self.inner.is_watched.store(true, Ordering::Release);
        self.inner.cancelled.child_token()
    }

    /// Whether the handler asked for its cancellation, so that it can end by itself.
    pub(crate) fn is_watched(&self) -> bool {
        self.inner.is_watched.load(Ordering::Acquire)
    }

    /// Remembers why it is told to end, for the layers around what is dropped then.
    pub(crate) fn time_out(&self) {
        self.inner.is_timed_out.store(true, Ordering::Release);
    }

    /// Whether it was told to end because it took too long.
    pub(crate) fn is_timed_out(&self) -> bool {
        self.inner.is_timed_out.load(Ordering::Acquire)
    }

    /// A value given to the builder with `.shared(…)`.
    ///
    /// # Panics
    /// When none of this type was given: a fault in the program, found by its first request.
    #[allow(clippy::panic, reason = "a broken invariant of the program that is being written")]
    pub fn shared<T: Send + Sync + 'static>(&self) -> Arc<T> {
        let found = self.inner.surroundings.shared.get(&TypeId::of::<T>()).cloned();
        match found.map(Arc::downcast::<T>) {
            Some(Ok(value)) => value,
            _ => panic!("no shared value of type {}: give it to the builder", std::any::type_name::<T>()),
        }
    }

    /// Says how far it is. Seen live by whoever listens at `<ns>.progress.<id>`; losing it loses nothing.
    pub async fn progress(&self, percent: f64, message: impl Into<String>) {
        self.say(Progress {
            percent: Some(percent.clamp(0.0, 100.0)),
            message: Some(message.into()),
            ..Progress::default()
        })
        .await;
    }

    /// Says progress in full, with partial output for programs. What is over 64 KiB is not sent.
    pub async fn say(&self, mut progress: Progress) {
        progress.attempt = self.attempt();
        let body = serde_json::to_vec(&progress).unwrap_or_default();
        if body.len() > limits::PROGRESS_BYTES_MAX {
            tracing::warn!(request.id = %self.id(), bytes = body.len(), "progress is too large and was not sent");
            return;
        }
        let subject = Subject::Progress(self.id().clone()).render(self.namespace());
        // It fails only where the connection is closed for good, and then nobody listens.
        let _ = self.connection().publish_core(Outgoing::new(subject, body)).await;
    }

    /// Publishes an event on a topic such as `order.paid`, stored before this returns. An attempt that is tried again
    /// publishes the same id, so that the event is stored once per request and topic within two minutes.
    ///
    /// # Errors
    /// `forbidden` for a topic under `sys`, and what the broker says, retryable.
    pub async fn event<T: Serialize + Sync + ?Sized>(&self, topic: &str, data: &T) -> Result<(), Failure> {
        let is_topic =
            !topic.is_empty() && topic.split('.').all(|token| !token.is_empty() && !token.contains(['*', '>', ' ']));
        if !is_topic || topic == "sys" || topic.starts_with("sys.") {
            return Err(Failure::new(
                protocol::codes::FORBIDDEN,
                format!("`{topic}` is no topic for a handler's events"),
            ));
        }
        let id = format!("{}-{topic}", self.id());
        let source = format!("/{}/{}", self.namespace(), self.inner.surroundings.kind);
        let headers = event::headers(&id, &source, topic, protocol::time::now());
        let body = serde_json::to_vec(data)?;
        let outgoing =
            Outgoing::new(subject::event(self.namespace(), topic), body).with_headers(headers).with_message_id(id);
        self.inner.surroundings.publisher.publish_within(&outgoing, Duration::from_secs(10)).await?;
        Ok(())
    }

    /// Begins a request to another capability, as this one's child: it carries on the trace, names this request as its
    /// parent, and has the same deadline. An idempotent child needs an id of its own that follows from this one's, such
    /// as `.id(…)` with [`Context::idempotency_key`] in it: a second attempt then asks for the same child.
    pub fn request<'a, T>(&self, capability: &Capability, value: &'a T) -> RequestBuilder<'a>
    where
        T: Serialize + Sync + ?Sized,
    {
        let request = self.client().request(capability, value).parent(self.id()).trace(self.trace().clone());
        match self.deadline() {
            Some(deadline) => request.deadline(deadline),
            None => request,
        }
    }

    /// A client of the same fleet.
    pub fn client(&self) -> &Client {
        &self.inner.surroundings.client
    }

    /// The agent's own settings (`custom` of `sortie config`) as they are now.
    pub fn settings(&self) -> CustomSettings {
        self.inner.surroundings.configured.custom()
    }

    /// Values that outlive this process, shared by all agents of the capability.
    pub fn state(&self) -> StateStore {
        StateStore {
            bucket: self.inner.surroundings.state.clone(),
            prefix: format!("handler.{}", self.inner.capability),
        }
    }
}

/// Values in the state bucket under a capability's own prefix. A key is any text from 1 to 200 bytes, an
/// [idempotency key](Context::idempotency_key) for one.
#[derive(Clone, Debug)]
pub struct StateStore {
    bucket: Bucket,
    prefix: String,
}

impl StateStore {
    /// A value and its revision.
    ///
    /// # Errors
    /// What the broker says, retryable.
    pub async fn get(&self, key: &str) -> Result<Option<(Bytes, u64)>, Failure> {
        let entry = self.bucket.get(&self.key(key)?).await?;
        Ok(entry.and_then(|entry| entry.value.map(|value| (value, entry.revision))))
    }

    /// Writes a value whatever is there.
    ///
    /// # Errors
    /// What the broker says, retryable.
    pub async fn put(&self, key: &str, value: impl Into<Bytes> + Send) -> Result<u64, Failure> {
        Ok(self.bucket.put(&self.key(key)?, value, None).await?)
    }

    /// Reads, changes and writes until nobody was in between.
    ///
    /// # Errors
    /// What the broker says, retryable.
    pub async fn change<F>(&self, key: &str, change: F) -> Result<Bytes, Failure>
    where
        F: FnMut(Option<&Bytes>) -> Bytes + Send,
    {
        Ok(self.bucket.change(&self.key(key)?, None, change).await?)
    }

    /// Ids, idempotency keys among them, may have characters in them that keys of a bucket may not.
    fn key(&self, key: &str) -> Result<String, Failure> {
        if key.is_empty() || key.len() > limits::ID_BYTES_MAX {
            let message = format!("a state key has from 1 to {} bytes", limits::ID_BYTES_MAX);
            return Err(Failure::new(protocol::codes::INVALID_INPUT, message));
        }
        let mut text = format!("{}.", self.prefix);
        for byte in key.bytes() {
            match byte {
                b'-' | b'_' | b'/' => text.push(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
                _ => text.push_str(&format!("={byte:02X}")),
            }
        }
        Ok(text)
    }
}
