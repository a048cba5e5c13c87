//! My work takes minutes: who asked wants to see how far it is, may change his mind, and nothing may be done twice.
//!
//! The agent imports rows. It says how far it is; it stops between two rows when it is cancelled, runs out of time, or its
//! process is told to end; and it keeps its place under the idempotency key, which is the same for every attempt of a
//! request, so that another attempt, in whichever process, goes on where this one stopped.
//!
//! ```sh
//! sortie up                                                                  # in one terminal
//! cargo run -p sortie-worker --example 03-long-work-with-progress            # in another
//! sortie watch import-rows                                                   # in a third: progress, live
//! sortie submit import-rows '{"rows": 100}' --id monday --wait               # in a fourth
//! sortie submit import-rows '{"rows": 100000}' --id tuesday
//! sortie cancel tuesday                                                      # it stops at the next row
//! ```
//!
//! Kill the agent half way (`kill -9`) and start it again: the import goes on from its last place.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sortie_worker::{CapabilityConfig, Context, Error, Failure, JsonSchema, Worker, codes};

/// Rows between two notes of the place: as much is done twice after a crash.
const ROWS_NOTED: u64 = 10;

#[derive(Deserialize, JsonSchema)]
struct Import {
    rows: u64,
}

#[derive(Serialize, JsonSchema)]
struct Imported {
    rows: u64,
    /// Where this attempt began.
    from: u64,
}

async fn import_rows(ctx: Context, import: Import) -> Result<Imported, Failure> {
    // Whoever asks for it promises to look: a handler that never does is dropped where it stands.
    let cancelled = ctx.cancellation();
    let from = place(&ctx).await?;
    for row in from..import.rows {
        if row % ROWS_NOTED == 0 {
            note_place(&ctx, row).await?;
            ctx.progress(row as f64 / import.rows as f64 * 100.0, format!("row {row} of {}", import.rows)).await;
        }
        tokio::select! {
            () = import_row(row) => {}
            () = cancelled.cancelled() => {
                note_place(&ctx, row).await?;
                return Err(Failure::new(codes::CANCELLED, format!("stopped at row {row}")));
            }
        }
    }
    Ok(Imported { rows: import.rows, from })
}

/// Stands for the work: something that may be dropped without harm before it is done.
async fn import_row(_row: u64) {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn place(ctx: &Context) -> Result<u64, Failure> {
    match ctx.state().get(ctx.idempotency_key()).await? {
        Some((place, _revision)) => Ok(serde_json::from_slice(&place)?),
        None => Ok(0),
    }
}

async fn note_place(ctx: &Context, row: u64) -> Result<(), Failure> {
    ctx.state().put(ctx.idempotency_key(), serde_json::to_vec(&row)?).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = CapabilityConfig::default().timeout(Duration::from_secs(3600));
    Worker::builder("importer").capability_with("import-rows", config, import_rows).slots(4).run().await
}
