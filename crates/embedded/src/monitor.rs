//! A GET request, as much of one as the server's monitoring needs.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A server that is busy electing still answers within a fraction of this.
const WITHIN: Duration = Duration::from_secs(5);

/// A listing of all streams of a test is far smaller.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The status and the body. The error is a clause.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let answer = match tokio::time::timeout(WITHIN, exchange(address, path)).await {
        Err(_) => return Err(format!("no answer within {WITHIN:?}")),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(answer)) => answer,
    };
    parse(&answer).ok_or_else(|| "the answer is not HTTP".to_owned())
}

async fn exchange(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // Version 1.0, so that the body comes in one piece and ends with the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/")?.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let table = [
            ("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}\r\n\r\n", Some((200, "{}\r\n\r\n"))),
            ("HTTP/1.0 503 Service Unavailable\r\n\r\n", Some((503, ""))),
            ("HTTP/1.0 huh\r\n\r\n", None),
            ("-ERR 'Unknown Protocol Operation'\r\n", None),
        ];
        for (answer, expected) in table {
            assert_eq!(parse(answer), expected.map(|(status, body)| (status, body.to_owned())), "{answer:?}");
        }
    }
}
