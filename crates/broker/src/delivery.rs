//! A message of a consumer, with what its acknowledgement subject tells.

use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::{header, time::Timestamp, topology::Consumer};

use crate::{
    Connection, Message, Outgoing, StoredMessage,
    error::{Error, Kind},
};

/// How long at least a delivery is put off whose headers cannot be read: each time it comes, a connection breaks.
const UNREADABLE_PUT_OFF: Duration = Duration::from_secs(30);

/// One delivery of a stored message.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// How often it was delivered, this time counted.
    pub delivered: u64,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the broker stored it.
    pub published_at: Timestamp,
    /// What the consumer has for others behind it.
    pub pending: u64,
    /// When it came in.
    pub received: Instant,
    ack_subject: String,
    /// Where in it the stream's name begins and ends, and where the consumer's ends.
    names: (usize, usize, usize),
}

impl Delivery {
    /// Reads a delivery from its acknowledgement subject, `$JS.ACK.<stream>.<consumer>.<delivered>.<stream
    /// sequence>.<consumer sequence>.<nanoseconds>.<pending>`, or the newer form with domain and account behind `ACK`.
    pub(crate) fn read(mut message: Message) -> Option<Self> {
        let ack_subject = message.reply.take()?;
        let tail = ack_subject.strip_prefix("$JS.ACK.")?;
        let tail = match tail.bytes().filter(|byte| *byte == b'.').count() {
            6 => tail,
            8.. => tail.splitn(3, '.').nth(2)?,
            _ => return None,
        };
        let begin = ack_subject.len() - tail.len();
        let mut tokens = tail.split('.');
        let stream_end = begin + tokens.next()?.len();
        let consumer_end = stream_end + 1 + tokens.next()?.len();
        let mut number = || tokens.next()?.parse::<u64>().ok();
        let (delivered, sequence, _of_consumer) = (number()?, number()?, number()?);
        let nanos = i64::try_from(number()?).ok()?;
        Some(Self {
            delivered,
            sequence,
            published_at: chrono::DateTime::from_timestamp_nanos(nanos),
            pending: number()?,
            received: Instant::now(),
            message,
            ack_subject,
            names: (begin, stream_end, consumer_end),
        })
    }

    /// Its stream.
    pub fn stream(&self) -> &str {
        &self.ack_subject[self.names.0..self.names.1]
    }

    /// The consumer that delivered it.
    pub fn consumer(&self) -> &str {
        &self.ack_subject[self.names.1 + 1..self.names.2]
    }

    /// Stream and consumer as `<stream>.<consumer>`: neither name has a dot.
    pub fn came_by(&self) -> &str {
        &self.ack_subject[self.names.0..self.names.2]
    }

    /// A delivery that could not be read where it came in. The broker goes by the sequence in the stream alone when such a
    /// message is acknowledged or extended, and minds of the consumer's only that there was such a delivery (seen on 2.15.1).
    pub(crate) fn of_stored(stored: StoredMessage, consumer: &Consumer, deliveries: u64) -> Self {
        let nanos = stored.time.timestamp_nanos_opt().unwrap_or_default();
        let (stream, consumer, sequence) = (&consumer.stream, &consumer.name, stored.sequence);
        // How often is not known; it may have been in other hands.
        let delivered = 2;
        let ack_subject = format!("$JS.ACK.{stream}.{consumer}.{delivered}.{sequence}.{deliveries}.{nanos}.0");
        let begin = "$JS.ACK.".len();
        let names = (begin, begin + stream.len(), begin + stream.len() + 1 + consumer.len());
        let message =
            Message { subject: stored.subject, reply: None, headers: stored.headers, body: stored.body, status: None };
        Self {
            message,
            delivered,
            sequence,
            published_at: stored.time,
            pending: 0,
            received: Instant::now(),
            ack_subject,
            names,
        }
    }

