//! The server's monitoring port: what it tells there, and to no ordinary account.

use std::time::Duration;

use broker::topology::inspect::StoreFacts;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How long the whole question may take.
const WITHIN: Duration = Duration::from_secs(3);

/// An answer is a few kilobytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Where a server's monitoring listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    address: String,
}

impl Monitor {
    /// Reads `http://127.0.0.1:8222` or `127.0.0.1:8222`.
    ///
    /// # Errors
    /// A sentence that shows the accepted form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let is_address = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok());
        match is_address {
            true => Ok(Self { address: address.to_owned() }),
            false => Err(format!("`{text}` is not an address such as http://127.0.0.1:8222")),
        }
    }

    /// What it says of the store, or why it says nothing.
    pub(crate) async fn store(&self) -> Result<StoreFacts, String> {
        let answer = tokio::time::timeout(WITHIN, self.get("/jsz?config=true")).await;
        let unanswered = |reason: String| format!("{} does not answer: {reason}", self.address);
        let text = answer.map_err(|_| unanswered("no answer in time".into()))?;
        let text = text.map_err(|error| unanswered(error.to_string()))?;
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let told = serde_json::from_str(body).map_err(|error| unanswered(error.to_string()))?;
        Ok(StoreFacts::read(&told))
    }

    /// HTTP 1.0, so that the answer comes in one piece and ends with the connection.
    async fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).as_bytes()).await?;
        let mut text = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text).await?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_its_scheme() {
        for (text, address) in [
            ("http://127.0.0.1:8222", Some("127.0.0.1:8222")),
            ("http://nats.local:8222/", Some("nats.local:8222")),
            ("localhost:8222", Some("localhost:8222")),
            ("https://a:8222", None),
            ("localhost", None),
            (":8222", None),
        ] {
            assert_eq!(Monitor::parse(text).ok().map(|monitor| monitor.address).as_deref(), address, "{text}");
        }
    }
}
