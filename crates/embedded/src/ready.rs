//! Whether a server really answers: not that its process exists, nor that its port is open, but that the very server
//! that was started greets a client and says that JetStream is on.

use std::{io, net::SocketAddr, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpStream,
};

/// The greeting is a few hundred bytes; whatever sends more is no nats-server.
const GREETING_BYTES_MAX: u64 = 64 * 1024;

/// One try; a server that is there greets at once.
const TRY_WITHIN: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Greeting {
    server_name: String,
    #[serde(default)]
    jetstream: bool,
}

/// Asks once. The error is a clause that says what was met instead.
pub(crate) async fn answers(address: SocketAddr, name: &str) -> Result<(), String> {
    let line = match tokio::time::timeout(TRY_WITHIN, greeting(address)).await {
        Err(_) => return Err("it accepts no connection or does not greet".to_owned()),
        Ok(Err(error)) => return Err(format!("connecting failed: {error}")),
        Ok(Ok(line)) => line,
    };
    let greeting: Greeting = line
        .strip_prefix("INFO ")
        .and_then(|json| serde_json::from_str(json).ok())
        .ok_or_else(|| format!("what listens at {address} is no nats-server"))?;
    if greeting.server_name != name {
        return Err(format!("another server, {}, listens at {address}", greeting.server_name));
    }
    if greeting.jetstream { Ok(()) } else { Err("JetStream is not on".to_owned()) }
}

async fn greeting(address: SocketAddr) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let mut line = String::new();
    BufReader::new(stream).take(GREETING_BYTES_MAX).read_line(&mut line).await?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn only_the_server_that_was_started_counts() {
        let table = [
            ("INFO {\"server_name\":\"one\",\"jetstream\":true}\r\n", Ok(())),
            ("INFO {\"server_name\":\"one\"}\r\n", Err("JetStream")),
            ("INFO {\"server_name\":\"two\",\"jetstream\":true}\r\n", Err("another server, two")),
            ("SSH-2.0-OpenSSH_9.2\r\n", Err("no nats-server")),
            ("", Err("no nats-server")),
        ];
        for (greeting, expected) in table {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (answer, ()) = tokio::join!(answers(address, "one"), async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(greeting.as_bytes()).await.unwrap();
            });
            match expected {
                Ok(()) => assert_eq!(answer, Ok(()), "{greeting:?}"),
                Err(part) => assert!(answer.unwrap_err().contains(part), "{greeting:?}"),
            }
        }
    }
}
