//! Asks a process on this machine how it is, at the endpoint that it serves: what a container's health check runs, where
//! the image holds nothing else that could.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    endpoint::EndpointArgs,
    exit::{ExitCode, Problem},
    settings::{Environment, environment as variable},
};

/// How long connecting, asking and each part of the answer may take.
const WITHIN: Duration = Duration::from_secs(2);

/// More than any reason that a process gives.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `/healthz`: whether starting it again would be wrong.
    Healthy,
    /// `/readyz`: whether it takes work.
    Ready,
}

/// Asks the process that was started with these flags and this environment; `Ok` if it says yes.
///
/// # Errors
/// Exit code 1 with its reason where it says no, or does not answer; 64 where the flags and the environment name no
/// address.
pub fn probe(question: Question, args: &EndpointArgs, environment: &Environment) -> Result<(), Problem> {
    let Some(asked) = args.resolve(environment)? else {
        let message = format!("nothing says where the process serves its health: set {}", variable::METRICS);
        return Err(Problem::new(ExitCode::Configuration, message)
            .advise("or give --metrics, both as the process itself was given it"));
    };
    let address = reachable(asked.address);
    let failed = |what: String| Problem::new(ExitCode::WorkFailed, what);
    let (status, reason) =
        ask(address, question).map_err(|error| failed(format!("nothing answers at {address}: {error}")))?;
    if status == 200 { Ok(()) } else { Err(failed(reason)) }
}

/// Whoever listens everywhere is asked here.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        _ => address,
    }
}

fn ask(address: SocketAddr, question: Question) -> io::Result<(u16, String)> {
    let path = match question {
        Question::Healthy => "/healthz",
        Question::Ready => "/readyz",
    };
    let mut stream = TcpStream::connect_timeout(&address, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    read(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::Error::other("this is no HTTP"))
}

/// Status and body.
fn read(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_reason() {
        assert_eq!(read("HTTP/1.1 200 OK\r\na: b\r\n\r\nok\n"), Some((200, "ok".to_owned())));
        assert_eq!(read("HTTP/1.0 503 No\r\n\r\ndraining\n"), Some((503, "draining".to_owned())));
        for odd in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 x\r\n\r\n", "HTTP/1.1 200 OK"] {
            assert_eq!(read(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        assert_eq!(reachable("0.0.0.0:9464".parse().unwrap()).to_string(), "127.0.0.1:9464");
        assert_eq!(reachable("[::]:9464".parse().unwrap()).to_string(), "127.0.0.1:9464");
        assert_eq!(reachable("10.0.0.7:9464".parse().unwrap()).to_string(), "10.0.0.7:9464");
    }

    #[test]
    fn a_process_that_serves_nothing_cannot_be_asked() {
        let nowhere = Environment::default();
        let problem = probe(Question::Ready, &EndpointArgs::default(), &nowhere).unwrap_err();
        assert_eq!(problem.code, ExitCode::Configuration);
        // Port 1 of this machine: nothing answers there.
        let args = EndpointArgs { metrics: Some("1".to_owned()) };
        assert_eq!(probe(Question::Ready, &args, &nowhere).unwrap_err().code, ExitCode::WorkFailed);
    }
}
