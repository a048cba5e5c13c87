//! What my agent depends on is not always there: what is tried again, when, and what is not?
//!
//! The agent buys things in a shop. A failure has a code, for programs, and says by itself what follows from it. The
//! order says in which mood the shop is, so that each can be tried:
//!
//! ```sh
//! sortie up                                                        # in one terminal
//! cargo run -p sortie-worker --example 02-retries                  # in another
//! sortie submit buy '{"item": "tea", "mood": "busy"}' --wait       # tried again by policy
//! sortie submit buy '{"item": "tea", "mood": "crowded"}' --wait    # tried again when the shop says so
//! sortie submit buy '{"item": "tea", "mood": "closed"}' --wait     # put off, which is no failed attempt
//! sortie submit buy '{"item": "tea", "mood": "gone"}' --wait       # given up at once: see `sortie dead list`
//! sortie submit buy '{"item": "gold", "mood": "open"}' --wait      # given up at once, as the capability says
//! sortie later list                                                # what waits meanwhile, in no slot
//! ```

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sortie_worker::{Backoff, CapabilityConfig, Context, Error, Failure, JsonSchema, RetryPolicy, Worker};

#[derive(Deserialize, JsonSchema)]
struct Order {
    item: String,
    mood: Mood,
}

/// The shop as the first attempt finds it.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mood {
    Open,
    Busy,
    Crowded,
    Closed,
    Gone,
}

#[derive(Serialize, JsonSchema)]
struct Receipt {
    item: String,
    cents: u32,
}

/// Opens a second after somebody came to its closed door first.
#[derive(Default)]
struct Shop {
    opens: OnceLock<Instant>,
}

impl Shop {
    fn opens_in(&self) -> Duration {
        let opens = self.opens.get_or_init(|| Instant::now() + Duration::from_secs(1));
        opens.saturating_duration_since(Instant::now())
    }
}

async fn buy(ctx: Context, order: Order) -> Result<Receipt, Failure> {
    let is_first = ctx.attempt() == 1;
    match order.mood {
        // A code of our own. Unknown codes are tried again as the capability's policy says.
        Mood::Busy if is_first => return Err(Failure::new("shop_busy", "nobody at the till")),
        // The shop knows better than any policy when to come back.
        Mood::Crowded if is_first => {
            return Err(Failure::new("shop_crowded", "too many customers").retry_after(Duration::from_millis(500)));
        }
        // No failure at all: the attempt is put off, and its number stays what it is.
        Mood::Closed => {
            let wait = ctx.shared::<Shop>().opens_in();
            if !wait.is_zero() {
                return Err(Failure::snooze(wait));
            }
        }
        // No attempt can help. The outcome is `failed`, and a dead letter keeps the request with its whole story.
        Mood::Gone => return Err(Failure::new("shop_gone", "there is no such shop any more").give_up()),
        Mood::Open | Mood::Busy | Mood::Crowded => {}
    }
    match order.item.as_str() {
        "tea" => Ok(Receipt { item: order.item, cents: 420 }),
        // That this is hopeless is known where the capability is declared, below.
        other => Err(Failure::new("item_unknown", format!("the shop has no {other}"))),
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let patient = RetryPolicy { attempts_max: 4, backoff: Backoff::fixed(Duration::from_millis(300)) };
    let config = CapabilityConfig::default()
        .description("Buys an item in the shop.")
        .timeout(Duration::from_secs(10))
        .retry(patient)
        .give_up_on("item_unknown");
    Worker::builder("shopper").capability_with("buy", config, buy).shared(Shop::default()).run().await
}
