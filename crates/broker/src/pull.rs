//! Pulling from many consumers through one inbox, each pull an explicit number of messages.
//!
//! The client library's own message streams prefetch, and the ack deadline runs while a message sits in a buffer. A
//! worker pulls what it has free slots for, so it speaks the pull protocol itself: a request names a batch, the
//! answers are the messages, and a status when it ended early.

mod apart;

use std::{
    collections::VecDeque,
    task::{Context, Poll},
    time::Duration,
};

use protocol::topology::Consumer;
use serde_json::{Value, json};

use self::apart::{Apart, Word};
use crate::{Connection, Delivery, Message, Outgoing, Reader, SideConnection, Subscription, error::Error, topology};

/// One pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullRequest {
    /// Up to this many of what is there, and an end at once when there is no more. Measured on 2.15.1: an end comes
    /// also after fewer than asked for.
    Now {
        /// How many.
        batch: usize,
    },
    /// Up to this many, waiting for them as they come.
    Stream {
        /// How many.
        batch: usize,
        /// How long the server keeps the pull.
        expires: Duration,
        /// How often it says that it still does.
        heartbeat: Duration,
    },
    /// One message, waiting for it.
    Wait {
        /// How long the server keeps the pull.
        expires: Duration,
        /// How often it says that it still does.
        heartbeat: Duration,
    },
}

/// A pull of a consumer that is pinned to one client (NATS ADR-42). Without a pin it waits until there is none, and then
/// may be the one that is pinned: the next message says so, see [`Delivery::pin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinnedPull<'a> {
    /// How many messages.
    pub batch: usize,
    /// How long the server keeps the pull. It asks for no heartbeat: one renews no pin, only another pull does.
    pub expires: Duration,
    /// The pin that the last message told; the pull renews it.
    pub pin: Option<&'a str>,
}

/// Why a pull ended before it was filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullEnd {
    /// There is nothing, or nothing more.
    Empty,
    /// It waited as long as it should.
    Expired,
    /// The consumer, or its stream, is not there.
    Gone,
    /// Another client is pinned, or nobody any more: the pin that it named is over.
    WrongPin,
    /// The server let go of it: its leader changed, or it shuts down.
    Dropped(String),
}

/// What comes in.
#[derive(Debug)]
pub enum PullEvent {
    /// A message of the consumer that the delivery names.
    Delivered(Box<Delivery>),
    /// The pull with this tag ended.
    Ended {
        /// As given with the request.
        tag: u64,
        /// Why.
        end: PullEnd,
    },
    /// The server still keeps the pull with this tag.
    Alive {
        /// As given with the request.
        tag: u64,
    },
    /// The connection broke and is there again: every pull that was sent before is gone, and what it brought before is told
    /// before this. Only an inbox over a connection for pulls alone says so.
    Broke,
}

/// An inbox for the answers to pulls.
#[derive(Debug)]
pub struct PullInbox {
    connection: Connection,
    prefix: String,
    answers: Subscription,
    /// What came before the connection broke, and that it did.
    before: VecDeque<PullEvent>,
    apart: Option<Apart>,
}

impl PullInbox {
    /// Opens one.
    ///
    /// # Errors
    /// `Unreachable` when the connection is closed for good.
    pub async fn open(connection: &Connection) -> Result<Self, Error> {
        let prefix = connection.new_inbox();
        let answers = connection.subscribe(apart::answers(&prefix)).await?;
        Ok(Self { connection: connection.clone(), prefix, answers, before: VecDeque::new(), apart: None })
    }

    /// Opens one for the pulls of these consumers, over a connection for pulls alone: where a message has headers that the
    /// client library cannot read, that connection breaks, and no other. Inboxes that share it break together, and what was
    /// on its way to one of them comes again after its ack deadline. The inbox goes on over another connection, and brings
    /// the message with what `reader` can read of it, see [`Delivery::unreadable`].
    ///
    /// # Errors
    /// Those of [`Connection::open`]; `TimedOut` where the broker is away.
    pub async fn open_apart(side: &SideConnection, consumers: &[Consumer], reader: &Reader) -> Result<Self, Error> {
        let connection = side.connection().await?;
        let mut inbox = Self::open(&connection).await?;
        inbox.apart = Some(Apart::keep(side, &connection, &inbox.prefix, consumers, reader));
        Ok(inbox)
    }

    /// Whether a pull that is sent now is one of the connection that there is. A pull that waits in this process until there
    /// is one would arrive with others, all at once.
    pub fn is_up(&self) -> bool {
        let known = self.apart.as_ref().map(|apart| apart.generation);
        self.connection.is_up_as(known.unwrap_or_else(|| self.connection.generation()))
    }

