//! The handle on a fleet: one connection, one namespace, and what is asked of them.

use std::{sync::Arc, time::Duration};

use broker::{BrokerClock, Connection, Kind, PayloadStore, Publisher, Reader};
use bytes::Bytes;
use protocol::{
    Namespace, Origin, Outcome, RequestId, Subject, limits, subject,
    time::Timestamp,
    topology::{self, Names},
};
use tokio::{sync::Mutex, time::Instant};

use crate::{Error, ErrorKind, wait::Ears};

/// How long a look at the broker's clock is good for; the monotonic clock carries it on.
const CLOCK_KEPT: Duration = Duration::from_secs(300);

/// How often, and how far apart, an object is asked for that a replica may not have yet.
const OBJECT_TRIES: u32 = 5;
const OBJECT_WAIT: Duration = Duration::from_millis(200);

/// A handle on a fleet. Clones share one connection and one bound of what is in flight.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    namespace: Namespace,
    names: Names,
    publisher: Publisher,
    reader: Reader,
    payloads: PayloadStore,
    clock: BrokerClock,
    clock_seen: Mutex<Option<Instant>>,
    ears: Ears,
}

impl Client {
    /// Connects to a broker and speaks to the fleet of this namespace there.
    ///
    /// # Errors
    /// `Unreachable`, `Forbidden`, `Invalid`: what [`Connection::open`] says.
    pub async fn connect(options: broker::Options, namespace: Namespace) -> Result<Self, Error> {
        Ok(Self::new(Connection::open(options).await?, namespace))
    }

    /// Speaks to the fleet of this namespace over a connection that is there.
    pub fn new(connection: Connection, namespace: Namespace) -> Self {
        let names = Names::of(&namespace);
        // Strangers write what it reads: headers that break a connection must not break the one of everything else.
        let reader = Reader::apart(&connection);
        let inner = Inner {
            publisher: Publisher::new(&connection).in_groups(&namespace),
            payloads: PayloadStore::new(&connection, names.payloads.as_str()).read_by(&reader),
            reader,
            clock: BrokerClock::unadjusted(),
            clock_seen: Mutex::new(None),
            ears: Ears::new(&connection, &namespace),
            connection,
            namespace,
            names,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// The fleet that is spoken to.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// Now, on the broker's clock: times that the broker acts on are computed from it.
    ///
    /// # Errors
    /// `StreamsMissing`, and what asking the broker says.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        let mut seen = self.inner.clock_seen.lock().await;
        if seen.is_none_or(|seen| seen.elapsed() > CLOCK_KEPT) {
            let stream = &self.inner.names.requests;
            self.inner.clock.adjust(&self.inner.connection, stream).await.map_err(|error| match error.kind() {
                Kind::NotFound => Error::streams_missing(stream),
                _ => error.into(),
            })?;
            *seen = Some(Instant::now());
        }
        Ok(self.inner.clock.now())
    }

    /// The outcome of a request, if there is one. Any replica may answer, so one that was stored this very moment may
    /// not be seen yet; to wait for one, use [`Client::wait`](Client::wait).
    ///
    /// # Errors
    /// `StreamsMissing`, `Unreadable` for a large body that is gone, and what reading says.
    pub async fn outcome(&self, id: &RequestId) -> Result<Option<Outcome>, Error> {
        match self.stored_outcome(id).await? {
            Some(outcome) => Ok(Some(self.with_body(outcome).await?)),
            None => Ok(None),
        }
    }

    /// The stored outcome, its body still a reference where it is one.
    pub(crate) async fn stored_outcome(&self, id: &RequestId) -> Result<Option<Outcome>, Error> {
        let Inner { reader, names, namespace, .. } = &*self.inner;
        let (stream, found) = match id.origin() {
            Origin::Step { run, step, item } => {
                let filter = subject::stored_step_outcome(namespace, &run, &step, item);
                let found = reader.last_of_each(&names.runs, &[filter]).await;
                (&names.runs, found.map(|mut found| found.pop()))
            }
            _ => {
                let subject = Subject::outcome_of(id).render(namespace);
                (&names.outcomes, reader.last(&names.outcomes, &subject).await)
            }
        };
        match found {
            Ok(found) => Ok(found.map(|message| Outcome::read(id.clone(), &message.headers, &message.body))),
            Err(error) => Err(self.explained(error, stream).await),
        }
    }

    /// The outcome with its body, wherever that lives.
    pub(crate) async fn with_body(&self, mut outcome: Outcome) -> Result<Outcome, Error> {
        let Some(object) = outcome.payload_ref.take() else { return Ok(outcome) };
        match self.payload(&object).await {
            Ok(body) => {
                outcome.body = body.to_vec();
                Ok(outcome)
            }
            Err(error) => {
                let message = format!("the body of request {}'s outcome cannot be read: {error}", outcome.id);
                Err(Error::new(ErrorKind::Unreadable, message).about(&outcome.id))
            }
        }
    }

    /// A body from the object store; a replica may be behind for a moment.
    pub(crate) async fn payload(&self, object: &str) -> Result<Bytes, broker::Error> {
        self.payload_up_to(object, limits::BODY_BYTES_MAX).await
    }

    /// The same of at most so many bytes.
    pub(crate) async fn payload_up_to(&self, object: &str, bytes_max: usize) -> Result<Bytes, broker::Error> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.inner.payloads.get_up_to(object, bytes_max).await {
                Err(error) if tried < OBJECT_TRIES && error.kind() != Kind::TooLarge => {
                    tokio::time::sleep(OBJECT_WAIT).await;
                }
                ended => return ended,
            }
        }
    }

    /// "Nobody answers" is a stream that does not exist, or one that has no leader for some seconds: this looks which.
    pub(crate) async fn explained(&self, error: broker::Error, stream: &str) -> Error {
        if error.kind() != Kind::NoResponders {
            return error.into();
        }
        match broker::topology::stream_state(&self.inner.connection, stream).await {
            Err(reason) if reason.kind() == Kind::NotFound => Error::streams_missing(stream),
            Ok(state) if !state.stream.allow_direct => Error::new(
                ErrorKind::Broker,
                format!(
                    "stream {stream} lets nobody look up what it holds: its allow_direct is off; set it back with \
                     `sortie topology apply`"
                ),
            ),
            _ => Error::new(
                ErrorKind::TimedOut,
                format!("stream {stream} does not answer; it may have no leader just now"),
            ),
        }
    }

    pub(crate) fn names(&self) -> &Names {
        &self.inner.names
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.inner.publisher
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.inner.reader
    }

    pub(crate) fn payloads(&self) -> &PayloadStore {
        &self.inner.payloads
    }

    pub(crate) fn ears(&self) -> &Ears {
        &self.inner.ears
    }

    pub(crate) fn bucket(&self, name: &str) -> broker::Bucket {
        broker::Bucket::new(&self.inner.connection, &self.inner.publisher, name)
    }

    /// The stream behind a bucket, for [`Client::explained`].
    pub(crate) fn bucket_stream(name: &str) -> String {
        topology::bucket_stream(name)
    }
}
