//! Two of my capabilities share one scarce thing, one of them must be quick, and none should see bodies of any size.
//!
//! What stands around handlers is a `tower` layer. Some are shipped ([`Concurrency`], [`Timeout`]); any other is a few
//! lines, as [`BodyLimit`] is here. Panics are caught, and traces and metrics kept, without being asked for.
//!
//! ```text
//!   request -> trace -> metrics -> BodyLimit -> Concurrency (both: 2 at once) -> catch panic -> rotate
//!                                            -> Concurrency -> Timeout (1 s)  -> catch panic -> preview
//! ```
//!
//! ```sh
//! sortie up                                                                    # in one terminal
//! cargo run -p sortie-worker --example 05-layers                               # in another
//! sortie submit rotate '{"picture": "cat", "takes_ms": 500}' --wait
//! sortie submit preview '{"picture": "cat", "takes_ms": 5000}' --attempts 1 --wait    # fails with timeout
//! head -c 5000 /dev/zero | tr '\0' x | jq -R '{picture: ., takes_ms: 1}' | sortie submit rotate - --wait
//! ```

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sortie_worker::{
    BoxService, Call, Context, Error, Failure, JsonSchema, Reply, Worker, codes,
    layer::{Concurrency, Timeout},
};
use tower::{Layer, Service};

/// Refuses bodies over a size, for good.
#[derive(Clone, Copy)]
struct BodyLimit {
    bytes_max: usize,
}

#[derive(Clone)]
struct Limited {
    inner: BoxService,
    limit: BodyLimit,
}

impl Layer<BoxService> for BodyLimit {
    type Service = Limited;
    fn layer(&self, inner: BoxService) -> Limited {
        Limited { inner, limit: *self }
    }
}

impl Service<Call> for Limited {
    type Response = Reply;
    type Error = Failure;
    type Future = <BoxService as Service<Call>>::Future;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let (bytes, bytes_max) = (call.body.len(), self.limit.bytes_max);
        if bytes <= bytes_max {
            return self.inner.call(call);
        }
        let message = format!("the body has {bytes} bytes; this agent takes {bytes_max}");
        Box::pin(std::future::ready(Err(Failure::new(codes::PAYLOAD_TOO_LARGE, message))))
    }
}

#[derive(Deserialize, JsonSchema)]
struct Wish {
    picture: String,
    takes_ms: u64,
}

#[derive(Serialize, JsonSchema)]
struct Done {
    picture: String,
    /// How many were at the graphics card when this one began, itself counted.
    at_once: usize,
}

/// The scarce thing.
#[derive(Default)]
struct GraphicsCard {
    users: AtomicUsize,
}

impl GraphicsCard {
    async fn work(&self, takes: Duration) -> usize {
        // Given back also where the attempt is dropped.
        struct Use<'a>(&'a AtomicUsize);
        impl Drop for Use<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let at_once = self.users.fetch_add(1, Ordering::SeqCst) + 1;
        let _use = Use(&self.users);
        tokio::time::sleep(takes).await;
        at_once
    }
}

async fn draw(ctx: Context, wish: Wish) -> Result<Done, Failure> {
    let at_once = ctx.shared::<GraphicsCard>().work(Duration::from_millis(wish.takes_ms)).await;
    Ok(Done { picture: wish.picture, at_once })
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // Clones share the bound, so this is one bound for both.
    let card = Concurrency::new(2);
    Worker::builder("pictures")
        .shared(GraphicsCard::default())
        .layer(BodyLimit { bytes_max: 4 * 1024 })
        .capability("rotate", draw)
        .capability_layer(card.clone())
        .capability("preview", draw)
        .capability_layer(card)
        .capability_layer(Timeout::new(Duration::from_secs(1)))
        .run()
        .await
}
