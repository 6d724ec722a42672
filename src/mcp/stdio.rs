//! The wire: one JSON-RPC message a line, over any pair of byte streams.
//!
//! It replaces rmcp's own transport, which silently drops what it cannot read (a client would wait forever) and
//! says nothing when the input ends. Each direction has a thread of its own, made at the start: tokio would borrow one
//! for each read and write, and have none to borrow when an agent has filled the process table, which is when a person
//! needs to be heard most.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::thread;

use rmcp::model::{ClientJsonRpcMessage, JsonRpcError};
use rmcp::service::{RoleServer, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::{mpsc, oneshot};

use super::connection::Connection;
use super::lifecycle::Lifecycle;
use super::message::{self, Reading};

type Answer = TxJsonRpcMessage<RoleServer>;
type Request = RxJsonRpcMessage<RoleServer>;

/// Requests that are read ahead: few, because each may be as long as a line may be.
const QUEUED_REQUESTS: usize = 4;
/// Answers that may wait for a client which does not read them.
const QUEUED_ANSWERS: usize = 64;

/// How often other tasks get their turn before rmcp learns of the end of the connection. What comes of one turn, such as an
/// acknowledgement, takes the next.
const LAST_ROUNDS: usize = 16;

/// A transport that survives every line, and says when the connection ends.
pub(super) struct LineTransport {
    requests: mpsc::Receiver<Request>,
    answers: Option<mpsc::Sender<Answer>>,
    /// Comes when every answer is out.
    written: oneshot::Receiver<()>,
    connection: Connection,
}

impl LineTransport {
    /// Starts to read and write. The threads end with the streams; one that is stuck in a stream ends with the process.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(super) fn start(
        input: impl Read + Send + 'static,
        output: impl Write + Send + 'static,
        connection: Connection,
    ) -> io::Result<Self> {
        let (request_sender, requests) = mpsc::channel(QUEUED_REQUESTS);
        let (answers, answer_queue) = mpsc::channel(QUEUED_ANSWERS);
        let (done, written) = oneshot::channel();
        let refusals = answers.downgrade();
        thread::Builder::new().name("stdin".into()).spawn(move || {
            read_lines(BufReader::with_capacity(64 * 1024, input), &request_sender, &refusals);
        })?;
        let writing = connection.clone();
        thread::Builder::new().name("stdout".into()).spawn(move || {
            write_lines(output, answer_queue, &writing);
            let _ = done.send(());
        })?;
        Ok(Self { requests, answers: Some(answers), written, connection })
    }
}

impl Transport<RoleServer> for LineTransport {
    type Error = io::Error;

    fn send(&mut self, answer: Answer) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let answers = self.answers.clone();
        async move {
            let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
            answers.ok_or_else(closed)?.send(answer).await.map_err(|_| closed())
        }
    }

    /// rmcp drops this future whenever it has something else to do first; nothing is lost by that.
    async fn receive(&mut self) -> Option<Request> {
        let request = tokio::select! {
            biased;
            () = self.connection.closing.cancelled() => None,
            request = self.requests.recv() => request,
        };
        if request.is_none() {
            self.connection.closing.cancel();
            // rmcp ends its loop at once, and then wakes nobody who waits for a message to be sent: an answer that waits for one
            // would hold up the end. So whatever else rmcp has to do comes first; it drops this future for that.
            for _ in 0..LAST_ROUNDS {
                tokio::task::yield_now().await;
            }
        }
        request
    }

    /// Returns when every answer is out.
    async fn close(&mut self) -> Result<(), io::Error> {
        self.answers = None;
        (&mut self.written).await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// Reads until the input ends or nobody wants more. What cannot be served is answered from here.
fn read_lines(mut input: impl BufRead, requests: &mpsc::Sender<Request>, refusals: &mpsc::WeakSender<Answer>) {
    let mut lifecycle = Lifecycle::default();
    loop {
        let refusal = match message::read(&mut input) {
            Ok(Some(Reading::Message(message))) => match admit(&mut lifecycle, &message) {
                Ok(()) if requests.blocking_send(*message).is_err() => return,
                Ok(()) => continue,
                Err(refusal) => refusal,
            },
            Ok(Some(Reading::Refused(refusal))) => refusal,
            Ok(Some(Reading::Nothing)) => continue,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the input broke off");
                return;
            }
        };
        tracing::debug!(?refusal, "refused a message");
        let Some(answers) = refusals.upgrade() else { return };
        if answers.blocking_send(Answer::Error(refusal)).is_err() {
            return;
        }
    }
}

fn admit(lifecycle: &mut Lifecycle, message: &ClientJsonRpcMessage) -> Result<(), JsonRpcError> {
    let ClientJsonRpcMessage::Request(request) = message else { return Ok(()) };
    lifecycle.check(&request.request).map_err(|error| JsonRpcError::new(Some(request.id.clone()), error))
}

/// The only one that writes, so that no two answers mix.
fn write_lines(mut output: impl Write, mut answers: mpsc::Receiver<Answer>, connection: &Connection) {
    while let Some(answer) = answers.blocking_recv() {
        let written = message::write(&mut output, &answer);
        if let Err(error) = written.and_then(|()| if answers.is_empty() { output.flush() } else { Ok(()) }) {
            tracing::debug!(%error, "nobody reads the answers");
            connection.closing.cancel();
            return;
        }
        connection.answered.cancel();
    }
}
