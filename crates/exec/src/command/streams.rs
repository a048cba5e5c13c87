//! The three pipes of a command, fed and emptied at the same time so that none can block another.

use std::convert::Infallible;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{ChildStderr, ChildStdin, ChildStdout},
    time::Instant,
};

use super::lines::Lines;

const CHUNK_BYTES: usize = 16 * 1024;

/// More was printed on stdout than may be.
#[derive(Debug)]
pub(super) struct Overflow;

/// What goes in and what came out so far.
pub(super) struct Streams {
    stdin: Vec<u8>,
    pub(super) stdout: Vec<u8>,
    stdout_bytes_max: usize,
    pub(super) lines: Lines,
}

impl Streams {
    pub(super) fn new(stdin: Vec<u8>, stdout_bytes_max: usize) -> Self {
        Self { stdin, stdout: Vec::new(), stdout_bytes_max, lines: Lines::new(Instant::now()) }
    }

    /// Returns when all three are closed, or as soon as there is too much on stdout.
    pub(super) async fn pump(
        &mut self,
        (stdin, stdout, stderr): (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>),
        on_line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), Overflow> {
        let Self { stdin: input, stdout: taken, stdout_bytes_max, lines } = self;
        let fed = async {
            if let Some(mut pipe) = stdin {
                // A command may end, or close its stdin, before it has read everything; that is its own affair, and
                // its exit code says how it went.
                let _ = pipe.write_all(input).await;
                let _ = pipe.shutdown().await;
            }
            Ok(())
        };
        let collected = each_chunk(stdout, |chunk| {
            if taken.len() + chunk.len() > *stdout_bytes_max {
                return Err(Overflow);
            }
            taken.extend_from_slice(chunk);
            Ok(())
        });
        let followed = async {
            let Ok(()) = each_chunk(stderr, |chunk| {
                lines.take(chunk, Instant::now(), on_line);
                Ok::<(), Infallible>(())
            })
            .await;
            Ok(())
        };
        tokio::try_join!(fed, collected, followed).map(|_| ())
    }
}

async fn each_chunk<E>(
    pipe: Option<impl AsyncRead + Unpin>,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut chunk = vec![0; CHUNK_BYTES];
    // A pipe that cannot be read has ended as much as one that is closed.
    while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
        take(&chunk[..length])?;
    }
    Ok(())
}
