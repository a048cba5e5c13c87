//! A worker for tests that kill it: what it is to be stands in its one argument.

use std::{fs, io::Read, io::Write, process::ExitCode, time::Duration};

use process::logging::{LogFormat, LogSettings};
use protocol::{Backoff, RetryPolicy};
use sortie_tests::victim::{BACKOFF, CAPABILITY, Orders, Task};
use tokio::sync::oneshot;
use worker::{CapabilityConfig, Config, Context, Failure, Worker};

/// What attempts share. The diary is open already: a process that has no files left still does its work.
struct Shared {
    orders: Orders,
    diary: fs::File,
}

async fn work(ctx: Context, task: Task) -> Result<String, Failure> {
    let shared = ctx.shared::<Shared>();
    let orders = &shared.orders;
    (&shared.diary).write_all(format!("{} {}\n", ctx.attempt(), ctx.id()).as_bytes())?;
    ctx.progress(0.0, "begun").await;
    tokio::time::sleep(orders.works.unwrap_or(Duration::from_millis(task.works_ms))).await;
    let failure = Failure::new("as_told", format!("attempt {} fails", ctx.attempt()));
    match ctx.attempt() <= orders.fails.unwrap_or(task.fails) {
        true if task.gives_up => Err(failure.give_up()),
        true => Err(failure),
        false => Ok("x".repeat(task.result_bytes)),
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> anyhow::Result<ExitCode> {
    let orders: Orders = serde_json::from_str(&std::env::args().nth(1).unwrap_or_default())?;
    let log =
        LogSettings { format: LogFormat::Human, level: "info,worker=debug".to_owned(), shipped: None, colour: false };
    process::logging::init(&log, false);
    let config = Config {
        broker: broker::Options {
            servers: orders.server.split(',').map(str::to_owned).collect(),
            ..broker::Options::default()
        },
        slots: orders.slots,
        drain_grace: orders.drain_grace,
        ..Config::default()
    };
    let capability = CapabilityConfig::default()
        .retry(RetryPolicy { attempts_max: 3, backoff: Backoff::fixed(BACKOFF) })
        .timeout(Duration::from_secs(90));
    let diary = fs::File::options().create(true).append(true).open(&orders.diary)?;
    let shared = Shared { orders, diary };
    let worker = Worker::builder("victim").config(config).shared(shared).capability_with(CAPABILITY, capability, work);
    tokio::select! {
        ended = worker.run() => ended?,
        () = input_ended() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Whoever started this has ended.
async fn input_ended() {
    let (say, said) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = say.send(());
    });
    let _ = said.await;
}
