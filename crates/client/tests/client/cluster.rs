//! The same on three servers, where a replica may be behind and a publish may be refused for another one's sake.

use std::collections::HashSet;

use broker::{Options, Settled};
use embedded::Cluster;
use futures_util::{future::join_all, stream, stream::StreamExt};
use protocol::{Namespace, Request, RequestId, Status, topology::Settings};
use serde_json::json;
use sortie_client::{Cancellation, Client};

use crate::fleet::{SOON, complete, echo, id, until};

async fn client_of(cluster: &Cluster) -> Client {
    let servers = cluster.servers().iter().map(embedded::Server::url).collect();
    let client = Client::connect(Options { servers, ..Options::default() }, Namespace::default()).await.unwrap();
    let settings = Settings { replicas: 3, ..Settings::default() };
    broker::topology::apply(client.connection(), client.namespace(), &settings).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cancel_and_a_result_exactly_one_wins() {
    let cluster = Cluster::start(3).await.unwrap();
    let client = client_of(&cluster).await;
    let races = (0..200).map(|number| {
        let client = &client;
        async move {
            let (id, result) = (id(&format!("order-{number}")), json!(1));
            let (cancelled, completed) = tokio::join!(client.cancel(&id), complete(client, &id, &result));
            let is_cancelled = cancelled.unwrap() == Cancellation::Cancelled;
            assert_eq!(completed == Settled::Superseded, is_cancelled, "{id}");
            let outcome = client.wait(&id, SOON).await.unwrap();
            assert_eq!(outcome.status == Status::Cancelled, is_cancelled, "{id}");
        }
    });
    join_all(races).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submits_outlast_the_loss_of_the_leader() {
    const COUNT: usize = 2_000;
    let mut cluster = Cluster::start(3).await.unwrap();
    let client = client_of(&cluster).await;
    let submitted = |number: usize| {
        let client = client.clone();
        async move { client.request(&echo(), &number).submit().await.unwrap().id().clone() }
    };
    let mut accepted = HashSet::new();
    let mut submits = stream::iter((0..COUNT).map(submitted)).buffer_unordered(50);
    while let Some(id) = submits.next().await {
        accepted.insert(id);
        if accepted.len() == COUNT / 4 {
            let state = broker::topology::stream_state(client.connection(), "FLEET_REQUESTS").await.unwrap();
            let leader = cluster.index_by_name(&state.leader.unwrap()).unwrap();
            cluster.server_mut(leader).kill().unwrap();
        }
    }
    assert_eq!(accepted.len(), COUNT);
    // A replica that answers may be behind for a moment.
    until("what was accepted is there, and nothing else", async || stored(&client).await == accepted).await;
}

async fn stored(client: &Client) -> HashSet<RequestId> {
    let reader = broker::Reader::new(client.connection());
    let (mut stored, mut from) = (HashSet::new(), Some(1));
    while let Some(sequence) = from {
        let page = reader.page("FLEET_REQUESTS", "fleet.request.echo", sequence, 500).await.unwrap();
        for message in page.messages {
            stored.insert(Request::read(&message.headers, RequestId::of_sequence(message.sequence)).unwrap().id);
        }
        from = page.next;
    }
    stored
}
