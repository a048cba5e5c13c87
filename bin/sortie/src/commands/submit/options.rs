//! What can be said of a request by whoever sends one, or many.

use std::time::Duration;

use client::RequestBuilder;
use protocol::{
    Lane, duration, retry,
    time::{self, Timestamp},
};

/// Said of each request.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RequestOptions {
    /// Before the others of its capability
    #[arg(long, conflicts_with = "bulk")]
    urgent: bool,
    /// After the others of its capability
    #[arg(long)]
    bulk: bool,
    /// After this long, or this time (RFC 3339), nobody starts or finishes it
    #[arg(long, value_name = "1m|TIME", value_parser = parse_deadline)]
    deadline: Option<Deadline>,
    /// How long one attempt may take [default: what the capability declares]
    #[arg(long, value_name = "5s", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Attempts in all, the first one counted [default: what the capability declares]
    #[arg(long, value_name = "N", value_parser = retry::parse_attempts)]
    attempts: Option<u32>,
    /// A header of your own, which reaches the handler; may be repeated
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Send the body as MessagePack; the result comes back so, too
    #[arg(long)]
    pub(crate) msgpack: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Deadline {
    In(Duration),
    At(Timestamp),
}

impl RequestOptions {
    /// Says it all of a request.
    pub(crate) fn apply<'a>(&self, mut request: RequestBuilder<'a>) -> RequestBuilder<'a> {
        request = request.lane(match (self.urgent, self.bulk) {
            (true, _) => Lane::Urgent,
            (_, true) => Lane::Bulk,
            _ => Lane::Normal,
        });
        request = match self.deadline {
            Some(Deadline::In(within)) => request.deadline_in(within),
            Some(Deadline::At(at)) => request.deadline(at),
            None => request,
        };
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        if let Some(attempts) = self.attempts {
            request = request.attempts(attempts);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }
}

fn parse_deadline(text: &str) -> Result<Deadline, String> {
    if let Ok(within) = duration::parse(text) {
        return Ok(Deadline::In(within));
    }
    let refused = |_| format!("`{text}` is neither a duration such as 1m nor a time such as 2026-11-20T07:17:00Z");
    time::parse(text).map(Deadline::At).map_err(refused)
}

pub(crate) fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_and_headers() {
        assert_eq!(parse_deadline("1m"), Ok(Deadline::In(Duration::from_secs(60))));
        let at = time::parse("2030-01-01T00:00:00Z").unwrap();
        assert_eq!(parse_deadline("2030-01-01T01:00:00+01:00"), Ok(Deadline::At(at)));
        assert!(parse_deadline("soon").unwrap_err().contains("neither"));
        assert_eq!(parse_header("X-Tenant=a=b"), Ok(("X-Tenant".to_owned(), "a=b".to_owned())));
        assert!(parse_header("=x").is_err() && parse_header("x").is_err());
    }
}
