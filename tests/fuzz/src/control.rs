//! What is said to running agents, and what they answer: over core NATS, by anybody who may publish.

use protocol::{
    ContentType,
    control::{CancelNotice, ControlAnswer, Inspection, NoArgument, Progress, SetLog, SetSlots},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::reads_back;

/// Feeds a message to everything that reads control messages.
pub fn control(data: &[u8]) {
    each::<CancelNotice>(data);
    each::<Progress>(data);
    each::<Inspection>(data);
    each::<SetSlots>(data);
    each::<SetLog>(data);
    each::<NoArgument>(data);
    each::<ControlAnswer>(data);
}

fn each<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) {
    reads_back::<T>(data);
    // What is JSON is said in MessagePack too, and means the same.
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    let packed = ContentType::MessagePack.encode(&value).expect("a value can be written");
    let (one, other) = (serde_json::from_slice::<T>(data), ContentType::MessagePack.decode::<T>(&packed));
    if let (Ok(one), Ok(other)) = (one, other) {
        assert_eq!(one, other);
    }
}