    /// Sends a pull. `tag` comes back with its end.
    ///
    /// # Errors
    /// `Unreachable` when the connection is closed for good.
    pub async fn pull(&self, consumer: &Consumer, request: PullRequest, tag: u64) -> Result<(), Error> {
        let body = match request {
            PullRequest::Now { batch } => json!({ "batch": batch, "no_wait": true }),
            PullRequest::Wait { expires, heartbeat } => json!({
                "batch": 1,
                "expires": nanos(expires),
                "idle_heartbeat": nanos(heartbeat),
            }),
            PullRequest::Stream { batch, expires, heartbeat } => json!({
                "batch": batch,
                "expires": nanos(expires),
                "idle_heartbeat": nanos(heartbeat),
            }),
        };
        self.ask(consumer, &body, tag).await
    }

    /// Sends a pull of a pinned consumer. `tag` comes back with its end.
    ///
    /// # Errors
    /// `Unreachable` when the connection is closed for good.
    pub async fn pull_pinned(&self, consumer: &Consumer, request: PinnedPull<'_>, tag: u64) -> Result<(), Error> {
        let group = consumer.pinned.as_ref().map(|pinned| pinned.group.as_str()).unwrap_or_default();
        let mut body = json!({ "batch": request.batch, "expires": nanos(request.expires), "group": group });
        if let Some(pin) = request.pin {
            body["id"] = pin.into();
        }
        self.ask(consumer, &body, tag).await
    }

    async fn ask(&self, consumer: &Consumer, body: &Value, tag: u64) -> Result<(), Error> {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", consumer.stream, consumer.name);
        let question = Outgoing::new(subject, body.to_string());
        match self.connection.publish_asking(question, format!("{}.{tag}", self.prefix)).await {
            // Another connection is on its way, and then it is told that this pull is gone.
            Err(_) if self.apart.is_some() => Ok(()),
            sent => sent,
        }
    }

    /// What comes in next; none when the inbox was closed and is empty.
    pub async fn next(&mut self) -> Option<PullEvent> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// What comes in next, for whoever polls several inboxes.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<PullEvent>> {
        loop {
            if let Some(event) = self.before.pop_front() {
                return Poll::Ready(Some(event));
            }
            match self.poll_word(context) {
                Some(Word::Found(delivery)) => return Poll::Ready(Some(PullEvent::Delivered(delivery))),
                Some(Word::Broke(generation)) => self.broke(context, generation),
                Some(Word::Anew(generation, anew)) => {
                    self.broke(context, generation);
                    (self.connection, self.answers) = *anew;
                }
                None => match self.answers.poll_next(context) {
                    Poll::Ready(Some(message)) => {
                        if let Some(event) = read(message) {
                            return Poll::Ready(Some(event));
                        }
                    }
                    // Another connection is on its way.
                    Poll::Ready(None) if self.apart.is_some() => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    fn poll_word(&mut self, context: &mut Context<'_>) -> Option<Word> {
        match self.apart.as_mut()?.words.poll_recv(context) {
            Poll::Ready(word) => word,
            Poll::Pending => None,
        }
    }

    /// Keeps what came before: whoever reckons by pulls must hear of all of it first.
    fn broke(&mut self, context: &mut Context<'_>, generation: u64) {
        while let Poll::Ready(Some(message)) = self.answers.poll_next(context) {
            self.before.extend(read(message));
        }
        self.before.push_back(PullEvent::Broke);
        if let Some(apart) = &mut self.apart {
            apart.generation = generation;
        }
    }

    /// Takes back every pull that waits: the server drops a pull whose inbox nobody listens to. What it sent before it
    /// knew still comes from [`PullInbox::next`].
    pub async fn close(&mut self) {
        self.apart = None;
        self.answers.drain().await;
    }

    /// Lets another client be pinned. It goes the way of the pulls: the broker must have heard that they were taken back, or
    /// it may pin this client again.
    ///
    /// # Errors
    /// What asking says; the pin then runs out.
    pub async fn unpin(&self, consumer: &Consumer) -> Result<(), Error> {
        topology::unpin_consumer(&self.connection, consumer).await
    }
}

fn read(mut message: Message) -> Option<PullEvent> {
    // What is delivered can be acknowledged: a status there is its publisher's. Since 2.15 the server takes such out.
    if message.reply.is_some() {
        message.status = None;
    }
    let Some((code, text)) = &message.status else {
        return Delivery::read(message).map(|delivery| PullEvent::Delivered(Box::new(delivery)));
    };
    let tag = message.subject.rsplit('.').next()?.parse().ok()?;
    let end = match code {
        100 => return Some(PullEvent::Alive { tag }),
        404 => PullEnd::Empty,
        408 if text.contains("Requests Pending") => PullEnd::Empty,
        408 => PullEnd::Expired,
        423 => PullEnd::WrongPin,
        503 => PullEnd::Gone,
        409 if text.contains("Deleted") => PullEnd::Gone,
        _ => PullEnd::Dropped(text.clone()),
    };
    Some(PullEvent::Ended { tag, end })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
