//! The coordinator as a process: what its own binary and `sortie process coordinator` run.

use std::pin::pin;

use broker::{Connection, Error, Link};
use process::{ExitCode, Health, Problem, Process, Program, logging::Sender};
use protocol::Kind;
use tokio::sync::watch;

use crate::{Config, Coordinator};

/// What the binary says about itself.
pub const PROGRAM: Program = Program::service("coordinator", env!("CARGO_PKG_VERSION"));

/// Connects, coordinates until the process is asked to stop, gives the leases back.
///
/// # Errors
/// The broker cannot be reached or refuses us. With exit code 75, because starting it again may help: the streams are
/// not there after [`topology_within`](Config::topology_within), or the connection has ended for good.
pub async fn serve(process: Process) -> Result<ExitCode, Problem> {
    let settings = &process.settings.connection;
    let connection = Connection::open(settings.options(process.program.name)).await?;
    let config = Config { namespace: settings.namespace.clone(), ..Config::default() };
    let coordinator = tokio::select! {
        started = Coordinator::start(&connection, config, &process.registry) => started.map_err(problem)?,
        () = process.shutdown.begun() => return Ok(ExitCode::Done),
    };
    let shipping = match Kind::parse(PROGRAM.name) {
        Ok(kind) => {
            let (namespace, instance) = (settings.namespace.clone(), coordinator.instance().clone());
            process.logs.ship(&connection, Sender { namespace, kind, instance })
        }
        Err(_) => None,
    };
    let handle = coordinator.handle();
    let mut stopped = pin!(coordinator.stopped());
    let was_in_order = tokio::select! {
        was_in_order = &mut stopped => was_in_order,
        end = follow(connection.link(), &process.health, process.shutdown.begun()) => {
            handle.stop();
            let was_in_order = stopped.await;
            if end == End::Closed {
                let message = "the connection has ended and cannot be made again";
                return Err(Problem::new(ExitCode::Again, message).advise("start the process again"));
            }
            was_in_order
        }
    };
    tracing::info!("coordinator stopped");
    if let Some(shipping) = shipping {
        shipping.finish().await;
    }
    Ok(if was_in_order { ExitCode::Done } else { ExitCode::Internal })
}

/// Why there is nothing more to follow.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Asked,
    /// The client library makes a connection again by itself, except where it panics over what it reads.
    Closed,
}

/// Says whether the broker is connected, until the process is asked to stop or the connection has ended for good.
async fn follow(mut link: watch::Receiver<Link>, health: &Health, asked: impl Future<Output = ()>) -> End {
    let mut asked = pin!(asked);
    loop {
        match link.borrow_and_update().is_up {
            true => health.ready(),
            false => health.unready("the broker is not connected"),
        }
        tokio::select! {
            changed = link.changed() => if changed.is_err() {
                health.unready("the connection has ended");
                return End::Closed;
            },
            () = &mut asked => return End::Asked,
        }
    }
}

fn problem(error: Error) -> Problem {
    match error.kind() {
        broker::Kind::NotFound => Problem::new(ExitCode::Again, error.to_string()),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_streams_mean_start_me_again() {
        assert_eq!(problem(Error::new(broker::Kind::NotFound, "no stream")).code, ExitCode::Again);
        assert_eq!(problem(Error::new(broker::Kind::Forbidden, "no")).code, ExitCode::Refused);
    }
}
