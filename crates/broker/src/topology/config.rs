//! The table's plain structs to and from the server's JSON. An update starts from what the server has, so that fields
//! which the table does not know (placement, compression, other metadata) stay as their operator set them.

use std::time::Duration;

use protocol::topology::{Consumer, Discard, GROUP_COMMIT, Mapping, Pinned, Retention, Stream};
use serde_json::{Map, Value, json};

pub(super) fn of_stream(stream: &Stream, existing: Option<Value>) -> Value {
    let mut config = match existing {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let fresh = json!({
        "name": stream.name,
        "description": stream.description,
        "subjects": stream.subjects,
        "storage": if stream.in_memory { "memory" } else { "file" },
        "retention": match stream.retention {
            Retention::Limits => "limits",
            Retention::WorkQueue => "workqueue",
            Retention::Interest => "interest",
        },
        "discard": match stream.discard { Discard::Old => "old", Discard::New => "new" },
        "discard_new_per_subject": stream.discard_new_per_subject,
        "max_age": stream.max_age.map_or(0, nanos),
        "max_bytes": bound(stream.max_bytes),
        "max_msgs": bound(stream.max_messages),
        "max_msgs_per_subject": bound(stream.max_messages_per_subject),
        "max_consumers": stream.max_consumers,
        "num_replicas": stream.replicas,
        "duplicate_window": nanos(stream.duplicate_window),
        "allow_direct": stream.allow_direct,
        "allow_msg_schedules": stream.allow_schedules,
        "allow_msg_ttl": stream.allow_message_ttl,
        "allow_atomic": stream.allow_atomic_publish,
        "allow_rollup_hdrs": stream.allow_rollup,
        "deny_delete": stream.deny_delete,
        "subject_delete_marker_ttl": stream.delete_marker_ttl.map_or(0, nanos),
    });
    if let Value::Object(fresh) = fresh {
        config.extend(fresh);
    }
    for (key, mapping) in [("republish", &stream.republish), ("subject_transform", &stream.subject_transform)] {
        match mapping {
            Some(mapping) => {
                config.insert(key.to_owned(), json!({ "src": mapping.source, "dest": mapping.destination }));
            }
            None => {
                config.remove(key);
            }
        }
    }
    set_group_commit(&mut config, stream.group_commit);
    Value::Object(config)
}

/// The metadata of a stream is its operator's, but for this.
fn set_group_commit(config: &mut Map<String, Value>, is_on: bool) {
    let mut metadata = match config.remove("metadata") {
        Some(Value::Object(metadata)) => metadata,
        _ => Map::new(),
    };
    match is_on {
        true => drop(metadata.insert(GROUP_COMMIT.to_owned(), "true".into())),
        false => drop(metadata.remove(GROUP_COMMIT)),
    }
    if !metadata.is_empty() {
        config.insert("metadata".to_owned(), Value::Object(metadata));
    }
}

pub(super) fn to_stream(config: &Value) -> Stream {
    let text = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
    let flag = |key: &str| config[key].as_bool().unwrap_or(false);
    let age = |key: &str| config[key].as_u64().filter(|nanos| *nanos > 0).map(Duration::from_nanos);
    let limit = |key: &str| config[key].as_i64().and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    let mapping = |key: &str| {
        let (source, destination) = (config[key]["src"].as_str()?, config[key]["dest"].as_str()?);
        Some(Mapping { source: source.to_owned(), destination: destination.to_owned() })
    };
    let subjects = config["subjects"].as_array().map(Vec::as_slice).unwrap_or_default();
    Stream {
        name: text("name"),
        description: text("description"),
        subjects: subjects.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        in_memory: config["storage"] == "memory",
        retention: match config["retention"].as_str() {
            Some("workqueue") => Retention::WorkQueue,
            Some("interest") => Retention::Interest,
            _ => Retention::Limits,
        },
        discard: if config["discard"] == "new" { Discard::New } else { Discard::Old },
        discard_new_per_subject: flag("discard_new_per_subject"),
        max_age: age("max_age"),
        max_bytes: limit("max_bytes"),
        max_messages: limit("max_msgs"),
        max_messages_per_subject: limit("max_msgs_per_subject"),
        max_consumers: config["max_consumers"].as_i64().and_then(|value| i32::try_from(value).ok()).unwrap_or(-1),
        replicas: config["num_replicas"].as_u64().and_then(|value| usize::try_from(value).ok()).unwrap_or(1),
        duplicate_window: age("duplicate_window").unwrap_or_default(),
        allow_direct: flag("allow_direct"),
        allow_schedules: flag("allow_msg_schedules"),
        allow_message_ttl: flag("allow_msg_ttl"),
        allow_atomic_publish: flag("allow_atomic"),
        group_commit: config["metadata"][GROUP_COMMIT] == "true",
        allow_rollup: flag("allow_rollup_hdrs"),
        deny_delete: flag("deny_delete"),
        delete_marker_ttl: age("subject_delete_marker_ttl"),
        republish: mapping("republish"),
        subject_transform: mapping("subject_transform"),
    }
}

pub(super) fn of_consumer(consumer: &Consumer) -> Value {
    let mut config = json!({
        "durable_name": consumer.name,
        "name": consumer.name,
        "filter_subject": consumer.filter,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "replay_policy": "instant",
        "ack_wait": nanos(consumer.ack_wait),
        "max_deliver": consumer.max_deliver.map_or(-1, i64::from),
        "max_ack_pending": consumer.max_ack_pending,
        "max_waiting": consumer.max_waiting,
    });
    if let Some(pinned) = &consumer.pinned {
        config["priority_policy"] = "pinned_client".into();
        config["priority_groups"] = json!([pinned.group]);
        config["priority_timeout"] = nanos(pinned.timeout).into();
    }
    json!({ "stream_name": consumer.stream, "action": "create", "config": config })
}

pub(super) fn to_consumer(stream: &str, config: &Value) -> Consumer {
    let text = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| config[key].as_i64().unwrap_or(-1);
    Consumer {
        stream: stream.to_owned(),
        name: text("durable_name"),
        filter: text("filter_subject"),
        ack_wait: Duration::from_nanos(config["ack_wait"].as_u64().unwrap_or(0)),
        max_deliver: u32::try_from(number("max_deliver")).ok(),
        max_ack_pending: number("max_ack_pending"),
        max_waiting: number("max_waiting"),
        pinned: (config["priority_policy"] == "pinned_client").then(|| Pinned {
            group: config["priority_groups"][0].as_str().unwrap_or_default().to_owned(),
            timeout: Duration::from_nanos(config["priority_timeout"].as_u64().unwrap_or(0)),
        }),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn bound(limit: Option<u64>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}
