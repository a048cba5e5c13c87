//! One command, run once per attempt.

mod arguments;
mod ending;
mod environment;
mod group;
mod lines;
mod result;
mod streams;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    future::Future,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::errno::Errno;
use protocol::{Capability, Failure, RequestId, codes, duration, time::Timestamp};
use serde_json::{Value, json};
use tokio::process::Child;

pub use arguments::ARGUMENT_BYTES_MAX;
pub use environment::{Own, PASSED, own};
use group::Group;
pub use group::{GRACE, Reaper};
pub use lines::{LINE_BYTES_MAX, LINES_BURST, LINES_MAX, LINES_PER_SECOND, STDERR_TAIL_BYTES_MAX};
use streams::{Overflow, Streams};

use crate::definition::{CommandDefinition, Definition, ExitMeaning, Output};

/// How long the output of a command that has ended is waited for, when something that it left running still holds it.
pub const DRAIN: Duration = Duration::from_secs(1);

/// How long a command is put off that could not be started for want of files, processes or memory.
pub const EXHAUSTED_FOR: Duration = Duration::from_secs(1);

/// A command that is ready to run: paths are absolute, the environment is complete but for the request.
#[derive(Clone, Debug)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<String>,
    args_from: Vec<String>,
    directory: PathBuf,
    environment: BTreeMap<OsString, OsString>,
    output: Output,
    output_bytes_max: usize,
    exit: BTreeMap<u8, ExitMeaning>,
    reaper: Reaper,
}

/// What one attempt is about.
#[derive(Clone, Debug)]
pub struct Call {
    /// The request; the command reads it as `SORTIE_REQUEST_ID`.
    pub request: RequestId,
    /// The attempt, from 1; the command reads it as `SORTIE_ATTEMPT`.
    pub attempt: u32,
    /// The capability; the command reads it as `SORTIE_CAPABILITY`.
    pub capability: Capability,
    /// After which nobody wants the result; the command reads it as `SORTIE_DEADLINE`, RFC 3339.
    pub deadline: Option<Timestamp>,
    /// W3C trace context; the command reads it as `TRACEPARENT`.
    pub traceparent: Option<String>,
    /// How long the command may take.
    pub timeout: Duration,
}

enum End {
    Exited(ExitStatus),
    TooLarge,
    TimedOut,
    Cancelled,
    Unknown(std::io::Error),
}

impl Command {
    /// Makes a command of a definition, with what the agent's own environment adds to it. `reaper` ends what
    /// dropped attempts leave.
    pub fn new(definition: &Definition, command: &CommandDefinition, own: Own<'_>, reaper: &Reaper) -> Self {
        let directory = command.directory.clone().or_else(|| definition.directory.clone());
        let directory = directory.unwrap_or_else(|| PathBuf::from("."));
        let mut words = command.command.iter().cloned();
        let program = PathBuf::from(words.next().unwrap_or_default());
        // A program with a slash belongs to the directory; a lone name is looked for on the PATH.
        let program = if program.components().count() > 1 { directory.join(program) } else { program };
        Self {
            program,
            arguments: words.collect(),
            args_from: command.args_from.clone(),
            environment: environment::declared(definition, own),
            directory,
            output: command.output,
            output_bytes_max: command.output_bytes_max,
            exit: command.exit.clone(),
            reaper: reaper.clone(),
        }
    }

    /// Why this command cannot run on this machine, in a sentence, if that can be seen beforehand.
    pub fn obstacle(&self) -> Option<String> {
        if !self.directory.is_dir() {
            return Some(format!("directory `{}` does not exist", self.directory.display()));
        }
        let path = self.environment.get(std::ffi::OsStr::new("PATH"));
        let found = environment::is_executable(&self.program, path.map(OsString::as_os_str));
        (!found).then(|| format!("program `{}` is not there or may not be run", self.program.display()))
    }

