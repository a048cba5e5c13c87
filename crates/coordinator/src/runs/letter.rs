//! The dead letter of what was asked of a workflow and given up: a start that never became a run, a served request whose run
//! failed.

use broker::{Error, Outgoing};
use bytes::Bytes;
use protocol::{DeadLetter, Headers, Subject, WorkflowName, event, header};

use crate::post::Post;

/// The letter and the event that tells of it, each at a place of its own where only the first one counts. `workflow` is
/// where it is to be sent again as a start; without it, it is sent again as a request.
pub(super) async fn letter(
    post: &Post,
    letter: &DeadLetter,
    workflow: Option<&WorkflowName>,
    original: &Headers,
    body: Bytes,
) -> Result<[Outgoing; 2], Error> {
    let place = Subject::Dead { capability: letter.capability.clone(), id: letter.id.clone() };
    let mut headers = letter.headers(original);
    if let Some(workflow) = workflow {
        headers.set(header::WORKFLOW, workflow.as_str());
    }
    let outgoing = Outgoing::new(place.render(post.namespace()), body).with_headers(headers);
    let outgoing = post.payloads.lighten_as(&format!("{}~letter", letter.id), outgoing).await?.expecting(0);
    let topic = format!("{}.{}", event::REQUEST_DEAD, letter.id);
    let told = post.event(&topic, letter.id.as_str(), letter).expecting(0);
    Ok([outgoing, told])
}
