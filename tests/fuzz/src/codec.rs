//! Bodies as JSON and MessagePack.

use protocol::{ContentType, Failure};
use serde_json::Value;

/// Feeds a body: what is read is written in a way that reads as the same, also in the other encoding.
pub fn codec(data: &[u8]) {
    for codec in [ContentType::Json, ContentType::MessagePack] {
        let Ok(value) = codec.decode::<Value>(data) else {
            assert!(codec.show(data).is_string());
            continue;
        };
        for other in [ContentType::Json, ContentType::MessagePack] {
            let written = other.encode(&value).expect("what was read can be written");
            assert_eq!(other.decode::<Value>(&written).as_ref(), Ok(&value), "{codec} to {other}");
        }
        if let Ok(failure) = codec.decode::<Failure>(data) {
            let written = codec.encode(&failure).expect("what was read can be written");
            assert_eq!(codec.decode::<Failure>(&written).as_ref(), Ok(&failure), "{codec}");
        }
    }
    let other = ContentType::read(Some(&String::from_utf8_lossy(data)));
    assert_eq!(ContentType::read(Some(other.as_str())), other);
    let _ = other.decode::<Value>(data);
}
