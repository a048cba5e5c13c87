//! One connection to a broker: how it is made, what it says of itself, and core messages over it.

use std::{
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_nats::{Client, ConnectOptions, Event, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use protocol::Headers;
use tokio::sync::watch;

use crate::{
    error::{Error, Kind},
    message::{Message, Outgoing, map_of},
    refusals::Refusals,
    retry::{Waits, end_of},
};

/// The oldest server that has all that is used: message schedules with cron, message TTL, atomic batches.
pub const SERVER_VERSION_MIN: (i64, i64, i64) = (2, 14, 0);

/// A hung server holds its clients until the third unanswered ping.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// How long it takes at most to find that a connection has ended for good: that is told at once, and nothing else is.
const ENDED_WITHIN: Duration = Duration::from_millis(50);

/// The target under which refusals are logged that whoever asked is told of anyway.
pub const REFUSED: &str = "sortie_broker::refused";

/// How to reach a broker.
#[derive(Clone)]
pub struct Options {
    /// Its addresses, all of one cluster. Defaults to `nats://127.0.0.1:4222`.
    pub servers: Vec<String>,
    /// A credentials file (JWT and seed). Defaults to none.
    pub credentials_file: Option<PathBuf>,
    /// User and password. Defaults to none.
    pub user_password: Option<(String, String)>,
    /// A token. Defaults to none.
    pub token: Option<String>,
    /// The seed of an nkey. Defaults to none.
    pub nkey_seed: Option<String>,
    /// The certificate of the authority that signed the server's. Defaults to the system's.
    pub tls_ca: Option<PathBuf>,
    /// Our own certificate and its key. Defaults to none.
    pub tls_client: Option<(PathBuf, PathBuf)>,
    /// What the server calls this connection. Defaults to `sortie`.
    pub name: String,
    /// What inboxes begin with. Defaults to `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// How long to try before the broker counts as unreachable. Defaults to 5 s.
    pub connect_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            credentials_file: None,
            user_password: None,
            token: None,
            nkey_seed: None,
            tls_ca: None,
            tls_client: None,
            name: "sortie".to_owned(),
            inbox_prefix: None,
            connect_within: Duration::from_secs(5),
        }
    }
}

impl std::fmt::Debug for Options {
    /// Secrets stay out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("servers", &self.servers)
            .field("name", &self.name)
            .field("credentials_file", &self.credentials_file)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Who this is, as far as that is no secret.
    fn who(&self) -> String {
        match self {
            Self { user_password: Some((user, _)), .. } => format!("user {user} with this password"),
            Self { credentials_file: Some(file), .. } => format!("whom {} names", file.display()),
            Self { nkey_seed: Some(_), .. } => "whoever has this nkey".to_owned(),
            Self { token: Some(_), .. } => "whoever has this token".to_owned(),
            _ => "somebody without credentials".to_owned(),
        }
    }
}

/// Whether the connection is there, and which one it is. A pull that waits at the server is gone with its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether it is there.
    pub is_up: bool,
    /// How often it was made.
    pub generation: u64,
    /// How often the broker refused something over it, for want of a permission.
    pub refusals: u64,
}

/// One connection to a broker, shared by cloning.
#[derive(Clone, Debug)]
pub struct Connection {
    client: Client,
    link: watch::Receiver<Link>,
    options: Arc<Options>,
    refusals: Arc<Refusals>,
}

impl Connection {
    /// The client library's own client, for a yardstick that must hold none of our code.
    ///
    /// # Errors
    /// As [`open`](Self::open), but it tries once.
    pub async fn bare(options: &Options) -> Result<Client, Error> {
        let prepared = connect_options(options)?;
        let connected = prepared.connect(options.servers.clone()).await;
        connected.map_err(|error| Error::new(Kind::Unreachable, error.to_string()))
    }

    /// Connects, trying again until `connect_within` has passed.
    ///
    /// # Errors
    /// `Unreachable` when nobody answered, `Forbidden` when the broker refused the credentials, `Invalid` when a file
    /// cannot be read or the server is older than [`SERVER_VERSION_MIN`].
    pub async fn open(options: Options) -> Result<Self, Error> {
        let until = end_of(options.connect_within);
        let mut waits = Waits::new(Duration::from_millis(50), Duration::from_secs(1));
        let connection = loop {
            // Boxed: whatever may have to connect would carry the ten kilobytes of it in its own future, each request of a
            // worker too.
            match Box::pin(Self::open_once(&options)).await {
                Err(error) if error.kind() == Kind::Unreachable && Instant::now() < until => {
                    tokio::time::sleep(waits.next()).await;
                }
                other => break other?,
            }
        };
        let (major, minor, patch) = SERVER_VERSION_MIN;
        if connection.client.is_server_compatible(major, minor, patch) {
            return Ok(connection);
        }
        let version = connection.client.server_info().version;
        Err(Error::new(
            Kind::Invalid,
            format!("nats-server {version} is too old: Sortie needs {major}.{minor} or later"),
        ))
    }