    /// Runs the command with the input as JSON on its stdin, and takes its stdout as the result. Each line of its
    /// stderr is handed to `on_line` as it comes, within the bounds of [`LINE_BYTES_MAX`], [`LINES_PER_SECOND`] and
    /// [`LINES_MAX`]. Once this returns or is dropped, everything in the command's process group gets SIGTERM, and
    /// SIGKILL after [`GRACE`].
    ///
    /// # Errors
    /// - `invalid_input`: an argument cannot be made of the input. Not retried.
    /// - `command_not_found`: program or directory is not there, or may not be used. Not retried.
    /// - `resources_exhausted`: it cannot be started for want of files, processes or memory. Put off by [`EXHAUSTED_FOR`],
    ///   burning no attempt.
    /// - `command_failed`: an exit code other than 0; retried unless the definition says `give_up`.
    /// - `command_killed`: a signal ended it. Retried.
    /// - `result_too_large`: more on stdout than the bound. Not retried.
    /// - `result_unencodable`: stdout is not what `output` says. Not retried.
    /// - `timeout`, `cancelled`.
    pub async fn run(
        &self,
        call: &Call,
        input: &Value,
        on_line: &(dyn Fn(&str) + Send + Sync),
        cancelled: impl Future<Output = ()> + Send,
    ) -> Result<Value, Failure> {
        let more = arguments::select(&self.args_from, input)?;
        let mut streams = Streams::new(input.to_string().into_bytes(), self.output_bytes_max);
        let mut child = self.spawn(call, more).map_err(|error| self.unstarted(&error))?;
        let group = Group::led_by(&child, self.reaper.clone());
        let (end, group) = {
            let attended = attend(&mut child, &mut streams, on_line);
            tokio::pin!(attended);
            let stopped = tokio::select! {
                end = &mut attended => Ok(end),
                () = tokio::time::sleep(call.timeout) => Err(End::TimedOut),
                () = cancelled => Err(End::Cancelled),
            };
            match stopped {
                Ok(end) => (end, Some(group)),
                Err(end) => {
                    group.stop(attended).await;
                    (end, None)
                }
            }
        };
        match (group, &end) {
            (Some(group), End::Exited(_)) => drop(group),
            (Some(group), _) => group.stop(child.wait()).await,
            (None, _) => {}
        }
        streams.lines.finish(on_line);
        self.judge(call, end, streams)
    }

    fn spawn(&self, call: &Call, more: Vec<String>) -> std::io::Result<Child> {
        tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .args(more)
            .current_dir(&self.directory)
            .env_clear()
            .envs(&self.environment)
            .envs(environment::of_call(call))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
    }

    fn unstarted(&self, error: &std::io::Error) -> Failure {
        use std::io::ErrorKind;
        let is = |of: &[Errno]| error.raw_os_error().is_some_and(|raw| of.contains(&Errno::from_raw(raw)));
        let obstacle = self.obstacle().unwrap_or_else(|| format!("`{}` cannot be started: {error}", self.name()));
        match error.kind() {
            ErrorKind::ArgumentListTooLong => Failure::new(codes::INVALID_INPUT, format!("too much input: {obstacle}")),
            ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory => {
                Failure::new(codes::COMMAND_NOT_FOUND, obstacle)
            }
            _ if is(&[Errno::ENOEXEC]) => Failure::new(codes::COMMAND_NOT_FOUND, obstacle),
            // That is the agent's trouble, and no fault of the request: another agent may have what this one lacks.
            _ if is(&[Errno::EMFILE, Errno::ENFILE, Errno::EAGAIN, Errno::ENOMEM]) => {
                Failure::new(codes::RESOURCES_EXHAUSTED, obstacle).snoozing(EXHAUSTED_FOR)
            }
            _ => Failure::new(codes::COMMAND_FAILED, obstacle),
        }
    }

    fn judge(&self, call: &Call, end: End, streams: Streams) -> Result<Value, Failure> {
        let name = self.name();
        let stderr = streams.lines.tail();
        let failure = match end {
            End::Exited(status) => match ending::judge(status, &self.exit) {
                ending::Ending::Result => match result::read(self.output, streams.stdout) {
                    Ok(value) => return Ok(value),
                    Err(sentence) => Failure::new(codes::RESULT_UNENCODABLE, format!("`{name}`: {sentence}")),
                },
                ending::Ending::Failed(failure) => return Err(ending::tell(failure, &name, status, &stderr)),
            },
            End::TooLarge => {
                let message = format!("`{name}` printed more than {} bytes on stdout", self.output_bytes_max);
                Failure::new(codes::RESULT_TOO_LARGE, message)
            }
            End::TimedOut => {
                let timeout = duration::format(call.timeout);
                Failure::new(codes::TIMEOUT, format!("`{name}` was stopped after its timeout of {timeout}"))
            }
            End::Cancelled => {
                Failure::new(codes::CANCELLED, format!("`{name}` was stopped, the request was cancelled"))
            }
            End::Unknown(error) => {
                Failure::new(codes::COMMAND_FAILED, format!("how `{name}` ended cannot be known: {error}"))
            }
        };
        Err(failure.details(json!({ "stderr": stderr })))
    }

    fn name(&self) -> String {
        let name = self.program.file_name().unwrap_or(self.program.as_os_str());
        Path::new(name).display().to_string()
    }
}

/// Feeds and empties the command's pipes until it has ended.
async fn attend(child: &mut Child, streams: &mut Streams, on_line: &(dyn Fn(&str) + Send + Sync)) -> End {
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let pump = streams.pump(pipes, on_line);
    tokio::pin!(pump);
    let mut emptied = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            pumped = &mut pump, if !emptied => match pumped {
                Ok(()) => emptied = true,
                Err(Overflow) => return End::TooLarge,
            },
        }
    };
    if !emptied && let Ok(Err(Overflow)) = tokio::time::timeout(DRAIN, &mut pump).await {
        return End::TooLarge;
    }
    status.map_or_else(End::Unknown, End::Exited)
}
