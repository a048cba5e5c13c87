//! The coordinator as a process: what its own binary and `sortie process coordinator` run.

use std::pin::pin;

use broker::{Connection, Error, Kind, Link};
use process::{ExitCode, Problem, Process, Program};
use tokio::sync::watch;

use crate::{Config, Coordinator};

/// What the binary says about itself.
pub const PROGRAM: Program = Program::service("coordinator", env!("CARGO_PKG_VERSION"));

/// Connects, coordinates until the process is asked to stop, gives the leases back.
///
/// # Errors
/// The broker cannot be reached or refuses us; or the streams are not there after
/// [`topology_within`](Config::topology_within), which ends with exit code 75, because whoever starts it again may find
/// them.
pub async fn serve(process: Process) -> Result<ExitCode, Problem> {
    let settings = &process.settings.connection;
    let connection = Connection::open(settings.options(process.program.name)).await?;
    let config = Config { namespace: settings.namespace.clone(), ..Config::default() };
    let coordinator = tokio::select! {
        started = Coordinator::start(&connection, config, &process.registry) => started.map_err(problem)?,
        () = process.shutdown.begun() => return Ok(ExitCode::Done),
    };
    let handle = coordinator.handle();
    let mut stopped = pin!(coordinator.stopped());
    let was_in_order = tokio::select! {
        was_in_order = &mut stopped => was_in_order,
        () = follow(connection.link(), &process) => {
            handle.stop();
            stopped.await
        }
    };
    tracing::info!("coordinator stopped");
    Ok(if was_in_order { ExitCode::Done } else { ExitCode::Internal })
}

/// Says whether the broker is connected, until the process is asked to stop.
async fn follow(mut link: watch::Receiver<Link>, process: &Process) {
    loop {
        match link.borrow_and_update().is_up {
            true => process.health.ready(),
            false => process.health.unready("the broker is not connected"),
        }
        tokio::select! {
            Ok(()) = link.changed() => {}
            () = process.shutdown.begun() => return,
        }
    }
}

fn problem(error: Error) -> Problem {
    match error.kind() {
        Kind::NotFound => Problem::new(ExitCode::Again, error.to_string()),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_streams_mean_start_me_again() {
        assert_eq!(problem(Error::new(Kind::NotFound, "no stream")).code, ExitCode::Again);
        assert_eq!(problem(Error::new(Kind::Forbidden, "no")).code, ExitCode::Refused);
    }
}