    async fn open_once(options: &Options) -> Result<Self, Error> {
        let (link_sender, link) = watch::channel(Link::default());
        let refusals = Arc::new(Refusals::new(options.inbox_prefix.as_deref()));
        let told = Arc::clone(&refusals);
        let link_sender = Arc::new(link_sender);
        let prepared = connect_options(options)?.event_callback(move |event| {
            note_event(&event, &link_sender, &told);
            async {}
        });
        let servers = options.servers.join(",");
        let client = prepared.connect(&options.servers).await.map_err(|error| match error.kind() {
            async_nats::ConnectErrorKind::Authentication | async_nats::ConnectErrorKind::AuthorizationViolation => {
                let message = format!("{servers} does not let {} in: authorization violation", options.who());
                Error::new(Kind::Forbidden, message)
            }
            _ => Error::new(Kind::Unreachable, format!("no connection to {servers}: {error}")),
        })?;
        Ok(Self { client, link, options: Arc::new(options.clone()), refusals })
    }

    /// Another connection to the same broker.
    pub(crate) async fn another(&self) -> Result<Self, Error> {
        Self::open(Options::clone(&self.options)).await
    }

    /// Whether it has ended for good. The client library makes a connection again by itself, except where it panics over
    /// what it reads.
    pub(crate) fn is_closed(&self) -> bool {
        self.link.has_changed().is_err()
    }

    /// The same, for whoever was met with an error: what is sent fails a moment before the link's end is seen.
    pub(crate) async fn has_ended(&self) -> bool {
        self.is_closed() || matches!(tokio::time::timeout(ENDED_WITHIN, self.client.flush()).await, Ok(Err(_)))
    }

