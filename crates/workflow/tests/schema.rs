//! `schemas/workflow.json` says what the types say, so that editors complete what is taken.

use sortie_workflow::Plan;

/// Writes the file anew when `SORTIE_WRITE_SCHEMAS` is set, so that a wished change is one command.
#[test]
#[allow(clippy::disallowed_methods, reason = "a switch of this test alone, no setting of any process")]
fn the_schema_file_says_what_the_types_say() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/workflow.json");
    let expected = format!("{}\n", serde_json::to_string_pretty(&Plan::schema()).unwrap());
    if std::env::var_os("SORTIE_WRITE_SCHEMAS").is_some() {
        std::fs::write(&file, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        found, expected,
        "workflow.json drifted; SORTIE_WRITE_SCHEMAS=1 cargo test -p sortie-workflow writes it"
    );
}
