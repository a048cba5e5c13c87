//! Running a short program with a bound, so that a hanging `python3` or a broken `nats-server --version` ends as an
//! error and not as a test that never ends.

use std::{
    fs::File,
    io::{self, Read, Seek},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Short against what is waited for (a process that starts takes milliseconds), long enough to cost nothing.
const PAUSE: Duration = Duration::from_millis(5);

/// How a program ended, and all that it wrote to standard output and standard error, in the order written.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

/// Calls `look` until it finds something or `within` is over. For threads that may block, never for async tasks.
pub(crate) fn until<T>(within: Duration, mut look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        pause();
    }
}

#[allow(clippy::disallowed_methods, reason = "the callers are plain threads with nothing else to do")]
fn pause() {
    thread::sleep(PAUSE);
}

/// Runs `command` with no input; past `within` it is killed and the error says `TimedOut`.
pub(crate) fn run(command: &mut Command, within: Duration) -> io::Result<Ended> {
    // A file and not a pipe: a pipe that nobody empties would stop a program that says much.
    let mut output = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
    let mut child = command.spawn()?;
    let ended = until(within, || child.try_wait());
    if !matches!(ended, Ok(Some(_))) {
        child.kill()?;
        child.wait()?;
    }
    match ended? {
        Some(status) => Ok(Ended { status, output: read_all(&mut output)? }),
        None => Err(io::Error::new(io::ErrorKind::TimedOut, format!("it had not ended after {within:?}"))),
    }
}

fn read_all(output: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    output.rewind()?;
    output.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
