use std::time::Duration;

use serde_json::json;

use super::*;

#[test]
fn layers_are_put_one_over_another_and_arrays_are_replaced() {
    let merged = merge([
        (Layer::Instance, json!({ "slots": 3 })),
        (Layer::Default, defaults()),
        (Layer::Global, json!({ "slots": 5, "custom": { "a": { "b": 1, "list": [1, 2] } } })),
        (Layer::Kind, json!({ "heartbeat": "5s", "custom": { "a": { "c": 2, "list": [3] } } })),
    ]);
    assert_eq!(merged.document["custom"], json!({ "a": { "b": 1, "c": 2, "list": [3] } }));
    assert_eq!((&merged.document["slots"], &merged.document["heartbeat"]), (&json!(3), &json!("5s")));
    for (path, layer) in [
        ("slots", Layer::Instance),
        ("heartbeat", Layer::Kind),
        ("drain_grace", Layer::Default),
        ("custom.a.b", Layer::Global),
        ("custom.a.list", Layer::Kind),
    ] {
        assert_eq!(merged.origins[path], layer, "{path}");
    }
    // An object in place of a value, and the other way round.
    let merged = merge([
        (Layer::Global, json!({ "custom": { "x": 1, "y": { "z": 1 } } })),
        (Layer::Kind, json!({ "custom": { "x": { "deep": true }, "y": 2 } })),
    ]);
    let paths: Vec<&str> = merged.origins.keys().map(String::as_str).collect();
    assert_eq!(paths, ["custom.x.deep", "custom.y"]);
}

#[test]
fn every_fault_has_its_path() {
    let document = json!({
        "slots": 0, "slot": 3, "heartbeat": "2m", "log_level": "loud", "drain_grace": 30,
        "capabilities": { "resize": { "timeout": "8d", "retries": 3 }, "No Name": { "attempts": 1 }, "echo": 7 },
        "custom": { "password": "hunter2", "db": { "url": "secret://vault/x" }, "fine": ["a"], "none": null },
    });
    let faults = check(&document);
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "capabilities.No Name.attempts",
            "capabilities.echo",
            "capabilities.resize.retries",
            "capabilities.resize.timeout",
            "custom.db.url",
            "custom.none",
            "custom.password",
            "drain_grace",
            "heartbeat",
            "log_level",
            "slot",
            "slots",
        ]
    );
    assert!(faults.iter().all(|fault| !fault.message.contains("hunter2")), "{faults:?}");
    assert_eq!(AgentSettings::read(&document), Err(faults));
    for fine in [json!({}), json!({ "capabilities": {} }), json!({ "capabilities": { "echo": {} } }), defaults()] {
        assert_eq!(check(&fine), [], "{fine}");
    }
    assert_eq!(check(&json!([]))[0].path, "");
}

#[test]
fn a_document_becomes_typed_settings() {
    let document = json!({
        "slots": 4, "log_level": "info,broker=debug", "custom": { "colour": "blue" },
        "capabilities": { "echo": { "timeout": "5s", "attempts": 2, "backoff": "fixed; first=1s", "slots": 1 } },
    });
    let settings = AgentSettings::read(&document).unwrap();
    assert_eq!((settings.slots, settings.heartbeat), (4, Duration::from_secs(10)));
    assert_eq!((settings.log_level.as_str(), &settings.custom["colour"]), ("info,broker=debug", &json!("blue")));
    let echo = &settings.capabilities[&crate::Capability::parse("echo").unwrap()];
    assert_eq!((echo.timeout, echo.attempts, echo.slots), (Some(Duration::from_secs(5)), Some(2), Some(1)));
    let default = AgentSettings::read(&json!({})).unwrap();
    assert_eq!(AgentSettings::read(&defaults()), Ok(default));
}

#[test]
fn a_path_is_set_taken_out_and_compared() {
    let mut document = json!({ "slots": 3 });
    set(&mut document, "custom.a.b", json!(1));
    assert_eq!(document, json!({ "slots": 3, "custom": { "a": { "b": 1 } } }));
    assert_eq!(get(&document, "custom.a.b"), Some(&json!(1)));
    let before = document.clone();
    assert!(unset(&mut document, "custom.a.b") && !unset(&mut document, "custom.a.b"));
    assert_eq!(document, json!({ "slots": 3 }));
    set(&mut document, "slots", json!(4));
    assert_eq!(changes(&before, &document), ["custom.a.b", "slots"]);
    assert_eq!(changes(&document, &document), Vec::<String>::new());
}

#[test]
fn a_secret_is_a_reference_and_is_not_shown() {
    let document = json!({ "custom": { "token": "secret://env/TOKEN", "list": ["secret://file/run/key", "x"] } });
    assert_eq!(check(&document), []);
    assert_eq!(masked(&document), json!({ "custom": { "token": "***", "list": ["***", "x"] } }));
    assert_eq!(reference("secret://env/TOKEN"), Ok(Reference::Variable("TOKEN".to_owned())));
    assert_eq!(reference("secret://file/run/key"), Ok(Reference::File("/run/key".to_owned())));
    assert_eq!(reference("secret://file//run/key"), Ok(Reference::File("/run/key".to_owned())));
    for bad in ["secret://env/", "secret://vault/x", "secret://", "env/X"] {
        assert!(reference(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_scope_is_a_key() {
    for key in ["settings.global", "settings.kind.words", "settings.instance.ins_1"] {
        assert_eq!(Scope::of_key(key).map(|scope| scope.key()).as_deref(), Some(key));
    }
    assert_eq!((Scope::of_key("settings.kind.No"), Scope::of_key("cron.a")), (None, None));
}

#[test]
fn the_schema_is_made_from_the_table() {
    let schema = schema();
    assert_eq!(schema["properties"]["slots"]["maximum"], 1_000);
    assert_eq!(schema["properties"]["slots"]["default"], 10);
    let capability = &schema["properties"]["capabilities"]["additionalProperties"];
    assert_eq!(
        (&capability["additionalProperties"], &capability["properties"]["attempts"]["minimum"]),
        (&json!(false), &json!(1))
    );
}