    /// Why its headers are only what could be read of them; none where they can be read. Only
    /// [`PullInbox::open_apart`](crate::PullInbox::open_apart) brings such a message at all.
    pub fn unreadable(&self) -> Option<&str> {
        self.message.headers.unreadable()
    }

    /// The pin of a consumer that is pinned to one client. The server writes it behind whatever a publisher wrote.
    pub fn pin(&self) -> Option<&str> {
        self.message.headers.last(header::NATS_PIN_ID)
    }

    /// Takes it out of the work queue. No answer is waited for: a lost acknowledgement is a redelivery, and that one
    /// finds the outcome.
    pub async fn ack(&self, connection: &Connection) {
        self.say(connection, Bytes::from_static(b"+ACK")).await;
    }

    /// Takes it out of the work queue and waits until the broker has done so.
    ///
    /// # Errors
    /// `TimedOut` and the like; it may be redelivered then.
    pub async fn ack_confirmed(&self, connection: &Connection) -> Result<(), Error> {
        let timeout = Duration::from_secs(5);
        connection.request(self.ack_subject.clone(), None, Bytes::from_static(b"+ACK"), timeout).await.map(|_| ())
    }

    /// Gives it back, for anyone, after a delay. Without one it would be redelivered at once, in a loop. What cannot be
    /// read is put off for half a minute at least.
    pub async fn nak(&self, connection: &Connection, delay: Duration) {
        let delay = if self.unreadable().is_some() { delay.max(UNREADABLE_PUT_OFF) } else { delay };
        let body = format!("-NAK {{\"delay\":{}}}", delay.as_nanos());
        self.say(connection, body.into()).await;
    }

    /// Moves its deadline, and waits until the broker has done so.
    ///
    /// # Errors
    /// `TimedOut` and the like; the deadline may not have moved.
    pub async fn extend(&self, connection: &Connection, timeout: Duration) -> Result<(), Error> {
        let answer = connection.request(self.ack_subject.clone(), None, Bytes::from_static(b"+WPI"), timeout).await?;
        match answer.status {
            None => Ok(()),
            Some((code, text)) => Err(Error::new(Kind::Api(u64::from(code)), text)),
        }
    }

    /// Moves its deadline. No answer is waited for: for whoever extends far more often than needed.
    pub async fn extend_unconfirmed(&self, connection: &Connection) {
        self.say(connection, Bytes::from_static(b"+WPI")).await;
    }

    async fn say(&self, connection: &Connection, body: Bytes) {
        // It fails only where the connection is closed for good: then the deadline passes and another worker takes it.
        if let Err(error) = connection.publish_core(Outgoing::new(self.ack_subject.clone(), body)).await {
            tracing::debug!(%error, sequence = self.sequence, "acknowledgement not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(ack_subject: &str) -> Option<Delivery> {
        Delivery::read(Message {
            subject: "fleet.request.echo".to_owned(),
            reply: Some(ack_subject.to_owned()),
            headers: protocol::Headers::new(),
            body: Bytes::new(),
            status: None,
        })
    }

    #[test]
    fn both_forms_of_the_acknowledgement_subject_are_read() {
        for subject in [
            "$JS.ACK.FLEET_REQUESTS.echo.2.17.5.1763622000123456789.40",
            "$JS.ACK._.ACCOUNT.FLEET_REQUESTS.echo.2.17.5.1763622000123456789.40",
            "$JS.ACK.hub.ACCOUNT.FLEET_REQUESTS.echo.2.17.5.1763622000123456789.40.random",
        ] {
            let delivery = delivery(subject).unwrap();
            assert_eq!((delivery.stream(), delivery.consumer()), ("FLEET_REQUESTS", "echo"));
            assert_eq!((delivery.delivered, delivery.sequence, delivery.pending), (2, 17, 40));
            assert_eq!(delivery.published_at.timestamp(), 1_763_622_000);
        }
        assert!(delivery("_INBOX.x").is_none());
        assert!(delivery("$JS.ACK.a.b.c.d.e.f.g").is_none());
    }
}
