//! The body of a request, from wherever the user has it.

use std::{io::Read, path::Path};

use client::{Client, RequestBuilder};
use process::{ExitCode, Problem};
use protocol::{Capability, ContentType, limits};
use serde::de::IgnoredAny;
use serde_json::Value;

/// A body that was read and checked.
#[derive(Debug, PartialEq)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    /// JSON as an argument, `-` for standard input, `@path` for a file; nothing is an empty body, which reads as null.
    /// With `is_text` it is any text, sent as a JSON string.
    pub(crate) fn read(argument: Option<&str>, is_text: bool) -> Result<Self, Problem> {
        let (bytes, from) = match argument {
            None => return Ok(Self(Vec::new())),
            Some("-") => (read_bounded(std::io::stdin().lock(), "standard input")?, "standard input".to_owned()),
            Some(argument) => match argument.strip_prefix('@') {
                Some(path) => (read_file(Path::new(path))?, path.to_owned()),
                None => (argument.as_bytes().to_vec(), "the body".to_owned()),
            },
        };
        if is_text { Self::text(bytes, &from) } else { Self::json(bytes, &from) }
    }

    fn text(bytes: Vec<u8>, from: &str) -> Result<Self, Problem> {
        let text = String::from_utf8(bytes)
            .map_err(|error| Problem::new(ExitCode::Usage, format!("{from} is not UTF-8 text: {error}")))?;
        Ok(Self(Value::String(text).to_string().into_bytes()))
    }

    fn json(bytes: Vec<u8>, from: &str) -> Result<Self, Problem> {
        serde_json::from_slice::<IgnoredAny>(&bytes).map_err(|error| {
            Problem::new(ExitCode::Usage, format!("{from} is not JSON: {error}"))
                .advise("quote a JSON string twice, as in '\"hello\"', or send plain text with --text")
        })?;
        Ok(Self(bytes))
    }

    /// The body as a JSON value.
    pub(crate) fn value(&self) -> Result<Value, Problem> {
        let unreadable = |failure| Problem::new(ExitCode::Usage, format!("the body cannot be kept: {failure}"));
        ContentType::Json.decode(&self.0).map_err(unreadable)
    }

    /// Begins the request, as MessagePack if that is wanted.
    pub(crate) fn request(
        self,
        client: &Client,
        capability: &Capability,
        is_msgpack: bool,
    ) -> Result<RequestBuilder<'static>, Problem> {
        let Self(bytes) = self;
        if !is_msgpack {
            return Ok(client.request_encoded(capability, ContentType::Json, bytes));
        }
        let unencodable =
            |failure| Problem::new(ExitCode::Usage, format!("the body has no MessagePack form: {failure}"));
        let value: Value = ContentType::Json.decode(&bytes).map_err(unencodable)?;
        let packed = ContentType::MessagePack.encode(&value).map_err(unencodable)?;
        Ok(client.request_encoded(capability, ContentType::MessagePack, packed))
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Problem> {
    let name = path.display().to_string();
    match std::fs::File::open(path) {
        Ok(file) => read_bounded(file, &name),
        Err(error) => Err(Problem::new(ExitCode::Usage, format!("{name} cannot be read: {error}"))),
    }
}

fn read_bounded(from: impl Read, name: &str) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let read = from.take(limits::BODY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Problem::new(ExitCode::Usage, format!("{name} cannot be read: {error}")))?;
    if bytes.len() > limits::BODY_BYTES_MAX {
        let message = format!("{name} has more than the {} bytes that a body may have", limits::BODY_BYTES_MAX);
        return Err(Problem::new(ExitCode::Usage, message).advise("store it elsewhere and send a reference to it"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn bodies() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[1]\n").unwrap();
        let path = format!("@{}", file.path().display());
        for (argument, is_text, body) in [
            (None, false, ""),
            (Some("{\"hi\":1}"), false, "{\"hi\":1}"),
            (Some(path.as_str()), false, "[1]\n"),
            (Some(path.as_str()), true, r#""[1]\n""#),
            (Some("hello \"you\""), true, r#""hello \"you\"""#),
        ] {
            assert_eq!(Body::read(argument, is_text).unwrap(), Body(body.as_bytes().to_vec()), "{argument:?}");
        }
    }

    #[test]
    fn what_is_no_body_is_told_with_what_to_do() {
        let refused = |argument| Body::read(Some(argument), false).unwrap_err().to_string();
        assert!(refused("hello").contains("--text"));
        assert!(refused("").contains("not JSON"));
        assert!(refused("@/nowhere/at-all").contains("/nowhere/at-all cannot be read"));
        assert!(read_bounded(std::io::repeat(b'1'), "it").unwrap_err().to_string().contains("67108864"));
    }
}
