//! Lines of bytes, and the messages in them.

use std::io::{self, BufRead, Read, Write};

use rmcp::model::{ClientJsonRpcMessage, ErrorData, JsonRpcError, RequestId, ServerJsonRpcMessage};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::error::Category;

use crate::quote::shortened;

/// The longest line that is read, in bytes; the limit that rmcp sets elsewhere.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// What a line turned out to be.
pub(super) enum Reading {
    Message(Box<ClientJsonRpcMessage>),
    /// Nothing that could be answered: a blank line, or a message without an id that makes no sense.
    Nothing,
    /// Something else, with the answer that it gets.
    Refused(JsonRpcError),
}

/// Reads the next line; `None` at the end of the input.
///
/// # Errors
/// The system's.
pub(super) fn read(input: &mut impl BufRead) -> io::Result<Option<Reading>> {
    let mut line = Vec::new();
    // A last line without its newline counts: `printf '{...}' | moadim-mcp` is answered.
    if input.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") || line.len() as u64 <= MAX_LINE_BYTES {
        return Ok(Some(interpret(&line)));
    }
    drop(line);
    input.skip_until(b'\n')?;
    let message = format!("the message is longer than {MAX_LINE_BYTES} bytes");
    Ok(Some(Reading::Refused(JsonRpcError::new(None, ErrorData::invalid_request(message, None)))))
}

/// The part of a request that an answer needs. serde_json skips the rest without recursion and without looking into
/// strings, so this succeeds where the whole message is nested too deeply or is not UTF-8.
#[derive(Deserialize)]
struct Envelope {
    id: Option<Value>,
    method: Option<IgnoredAny>,
}

fn interpret(line: &[u8]) -> Reading {
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line).trim_ascii();
    if line.is_empty() {
        return Reading::Nothing;
    }
    let error = match serde_json::from_slice(line) {
        Ok(message) => return Reading::Message(Box::new(message)),
        Err(error) => error,
    };
    let reason = shortened(&error.to_string(), 200);
    let refuse = |error, id| Reading::Refused(JsonRpcError::new(id, error));
    match serde_json::from_slice::<Envelope>(line) {
        Ok(Envelope { id: None, method: Some(_) }) => {
            tracing::debug!(reason, "dropped a notification");
            Reading::Nothing
        }
        Ok(envelope) => {
            let id = envelope.id.and_then(|id| serde_json::from_value::<RequestId>(id).ok());
            refuse(ErrorData::invalid_request(format!("not a JSON-RPC 2.0 message of MCP: {reason}"), None), id)
        }
        Err(error) if error.classify() == Category::Data => {
            refuse(ErrorData::invalid_request("not a JSON-RPC 2.0 message: send one object a line", None), None)
        }
        Err(_) => refuse(ErrorData::parse_error(format!("not JSON: {reason}"), None), None),
    }
}

/// Writes a message as a line.
///
/// # Errors
/// The system's.
pub(super) fn write(output: &mut impl Write, message: &ServerJsonRpcMessage) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    output.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::ErrorCode;

    fn refused(reading: Reading) -> (i32, Option<String>) {
        match reading {
            Reading::Refused(error) => (error.error.code.0, error.id.map(|id| id.to_string())),
            Reading::Nothing => panic!("taken for nothing"),
            Reading::Message(message) => panic!("taken for {message:?}"),
        }
    }

    #[test]
    fn a_line_that_is_no_message_is_refused_with_its_id_where_it_has_one() {
        let (parse, invalid) = (ErrorCode::PARSE_ERROR.0, ErrorCode::INVALID_REQUEST.0);
        let deep =
            format!(r#"{{"jsonrpc":"2.0","method":"x","params":{}1{},"id":"d"}}"#, "[".repeat(9000), "]".repeat(9000));
        let cases: [(&[u8], i32, Option<&str>); 10] = [
            (b"{", parse, None),
            (b"hello", parse, None),
            (b"\xff\xfe", parse, None),
            (b"[]", invalid, None),
            (b"7", invalid, None),
            (b"{}", invalid, None),
            (b"{\"id\":1,\"method\":\"\xff\"}", invalid, Some("1")),
            (br#"{"id":7,"method":"ping"}"#, invalid, Some("7")),
            (br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, invalid, None),
            (deep.as_bytes(), invalid, Some("d")),
        ];
        for (line, code, id) in cases {
            let expected = (code, id.map(str::to_owned));
            assert_eq!(
                refused(interpret(line)),
                expected,
                "{:?}",
                String::from_utf8_lossy(&line[..line.len().min(60)])
            );
        }
    }

    #[test]
    fn what_cannot_be_answered_is_dropped() {
        let no_id = r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#;
        let old = r#"{"jsonrpc":"1.0","method":"notifications/initialized"}"#;
        for line in ["", " \r", no_id, old, r#"{"method":7}"#] {
            assert!(matches!(interpret(line.as_bytes()), Reading::Nothing), "{line}");
        }
    }

    #[test]
    fn a_mark_and_a_carriage_return_are_tolerated() {
        let line = b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r";
        assert!(matches!(interpret(line), Reading::Message(_)));
    }

    #[test]
    fn lines_end_at_newlines_and_at_the_end() {
        let mut input = &b"a\n\n7"[..];
        assert_eq!(refused(read(&mut input).unwrap().unwrap()).0, ErrorCode::PARSE_ERROR.0);
        assert!(matches!(read(&mut input).unwrap(), Some(Reading::Nothing)));
        assert_eq!(refused(read(&mut input).unwrap().unwrap()).0, ErrorCode::INVALID_REQUEST.0);
        assert!(read(&mut input).unwrap().is_none());
    }

    #[test]
    fn an_overlong_line_is_skipped_whole() {
        let mut text = vec![b'x'; 16 * 1024 * 1024 + 1];
        text.extend_from_slice(b"\n \n");
        let mut input = &text[..];
        assert_eq!(refused(read(&mut input).unwrap().unwrap()).0, ErrorCode::INVALID_REQUEST.0);
        assert!(matches!(read(&mut input).unwrap(), Some(Reading::Nothing)));
        assert!(read(&mut input).unwrap().is_none());
    }
}
