//! What is asked for, put together word by word; nothing leaves before [`submit`](RequestBuilder::submit) or
//! [`call`](RequestBuilder::call).

use std::{fmt, time::Duration};

use bytes::Bytes;
use protocol::{
    Backoff, Capability, ContentType, Failure, Headers, Lane, RequestId, TraceContext, UniqueKey, cron::CronTie,
    time::Timestamp,
};
use serde::Serialize;

use crate::{AcceptedFile, Client};

/// A request that is being put together.
#[must_use = "nothing is asked for before `submit` or `call`"]
pub struct RequestBuilder<'a> {
    pub(crate) client: Client,
    pub(crate) body: Body<'a>,
    pub(crate) wish: Wish,
}

/// All but the body.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) capability: Capability,
    pub(crate) content_type: ContentType,
    /// The one that was given.
    pub(crate) id: Option<RequestId>,
    /// The one that it has otherwise.
    generated: RequestId,
    pub(crate) unique: Option<UniqueKey>,
    pub(crate) lane: Lane,
    pub(crate) due: Option<Moment>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Moment>,
    pub(crate) attempts: Option<u32>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) parent: Option<String>,
    pub(crate) replay_of: Option<RequestId>,
    pub(crate) cron: Option<CronTie>,
    pub(crate) payload_ref: Option<String>,
    pub(crate) trace: TraceContext,
    pub(crate) headers: Headers,
    pub(crate) noted_in: Option<AcceptedFile>,
}

impl Wish {
    pub(crate) fn id(&self) -> &RequestId {
        self.id.as_ref().unwrap_or(&self.generated)
    }
}

/// A time on the broker's clock, or from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    At(Timestamp),
    After(Duration),
}

type Encode<'a> = Box<dyn FnOnce(&ContentType) -> Result<Vec<u8>, Failure> + Send + 'a>;

pub(crate) enum Body<'a> {
    Value(Encode<'a>),
    Encoded(Bytes),
}

impl Body<'_> {
    pub(crate) fn encode(self, content_type: &ContentType) -> Result<Bytes, Failure> {
        match self {
            Self::Value(encode) => encode(content_type).map(Bytes::from),
            Self::Encoded(body) => Ok(body),
        }
    }
}

impl Client {
    /// Begins a request with a value as its body: JSON, unless [`RequestBuilder::msgpack`] is said.
    pub fn request<'a, T>(&self, capability: &Capability, value: &'a T) -> RequestBuilder<'a>
    where
        T: Serialize + Sync + ?Sized,
    {
        let encode: Encode<'a> = Box::new(move |content_type| content_type.encode(value));
        RequestBuilder::new(self, capability, ContentType::Json, Body::Value(encode))
    }

    /// Begins a request with a body that is encoded already.
    pub fn request_encoded(
        &self,
        capability: &Capability,
        content_type: ContentType,
        body: impl Into<Bytes>,
    ) -> RequestBuilder<'static> {
        RequestBuilder::new(self, capability, content_type, Body::Encoded(body.into()))
    }
}

impl<'a> RequestBuilder<'a> {
    fn new(client: &Client, capability: &Capability, content_type: ContentType, body: Body<'a>) -> Self {
        let wish = Wish {
            capability: capability.clone(),
            content_type,
            id: None,
            generated: RequestId::generate(),
            unique: None,
            lane: Lane::default(),
            due: None,
            timeout: None,
            deadline: None,
            attempts: None,
            backoff: None,
            parent: None,
            replay_of: None,
            cron: None,
            payload_ref: None,
            trace: TraceContext::default(),
            headers: Headers::new(),
            noted_in: None,
        };
        Self { client: client.clone(), body, wish }
    }

    /// Its id. Whatever is submitted under one id is one request: a second one is recognised, also after the first has
    /// its outcome. Defaults to a new id; `seq-…`, `useq-…` and ids with `~` are given by the fleet and refused here.
    pub fn id(mut self, id: RequestId) -> Self {
        self.wish.id = Some(id);
        self
    }

    /// At most one request of this capability is queued or running under this key. Such a request has no lane, cannot
    /// be delayed, and gets its id from the broker (`useq-<n>`).
    pub fn unique(mut self, key: UniqueKey) -> Self {
        self.wish.unique = Some(key);
        self
    }

    /// Before the others of its capability.
    pub fn urgent(self) -> Self {
        self.lane(Lane::Urgent)
    }

    /// After the others of its capability, never starved.
    pub fn bulk(self) -> Self {
        self.lane(Lane::Bulk)
    }

    /// Where in the order of its capability. Defaults to [`Lane::Normal`].
    pub fn lane(mut self, lane: Lane) -> Self {
        self.wish.lane = lane;
        self
    }

    /// Not before this long from now on, by the broker's clock. At least 250 ms, which is as fine as the broker's
    /// schedules are.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.wish.due = Some(Moment::After(delay));
        self
    }

    /// Not before this time, by the broker's clock. A time in the past is now.
    pub fn at(mut self, due: Timestamp) -> Self {
        self.wish.due = Some(Moment::At(due));
        self
    }

    /// How long one attempt may take. Defaults to what the capability declares.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.wish.timeout = Some(timeout);
        self
    }

    /// After this time nobody starts or finishes it: its outcome is `expired`. Defaults to none.
    pub fn deadline(mut self, deadline: Timestamp) -> Self {
        self.wish.deadline = Some(Moment::At(deadline));
        self
    }

    /// A deadline this long from now on, by the broker's clock.
    pub fn deadline_in(mut self, within: Duration) -> Self {
        self.wish.deadline = Some(Moment::After(within));
        self
    }

    /// Attempts in all, the first one counted. Defaults to what the capability declares.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.wish.attempts = Some(attempts);
        self
    }

    /// The wait between attempts. Defaults to what the capability declares.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.wish.backoff = Some(backoff);
        self
    }

    /// The request that asks for this one.
    pub fn parent(mut self, parent: &RequestId) -> Self {
        self.wish.parent = Some(parent.to_string());
        self
    }

    /// The trace that this belongs to; handed on to whoever does the work. Defaults to none.
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.wish.trace = trace;
        self
    }

    /// A header of your own, which reaches the handler. Those of the fleet (`Sortie-…`) and of the broker (`Nats-…`) are
    /// refused.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.wish.headers.push(name, value);
        self
    }

    /// Notes it in this file as soon as the broker has acknowledged it, before anything else is waited for. What has its
    /// outcome already is not accepted again, and not noted.
    pub fn noted_in(mut self, file: &AcceptedFile) -> Self {
        self.wish.noted_in = Some(file.clone());
        self
    }

    /// The body, and with it the result, as MessagePack.
    pub fn msgpack(mut self) -> Self {
        self.wish.content_type = ContentType::MessagePack;
        self
    }
}

impl fmt::Debug for RequestBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestBuilder").field(&self.wish).finish()
    }
}
