//! Waiting for outcomes.
//!
//! The broker republishes every stored outcome at `told.<id>`, so a waiter listens there, looks once whether the outcome
//! is there already, and waits. A core message can be lost, so it looks again from time to time, and whenever the
//! connection was made anew.
//!
//! ```text
//!   few waits:   one subscription each, told.<id>       a look each after 2, 4, 8, 10, 10 ... s
//!   many waits:  one subscription for all, told.*       a look for all that are due in one read
//!   a step:      no republish; only looks               after 0.1, 0.2, 0.4 ... 5 s
//! ```

mod shared;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use broker::{Connection, Subscription};
use protocol::{Namespace, Origin, Outcome, RequestId, Subject, duration::DURATION_MAX};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use self::shared::{Shared, Told};
use crate::{Client, Error, ErrorKind};

/// Waits with a subscription of their own. Each costs the server, and in a cluster every route, a subscription and its
/// end; one for everything costs what others are told as well. A few requests at a time never see that.
const ALONE_MAX: usize = 64;

/// When a lost message is looked for first, and at longest how often.
const LOOK_FIRST: Duration = Duration::from_secs(2);
const LOOK_CAP: Duration = Duration::from_secs(10);

/// The same where nothing is told.
const POLL_FIRST: Duration = Duration::from_millis(100);
const POLL_CAP: Duration = Duration::from_secs(5);

/// Growing waits between looks.
#[derive(Clone, Copy, Debug)]
struct Looks {
    next: Instant,
    wait: Duration,
    cap: Duration,
}

impl Looks {
    fn new(first: Duration, cap: Duration) -> Self {
        Self { next: Instant::now() + first, wait: first, cap }
    }

    fn looked(&mut self, now: Instant) {
        self.wait = (self.wait * 2).min(self.cap);
        self.next = now + self.wait;
    }
}

/// Who listens for what the broker tells.
#[derive(Debug)]
pub(crate) struct Ears {
    connection: Connection,
    namespace: Namespace,
    alone: Arc<Semaphore>,
    shared: Mutex<Weak<Shared>>,
}

/// One request that is listened for. From when this exists, nothing that is told of it is missed while the connection
/// stands.
#[derive(Debug)]
pub(crate) enum Listening {
    Alone { subscription: Subscription, _permit: OwnedSemaphorePermit },
    Together(Told),
    Looking,
}

impl Ears {
    pub(crate) fn new(connection: &Connection, namespace: &Namespace) -> Self {
        Self {
            connection: connection.clone(),
            namespace: namespace.clone(),
            alone: Arc::new(Semaphore::new(ALONE_MAX)),
            shared: Mutex::new(Weak::new()),
        }
    }

    async fn listen(&self, id: &RequestId) -> Result<Listening, broker::Error> {
        if matches!(id.origin(), Origin::Step { .. }) {
            return Ok(Listening::Looking);
        }
        let mut shared = self.shared.lock().await;
        if let Some(shared) = shared.upgrade() {
            return Ok(Listening::Together(Shared::told(&shared, id)));
        }
        if let Ok(permit) = Arc::clone(&self.alone).try_acquire_owned() {
            drop(shared);
            let subject = Subject::Told(id.clone()).render(&self.namespace);
            let subscription = self.connection.subscribe(subject).await?;
            return Ok(Listening::Alone { subscription, _permit: permit });
        }
        let made = Arc::new(Shared::start(&self.connection, &self.namespace).await?);
        *shared = Arc::downgrade(&made);
        Ok(Listening::Together(Shared::told(&made, id)))
    }
}

impl Client {
    /// Waits for the outcome of a request, at most this long, or ten years. It may have been submitted by anyone, at any time.
    ///
    /// Any number of waits may be in flight: beyond 64 of one client they share one subscription.
    ///
    /// # Errors
    /// `Pending` when there is none in time: the request goes on. `StreamsMissing`; `Unreadable` for an outcome whose
    /// large body is gone.
    pub async fn wait(&self, id: &RequestId, within: Duration) -> Result<Outcome, Error> {
        let listening = self.listen(id).await?;
        self.wait_listening(id, listening, true, within).await
    }

    pub(crate) async fn listen(&self, id: &RequestId) -> Result<Listening, Error> {
        Ok(self.ears().listen(id).await?)
    }

    /// Waits; `look_first` where the outcome may be older than the listening.
    pub(crate) async fn wait_listening(
        &self,
        id: &RequestId,
        listening: Listening,
        look_first: bool,
        within: Duration,
    ) -> Result<Outcome, Error> {
        let until = Instant::now() + within.min(DURATION_MAX);
        if look_first {
            match self.stored_outcome(id).await {
                Ok(Some(outcome)) => return self.with_body(outcome).await,
                Ok(None) => {}
                // The broker may be away for a moment; what will not mend by itself is told at once.
                Err(error) if *error.kind() == ErrorKind::TimedOut => {}
                Err(error) => return Err(error.about(id)),
            }
        }
        let outcome = tokio::time::timeout_at(until, self.heard(id, listening)).await;
        self.with_body(outcome.map_err(|_| Error::pending(id))?).await
    }

    async fn heard(&self, id: &RequestId, listening: Listening) -> Outcome {
        match listening {
            Listening::Together(told) => match told.outcome().await {
                Some(outcome) => outcome,
                None => self.heard_alone(id, None).await,
            },
            Listening::Alone { subscription, _permit } => self.heard_alone(id, Some(subscription)).await,
            Listening::Looking => self.heard_alone(id, None).await,
        }
    }

    async fn heard_alone(&self, id: &RequestId, mut subscription: Option<Subscription>) -> Outcome {
        let mut looks = match subscription {
            Some(_) => Looks::new(LOOK_FIRST, LOOK_CAP),
            None => Looks::new(POLL_FIRST, POLL_CAP),
        };
        let mut comebacks = Comebacks::new(self.connection());
        loop {
            tokio::select! {
                message = told(&mut subscription) => return Outcome::read(id.clone(), &message.headers, &message.body),
                () = tokio::time::sleep_until(looks.next) => {}
                () = comebacks.next() => {}
            }
            if let Ok(Some(outcome)) = self.stored_outcome(id).await {
                return outcome;
            }
            looks.looked(Instant::now());
        }
    }
}

/// What is told; never, where nothing is.
async fn told(subscription: &mut Option<Subscription>) -> broker::Message {
    if let Some(open) = subscription {
        if let Some(message) = open.next().await {
            return message;
        }
        *subscription = None;
    }
    std::future::pending().await
}

/// The moments at which the connection was made anew: whatever was told meanwhile is lost.
struct Comebacks {
    link: watch::Receiver<broker::Link>,
    generation: u64,
}

impl Comebacks {
    fn new(connection: &Connection) -> Self {
        let link = connection.link();
        let generation = link.borrow().generation;
        Self { link, generation }
    }

    async fn next(&mut self) {
        let seen = self.generation;
        let link = self.link.wait_for(|link| link.is_up && link.generation != seen).await;
        match link.map(|link| link.generation).ok() {
            Some(generation) => self.generation = generation,
            // It is closed for good, and never comes back.
            None => std::future::pending().await,
        }
    }
}
