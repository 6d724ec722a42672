//! The connections that are open: how many there may be, and how long one may keep an answer waiting.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::peer::Ends;

/// How many connections are served at a time. A page keeps 2, its events and what it asks for.
const MAX_CONNECTIONS: usize = 64;

/// The open connections, oldest first.
///
/// Any user of the machine can open as many as they like. When there are too many, the oldest unauthenticated one is closed, so that
/// programs without a token keep nobody out.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Mutex<Open>,
    /// One has gone, or is authenticated by now.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    opened: u64,
    connections: BTreeMap<u64, Connection>,
}

/// What the server knows about a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Connection {
    /// Its two ends, if the system says.
    pub(super) ends: Option<Ends>,
    is_authenticated: Arc<AtomicBool>,
    /// It has to make room for another.
    pub(super) evicted: CancellationToken,
}

impl Connection {
    /// Notes that a request with a good token came on it.
    pub(super) fn set_authenticated(&self) {
        self.is_authenticated.store(true, Ordering::Relaxed);
    }

    fn is_authenticated(&self) -> bool {
        self.is_authenticated.load(Ordering::Relaxed)
    }
}

/// A connection's place among those that are served; free when dropped.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Connections>,
    number: u64,
    pub(super) connection: Connection,
}

impl Connections {
    /// Waits for a place, which there is unless all connections are authenticated.
    pub(super) async fn place(self: &Arc<Self>) -> Place {
        loop {
            let changed = self.changed.notified();
            if let Some(place) = self.try_place() {
                return place;
            }
            changed.await;
        }
    }

    fn try_place(self: &Arc<Self>) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.connections.len() >= MAX_CONNECTIONS {
            let oldest = open.connections.iter().find(|(_, connection)| !connection.is_authenticated());
            let number = oldest.map(|(number, _)| *number)?;
            if let Some(connection) = open.connections.remove(&number) {
                connection.evicted.cancel();
            }
        }
        open.opened += 1;
        let (number, connection) = (open.opened, Connection::default());
        open.connections.insert(number, connection.clone());
        Some(Place { all: Arc::clone(self), number, connection })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.open.lock().unwrap_or_else(PoisonError::into_inner).connections.remove(&self.number);
        self.all.changed.notify_one();
    }
}

/// How long a client may read nothing of an answer. Shorter in tests, which wait for it.
const UNREAD_ANSWER_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 20_000 });

/// A stream that fails when its client reads nothing of what is written.
pub(super) struct Impatient {
    stream: TcpStream,
    /// Runs while something cannot be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, stalled: None }
    }

    /// Passes on what a write came to, and ends the wait for it once it has taken too long.
    fn unless_stalled<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(UNREAD_ANSWER_TIMEOUT)));
        ready!(stalled.as_mut().poll(context));
        // So that it fails again if it is asked again.
        stalled.as_mut().reset(Instant::now());
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.unless_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    #[test]
    fn the_oldest_unauthenticated_connection_makes_room_and_no_other() {
        let all = Arc::new(Connections::default());
        let mut places: Vec<Place> = (0..MAX_CONNECTIONS).map(|_| all.try_place().unwrap()).collect();
        places[0].connection.set_authenticated();
        let another = all.try_place().unwrap();
        let evicted: Vec<usize> =
            (0..places.len()).filter(|at| places[*at].connection.evicted.is_cancelled()).collect();
        assert_eq!(evicted, [1]);
        places.iter().chain([&another]).for_each(|place| place.connection.set_authenticated());
        assert!(all.try_place().is_none(), "all are authenticated");
        // The place of one that was evicted is taken already.
        places.remove(1);
        assert!(all.try_place().is_none());
        places.remove(0);
        assert!(all.try_place().is_some());
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = Impatient::new(listener.accept().await.unwrap().0);
        let chunk = vec![0; 1 << 20];
        let began = Instant::now();
        let failed = loop {
            if let Err(error) = stream.write_all(&chunk).await {
                break error;
            }
        };
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= UNREAD_ANSWER_TIMEOUT);
        drop(client);
    }
}
