use ::process::{ExitCode, Health, Logs, Process, ProcessArgs, Shutdown, settings::Environment};
use prometheus::Registry;
use sortie_coordinator::{serve, serve::PROGRAM};

use crate::fleet::{BOUND, Fleet};

fn process(fleet: &Fleet) -> Process {
    let environment = Environment::of([("SORTIE_SERVER", fleet.url().as_str())]);
    Process {
        program: PROGRAM,
        settings: ProcessArgs::default().resolve(&environment, PROGRAM.log_level).unwrap(),
        environment,
        logs: Logs::default(),
        registry: Registry::new(),
        health: Health::new(),
        shutdown: Shutdown::new(),
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_again_ends_the_process() {
    let fleet = Fleet::start().await;
    let mut asked = fleet.connection.subscribe("$JS.API.CONSUMER.INFO.>").await.unwrap();
    let serving = serve(process(&fleet));
    let breaking = async {
        // Where the answers to its requests come in. The client library panics over a bare carriage return, and its connection
        // is gone.
        let reply = asked.next().await.unwrap().reply.unwrap();
        let inbox = reply.rsplit_once('.').unwrap().0;
        fleet.publish_bytes_to_listeners(&format!("{inbox}.planted"), b"NATS/1.0\r\nX: a\rb\r\n\r\n", b"{}");
        std::future::pending::<()>().await;
    };
    let ended = async {
        tokio::select! { ended = serving => ended, () = breaking => unreachable!() }
    };
    let ended = tokio::time::timeout(BOUND, ended).await.expect("it lives on without a connection");
    assert_eq!(ended.unwrap_err().code, ExitCode::Again);
}
