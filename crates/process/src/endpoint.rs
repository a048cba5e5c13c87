//! `/metrics`, `/healthz` and `/readyz` over HTTP, for whoever watches the process.

use std::{future::Future, io, net::SocketAddr};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::TcpListener;

use crate::{
    exit::{ExitCode, ExitError},
    health::Health,
    settings::{Environment, Faults, environment as variable},
    signals::Shutdown,
};

/// The flag for it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Metrics")]
pub struct EndpointArgs {
    /// Serve /metrics, /healthz and /readyz at this address; a port alone means 127.0.0.1 [env: SORTIE_METRICS]
    #[arg(long, global = true, value_name = "ADDR")]
    pub metrics: Option<String>,
}

/// Where to serve metrics, and who said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsAddress {
    /// The address; port 0 takes a free one, which is logged.
    pub address: SocketAddr,
    /// The flag or variable it came from.
    pub place: &'static str,
}

impl EndpointArgs {
    /// Puts flag and environment together.
    ///
    /// # Errors
    /// It is no address.
    pub fn resolve(&self, environment: &Environment) -> Result<Option<MetricsAddress>, Faults> {
        let (place, text) = match (&self.metrics, environment.get(variable::METRICS)) {
            (Some(text), _) => ("--metrics", text.as_str()),
            (None, Some(text)) => (variable::METRICS, text),
            (None, None) => return Ok(None),
        };
        let address = match text.parse::<u16>() {
            Ok(port) => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
            Err(_) => text.parse(),
        };
        let address = address.map_err(|_| {
            Faults::one(place, format!("`{text}` is no address such as 127.0.0.1:9464, 0.0.0.0:9464 or 9464"))
        })?;
        Ok(Some(MetricsAddress { address, place }))
    }
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics at {}", .address.address)]
pub struct Error {
    address: MetricsAddress,
    source: io::Error,
}

impl ExitError for Error {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Configuration
    }

    fn advice(&self) -> Option<String> {
        let place = self.address.place;
        Some(match self.source.kind() {
            io::ErrorKind::AddrInUse => format!("end what listens there, or give another address with {place}"),
            io::ErrorKind::AddrNotAvailable => format!("give an address of this machine with {place}"),
            _ => format!("give another address with {place}"),
        })
    }
}

/// A socket that listens, not yet answering.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    local: SocketAddr,
}

impl Endpoint {
    /// Takes the address.
    ///
    /// # Errors
    /// Somebody else has it, or it is not ours to take.
    pub async fn bind(address: MetricsAddress) -> Result<Self, Error> {
        let failed = |source| Error { address, source };
        let listener = TcpListener::bind(address.address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, local })
    }

    /// The address it has, with the port that it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Answers until `end` is there. A process that drains is not ready.
    ///
    /// # Errors
    /// The socket is lost.
    pub async fn serve<E>(self, registry: Registry, health: Health, shutdown: Shutdown, end: E) -> io::Result<()>
    where
        E: Future<Output = ()> + Send + 'static,
    {
        let router = Router::new()
            .route("/metrics", get(metrics).with_state(registry))
            .route("/healthz", get(healthz).with_state(health.clone()))
            .route("/readyz", get(readyz).with_state((health, shutdown)));
        axum::serve(self.listener, router).with_graceful_shutdown(end).await
    }
}

async fn metrics(State(registry): State<Registry>) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn healthz(State(health): State<Health>) -> Response {
    answer(health.condition().unhealthy)
}

async fn readyz(State((health, shutdown)): State<(Health, Shutdown)>) -> Response {
    let draining = shutdown.has_begun().then(|| "draining".to_owned());
    let condition = health.condition();
    answer(draining.or(condition.unhealthy).or(condition.unready))
}

fn answer(trouble: Option<String>) -> Response {
    match trouble {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
