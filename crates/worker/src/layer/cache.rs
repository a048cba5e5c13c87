//! Keeps results for a while, so that the same input is not worked on again.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use moka::sync::Cache as Store;
use protocol::Failure;
use serde_json::Value;
use tower::{Layer, Service};

use crate::{BoxService, Call, Reply};

/// What an entry takes beside its key and its result, roughly, in bytes.
const ENTRY_BYTES: usize = 200;

/// Keeps the results of one instance in memory, for a while and up to a size; the least used go first. Failures are never
/// kept. It stands outside of rate limit and breaker: what is found costs no token, also while the breaker is open.
///
/// Only for handlers whose result follows from their input: what they do beside it is not done again.
#[derive(Clone, Debug)]
pub struct Cache {
    pointer: Option<String>,
    store: Store<Arc<str>, Arc<Reply>>,
}

/// What [`Cache`] makes of a handler.
#[derive(Clone, Debug)]
pub struct Cached {
    inner: BoxService,
    cache: Cache,
}

impl Cache {
    /// Keeps a result for so long, and so many bytes of keys and results in all.
    pub fn new(ttl: Duration, bytes_max: u64) -> Self {
        let weigh = |key: &Arc<str>, kept: &Arc<Reply>| {
            u32::try_from(ENTRY_BYTES + key.len() + kept.body.len()).unwrap_or(u32::MAX)
        };
        // It panics over a thousand years.
        let ttl = ttl.min(protocol::duration::DURATION_MAX);
        Self { pointer: None, store: Store::builder().max_capacity(bytes_max).weigher(weigh).time_to_live(ttl).build() }
    }

    /// What is at this JSON pointer of the input, such as `/customer`, is the key; inputs without it are not kept. Defaults
    /// to the whole input.
    #[must_use]
    pub fn key(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Where a result is kept. JSON has one spelling here, however it was sent: keys of objects are in order. A clone of
    /// the cache may stand before another capability, whose results are its own.
    fn key_of(&self, call: &Call) -> Option<Arc<str>> {
        let input: Value = call.content_type.decode(&call.body).ok()?;
        let key = match &self.pointer {
            Some(pointer) => input.pointer(pointer)?,
            None => &input,
        };
        Some(format!("{} {} {key}", call.context.capability(), call.content_type).into())
    }
}

impl Layer<BoxService> for Cache {
    type Service = Cached;
    fn layer(&self, inner: BoxService) -> Cached {
        Cached { inner, cache: self.clone() }
    }
}

impl Service<Call> for Cached {
    type Response = Reply;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Reply, Failure>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Some(key) = self.cache.key_of(&call) else { return self.inner.call(call) };
        if let Some(kept) = self.cache.store.get(&key) {
            return std::future::ready(Ok(Reply::clone(&kept))).boxed();
        }
        let (store, ended) = (self.cache.store.clone(), self.inner.call(call));
        async move {
            let reply = ended.await?;
            store.insert(key, Arc::new(reply.clone()));
            Ok(reply)
        }
        .boxed()
    }
}
