//! What agents go by, and how that came to be.

use client::StoredSettings;
use process::{ExitCode, Problem};
use protocol::{
    settings::{self, Layer, Merged, Scope, leaves, masked},
    time,
};
use serde_json::{Map, Value, json};

use super::{kind_of, told};
use crate::{output::Output, refusal, session::Session};

pub(super) async fn effective(scope: Scope, origin: bool, session: &Session) -> Result<ExitCode, Problem> {
    let (kind, instance) = match scope {
        Scope::Global => (None, None),
        Scope::Kind(kind) => (Some(kind), None),
        Scope::Instance(instance) => (Some(kind_of(&instance, session).await?), Some(instance)),
    };
    let client = session.client().await?;
    let (merged, stored) =
        client.settings_effective(kind.as_ref(), instance.as_ref()).await.map_err(refusal::problem)?;
    for bad in stored.iter().filter(|stored| !stored.faults.is_empty()) {
        eprintln!(
            "warning: the document for {} is wrong and counts for nothing:{}\n  `sortie config history` shows what it was",
            bad.scope,
            told(&bad.faults)
        );
    }
    session.output().show(&document(&merged, &stored), || table(session.output(), &merged, origin))?;
    Ok(ExitCode::Done)
}

fn document(merged: &Merged, stored: &[StoredSettings]) -> Value {
    let documents: Vec<Value> = stored
        .iter()
        .map(|stored| json!({ "key": stored.scope.key(), "revision": stored.revision, "faults": stored.faults }))
        .collect();
    json!({ "settings": masked(&merged.document), "origins": merged.origins, "documents": documents })
}

fn table(output: Output, merged: &Merged, origin: bool) -> String {
    let rows = leaves(&masked(&merged.document)).into_iter().map(|(path, value)| {
        let from = merged.origins.get(&path).map_or("", layer);
        let note =
            settings::setting(&path).map_or("", |setting| if setting.is_live { "" } else { "at the next start" });
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut row = vec![path, text];
        if origin {
            row.push(from.to_owned());
        }
        row.push(note.to_owned());
        row
    });
    let head: &[&str] = if origin { &["SETTING", "VALUE", "FROM", ""] } else { &["SETTING", "VALUE", ""] };
    output.table(head, rows)
}

fn layer(layer: &Layer) -> &'static str {
    match layer {
        Layer::Default => "default",
        Layer::Program => "program",
        Layer::File => "file",
        Layer::EnvFile => "environment file",
        Layer::Global => "fleet",
        Layer::Kind => "fleet, its kind",
        Layer::Variable => "variable",
        Layer::Instance => "fleet, it alone",
    }
}

pub(super) async fn history(scope: &Scope, session: &Session) -> Result<ExitCode, Problem> {
    let mut all = session.client().await?.settings_history(scope).await.map_err(refusal::problem)?;
    for revision in &mut all {
        revision.document = revision.document.as_ref().map(masked);
    }
    session.output().show(&all, || match all.is_empty() {
        true => format!("nothing was ever set for {scope}"),
        false => {
            let nothing = Value::Object(Map::new());
            let rows = all.iter().map(|revision| {
                let document = revision.document.as_ref().unwrap_or(&nothing);
                let said = revision.changed.iter().map(|path| match settings::get(document, path) {
                    Some(value) => format!("{path} = {value}"),
                    None => format!("{path} unset"),
                });
                [revision.revision.to_string(), time::format(revision.at), said.collect::<Vec<_>>().join(", ")]
            });
            session.output().table(&["REVISION", "AT", "CHANGED"], rows)
        }
    })?;
    Ok(ExitCode::Done)
}
