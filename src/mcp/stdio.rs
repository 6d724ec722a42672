//! The wire: one JSON-RPC message a line, over any pair of byte streams.
//!
//! It stands in for rmcp's own transport, which drops what it cannot read in silence (a client would wait for ever) and
//! says nothing when the input ends.

use std::io;

use rmcp::model::{ClientJsonRpcMessage, ErrorData, JsonRpcError, RequestId};
use rmcp::service::{RoleServer, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::error::Category;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::lifecycle::Lifecycle;
use super::tool::shortened;

/// The longest line that is read, in bytes; rmcp's own limit.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Answers that may wait for a client which does not read them.
const QUEUED_ANSWERS: usize = 64;

/// What the connection tells the rest of the program.
#[derive(Debug, Clone, Default)]
pub(super) struct Signals {
    /// The connection is ending: its input is over, its output broken, or the process was told to go. Anyone may
    /// cancel it; nothing is read from then on, and answers under way are still sent.
    pub(super) closing: CancellationToken,
    /// The first answer is out.
    pub(super) answered: CancellationToken,
}

/// A transport that survives every line, and says when the connection ends.
pub(super) struct LineTransport<R> {
    lines: Lines<R>,
    lifecycle: Lifecycle,
    /// An answer of the transport's own, until there is room for it.
    refusal: Option<Vec<u8>>,
    /// `None` once closed.
    answers: Option<mpsc::Sender<Vec<u8>>>,
    writer: JoinHandle<()>,
    signals: Signals,
}

impl<R: AsyncRead + Send + Unpin> LineTransport<R> {
    /// Makes a transport; must be called within a tokio runtime.
    pub(super) fn new(input: R, output: impl AsyncWrite + Send + Unpin + 'static, signals: Signals) -> Self {
        let (answers, queue) = mpsc::channel(QUEUED_ANSWERS);
        let writer = tokio::spawn(write_lines(output, queue, signals.clone()));
        let lines = Lines { input: BufReader::new(input), line: Vec::new(), overlong: false };
        Self { lines, lifecycle: Lifecycle::default(), refusal: None, answers: Some(answers), writer, signals }
    }

    /// Everything that it holds across an await lives in `self`: rmcp drops this future whenever it has something else
    /// to do first.
    async fn next_message(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if self.refusal.is_some() {
                let room = self.answers.as_ref()?.reserve().await.ok()?;
                if let Some(line) = self.refusal.take() {
                    room.send(line);
                }
            }
            let refusal = match self.lines.next().await {
                Line::Whole(line) => match read_message(&line) {
                    Reading::Message(message) => match self.admit(&message) {
                        Ok(()) => return Some(*message),
                        Err(refusal) => refusal,
                    },
                    Reading::Nothing => continue,
                    Reading::Refused(refusal) => refusal,
                },
                Line::Overlong => {
                    let message = format!("the message is longer than {MAX_LINE_BYTES} bytes");
                    JsonRpcError::new(None, ErrorData::invalid_request(message, None))
                }
                Line::End => return None,
            };
            tracing::debug!(?refusal, "refused a message");
            self.refusal = serde_json::to_vec(&refusal).ok();
        }
    }

    fn admit(&mut self, message: &ClientJsonRpcMessage) -> Result<(), JsonRpcError> {
        let ClientJsonRpcMessage::Request(request) = message else { return Ok(()) };
        self.lifecycle.check(&request.request).map_err(|error| JsonRpcError::new(Some(request.id.clone()), error))
    }
}

impl<R: AsyncRead + Send + Unpin> Transport<RoleServer> for LineTransport<R> {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let answers = self.answers.clone();
        async move {
            let line = serde_json::to_vec(&message)?;
            let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
            answers.ok_or_else(closed)?.send(line).await.map_err(|_| closed())
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let closing = self.signals.closing.clone();
        let message = tokio::select! {
            biased;
            () = closing.cancelled() => None,
            message = self.next_message() => message,
        };
        if message.is_none() {
            closing.cancel();
        }
        message
    }

    /// Returns when every answer is out.
    async fn close(&mut self) -> Result<(), io::Error> {
        self.answers = None;
        (&mut self.writer).await.map_err(io::Error::other)
    }
}

/// The only one that writes, so that no two answers mix and none is cut when its sender is dropped.
async fn write_lines(mut output: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Vec<u8>>, signals: Signals) {
    while let Some(mut line) = queue.recv().await {
        line.push(b'\n');
        let mut written = output.write_all(&line).await;
        if written.is_ok() && queue.is_empty() {
            written = output.flush().await;
            signals.answered.cancel();
        }
        if let Err(error) = written {
            tracing::debug!(%error, "nobody reads the answers");
            break;
        }
    }
    signals.closing.cancel();
}

/// One read of a line.
enum Line {
    Whole(Vec<u8>),
    /// It was longer than the limit, and is dropped.
    Overlong,
    End,
}

