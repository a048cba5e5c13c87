//! I have a function, and others should be able to call it.
//!
//! A plain async function is an agent. `echo` takes and gives any JSON; `greet` has types, and whoever asks for it with
//! something else is told so at once, before the function runs.
//!
//! ```sh
//! sortie up                                                # a broker and a coordinator, in one terminal
//! cargo run -p sortie-worker --example 01-echo             # this, in another
//! sortie submit echo '{"hi": 1}' --wait                    # and in a third
//! sortie submit greet '{"name": "Ada"}' --wait
//! sortie submit greet '{"nome": "Ada"}' --wait             # fails with invalid_input, and is not tried again
//! nats pub fleet.request.echo '{"hi": 1}'                  # with no tool of ours: the outcome is fleet.outcome.seq-<n>
//! ```
//!
//! Ctrl-C ends it in order: what runs is finished, what has not begun is left to others.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sortie_worker::{Context, Error, Failure, JsonSchema, Worker};

#[derive(Deserialize, JsonSchema)]
struct Guest {
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Greeting {
    text: String,
}

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

async fn greet(_ctx: Context, guest: Guest) -> Result<Greeting, Failure> {
    Ok(Greeting { text: format!("Good morning, {}.", guest.name) })
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    Worker::builder("echo").capability("echo", echo).capability("greet", greet).run().await
}
