//! JSON Schemas, generated from the types that are written and read: what `schemas/` holds.

use schemars::{JsonSchema, schema_for};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    AttemptRecord, DeadLetter, Failure, RedriveRule, Replay, RunSummary,
    accepted::Accepted,
    audit::AuditRecord,
    breaker::Breaker,
    control::{CancelNotice, ControlAnswer, Inspection, Progress, SetLog, SetSlots},
    cron::{CronSkipped, CronSpec},
    desired::{QueueWish, Steered},
    log_line::LogLine,
    mark::{Mark, UniqueTries},
    registry::AgentEntry,
    run::RunHolders,
    settings,
    trigger::TriggerSpec,
};

/// Every shape of the contract with the file that describes it.
pub fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("accepted.json", of::<Accepted>()),
        ("agent-entry.json", of::<AgentEntry>()),
        ("attempt-record.json", of::<AttemptRecord>()),
        ("audit-record.json", of::<AuditRecord>()),
        ("breaker.json", of::<Breaker>()),
        ("cancel-notice.json", of::<CancelNotice>()),
        ("control-answer.json", of::<ControlAnswer>()),
        ("cron-skipped.json", of::<CronSkipped>()),
        ("cron-spec.json", of::<CronSpec>()),
        ("dead-letter.json", of::<DeadLetter>()),
        ("failure.json", of::<Failure>()),
        ("inspection.json", of::<Inspection>()),
        ("log-line.json", of::<LogLine>()),
        ("mark.json", of::<Mark>()),
        ("progress.json", of::<Progress>()),
        ("queue-wish.json", of::<QueueWish>()),
        ("redrive-rule.json", of::<RedriveRule>()),
        ("replay.json", of::<Replay>()),
        ("run-holders.json", of::<RunHolders>()),
        ("run-summary.json", of::<RunSummary>()),
        ("set-log.json", of::<SetLog>()),
        ("set-slots.json", of::<SetSlots>()),
        ("steered.json", of::<Steered>()),
        ("settings.json", settings::schema()),
        ("trigger-spec.json", of::<TriggerSpec>()),
        ("unique-tries.json", of::<UniqueTries>()),
    ]
}

/// The schema of one type.
pub fn of<T: JsonSchema>() -> Value {
    schema_for!(T).to_value()
}

/// What names a schema: the first 32 hexadecimal digits of the SHA-256 of its JSON.
pub fn digest(schema: &Value) -> String {
    Sha256::digest(schema.to_string().as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the files anew when `SORTIE_WRITE_SCHEMAS` is set, so that a wished change is one command.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "a switch of this test alone, no setting of any process")]
    fn the_schema_files_say_what_the_types_say() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        let is_writing = std::env::var_os("SORTIE_WRITE_SCHEMAS").is_some();
        for (name, schema) in all() {
            let expected = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
            if is_writing {
                std::fs::write(folder.join(name), &expected).unwrap();
            }
            let found = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert_eq!(
                found, expected,
                "{name} drifted; SORTIE_WRITE_SCHEMAS=1 cargo test -p sortie-protocol writes it"
            );
        }
    }
}
