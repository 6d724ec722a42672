//! Serving: one connection from its first line to its last answer, and the process around it.

use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use rmcp::service::serve_directly;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::server::Server;
use super::stdio::LineTransport;
use crate::logging;

/// How long calls under way may still answer once the connection ends. A host waits about 2 s before it kills. A call that is
/// not done by then is cut off, and everything that it writes is made for that.
///
/// Longer in tests, which tell by it on a busy machine whether anything was waited for.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 1 });

/// Serves stdin and stdout until the input ends or a signal asks the process to leave (SIGTERM, SIGINT, SIGHUP).
///
/// `background` is started when the first answer is out, so that it can never delay a handshake.
///
/// # Errors
/// The runtime, its threads or the signal handlers could not be set up. The end of a connection is never an error.
pub(crate) fn run(server: Server, background: impl FnOnce() + Send + 'static) -> io::Result<()> {
    if io::stdin().is_terminal() {
        logging::say(&notice_in_a_terminal());
    }
    // Handlers only pass work on to other threads, so that this one is enough, and no message is handed around between workers.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let closing = server.connection.closing.clone();
    let served = runtime.block_on(async {
        cancel_on_signals(&closing)?;
        serve_connection(server, io::stdin(), io::stdout(), background).await
    });
    // Not awaited: what the background has under way may take its time.
    runtime.shutdown_background();
    served
}

/// Cancels a token when a signal asks the process to leave.
pub(crate) fn cancel_on_signals(closing: &CancellationToken) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let mut stream = signal(kind)?;
        let closing = closing.clone();
        tokio::spawn(async move {
            stream.recv().await;
            closing.cancel();
        });
    }
    Ok(())
}

/// Serves one connection. Returns at most [`LAST_ANSWERS_TIMEOUT`] after it began to end.
async fn serve_connection(
    server: Server,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    background: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let connection = server.connection.clone();
    let transport = LineTransport::start(input, output, connection.clone())?;
    // "Directly": the lifecycle is ours, see `lifecycle`.
    let service = serve_directly(server, transport, None);
    let answered = connection.answered.clone();
    let background = tokio::spawn(async move {
        answered.cancelled().await;
        background();
    });
    let mut ended = std::pin::pin!(service.waiting());
    let ended = tokio::select! {
        ended = &mut ended => ended.map(Some),
        () = connection.closing.cancelled() => match tokio::time::timeout(LAST_ANSWERS_TIMEOUT, ended).await {
            Ok(ended) => ended.map(Some),
            Err(_) => Ok(None),
        },
    };
    background.abort();
    match ended {
        Ok(Some(_)) => {}
        Ok(None) => tracing::warn!("left while calls were under way; what they started goes on"),
        Err(error) => tracing::error!(%error, "the connection failed"),
    }
    Ok(())
}

fn notice_in_a_terminal() -> String {
    let program =
        std::env::current_exe().map_or_else(|_| env!("CARGO_PKG_NAME").into(), |path| path.display().to_string());
    format!(
        "moadim-mcp {version} is an MCP server: a host such as Claude Desktop, Claude Code or Cursor starts it and talks \
         JSON-RPC to it.\n\
         \n\
         \x20 See it work:      {program} demo\n\
         \x20 Everything else:  {program} --help\n\
         \x20 Give it to a host, in the host's configuration file:\n\
         \n\
         \x20   {{ \"mcpServers\": {{ \"moadim\": {{ \"command\": \"{program}\" }} }} }}\n\
         \n\
         It now reads JSON-RPC from this terminal; Ctrl-D or Ctrl-C ends it.",
        version = env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests;