struct Lines<R> {
    input: BufReader<R>,
    /// The line so far; kept here, for the reading may be interrupted and resumed.
    line: Vec<u8>,
    /// The rest of this line is skipped.
    overlong: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    async fn next(&mut self) -> Line {
        loop {
            let available = match self.input.fill_buf().await {
                Ok(available) => available,
                Err(error) => {
                    tracing::warn!(%error, "the input broke off");
                    return Line::End;
                }
            };
            let ended = available.is_empty();
            let newline = available.iter().position(|byte| *byte == b'\n');
            let piece = &available[..newline.unwrap_or(available.len())];
            if self.overlong || self.line.len() + piece.len() > MAX_LINE_BYTES {
                self.overlong = true;
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(newline.is_some());
            self.input.consume(used);
            // A last line without its newline counts: `printf '{...}' | moadim-mcp` is answered.
            if ended && self.line.is_empty() && !self.overlong {
                return Line::End;
            }
            if newline.is_some() || ended {
                let line = std::mem::take(&mut self.line);
                return if std::mem::take(&mut self.overlong) { Line::Overlong } else { Line::Whole(line) };
            }
        }
    }
}

/// What a line turned out to be.
enum Reading {
    Message(Box<ClientJsonRpcMessage>),
    /// Nothing that could be answered: a blank line, a notification that makes no sense.
    Nothing,
    Refused(JsonRpcError),
}

/// The part of a request that an answer needs. serde_json skips the rest without recursion, so this succeeds where the
/// whole message is nested too deeply.
#[derive(Deserialize)]
struct Envelope {
    id: Option<Value>,
    method: Option<IgnoredAny>,
}

fn read_message(line: &[u8]) -> Reading {
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
        Err(error) if error.classify() == Category::Data => refuse(
            ErrorData::invalid_request(format!("not a JSON-RPC 2.0 message, one object a line: {error}"), None),
            None,
        ),
        Err(_) => refuse(ErrorData::parse_error(format!("not JSON: {reason}"), None), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::ErrorCode;

    fn refused(line: &[u8]) -> (i32, Option<String>) {
        match read_message(line) {
            Reading::Refused(error) => (error.error.code.0, error.id.map(|id| id.to_string())),
            Reading::Nothing => panic!("taken for nothing"),
            Reading::Message(message) => panic!("taken for {message:?}"),
        }
    }

    #[test]
    fn a_line_that_is_no_message_is_refused_with_its_id_where_it_has_one() {
        let (parse, invalid) = (ErrorCode::PARSE_ERROR.0, ErrorCode::INVALID_REQUEST.0);
        assert_eq!(refused(b"{"), (parse, None));
        assert_eq!(refused(b"hello"), (parse, None));
        assert_eq!(refused(b"\xff\xfe"), (parse, None));
        assert_eq!(refused(b"{\"id\":1,\"method\":\"\xff\"}"), (invalid, Some("1".into())));
        assert_eq!(refused(b"[]"), (invalid, None));
        assert_eq!(refused(b"7"), (invalid, None));
        assert_eq!(refused(b"{}"), (invalid, None));
        assert_eq!(refused(br#"{"id":7,"method":"ping"}"#), (invalid, Some("7".into())));
        assert_eq!(refused(br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#), (invalid, None));
        let deep =
            format!(r#"{{"jsonrpc":"2.0","method":"x","params":{}1{},"id":"d"}}"#, "[".repeat(9000), "]".repeat(9000));
        assert_eq!(refused(deep.as_bytes()), (invalid, Some("d".into())));
    }

    #[test]
    fn what_cannot_be_answered_is_dropped() {
        for line in ["", " \r", r#"{"method":7}"#, r#"{"jsonrpc":"1.0","method":"notifications/initialized"}"#] {
            assert!(matches!(read_message(line.as_bytes()), Reading::Nothing), "{line}");
        }
    }

    #[test]
    fn a_mark_and_a_carriage_return_are_tolerated() {
        let line = b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r";
        assert!(matches!(read_message(line), Reading::Message(_)));
    }

    #[tokio::test]
    async fn lines_end_at_newlines_and_at_the_end() {
        let mut lines = Lines { input: BufReader::new(&b"a\n\nb"[..]), line: Vec::new(), overlong: false };
        for expected in ["a", "", "b"] {
            assert!(matches!(lines.next().await, Line::Whole(line) if line == expected.as_bytes()));
        }
        assert!(matches!(lines.next().await, Line::End));
    }

    #[tokio::test]
    async fn an_overlong_line_is_skipped_whole() {
        let mut text = vec![b'x'; MAX_LINE_BYTES + 1];
        text.extend_from_slice(b"\nshort\n");
        let mut lines = Lines { input: BufReader::new(&text[..]), line: Vec::new(), overlong: false };
        assert!(matches!(lines.next().await, Line::Overlong));
        assert!(matches!(lines.next().await, Line::Whole(line) if line == b"short"));
    }
}
