//! What keeps the pulls of consumers going over a connection for pulls alone.
//!
//! What its publisher wrote into a message's headers may be such that the client library drops the connection over it, or
//! panics and ends it: headers that are no UTF-8, a line without a colon, a bare carriage return. A pull that is given such
//! a message loses its connection, with whatever else came over it, and again with each redelivery. So these pulls have a
//! connection that nothing goes over but pulls. When it breaks, what the consumer has delivered and nobody has acknowledged is
//! read in another way, and what cannot be read is handed over as far as it can: whoever follows the consumer then
//! acknowledges it, and it comes no more.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::topology::Consumer;
use tokio::sync::{Notify, mpsc};

use crate::{
    Connection, Delivery, Reader, SideConnection, Subscription,
    error::{Error, Kind},
    task::{self, Owned},
    topology,
};

/// Words that wait to be taken: what cannot be read may be large, and is read no faster than it is handled.
const WORDS_MAX: usize = 8;

/// Messages that one read asks for.
const PAGE: usize = 500;

/// The wait before a connection, or a look, is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What was handed over is in somebody's hands for this long, however often the connection breaks meanwhile. Shorter than
/// what a delivery of this kind is put off for.
const IN_HANDS: Duration = Duration::from_secs(20);

/// What an inbox is told.
#[derive(Debug)]
pub(super) enum Word {
    /// The connection broke, and is there again for the so-manieth time.
    Broke(u64),
    /// It ended for good, and this one takes its place.
    Anew(u64, Box<(Connection, Subscription)>),
    /// A message that cannot be read.
    Found(Box<Delivery>),
}

/// What keeps an inbox going.
#[derive(Debug)]
pub(super) struct Apart {
    pub(super) words: mpsc::Receiver<Word>,
    /// How often the connection was made, as far as whoever pulls knows.
    pub(super) generation: u64,
    _tasks: [Owned<()>; 2],
}

impl Apart {
    /// Keeps the inbox with this prefix going, whose answers come over `connection`.
    pub(super) fn keep(
        side: &SideConnection,
        connection: &Connection,
        prefix: &str,
        consumers: &[Consumer],
        reader: &Reader,
    ) -> Self {
        let (sender, words) = mpsc::channel(WORDS_MAX);
        let broke = Arc::new(Notify::new());
        let generation = connection.generation();
        let watcher = Watcher {
            side: side.clone(),
            connection: connection.clone(),
            generation,
            subject: answers(prefix),
            words: sender.clone(),
            broke: Arc::clone(&broke),
        };
        let looker = Looker {
            connection: side.origin().clone(),
            consumers: consumers.to_vec(),
            reader: reader.clone(),
            words: sender,
            handed: BTreeMap::new(),
            is_unexplained: false,
        };
        let tasks = [task::spawn("pulls", watcher.watch()), task::spawn("unreadable", looker.keep(broke))];
        Self { words, generation, _tasks: tasks }
    }
}

/// Where the answers to pulls come in.
pub(super) fn answers(prefix: &str) -> String {
    format!("{prefix}.*")
}

/// Follows whether the connection is there.
struct Watcher {
    side: SideConnection,
    connection: Connection,
    generation: u64,
    subject: String,
    words: mpsc::Sender<Word>,
    broke: Arc<Notify>,
}

impl Watcher {
    async fn watch(mut self) {
        loop {
            let known = self.generation;
            let mut link = self.connection.link();
            let again = link.wait_for(|link| link.is_up && link.generation > known).await;
            let again = again.map(|link| link.generation);
            let word = match again {
                Ok(generation) => {
                    self.generation = generation;
                    Word::Broke(generation)
                }
                // Nobody tells any more: the client library has panicked.
                Err(_) => self.anew().await,
            };
            self.broke.notify_one();
            if self.words.send(word).await.is_err() {
                return;
            }
        }
    }

    async fn anew(&mut self) -> Word {
        loop {
            match self.connect().await {
                Ok((connection, answers)) => {
                    self.generation = connection.generation();
                    self.connection = connection.clone();
                    return Word::Anew(self.generation, Box::new((connection, answers)));
                }
                Err(error) => tracing::warn!(%error, "no connection to pull over"),
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn connect(&self) -> Result<(Connection, Subscription), Error> {
        let connection = self.side.connection().await?;
        let answers = connection.subscribe(self.subject.clone()).await?;
        Ok((connection, answers))
    }
}

/// Looks for what broke the connection.
struct Looker {
    /// Nothing that a publisher wrote comes over this one.
    connection: Connection,
    consumers: Vec<Consumer>,
    reader: Reader,
    words: mpsc::Sender<Word>,
    /// What was handed over, by consumer and sequence, and when.
    handed: BTreeMap<(String, u64), Instant>,
    /// The connection broke before, and nothing was found that it would have broken over.
    is_unexplained: bool,
}

impl Looker {
    async fn keep(mut self, broke: Arc<Notify>) {
        loop {
            broke.notified().await;
            let at_leader = self.is_unexplained;
            let mut has_found = false;
            for consumer in self.consumers.clone() {
                has_found |= loop {
                    match self.look(&consumer, at_leader).await {
                        Ok(found) => break found,
                        Err(error) => {
                            tracing::warn!(consumer = consumer.name, %error, "not looked for what cannot be read");
                            tokio::time::sleep(AGAIN_AFTER).await;
                        }
                    }
                };
            }
            self.is_unexplained = !has_found && !at_leader;
        }
    }

    /// Whether there was something to be found. By direct get at first, which costs little where a network broke the connection; over
    /// a block that does not end as it should the server then writes what it adds, and it may be readable so. The leader gives it as
    /// it is.
    async fn look(&mut self, consumer: &Consumer, at_leader: bool) -> Result<bool, Error> {
        let (stream, filter) = (&consumer.stream, &consumer.filter);
        let state = match topology::consumer_state(&self.connection, stream, &consumer.name).await {
            Ok(state) if state.ack_pending > 0 => state,
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut has_found = false;
        self.handed.retain(|_, at| at.elapsed() < IN_HANDS);
        let mut from = Some(state.ack_floor + 1);
        while let Some(sequence) = from.filter(|sequence| *sequence <= state.delivered) {
            // A replica may be behind: what it does not have yet breaks the connection once more.
            let page = if at_leader {
                self.reader.page_at_leader(stream, filter, sequence, PAGE).await?
            } else {
                self.reader.page(stream, filter, sequence, PAGE).await?
            };
            from = page.next;
            let delivered = page.messages.into_iter().take_while(|message| message.sequence <= state.delivered);
            for message in delivered.filter(|message| !message.is_readable) {
                has_found = true;
                if self.handed.contains_key(&(consumer.name.clone(), message.sequence)) {
                    continue;
                }
                let why = message.headers.unreadable();
                tracing::warn!(
                    subject = message.subject,
                    sequence = message.sequence,
                    why,
                    "a message has headers that nobody can read"
                );
                self.handed.insert((consumer.name.clone(), message.sequence), Instant::now());
                let found = Delivery::of_stored(message, consumer, state.deliveries);
                if self.words.send(Word::Found(Box::new(found))).await.is_err() {
                    return Ok(true);
                }
            }
        }
        Ok(has_found)
    }
}
