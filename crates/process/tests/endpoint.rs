//! The metrics endpoint as somebody with a plain socket sees it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use broker::task::{self, Owned};
use std::net::SocketAddr;

use prometheus::{IntCounter, Registry};
use sortie_process::{
    ExitCode, ExitError, Health, Shutdown,
    endpoint::{Endpoint, EndpointArgs, MetricsAddress},
    probe::{Question, probe},
    settings::Environment,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

struct Served {
    address: SocketAddr,
    registry: Registry,
    health: Health,
    shutdown: Shutdown,
    end: CancellationToken,
    task: Owned<std::io::Result<()>>,
}

fn at(address: &str) -> MetricsAddress {
    MetricsAddress { address: address.parse().unwrap(), place: "--metrics" }
}

async fn serve() -> Served {
    let endpoint = Endpoint::bind(at("127.0.0.1:0")).await.unwrap();
    let address = endpoint.local_addr();
    let (registry, health, shutdown, end) = (Registry::new(), Health::new(), Shutdown::new(), CancellationToken::new());
    let serving = endpoint.serve(registry.clone(), health.clone(), shutdown.clone(), end.clone().cancelled_owned());
    let task = task::spawn("endpoint", serving);
    Served { address, registry, health, shutdown, end, task }
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[tokio::test]
async fn metrics_are_served_as_they_are_now() {
    let served = serve().await;
    let counter = IntCounter::new("sortie_test_total", "A test.").unwrap();
    served.registry.register(Box::new(counter.clone())).unwrap();
    counter.inc_by(3);
    let (status, body) = get(served.address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("sortie_test_total 3\n"), "{body}");
    assert_eq!(get(served.address, "/other").await.0, 404);
    served.end.cancel();
    served.task.join().await.unwrap().unwrap();
}

#[tokio::test]
async fn health_and_readiness_tell_their_reason() {
    let served = serve().await;
    let Served { address, health, shutdown, .. } = &served;
    let address = *address;
    assert_eq!(get(address, "/healthz").await, (200, "ok\n".into()));
    assert_eq!(get(address, "/readyz").await, (503, "starting\n".into()));
    health.ready();
    assert_eq!(get(address, "/readyz").await, (200, "ok\n".into()));
    health.unready("no broker");
    assert_eq!(get(address, "/readyz").await, (503, "no broker\n".into()));
    assert_eq!(get(address, "/healthz").await.0, 200);
    health.unhealthy("stuck");
    assert_eq!(get(address, "/healthz").await, (503, "stuck\n".into()));
    health.healthy();
    health.ready();
    shutdown.begin();
    assert_eq!(get(address, "/readyz").await, (503, "draining\n".into()));
    assert_eq!(get(address, "/healthz").await.0, 200);
}

#[tokio::test]
async fn a_taken_address_is_a_fault_that_says_what_to_do() {
    let first = Endpoint::bind(at("127.0.0.1:0")).await.unwrap();
    let address = MetricsAddress { address: first.local_addr(), place: "SORTIE_METRICS" };
    let error = Endpoint::bind(address).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Configuration);
    assert!(error.to_string().contains(&first.local_addr().to_string()));
    let advice = error.advice().unwrap();
    assert!(advice.contains("end what listens there") && advice.contains("SORTIE_METRICS"), "{advice}");
}

#[test]
fn an_address_is_a_port_or_complete() {
    let resolve = |text: &str| EndpointArgs { metrics: Some(text.into()) }.resolve(&Environment::default());
    assert_eq!(resolve("9464"), Ok(Some(at("127.0.0.1:9464"))));
    assert_eq!(resolve("[::]:1"), Ok(Some(at("[::]:1"))));
    assert!(resolve("localhost").is_err());
    assert!(resolve("99999").is_err());
    assert_eq!(EndpointArgs::default().resolve(&Environment::default()), Ok(None));
    let by_variable = EndpointArgs::default().resolve(&Environment::of([("SORTIE_METRICS", "1")]));
    assert_eq!(by_variable.unwrap().unwrap().place, "SORTIE_METRICS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_hears_what_the_endpoint_says() {
    let served = serve().await;
    let args = EndpointArgs { metrics: Some(served.address.to_string()) };
    let ask = |question| probe(question, &args, &Environment::default()).map_err(|problem| problem.message);
    assert_eq!(ask(Question::Healthy), Ok(()));
    assert_eq!(ask(Question::Ready), Err("starting".to_owned()));
    served.health.ready();
    assert_eq!(ask(Question::Ready), Ok(()));
    served.health.unhealthy("stuck");
    assert_eq!(ask(Question::Healthy), Err("stuck".to_owned()));
    served.end.cancel();
    assert!(served.task.join().await.is_some_and(|end| end.is_ok()));
    assert!(ask(Question::Healthy).is_err());
}
