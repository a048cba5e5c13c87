//! What a command printed, as its result.

use protocol::limits;
use serde_json::Value;

use crate::definition::Output;

/// Reads stdout, or says in a sentence why it is not what the definition promises.
pub(super) fn read(output: Output, stdout: Vec<u8>) -> Result<Value, String> {
    if output == Output::Json {
        if stdout.iter().all(u8::is_ascii_whitespace) {
            return Err("stdout is empty, not JSON; `output: text` takes what is not JSON".to_owned());
        }
        return serde_json::from_slice(&stdout).map_err(|error| {
            let start = String::from_utf8_lossy(&stdout[..stdout.len().min(80)]).into_owned();
            format!("stdout is not JSON ({error}): it begins with {start:?}; `output: text` takes what is not JSON")
        });
    }
    let mut text = String::from_utf8(stdout).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        limits::truncate(&format!("stdout is not UTF-8, first at byte {place}"), 200)
    })?;
    if output == Output::Lines {
        return Ok(text.lines().map(Value::from).collect());
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Value::String(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn table() {
        for (output, stdout, expected) in [
            (Output::Json, &b" {\"n\": [1, 2]}\n"[..], Some(json!({"n": [1, 2]}))),
            (Output::Json, b"null", Some(json!(null))),
            (Output::Json, b"", None),
            (Output::Json, b" \n", None),
            (Output::Json, b"{} {}", None),
            (Output::Json, b"{", None),
            (Output::Json, b"\"\xff\"", None),
            (Output::Text, b"", Some(json!(""))),
            (Output::Text, b"one\ntwo\n\n", Some(json!("one\ntwo\n"))),
            (Output::Text, b"one\r\n", Some(json!("one"))),
            (Output::Text, b"\xff", None),
            (Output::Lines, b"", Some(json!([]))),
            (Output::Lines, b"one\n\ntwo", Some(json!(["one", "", "two"]))),
            (Output::Lines, b"a\xffb\n", None),
        ] {
            assert_eq!(read(output, stdout.to_vec()).ok(), expected, "{output:?} {stdout:?}");
        }
    }
}
