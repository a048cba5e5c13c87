//! One subscription and one look for any number of waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker::{
    Connection, Reader, Subscription,
    task::{self, Owned},
};
use protocol::{Namespace, Outcome, RequestId, Subject, subject::filter, topology::Names};
use tokio::{sync::oneshot, time::Instant};

use super::{Comebacks, LOOK_CAP, LOOK_FIRST, Looks};

/// How often it is seen who is due for a look.
const TICK: Duration = Duration::from_millis(250);

/// Who waits, by request.
type Waiters = Mutex<HashMap<RequestId, Vec<Waiter>>>;

#[derive(Debug)]
struct Waiter {
    sender: oneshot::Sender<Outcome>,
    looks: Looks,
}

/// Listens for all; ends with the last one that waits.
#[derive(Debug)]
pub(super) struct Shared {
    waiters: Arc<Waiters>,
    _listener: Owned<()>,
    _looker: Owned<()>,
}

/// One wait among many.
#[derive(Debug)]
pub(crate) struct Told {
    id: RequestId,
    receiver: oneshot::Receiver<Outcome>,
    shared: Arc<Shared>,
}

impl Shared {
    pub(super) async fn start(connection: &Connection, namespace: &Namespace) -> Result<Self, broker::Error> {
        let waiters = Arc::new(Waiters::default());
        let subscription = connection.subscribe(filter::told(namespace)).await?;
        let listener = task::spawn("outcome-listener", listen(subscription, namespace.clone(), Arc::clone(&waiters)));
        let looker = task::spawn("outcome-looker", look(connection.clone(), namespace.clone(), Arc::clone(&waiters)));
        Ok(Self { waiters, _listener: listener, _looker: looker })
    }

    pub(super) fn told(shared: &Arc<Self>, id: &RequestId) -> Told {
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter { sender, looks: Looks::new(LOOK_FIRST, LOOK_CAP) };
        locked(&shared.waiters).entry(id.clone()).or_default().push(waiter);
        Told { id: id.clone(), receiver, shared: Arc::clone(shared) }
    }
}

impl Told {
    /// The outcome when it is told or found; none if the listener is no more.
    pub(super) async fn outcome(mut self) -> Option<Outcome> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.receiver.close();
        let mut waiters = locked(&self.shared.waiters);
        if let Some(some) = waiters.get_mut(&self.id) {
            some.retain(|waiter| !waiter.sender.is_closed());
            if some.is_empty() {
                waiters.remove(&self.id);
            }
        }
    }
}

async fn listen(mut subscription: Subscription, namespace: Namespace, waiters: Arc<Waiters>) {
    while let Some(message) = subscription.next().await {
        let Some(Subject::Told(id)) = Subject::parse(&namespace, &message.subject) else { continue };
        if locked(&waiters).contains_key(&id) {
            tell(&waiters, &Outcome::read(id, &message.headers, &message.body));
        }
    }
}

async fn look(connection: Connection, namespace: Namespace, waiters: Arc<Waiters>) {
    let stream = Names::of(&namespace).outcomes;
    let reader = Reader::new(&connection);
    let mut comebacks = Comebacks::new(&connection);
    loop {
        let everyone = tokio::select! {
            () = tokio::time::sleep(TICK) => false,
            () = comebacks.next() => true,
        };
        let due = take_due(&waiters, everyone);
        if due.is_empty() {
            continue;
        }
        let subjects: Vec<String> = due.into_iter().map(|id| Subject::Outcome(id).render(&namespace)).collect();
        match reader.last_of_each(&stream, &subjects).await {
            Ok(found) => {
                for message in found {
                    if let Some(Subject::Outcome(id)) = Subject::parse(&namespace, &message.subject) {
                        tell(&waiters, &Outcome::read(id, &message.headers, &message.body));
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "outcomes not looked for, trying again"),
        }
    }
}

fn take_due(waiters: &Waiters, everyone: bool) -> Vec<RequestId> {
    let now = Instant::now();
    let mut due = Vec::new();
    for (id, some) in locked(waiters).iter_mut() {
        let mut is_due = false;
        for waiter in some.iter_mut().filter(|waiter| everyone || waiter.looks.next <= now) {
            waiter.looks.looked(now);
            is_due = true;
        }
        if is_due {
            due.push(id.clone());
        }
    }
    due
}

fn tell(waiters: &Waiters, outcome: &Outcome) {
    let told = locked(waiters).remove(&outcome.id).unwrap_or_default();
    for waiter in told {
        // Who has gone meanwhile does not want it.
        let _ = waiter.sender.send(outcome.clone());
    }
}

fn locked(waiters: &Waiters) -> MutexGuard<'_, HashMap<RequestId, Vec<Waiter>>> {
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}
