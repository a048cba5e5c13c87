//! `sortie dead edit`: the body mended, and sent again.

use std::io::Write;

use client::dead::{Again, How, StoredLetter};
use process::{ExitCode, Problem, settings::environment as variable};
use protocol::{ContentType, RequestId};
use serde_json::{Value, json};

use super::show::missing;
use crate::{commands::submit::body::Body, refusal, session::Session};

const EDITOR_DEFAULT: &str = "vi";

/// Mend the body of one in an editor, and send that again
#[derive(Debug, clap::Args)]
pub(super) struct EditArgs {
    /// The request that was given up
    #[arg(value_name = "ID")]
    id: RequestId,
    /// The mended body: JSON, `-` for standard input, `@path` for a file [default: edit it in $VISUAL or $EDITOR]
    #[arg(long, value_name = "JSON|-|@FILE")]
    body: Option<String>,
    /// Also one that was sent again before
    #[arg(long)]
    again: bool,
}

pub(super) async fn run(args: EditArgs, session: &Session) -> Result<ExitCode, Problem> {
    let EditArgs { id, body, again } = args;
    let client = session.client().await?;
    let stored = client.dead_letter(&id).await.map_err(refusal::problem)?.ok_or_else(|| missing(&id))?;
    let text = match &body {
        Some(body) => Body::read(Some(body), false)?.into_bytes(),
        None => match edited(&stored, session).await? {
            Some(text) => text,
            None => {
                let document = json!({ "id": id, "changed": false });
                session.output().show(&document, || format!("nothing was changed, so {id} is not sent again"))?;
                return Ok(ExitCode::Done);
            }
        },
    };
    let body = encoded(&stored.content_type, text)?;
    session.audit("dead-edit", id.as_str(), json!({ "bytes": body.len(), "again": again })).await?;
    let again = Again { repeated: again, body: Some(body.into()), by: Some(session.operator()) };
    let replayed = client.replay(&id, &again).await.map_err(refusal::problem)?;
    let request = &replayed.replay.request;
    let how = match replayed.how {
        How::Sent => "sent",
        How::Finished => "finished",
        How::Before => "before",
    };
    session.output().show(&json!({ "id": id, "request": request, "how": how }), || match replayed.how {
        How::Sent => format!("{id} is sent again as {request}, with the other body"),
        How::Finished => format!("{id} had been sent again as {request} with this body; it is marked now"),
        How::Before => format!("{id} was sent again before, as {request}; --again sends this body all the same"),
    })?;
    Ok(if replayed.how == How::Before { ExitCode::WorkFailed } else { ExitCode::Done })
}

/// What somebody made of the body; none where he left it as it was.
async fn edited(stored: &StoredLetter, session: &Session) -> Result<Option<Vec<u8>>, Problem> {
    if let Some(fault) = &stored.body_fault {
        return Err(Problem::new(ExitCode::WorkFailed, fault.clone()).advise("give a whole body with --body"));
    }
    let before = shown(stored);
    let failed =
        |what: &str, error: &dyn std::fmt::Display| Problem::new(ExitCode::Internal, format!("{what}: {error}"));
    let file = tempfile::Builder::new().prefix("sortie-").suffix(".json").tempfile();
    let mut file = file.map_err(|error| failed("no file to edit can be made", &error))?;
    file.write_all(&before).map_err(|error| failed("the body cannot be written", &error))?;
    let environment = session.environment();
    let editor = environment.get(variable::VISUAL).or_else(|| environment.get(variable::EDITOR));
    let editor = editor.unwrap_or(EDITOR_DEFAULT);
    // By a shell, because an editor is a command line: `code --wait`.
    let mut command = tokio::process::Command::new("sh");
    command.arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file.path());
    let status = command.status().await.map_err(|error| failed(&format!("`{editor}` cannot be run"), &error))?;
    if !status.success() {
        let message = format!("`{editor}` ended with {status}, so nothing is sent");
        return Err(Problem::new(ExitCode::WorkFailed, message).advise("choose an editor with EDITOR, or use --body"));
    }
    let after = std::fs::read(file.path()).map_err(|error| failed("what was edited cannot be read", &error))?;
    if after == before {
        return Ok(None);
    }
    if let Err(error) = serde_json::from_slice::<Value>(&after) {
        let kept = file.keep().map(|(_, path)| path.display().to_string()).unwrap_or_default();
        return Err(Problem::new(ExitCode::Usage, format!("what was edited is not JSON: {error}"))
            .advise(format!("it is kept: mend it and use --body @{kept}")));
    }
    Ok(Some(after))
}

/// The body as people read it: JSON in lines, anything else as the JSON that stands for it.
fn shown(stored: &StoredLetter) -> Vec<u8> {
    let value = stored.content_type.show(&stored.body);
    let mut text = serde_json::to_vec_pretty(&value).unwrap_or_default();
    text.push(b'\n');
    text
}

/// JSON as the letter's own body was encoded.
fn encoded(content_type: &ContentType, json: Vec<u8>) -> Result<Vec<u8>, Problem> {
    if *content_type == ContentType::Json {
        return Ok(json);
    }
    let unencodable = |failure| Problem::new(ExitCode::Usage, format!("the body cannot be {content_type}: {failure}"));
    let value: Value = ContentType::Json.decode(&json).map_err(unencodable)?;
    content_type.encode(&value).map_err(unencodable)
}
