//! One attempt in the agent: the command, with what it says on stderr as progress and as log lines.

use std::{pin::pin, sync::Arc, time::Duration};

use protocol::{Failure, control::Progress};
use serde_json::Value;
use tokio::sync::mpsc;
use worker::Context;

use crate::{Call, CommandHandler, command::LINES_BURST};

/// Lines that wait to be told. A burst fits; what finds no room is only not told, for progress may be lost.
const LINES_WAITING_MAX: usize = LINES_BURST as usize + 1;

/// How long the last lines are still told once there is an answer, should the connection be gone: an outcome goes
/// before progress.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

/// Runs the command of an attempt.
pub(super) async fn answer(handler: Arc<CommandHandler>, context: Context, input: Value) -> Result<Value, Failure> {
    let (teller, mut lines) = mpsc::channel::<String>(LINES_WAITING_MAX);
    let call = call(&context);
    let cancelled = context.cancellation().cancelled_owned();
    let answering = async move {
        let on_line = |line: &str| {
            tracing::info!(line, "stderr");
            // A full channel is no reason to keep the command waiting.
            let _ = teller.try_send(line.to_owned());
        };
        handler.answer(&call, &input, &on_line, cancelled).await
    };
    let telling = async {
        while let Some(line) = lines.recv().await {
            context.say(Progress { message: Some(line), ..Progress::default() }).await;
        }
    };
    let (mut answering, mut telling) = (pin!(answering), pin!(telling));
    let answer = tokio::select! {
        answer = &mut answering => answer,
        // It cannot end before: whoever answers holds the sender.
        () = &mut telling => return answering.await,
    };
    // With the answer its sender has gone, so this ends once the last line is told.
    let _ = tokio::time::timeout(LAST_LINES_WITHIN, telling).await;
    answer
}

fn call(context: &Context) -> Call {
    Call {
        request: context.id().clone(),
        attempt: context.attempt(),
        capability: context.capability().clone(),
        deadline: context.deadline(),
        traceparent: context.trace().parent.clone(),
        timeout: context.timeout(),
    }
}
