//! The way of every process from its arguments to its exit code.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use broker::task;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use crate::{
    endpoint::{Endpoint, MetricsAddress},
    exit::{self, ExitCode, Problem},
    health::Health,
    logging::{self, LEVEL_DEFAULT, LogFormat, Logs},
    metrics,
    settings::{Environment, ProcessArgs, Settings},
    signals::{Listener, OnSignal, Shutdown},
};

/// How long the metrics endpoint may take to finish its last answers.
const ENDPOINT_GRACE: Duration = Duration::from_secs(1);

/// What a binary says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name, as in messages and metrics.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it logs if nothing is said.
    pub log_level: &'static str,
    /// Whether it ships what it logs to the fleet's log, unless something else is said.
    pub ships_logs: bool,
    /// What the first signal does.
    pub on_signal: OnSignal,
}

impl Program {
    /// Something that runs until it is told to stop: logs what it does, drains at the first signal.
    pub const fn service(name: &'static str, version: &'static str) -> Self {
        Self { name, version, log_level: LEVEL_DEFAULT, ships_logs: true, on_signal: OnSignal::Drain }
    }

    /// Something that a person waits for: logs warnings only, leaves at the first signal. What it ends with is told once,
    /// by itself: not also by the client library, and by the connection that was refused something.
    pub const fn command(name: &'static str, version: &'static str) -> Self {
        Self {
            name,
            version,
            log_level: "warn,async_nats=off,sortie_broker::refused=off",
            ships_logs: false,
            on_signal: OnSignal::Leave,
        }
    }

    /// The same, but the first signal only asks it to stop: [`Process::shutdown`] has to be heeded.
    #[must_use]
    pub const fn draining(mut self) -> Self {
        self.on_signal = OnSignal::Drain;
        self
    }

    /// As [`draining`](Self::draining), and the second signal asks for an end at once: `hurried` of [`Process::shutdown`] has to be heeded too.
    #[must_use]
    pub const fn hurrying(mut self) -> Self {
        self.on_signal = OnSignal::Hurry;
        self
    }
}

/// What a running process is given.
#[derive(Debug)]
pub struct Process {
    /// What the binary says about itself.
    pub program: Program,
    /// Its settings, checked.
    pub settings: Settings,
    /// The environment the settings came from.
    pub environment: Environment,
    /// What it logs, to be changed while it runs, and where that is shipped from.
    pub logs: Logs,
    /// Where its parts register what they measure.
    pub registry: Registry,
    /// Where its parts say how they are.
    pub health: Health,
    /// The wish to end.
    pub shutdown: Shutdown,
}

/// Runs `main` with everything set up, and ends the process: with the code it returns, or with that of its
/// problem, which is told once.
pub fn run<F, M>(program: Program, args: &ProcessArgs, main: F) -> !
where
    F: FnOnce(Process) -> M,
    M: Future<Output = Result<ExitCode, Problem>>,
{
    exit::leave(enter(program, args, Environment::of_process(), main))
}

fn enter<F, M>(program: Program, args: &ProcessArgs, environment: Environment, main: F) -> ExitCode
where
    F: FnOnce(Process) -> M,
    M: Future<Output = Result<ExitCode, Problem>>,
{
    let name = program.name;
    let settings = match args.resolve(&environment, program.log_level) {
        Ok(settings) => settings,
        Err(faults) => return tell(name, LogFormat::Human, &faults.into()),
    };
    let format = settings.log.format;
    let logs = logging::init(&settings.log, program.ships_logs);
    let process = Process {
        program,
        settings,
        environment,
        logs,
        registry: Registry::new(),
        health: Health::new(),
        shutdown: Shutdown::new(),
    };
    // The panic itself was told by the panic hook.
    match catch_unwind(AssertUnwindSafe(|| on_runtime(process, main))) {
        Ok(Ok(code)) => code,
        Ok(Err(problem)) => tell(name, format, &problem),
        Err(_) => ExitCode::Internal,
    }
}

fn on_runtime<F, M>(process: Process, main: F) -> Result<ExitCode, Problem>
where
    F: FnOnce(Process) -> M,
    M: Future<Output = Result<ExitCode, Problem>>,
{
    let internal =
        |what: &str, error: &dyn std::fmt::Display| Problem::new(ExitCode::Internal, format!("cannot {what}: {error}"));
    metrics::register(&process.registry, process.program.name, process.program.version)
        .and_then(|()| process.logs.register(&process.registry))
        .map_err(|error| internal("register metrics", &error))?;
    let shutdown = process.shutdown.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(process.program.name)
        .build()
        .map_err(|error| internal("start threads", &error))?;
    let ended = runtime.block_on(async {
        let listener = Listener::new().map_err(|error| internal("listen to signals", &error))?;
        let signals = task::spawn("signals", listener.listen(process.shutdown.clone(), process.program.on_signal));
        let end = CancellationToken::new();
        let endpoint = match process.settings.metrics {
            Some(address) => Some(serve(address, &process, end.clone()).await?),
            None => None,
        };
        let ended = main(process).await;
        end.cancel();
        if let Some(endpoint) = endpoint {
            // Somebody who reads slowly does not keep us.
            let _ = tokio::time::timeout(ENDPOINT_GRACE, endpoint.join()).await;
        }
        drop(signals);
        ended
    });
    // A thread that waits for input would keep an ordinary drop for ever.
    runtime.shutdown_background();
    match ended {
        Ok(ExitCode::Done) if shutdown.is_again() => Ok(ExitCode::Again),
        ended => ended,
    }
}

async fn serve(address: MetricsAddress, process: &Process, end: CancellationToken) -> Result<task::Owned<()>, Problem> {
    let endpoint = Endpoint::bind(address).await?;
    tracing::info!(address = %endpoint.local_addr(), "serving metrics");
    let (registry, health, shutdown) = (process.registry.clone(), process.health.clone(), process.shutdown.clone());
    Ok(task::spawn("endpoint", async move {
        if let Err(error) = endpoint.serve(registry, health, shutdown, end.cancelled_owned()).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    }))
}

/// Tells a problem once: as text to people, as one event to machines.
fn tell(name: &str, format: LogFormat, problem: &Problem) -> ExitCode {
    match format {
        LogFormat::Human => eprintln!("{name}: {problem}"),
        LogFormat::Json => tracing::error!(
            exit.code = problem.code.number(),
            advice = problem.advice.as_deref(),
            "{}",
            problem.message
        ),
    }
    problem.code
}
