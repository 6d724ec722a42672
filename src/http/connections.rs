//! The connections that are open: how many there may be, and how long one may keep an answer waiting.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::peer::Ends;

/// How many unauthenticated connections may be open, if the process may open enough files. So many that one
/// stays until its first request has come, while somebody else opens many.
const MAX_UNAUTHENTICATED: usize = 256;

/// How many more are kept for those that are authenticated. A page keeps 2, its events and what it asks for.
const MAX_RESERVED: usize = 64;

/// How long an unauthenticated connection may stay without a whole head. Shorter in tests, which wait for it.
const UNAUTHENTICATED_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 10_000 });

/// The open connections.
///
/// Any user of the machine can open as many as they like. When there are too many, the oldest unauthenticated one is closed, so that
/// those who only hold connections keep nobody out.
#[derive(Debug)]
pub(super) struct Connections {
    max_unauthenticated: usize,
    open: Mutex<Open>,
    /// A connection closed, or its authentication changed.
    changed: Notify,
}

/// What ends each of the open connections, by its number: oldest first.
#[derive(Debug, Default)]
struct Open {
    opened: u64,
    unauthenticated: BTreeMap<u64, CancellationToken>,
    authenticated: BTreeMap<u64, CancellationToken>,
}

/// What the server knows about a connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// Its two ends, if the system says.
    pub(super) ends: Option<Ends>,
    number: u64,
    all: Arc<Connections>,
    /// It has to make room for another.
    pub(super) evicted: CancellationToken,
    /// Since when its client has got everything and sent nothing; none while an answer is under way.
    idle_since: Arc<Mutex<Option<Instant>>>,
}

impl Connection {
    /// Notes whether the last request on it came with the token of the person.
    pub(super) fn set_authenticated(&self, is_authenticated: bool) {
        let mut open = self.all.lock();
        let Open { unauthenticated, authenticated, .. } = &mut *open;
        let (from, to) =
            if is_authenticated { (unauthenticated, authenticated) } else { (authenticated, unauthenticated) };
        // One that was evicted is in neither.
        if let Some(evicted) = from.remove(&self.number) {
            to.insert(self.number, evicted);
            self.all.changed.notify_one();
        }
    }

    fn is_authenticated(&self) -> bool {
        self.all.lock().authenticated.contains_key(&self.number)
    }

    /// Notes that a request has come; its answer is under way until the value is dropped.
    pub(super) fn answering(&self) -> Answering {
        self.set_idle(false);
        Answering(self.clone())
    }

    fn set_idle(&self, is_idle: bool) {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = is_idle.then(Instant::now);
    }

    /// Waits until it is unauthenticated and has had no whole head for too long.
    pub(super) async fn is_overdue(&self) {
        loop {
            let idle_since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
            let since = idle_since.filter(|_| !self.is_authenticated()).unwrap_or_else(Instant::now);
            if since.elapsed() >= UNAUTHENTICATED_TIMEOUT {
                return;
            }
            sleep_until(since + UNAUTHENTICATED_TIMEOUT).await;
        }
    }
}

/// An answer that is under way.
pub(super) struct Answering(Connection);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set_idle(true);
    }
}

/// A connection's place among those that are served; free when dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) connection: Connection,
}

impl Connections {
    pub(super) fn new() -> Self {
        // What is left is for files, and for what tools start.
        let quarter = getrlimit(Resource::Nofile).current.map_or(MAX_UNAUTHENTICATED, |files| (files / 4) as usize);
        Self {
            max_unauthenticated: quarter.clamp(1, MAX_UNAUTHENTICATED),
            open: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
        let mut open = self.lock();
        let max = self.max_unauthenticated + MAX_RESERVED;
        while open.unauthenticated.len() >= self.max_unauthenticated
            || open.unauthenticated.len() + open.authenticated.len() >= max
        {
            let (_, oldest) = open.unauthenticated.pop_first()?;
            oldest.cancel();
        }
        open.opened += 1;
        let (number, evicted) = (open.opened, CancellationToken::new());
        open.unauthenticated.insert(number, evicted.clone());
        let idle_since = Arc::new(Mutex::new(Some(Instant::now())));
        let all = Arc::clone(self);
        Some(Place { connection: Connection { ends: None, number, all, evicted, idle_since } })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Connection { all, number, .. } = &self.connection;
        let mut open = all.lock();
        open.unauthenticated.remove(number);
        open.authenticated.remove(number);
        all.changed.notify_one();
    }
}

/// How long a client may read nothing of an answer. Shorter in tests, which wait for it.
const UNREAD_ANSWER_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 20_000 });

/// A stream that fails when its client reads nothing of what is written.
pub(super) struct Impatient {
    stream: TcpStream,
    connection: Connection,
    /// Runs while something cannot be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    pub(super) fn new(stream: TcpStream, connection: Connection) -> Self {
        Self { stream, connection, stalled: None }
    }

    /// Passes on what a write came to, and ends the wait for it once it has taken too long.
    fn unless_stalled<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        // A long answer may take its time as long as its client takes it.
        self.connection.set_idle(written.is_ready());
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

    fn evicted(places: &[Place]) -> Vec<usize> {
        (0..places.len()).filter(|at| places[*at].connection.evicted.is_cancelled()).collect()
    }

    #[test]
    fn the_oldest_unauthenticated_connection_makes_room_and_no_other() {
        let all = Arc::new(Connections::new());
        let mut places: Vec<Place> = (0..all.max_unauthenticated).map(|_| all.try_place().unwrap()).collect();
        places[0].connection.set_authenticated(true);
        places.push(all.try_place().unwrap());
        assert!(evicted(&places).is_empty());
        places.push(all.try_place().unwrap());
        assert_eq!(evicted(&places), [1]);
        places[0].connection.set_authenticated(false);
        places.push(all.try_place().unwrap());
        assert_eq!(evicted(&places), [0, 1, 2], "it is not authenticated any more");
    }

    #[test]
    fn there_are_more_places_for_authenticated_ones_and_not_without_end() {
        let all = Arc::new(Connections::new());
        let place = || {
            let place = all.try_place()?;
            place.connection.set_authenticated(true);
            Some(place)
        };
        let mut places: Vec<Place> = (0..all.max_unauthenticated + MAX_RESERVED).map(|_| place().unwrap()).collect();
        assert!(all.try_place().is_none());
        places.remove(0);
        places.push(all.try_place().unwrap());
        // The place of one that was evicted is taken already, and it does not become authenticated.
        places.push(place().unwrap());
        let gone = places.len() - 2;
        assert_eq!(evicted(&places), [gone]);
        places[gone].connection.set_authenticated(true);
        places.remove(gone);
        assert!(all.try_place().is_none());
    }

    #[tokio::test]
    async fn an_unauthenticated_connection_has_less_time() {
        let all = Arc::new(Connections::new());
        let overdue = async |connection: &Connection| {
            tokio::time::timeout(3 * UNAUTHENTICATED_TIMEOUT, connection.is_overdue()).await.ok()
        };
        let place = all.try_place().unwrap();
        assert!(overdue(&place.connection).await.is_some());
        let answering = place.connection.answering();
        assert_eq!(overdue(&place.connection).await, None);
        drop(answering);
        assert!(overdue(&place.connection).await.is_some());
        place.connection.set_authenticated(true);
        assert_eq!(overdue(&place.connection).await, None);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Arc::new(Connections::new()).try_place().unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = Impatient::new(listener.accept().await.unwrap().0, place.connection.clone());
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
