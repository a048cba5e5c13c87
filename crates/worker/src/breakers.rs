//! Circuit breakers as this worker knows them: failures are counted here, and what follows from them is shared with the
//! fleet through the state bucket.
//!
//! ```text
//!   layer --admit--> Guard (a copy: closed and open cost no round trip) --half open: compare-and-set--> breaker.<name>
//!         --ended--> streak, and by this module's task ------------------ opened, trials ended -------->      |
//!                      ^ follows: a doorbell when it is written, and every five seconds ----------------------+
//! ```

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker::{BrokerClock, Bucket, Connection, Kind, Outgoing, Publisher};
use protocol::{
    BreakerName, Capability, Failure, InstanceId, Namespace, RequestId,
    breaker::{self, Admission, Breaker, Opening, Settings, State, Streak, TRIALS_TAKEN_WAIT},
    event, limits, subject,
    topology::bucket_subject,
};
use tokio::sync::mpsc;

/// How often breakers are read where no doorbell rings.
const READ_EVERY: Duration = Duration::from_secs(5);

/// How long after a doorbell they are read again: a replica may be behind.
const READ_AGAIN: Duration = Duration::from_millis(300);

/// How long one change in the bucket is tried.
const CHANGE_WITHIN: Duration = Duration::from_secs(5);

/// How often the sharing of what happened is tried: after that others will find out by themselves.
const SHARE_TRIES: u32 = 5;

/// What is to be known of a breaker before the worker runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) settings: Settings,
    /// The capabilities that pause while it is open.
    pub(crate) pausing: BTreeSet<Capability>,
    /// Those that have a fallback.
    pub(crate) falling_back: BTreeSet<Capability>,
}

/// Every breaker of this worker.
#[derive(Debug)]
pub(crate) struct Breakers {
    guards: HashMap<BreakerName, Guard>,
    news: mpsc::Sender<News>,
    bucket: Bucket,
    publisher: Publisher,
    clock: BrokerClock,
    instance: InstanceId,
    namespace: Namespace,
}

/// One breaker as this worker knows it.
#[derive(Debug)]
struct Guard {
    wanted: Wanted,
    view: Mutex<View>,
}

#[derive(Debug)]
struct View {
    breaker: Breaker,
    /// In the bucket; 0 where it was never read.
    revision: u64,
    streak: Streak,
}

/// How a call ended, as far as a breaker minds.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Succeeded,
    Failed {
        code: String,
        message: String,
    },
    /// It says nothing about what is called.
    Nothing,
}

/// What is to be shared with the fleet.
#[derive(Debug)]
pub(crate) struct News {
    name: BreakerName,
    what: What,
}

#[derive(Debug)]
enum What {
    Opened(Opening),
    TrialEnded(RequestId, Ending),
}

impl Breakers {
    pub(crate) fn new(
        wanted: HashMap<BreakerName, Wanted>,
        bucket: Bucket,
        publisher: Publisher,
        clock: BrokerClock,
        instance: InstanceId,
        namespace: Namespace,
    ) -> (Arc<Self>, mpsc::Receiver<News>) {
        // As many as there can be attempts; more would be of one burst, and say the same.
        let (news, to_share) = mpsc::channel(limits::SLOTS_MAX);
        let now = clock.now();
        let guard = |wanted: Wanted| {
            let breaker = Breaker::closed(wanted.settings, now);
            Guard { wanted, view: Mutex::new(View { breaker, revision: 0, streak: Streak::default() }) }
        };
        let guards = wanted.into_iter().map(|(name, wanted)| (name, guard(wanted))).collect();
        (Arc::new(Self { guards, news, bucket, publisher, clock, instance, namespace }), to_share)
    }

    /// Whether a call may be made. Only half open this asks the broker.
    pub(crate) async fn admit(&self, name: &BreakerName, request: &RequestId, patience: Duration) -> Admission {
        let Some(guard) = self.guards.get(name) else { return Admission::Pass };
        let now = self.clock.now();
        let known = guard.view().breaker.clone();
        match known.state_at(now) {
            State::Closed => Admission::Pass,
            State::Open => known.clone().admit(request, patience, now),
            State::HalfOpen => {
                let admitted = self.change(name, guard, |breaker| breaker.admit(request, patience, self.clock.now()));
                admitted.await.unwrap_or_else(|error| {
                    tracing::debug!(%error, breaker = %name, "no trial without the broker");
                    Admission::Wait(TRIALS_TAKEN_WAIT)
                })
            }
        }
    }

