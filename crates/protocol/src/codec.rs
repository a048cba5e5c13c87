//! Bodies: JSON unless the content type says MessagePack.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Failure, codes};

/// How deep a MessagePack body may be nested: no deeper than JSON is read, because what is read here is written as JSON
/// elsewhere (outcomes that people see, the next step of a run).
const DEPTH_MAX: usize = 127;

/// How a body is encoded, from its `Content-Type` header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`, and what a message without the header is.
    #[default]
    Json,
    /// `application/msgpack`.
    MessagePack,
    /// Anything else: a typed handler cannot read it.
    Other(String),
}

impl ContentType {
    /// Reads a header's value; parameters such as `charset` are passed over.
    pub fn read(value: Option<&str>) -> Self {
        let Some(value) = value else { return Self::Json };
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" | "text/json" | "" => Self::Json,
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Self::MessagePack,
            _ => Self::Other(essence),
        }
    }

    /// The header's value.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
            Self::Other(text) => text,
        }
    }

    /// Decodes a body. An empty JSON body reads as `null`, so that an empty publish is a complete request for
    /// whoever asks for nothing.
    ///
    /// # Errors
    /// `invalid_input` where the body is not what the type says; `content_type_unsupported` for other encodings.
    pub fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        match self {
            Self::Json if body.is_empty() => serde_json::from_slice(b"null").map_err(invalid_input),
            Self::Json => serde_json::from_slice(body).map_err(invalid_input),
            Self::MessagePack => {
                let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
                deserializer.set_max_depth(DEPTH_MAX);
                T::deserialize(&mut deserializer).map_err(invalid_input)
            }
            Self::Other(text) => Err(Failure::new(
                codes::CONTENT_TYPE_UNSUPPORTED,
                format!("content type `{text}` cannot be read; send application/json or application/msgpack"),
            )),
        }
    }

    /// Encodes a body. MessagePack is written with field names, so that any language can read it.
    ///
    /// # Errors
    /// `result_unencodable` where the value has no such form.
    pub fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, Failure> {
        let refused = |message: String| Failure::new(codes::RESULT_UNENCODABLE, message);
        match self {
            Self::MessagePack => rmp_serde::to_vec_named(value).map_err(|error| refused(error.to_string())),
            Self::Json | Self::Other(_) => serde_json::to_vec(value).map_err(|error| refused(error.to_string())),
        }
    }

    /// A body as a JSON value for people to read: what cannot be read is shown as text.
    pub fn show(&self, body: &[u8]) -> Value {
        self.decode(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn invalid_input(error: impl fmt::Display) -> Failure {
    Failure::new(codes::INVALID_INPUT, error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Pair {
        name: String,
        count: u32,
    }

    #[test]
    fn content_types() {
        assert_eq!(ContentType::read(None), ContentType::Json);
        assert_eq!(ContentType::read(Some("application/json; charset=utf-8")), ContentType::Json);
        assert_eq!(ContentType::read(Some("Application/MsgPack")), ContentType::MessagePack);
        let other = ContentType::read(Some("image/png"));
        assert_eq!(other.decode::<Value>(b"x").unwrap_err().code, codes::CONTENT_TYPE_UNSUPPORTED);
    }

    #[test]
    fn bodies_that_lie_are_invalid_input() {
        for bad in [&b"{"[..], b"\xff\xfe", b"{\"name\":1,\"count\":-1}", b""] {
            assert_eq!(ContentType::Json.decode::<Pair>(bad).unwrap_err().code, codes::INVALID_INPUT);
            assert_eq!(ContentType::MessagePack.decode::<Pair>(bad).unwrap_err().code, codes::INVALID_INPUT);
        }
        assert_eq!(ContentType::Json.decode::<Option<Pair>>(b""), Ok(None));
    }

    #[test]
    fn what_is_read_as_messagepack_is_not_nested_deeper_than_json_is_read() {
        let nested = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
        let deepest = (0..300).rev().find_map(|depth| ContentType::MessagePack.decode::<Value>(&nested(depth)).ok());
        let body = ContentType::Json.encode(&deepest.unwrap()).unwrap();
        assert!(body.len() > 200, "{}", body.len());
        assert!(ContentType::Json.decode::<Value>(&body).is_ok());
        let refusal = ContentType::MessagePack.decode::<Value>(&nested(1_000)).unwrap_err();
        assert_eq!(refusal.code, codes::INVALID_INPUT);
    }

    proptest! {
        #[test]
        fn both_encodings_round_trip(name in "\\PC*", count: u32) {
            let pair = Pair { name, count };
            for codec in [ContentType::Json, ContentType::MessagePack] {
                let body = codec.encode(&pair).unwrap();
                prop_assert_eq!(&codec.decode::<Pair>(&body).unwrap(), &pair);
            }
        }
    }
}
