//! Everybody asks for the same report at nine o'clock: it should be made once at a time, and all should get it.
//!
//! Unique work has a key. While a request with that key is queued or running, a second one is refused by the broker, and
//! whoever asks is told which request has the key: its outcome is as good. Once it is done, the key is free again.
//! `serve` makes reports; `ask` wants one.
//!
//! ```sh
//! sortie up                                                       # in one terminal
//! cargo run -p sortie-worker --example 04-unique -- serve         # in another
//! cargo run -p sortie-worker --example 04-unique -- ask acme      # in two more at once: one report, for both
//! sortie submit report '{"customer": "acme"}' --unique acme       # the same by hand; exits 1 if the key is taken
//! ```

use std::time::Duration;

use client::{Client, ErrorKind};
use process::settings::{ConnectionArgs, Environment};
use protocol::{Capability, RequestId, UniqueKey};
use serde::{Deserialize, Serialize};
use sortie_worker::{Context, Failure, JsonSchema, Worker};

type Problem = Box<dyn std::error::Error + Send + Sync>;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Wanted {
    customer: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Report {
    text: String,
}

async fn report(_ctx: Context, wanted: Wanted) -> Result<Report, Failure> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(Report { text: format!("{} owes us nothing.", wanted.customer) })
}

async fn serve() -> Result<(), Problem> {
    Ok(Worker::builder("reporter").capability("report", report).run().await?)
}

async fn ask(customer: String) -> Result<(), Problem> {
    let settings = ConnectionArgs::default().resolve(&Environment::of_process())?;
    let client = Client::connect(settings.options("ask"), settings.namespace).await?;
    let key = UniqueKey::parse(&customer)?;
    let id = request(&client, key, Wanted { customer }).await?;
    let outcome = client.wait(&id, Duration::from_secs(60)).await?;
    let report: Report = outcome.result().map_err(Failure::into_error)?;
    println!("{}", report.text);
    Ok(())
}

/// The request that makes the report: ours, or the one that makes it already.
async fn request(client: &Client, key: UniqueKey, wanted: Wanted) -> Result<RequestId, Problem> {
    match client.request(&Capability::parse("report")?, &wanted).unique(key).submit().await {
        Ok(receipt) => {
            println!("asked for as {}", receipt.id());
            Ok(receipt.id().clone())
        }
        Err(error) => match error.kind() {
            ErrorKind::KeyTaken { holder: Some(holder) } => {
                println!("being made as {holder}");
                Ok(holder.clone())
            }
            _ => Err(error.into()),
        },
    }
}

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let mut words = std::env::args().skip(1);
    match (words.next().as_deref(), words.next()) {
        (Some("serve"), None) => serve().await,
        (Some("ask"), Some(customer)) => ask(customer).await,
        _ => Err("say `serve`, or `ask` and a customer".into()),
    }
}
