//! Three real servers that are one cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::HashSet, time::Duration};

use embedded::{Cluster, Config, Server};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// One request in the protocol of the broker's clients, and the JSON of its answer.
async fn request(server: &Server, subject: &str, body: &str) -> serde_json::Value {
    let answering = async {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", server.port())).await.unwrap());
        let text = format!(
            "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB {subject} answer {}\r\n{body}\r\n",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "the connection ended");
            assert!(!line.starts_with("-ERR"), "{line}");
            if line.starts_with("MSG ") {
                let length = line.split_whitespace().next_back().unwrap().parse().unwrap();
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                return serde_json::from_slice(&body).unwrap();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answering).await.expect("no answer")
}

#[tokio::test]
async fn three_servers_elect_a_leader_and_take_a_stream_of_three_replicas_at_once() {
    let cluster = Cluster::start(3).await.unwrap();
    for (index, server) in cluster.servers().iter().enumerate() {
        assert_eq!(cluster.index_by_name(server.name()), Some(index));
        let body = format!("{{\"name\":\"S{index}\",\"subjects\":[\"s{index}\"],\"num_replicas\":3}}");
        let answer = request(server, &format!("$JS.API.STREAM.CREATE.S{index}"), &body).await;
        assert_eq!(answer["config"]["num_replicas"], 3, "{answer}");
        let leader = answer["cluster"]["leader"].as_str().unwrap();
        assert!(cluster.index_by_name(leader).is_some(), "{leader}");
    }
    assert!(cluster.meta_leader().await.is_some());
    assert_eq!(cluster.index_by_name("nobody"), None);
    let urls = cluster.url();
    assert_eq!(urls.split(',').collect::<HashSet<_>>().len(), 3, "{urls}");
}

#[tokio::test]
async fn a_cluster_goes_on_without_its_leader_and_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { store: Some(folder.path().to_owned()), name: Some("node".to_owned()), ..Config::default() };
    let mut cluster = Cluster::start_with(3, config).await.unwrap();
    assert!(folder.path().join("node-0/jetstream").is_dir());
    let first = cluster.meta_leader().await.unwrap();
    let port = cluster.server(first).port();

    cluster.server_mut(first).kill().unwrap();
    cluster.ready().await.unwrap();
    assert_ne!(cluster.meta_leader().await.unwrap(), first);

    cluster.server_mut(first).restart().await.unwrap();
    cluster.ready().await.unwrap();
    assert_eq!(cluster.server(first).port(), port);
    let answer = request(cluster.server(first), "$JS.API.INFO", "").await;
    assert_eq!(answer["streams"], 0, "{answer}");
}

#[tokio::test]
async fn two_clusters_at_once_stay_apart() {
    let (one, two) = tokio::join!(Cluster::start(3), Cluster::start(3));
    let (one, two) = (one.unwrap(), two.unwrap());
    for cluster in [&one, &two] {
        let (_, routes) = cluster.server(0).monitor("/routez").await.unwrap();
        let names: HashSet<_> = routes["routes"].as_array().unwrap().iter().map(|one| &one["remote_name"]).collect();
        assert_eq!(names.len(), 2, "{routes}");
    }
}
