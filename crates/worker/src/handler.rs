//! Handlers: typed outside, one erased service inside.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use protocol::{ContentType, Failure};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tower::{service_fn, util::BoxCloneSyncService};

use crate::Context;

/// One attempt on its way to the handler.
#[derive(Clone, Debug)]
pub struct Call {
    /// What the attempt knows of itself.
    pub context: Context,
    /// The body as it came.
    pub body: Bytes,
    /// How it is encoded.
    pub content_type: ContentType,
}

/// A handler's encoded result on its way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The body.
    pub body: Vec<u8>,
    /// How it is encoded.
    pub content_type: ContentType,
}

/// A handler with its types taken away: what layers wrap.
pub type BoxService = BoxCloneSyncService<Call, Reply, Failure>;

/// What can be served: implemented by every `async fn(Context, Input) -> Result<Output, Error>` whose input is
/// deserialized, whose output is serialized, and whose error becomes a [`Failure`].
pub trait Handler<Types>: Send + Sync + 'static {
    /// JSON Schemas of input and output.
    fn schemas(&self) -> (Value, Value);

    /// Takes the types away.
    fn into_service(self) -> BoxService;
}

impl<F, Fut, Input, Output, Error> Handler<(Input, Output, Error)> for F
where
    F: Fn(Context, Input) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Output, Error>> + Send + 'static,
    Input: DeserializeOwned + JsonSchema + Send + 'static,
    Output: Serialize + JsonSchema + Send + 'static,
    Error: Into<Failure> + Send + 'static,
{
    fn schemas(&self) -> (Value, Value) {
        (protocol::schema::of::<Input>(), protocol::schema::of::<Output>())
    }

    fn into_service(self) -> BoxService {
        let handler = Arc::new(self);
        BoxCloneSyncService::new(service_fn(move |call: Call| {
            let handler = Arc::clone(&handler);
            async move {
                let input: Input = call.content_type.decode(&call.body)?;
                // The body is not needed while the handler runs, and may be large.
                drop(call.body);
                let output = handler(call.context, input).await.map_err(Into::into)?;
                let body = call.content_type.encode(&output)?;
                Ok(Reply { body, content_type: call.content_type })
            }
        }))
    }
}