    /// Whether it is a clone of this one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.refusals, &other.refusals)
    }

    /// How often it was made, or will have been when it is there: one that was just opened may not have been told of yet.
    pub(crate) fn generation(&self) -> u64 {
        let Link { is_up, generation, .. } = *self.link.borrow();
        if is_up { generation } else { generation + 1 }
    }

    /// Whether it is there, and has been made this often.
    pub(crate) fn is_up_as(&self, generation: u64) -> bool {
        let link = *self.link.borrow();
        !self.is_closed() && link.is_up && link.generation == generation
    }

    /// Ends when the connection that is there now, or the next one, breaks.
    pub(crate) async fn broken(&self) {
        let last = self.generation();
        let mut link = self.link.clone();
        let is_over = |link: &Link| link.generation > last || link.generation == last && !link.is_up;
        // Nobody tells any more where it has ended for good.
        let _ = link.wait_for(is_over).await;
    }

    /// Follows whether the connection is there.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// The server's version.
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// The largest message that the server takes, in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        self.client.max_payload()
    }

    /// Publishes without any acknowledgement.
    ///
    /// # Errors
    /// `TooLarge`, `Invalid`, or `Unreachable` when the connection is closed for good.
    pub async fn publish_core(&self, outgoing: Outgoing) -> Result<(), Error> {
        let Outgoing { subject, headers, body } = outgoing;
        let sent = if headers.is_empty() {
            self.client.publish(subject, body).await
        } else {
            self.client.publish_with_headers(subject, map_of(&headers), body).await
        };
        sent.map_err(|error| {
            let kind = match error.kind() {
                async_nats::PublishErrorKind::MaxPayloadExceeded => Kind::TooLarge,
                async_nats::PublishErrorKind::InvalidSubject => Kind::Invalid,
                async_nats::PublishErrorKind::Send => Kind::Unreachable,
            };
            Error::new(kind, error.to_string())
        })
    }

    /// Asks and waits for one answer.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders`, `TooLarge`, `Forbidden` as soon as the server says so.
    pub async fn request(
        &self,
        subject: String,
        headers: Option<&Headers>,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Message, Error> {
        let began = Instant::now();
        let mut request = async_nats::Request::new().payload(body).timeout(Some(timeout));
        if let Some(headers) = headers.filter(|headers| !headers.is_empty()) {
            request = request.headers(map_of(headers));
        }
        let answer = tokio::select! {
            answer = self.client.send_request(subject.clone(), request) => answer,
            error = self.unanswered(self.generation(), |refusals| refusals.of_request(&subject, began)) => return Err(error),
        };
        answer.map(Message::of).map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Error::new(Kind::NoResponders, "nobody answers there"),
            RequestErrorKind::MaxPayloadExceeded => Error::new(Kind::TooLarge, error.to_string()),
            RequestErrorKind::InvalidSubject => Error::new(Kind::Invalid, error.to_string()),
            RequestErrorKind::TimedOut | RequestErrorKind::Other => {
                Error::new(Kind::TimedOut, format!("no answer within {}", protocol::duration::format(timeout)))
            }
        })
    }

    /// Asks; the answers go to `reply`.
    pub(crate) async fn publish_asking(&self, outgoing: Outgoing, reply: String) -> Result<(), Error> {
        let sent = self.client.publish_with_reply(outgoing.subject, reply, outgoing.body).await;
        sent.map_err(|error| Error::new(Kind::Unreachable, error.to_string()))
    }

    /// Subscribes on core NATS.
    ///
    /// # Errors
    /// `Invalid` for a malformed subject, `Unreachable` when the connection is closed for good.
    pub async fn subscribe(&self, subject: impl Into<String>) -> Result<Subscription, Error> {
        let subscriber = self.client.subscribe(subject.into()).await;
        let subscriber = subscriber.map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
        Ok(Subscription { subscriber })
    }

    /// A subject that nobody else listens on.
    pub fn new_inbox(&self) -> String {
        self.client.new_inbox()
    }

    /// Waits until what was published before has left this process.
    ///
    /// # Errors
    /// `Unreachable` when the connection is closed for good.
    pub async fn flush(&self) -> Result<(), Error> {
        self.client.flush().await.map_err(|error| Error::new(Kind::Unreachable, error.to_string()))
    }

    /// The client library's own handle, for the parts of this crate that need it.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Ends with a refusal that `find` finds among those that the broker told.
    /// Ends when no answer can come any more: it was refused, or the connection of this generation is lost and another one
    /// is there. What is asked while there is none is sent when there is one.
    async fn unanswered(&self, generation: u64, find: impl Fn(&Refusals) -> Option<Error>) -> Error {
        let mut link = self.link.clone();
        let is_another = |link: &Link| link.is_up && link.generation > generation;
        loop {
            let (seen, is_lost) = {
                let link = link.borrow_and_update();
                (link.refusals, is_another(&link))
            };
            if is_lost {
                return Error::new(Kind::TimedOut, "the connection broke before the answer came");
            }
            // Nothing was refused as a rule, and then nothing is looked for.
            if seen > 0
                && let Some(error) = find(&self.refusals)
            {
                return error;
            }
            if link.wait_for(|link| link.refusals > seen || is_another(link)).await.is_err() {
                // Nobody tells any more; the timeout remains.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends when what was asked there, with its answers to go to `inbox`, was refused, or the connection was lost.
    pub(crate) async fn unanswered_asking(&self, subject: &str, inbox: &str, since: Instant) -> Error {
        self.unanswered(self.generation(), |refusals| refusals.of_asking(subject, inbox, since)).await
    }
}

/// Messages of one subscription.
#[derive(Debug)]
pub struct Subscription {
    subscriber: async_nats::Subscriber,
}

impl Subscription {
    /// The next message; none when the subscription has ended.
    pub async fn next(&mut self) -> Option<Message> {
        self.subscriber.next().await.map(Message::of)
    }

    /// The next message, for whoever polls several subscriptions.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.subscriber.poll_next_unpin(context).map(|message| message.map(Message::of))
    }

    /// Unsubscribes, but goes on giving what the server sent before it knew.
    pub async fn drain(&mut self) {
        // It fails only where the connection is closed for good, and then nothing more comes anyway.
        let _ = self.subscriber.drain().await;
    }
}

fn connect_options(options: &Options) -> Result<ConnectOptions, Error> {
    let mut prepared = ConnectOptions::new()
        .name(&options.name)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(Duration::from_secs(3))
        .reconnect_delay_callback(|attempts| Duration::from_millis((50 * attempts as u64).min(1_000)));
    if let Some(prefix) = &options.inbox_prefix {
        prepared = prepared.custom_inbox_prefix(prefix);
    }
    if let Some((user, password)) = &options.user_password {
        prepared = prepared.user_and_password(user.clone(), password.clone());
    }
    if let Some(token) = &options.token {
        prepared = prepared.token(token.clone());
    }
    if let Some(seed) = &options.nkey_seed {
        prepared = prepared.nkey(seed.clone());
    }
    if let Some(path) = &options.tls_ca {
        prepared = prepared.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &options.tls_client {
        prepared = prepared.add_client_certificate(certificate.clone(), key.clone());
    }
    if let Some(path) = &options.credentials_file {
        let refused = |error: std::io::Error| {
            Error::new(Kind::Invalid, format!("credentials file {} cannot be used: {error}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(refused)?;
        prepared = prepared.credentials(&text).map_err(refused)?;
    }
    Ok(prepared)
}

fn note_event(event: &Event, link: &watch::Sender<Link>, refusals: &Refusals) {
    match event {
        Event::Connected => {
            refusals.forget();
            link.send_modify(|link| {
                link.is_up = true;
                link.generation += 1;
            });
        }
        Event::Disconnected | Event::Closed => link.send_modify(|link| link.is_up = false),
        Event::ServerError(error) => {
            let text = error.to_string();
            match refusals.note(&text) {
                // A target of its own: a command says the same once, as what it ends with.
                Some(true) => tracing::warn!(target: REFUSED, error = %text, "the broker refused something"),
                _ => tracing::warn!(error = %text, "the broker refused something"),
            }
            link.send_modify(|link| link.refusals += 1);
        }
        Event::SlowConsumer(subscription) => tracing::warn!(subscription, "messages were dropped: slow consumer"),
        _ => {}
    }
}