    /// How a call ended that was admitted. What follows is known here at once, and to the fleet soon.
    pub(crate) fn ended(&self, name: &BreakerName, request: &RequestId, is_trial: bool, ending: Ending) {
        let Some(guard) = self.guards.get(name) else { return };
        if is_trial {
            return self.tell(name, What::TrialEnded(request.clone(), ending));
        }
        let opening = {
            let mut view = guard.view();
            match ending {
                // What began before it opened tells nothing new.
                _ if view.breaker.state != State::Closed => None,
                Ending::Nothing => None,
                Ending::Succeeded => {
                    view.streak.succeed();
                    None
                }
                Ending::Failed { code, message } => view.streak.fail(&guard.wanted.settings).then(|| {
                    let opening = Opening::new(self.instance.clone(), &code, &message, self.clock.now());
                    view.breaker.open(opening.clone(), guard.wanted.settings);
                    opening
                }),
            }
        };
        if let Some(opening) = opening {
            tracing::warn!(breaker = %name, code = opening.code, message = opening.message, "circuit breaker opens");
            self.tell(name, What::Opened(opening));
        }
    }

    fn tell(&self, name: &BreakerName, what: What) {
        if let Err(error) = self.news.try_send(News { name: name.clone(), what }) {
            tracing::debug!(%error, "news of a breaker are not shared");
        }
    }

    /// Shares news, and follows what others write, for ever.
    pub(crate) async fn run(self: Arc<Self>, connection: Connection, mut to_share: mpsc::Receiver<News>) {
        if self.guards.is_empty() {
            return;
        }
        let following = Arc::clone(&self);
        let follow = async move { following.follow(&connection).await };
        let share = async {
            while let Some(news) = to_share.recv().await {
                self.share(news).await;
            }
        };
        tokio::join!(follow, share);
    }

    /// A core subscription on the bucket's subject hears what the broker refused, too: it is a doorbell, and costs no
    /// consumer.
    async fn follow(&self, connection: &Connection) {
        let doorbell = connection.subscribe(bucket_subject(self.bucket.name(), breaker::KEY_FILTER)).await;
        let mut doorbell = doorbell.inspect_err(|error| tracing::debug!(%error, "breakers have no doorbell")).ok();
        loop {
            self.read().await;
            let rang = async {
                match &mut doorbell {
                    Some(doorbell) => doorbell.next().await.is_some(),
                    None => std::future::pending().await,
                }
            };
            match tokio::time::timeout(READ_EVERY, rang).await {
                Ok(true) => {
                    self.read().await;
                    tokio::time::sleep(READ_AGAIN).await;
                }
                Ok(false) => doorbell = None,
                Err(_) => {}
            }
        }
    }

    /// Reads every breaker, and adds the capabilities that pause with an open one which others opened.
    async fn read(&self) {
        let entries = match self.bucket.get_many(self.guards.keys().map(breaker::key)).await {
            Ok(entries) => entries,
            Err(error) => return tracing::debug!(%error, "breakers not read"),
        };
        for entry in entries {
            let Some((name, guard)) = breaker::name_of(&entry.key).and_then(|name| self.guards.get_key_value(&name))
            else {
                continue;
            };
            let Some(breaker) = entry.value.as_deref().and_then(|value| serde_json::from_slice::<Breaker>(value).ok())
            else {
                continue;
            };
            let lacks_ours = breaker.state != State::Closed && !guard.wanted.is_in(&breaker);
            guard.hear(breaker, entry.revision);
            if lacks_ours && let Err(error) = self.change(name, guard, |breaker| guard.wanted.put_in(breaker)).await {
                tracing::debug!(%error, breaker = %name, "the capabilities that pause are not told");
            }
        }
    }

