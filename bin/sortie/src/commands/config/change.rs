//! Changing a document: checked as a whole before it is stored, and only if nobody was in between.

use client::StoredSettings;
use process::{ExitCode, Problem};
use protocol::settings::{self, Scope, masked};
use serde_json::{Value, json};

use super::told;
use crate::{refusal, session::Session};

pub(super) async fn set(
    scope: &Scope,
    path: &str,
    text: &str,
    if_revision: Option<u64>,
    session: &Session,
) -> Result<ExitCode, Problem> {
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let stored = stored(scope, if_revision, session).await?;
    let mut document = stored.document.clone();
    settings::set(&mut document, path, value.clone());
    let detail = json!({ "path": path, "value": masked(&value) });
    write(&stored, &document, "config-set", detail, session).await
}

pub(super) async fn unset(
    scope: &Scope,
    path: &str,
    if_revision: Option<u64>,
    session: &Session,
) -> Result<ExitCode, Problem> {
    let stored = stored(scope, if_revision, session).await?;
    let mut document = stored.document.clone();
    if !settings::unset(&mut document, path) {
        let problem = Problem::new(ExitCode::WorkFailed, format!("the document for {scope} does not say {path}"));
        return Err(problem.advise("`sortie config show --origin` shows where a value comes from"));
    }
    write(&stored, &document, "config-unset", json!({ "path": path }), session).await
}

pub(super) async fn rollback(scope: &Scope, revision: u64, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    session.audit("config-rollback", &scope.key(), json!({ "revision": revision })).await?;
    match client.settings_rollback(scope, revision).await.map_err(refusal::problem)? {
        Some((written, changed)) => tell(scope, written, &changed, session),
        None => tell(scope, revision, &[], session),
    }
}

async fn stored(scope: &Scope, if_revision: Option<u64>, session: &Session) -> Result<StoredSettings, Problem> {
    let stored = session.client().await?.settings(scope).await.map_err(refusal::problem)?;
    match if_revision {
        Some(wanted) if wanted != stored.revision => Err(Problem::new(
            ExitCode::WorkFailed,
            format!("the document for {scope} has revision {}, not {wanted}; nothing was changed", stored.revision),
        )
        .advise("`sortie config history` shows what changed")),
        _ => Ok(stored),
    }
}

async fn write(
    stored: &StoredSettings,
    document: &Value,
    verb: &str,
    detail: Value,
    session: &Session,
) -> Result<ExitCode, Problem> {
    let faults = settings::check(document);
    if !faults.is_empty() {
        let message = format!("the document for {} would be wrong; nothing was stored:{}", stored.scope, told(&faults));
        return Err(Problem::new(ExitCode::Configuration, message));
    }
    let changed = settings::changes(&stored.document, document);
    if changed.is_empty() {
        return tell(&stored.scope, stored.revision, &changed, session);
    }
    session.audit(verb, &stored.scope.key(), detail).await?;
    let client = session.client().await?;
    let written = client.settings_write(&stored.scope, document, stored.revision).await.map_err(refusal::problem)?;
    tell(&stored.scope, written, &changed, session)
}

fn tell(scope: &Scope, revision: u64, changed: &[String], session: &Session) -> Result<ExitCode, Problem> {
    let needs_restart: Vec<&String> =
        changed.iter().filter(|path| settings::setting(path).is_some_and(|setting| !setting.is_live)).collect();
    let told = json!({ "key": scope.key(), "revision": revision, "changed": changed, "needs_restart": needs_restart });
    session.output().show(&told, || {
        let mut text = match changed.is_empty() {
            true => format!("nothing changes for {scope} (revision {revision})"),
            false => format!("changed for {scope}: {} (revision {revision})", changed.join(", ")),
        };
        if !needs_restart.is_empty() {
            let paths: Vec<&str> = needs_restart.iter().map(|path| path.as_str()).collect();
            text += &format!("\nagents take {} over at their next start", paths.join(", "));
        }
        text
    })?;
    Ok(ExitCode::Done)
}
