//! The files in `schemas/` say what the types say, so that editors complete what is taken, and programs know what is there.

use protocol::schema;
use sortie_workflow::{Plan, fact::Started};

/// Writes the files anew when `SORTIE_WRITE_SCHEMAS` is set, so that a wished change is one command.
#[test]
#[allow(clippy::disallowed_methods, reason = "a switch of this test alone, no setting of any process")]
fn the_schema_files_say_what_the_types_say() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    for (name, schema) in [("workflow.json", Plan::schema()), ("run-started.json", schema::of::<Started>())] {
        let file = folder.join(name);
        let expected = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("SORTIE_WRITE_SCHEMAS").is_some() {
            std::fs::write(&file, &expected).unwrap();
        }
        let found = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(found, expected, "{name} drifted; SORTIE_WRITE_SCHEMAS=1 cargo test -p sortie-workflow writes it");
    }
}