    async fn share(&self, news: News) {
        let News { name, what } = news;
        let Some(guard) = self.guards.get(&name) else { return };
        for tried in 1..=SHARE_TRIES {
            let shared = self.change(&name, guard, |breaker| {
                let now = self.clock.now();
                let was_open = breaker.state == State::Open;
                match &what {
                    What::Opened(opening) => breaker.open(opening.clone(), guard.wanted.settings),
                    What::TrialEnded(request, Ending::Succeeded) => breaker.succeed(request, now),
                    What::TrialEnded(request, Ending::Failed { code, message }) => {
                        breaker.fail(request, Opening::new(self.instance.clone(), code, message, now));
                    }
                    What::TrialEnded(request, Ending::Nothing) => breaker.release(request),
                }
                guard.wanted.put_in(breaker);
                (!was_open && breaker.state == State::Open).then(|| breaker.clone())
            });
            match shared.await {
                Ok(None) => return,
                Ok(Some(opened)) => return self.tell_opened(&name, &opened).await,
                Err(error) if tried == SHARE_TRIES => {
                    tracing::warn!(%error, breaker = %name, "what became of the breaker is known to this worker only");
                }
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// The event is a courtesy beside the stored breaker: it is tried for a moment.
    async fn tell_opened(&self, name: &BreakerName, opened: &Breaker) {
        let topic = format!("{}.{name}", event::BREAKER_OPENED);
        let source = format!("/{}/{}", self.namespace, self.instance);
        let id = format!("{name}-{}", opened.since.timestamp_micros());
        let headers = event::headers(&id, &source, &topic, opened.since);
        let body = serde_json::to_vec(opened).unwrap_or_default();
        let outgoing =
            Outgoing::new(subject::event(&self.namespace, &topic), body).with_headers(headers).with_message_id(id);
        if let Err(error) = self.publisher.publish_within(&outgoing, Duration::from_secs(2)).await {
            tracing::debug!(%error, "event not stored");
        }
    }

    /// Reads, changes and writes a breaker until nobody was in between. The change may be made more than once.
    async fn change<T>(
        &self,
        name: &BreakerName,
        guard: &Guard,
        change: impl Fn(&mut Breaker) -> T + Send,
    ) -> Result<T, broker::Error>
    where
        T: Send,
    {
        let key = breaker::key(name);
        let changing = async {
            loop {
                let entry = self.bucket.get(&key).await?;
                let revision = entry.as_ref().map_or(0, |entry| entry.revision);
                let found = entry.and_then(|entry| entry.value).and_then(|value| serde_json::from_slice(&value).ok());
                // One that cannot be read was written by a stranger: it is begun anew.
                let found = found.unwrap_or_else(|| Breaker::closed(guard.wanted.settings, self.clock.now()));
                let mut breaker = found.clone();
                let answer = change(&mut breaker);
                if breaker == found {
                    guard.learn(breaker, revision);
                    return Ok(answer);
                }
                let value = serde_json::to_vec(&breaker).unwrap_or_default();
                match self.bucket.update(&key, value, revision, None).await {
                    Ok(revision) => {
                        guard.learn(breaker, revision);
                        return Ok(answer);
                    }
                    Err(error) if matches!(error.kind(), Kind::WrongSequence | Kind::Contended) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let late = || broker::Error::new(Kind::Contended, format!("breaker {name} could not be written in time"));
        tokio::time::timeout(CHANGE_WITHIN, changing).await.unwrap_or_else(|_| Err(late()))
    }
}

impl Guard {
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what others wrote. What this worker knows of the same revision may be ahead of it: news that are not
    /// shared yet.
    fn hear(&self, breaker: Breaker, revision: u64) {
        if revision > self.view().revision {
            self.learn(breaker, revision);
        }
    }

    /// Takes over what stands in the bucket, unless something newer is known.
    fn learn(&self, breaker: Breaker, revision: u64) {
        let mut view = self.view();
        if revision < view.revision {
            return;
        }
        if breaker.state == State::Closed {
            view.streak = Streak::default();
        }
        view.breaker = breaker;
        view.revision = revision;
    }
}

impl Wanted {
    fn is_in(&self, breaker: &Breaker) -> bool {
        breaker.pauses.is_superset(&self.pausing) && breaker.pauses.is_disjoint(&self.falling_back)
    }

    fn put_in(&self, breaker: &mut Breaker) {
        breaker.pauses.extend(self.pausing.iter().cloned());
        breaker.pauses.retain(|capability| !self.falling_back.contains(capability));
    }
}

impl Ending {
    /// What a breaker minds: what another attempt may mend, and what other services did; not what the caller did wrong,
    /// and not what never was a failure.
    pub(crate) fn of<T>(ended: &Result<T, Failure>) -> Self {
        use protocol::{Category, codes};
        let failure = match ended {
            Ok(_) => return Self::Succeeded,
            Err(failure) => failure,
        };
        let is_no_failure = failure.snoozed().is_some() || failure.handed_over().is_some();
        let is_ours = matches!(failure.category, Category::Validation | Category::Permission)
            || failure.code == codes::OVERLOADED;
        let is_theirs = matches!(
            failure.category,
            Category::Dependency | Category::ExternalService | Category::Communication | Category::Timeout
        );
        if is_no_failure || is_ours || !(failure.retryable || is_theirs) {
            return Self::Nothing;
        }
        Self::Failed { code: failure.code.clone(), message: failure.message.clone() }
    }
}
