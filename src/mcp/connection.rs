//! How the parts of a server learn where its connection stands.

use tokio_util::sync::CancellationToken;

/// The state of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Connection {
    /// The connection is ending: its input is over, its output is broken, or the process was asked to leave. Anyone may cancel
    /// it. Nothing is read from then on; calls under way are still answered.
    pub(super) closing: CancellationToken,
    /// The first answer is out.
    pub(super) answered: CancellationToken,
}

impl Connection {
    /// Waits until a message is sent, or returns `None` when the connection ends: rmcp then forgets those who wait.
    pub(super) async fn while_open<T>(&self, sending: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            sent = sending => Some(sent),
            () = self.closing.cancelled() => None,
        }
    }
}
