//! The server: its listeners on the loopback, its connections, and its end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::Request;
use axum::middleware;
use axum::response::Html;
use axum::routing::{get, post};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::api::{self, ApiState};
use super::connections::{Connections, Impatient, Place};
use super::gate::{self, Gate};
use super::links::{self, Links};
use super::peer::Ends;
use crate::dashboard::page::PAGE;
use crate::mcp::call_threads::CallThreads;
use crate::mcp::serve::cancel_on_signals;
use crate::mcp::tool::Tool;
use crate::run::context::App;

/// How large a request's head may be.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How long a head may take to arrive, and how long an authenticated connection may wait for the next. Others have less.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// How many connections may wait to be accepted. The system may keep fewer.
const BACKLOG: i32 = 1024;

/// How long answers under way may take once the server shuts down.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_millis(500);

/// How long it waits when the system lets it accept nothing, as without a free descriptor.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// How often another port is tried if one is free for one family of addresses only.
const MAX_TRIES: usize = 16;

/// The sockets that a server listens on: one address of each family, with the same port.
#[derive(Debug)]
pub(crate) struct Listeners {
    sockets: Vec<std::net::TcpListener>,
    pub(crate) port: u16,
}

/// The server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub(crate) struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl ListenError {
    pub(crate) fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }

    /// Whether the system keeps the port for root.
    pub(crate) fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

impl Listeners {
    /// Listens on 127.0.0.1 and ::1, and nowhere else; any port if it is 0. Without IPv6 it listens on 127.0.0.1 alone.
    ///
    /// # Errors
    /// The port is taken on one of them, or the system refuses. What another program listens on must not be taken for ours.
    pub(crate) fn bind(port: u16) -> Result<Self, ListenError> {
        let mut tries = 1..=MAX_TRIES;
        loop {
            match Self::try_bind(port) {
                Err(error) if port == 0 && error.is_taken() && tries.next().is_some() => {}
                bound => return bound,
            }
        }
    }

    fn try_bind(port: u16) -> Result<Self, ListenError> {
        let first = listen(Ipv4Addr::LOCALHOST.into(), port)?;
        let fail = |source| ListenError { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), source };
        let port = first.local_addr().map_err(fail)?.port();
        let mut sockets = vec![first];
        match listen(Ipv6Addr::LOCALHOST.into(), port) {
            Ok(second) => sockets.push(second),
            Err(error) if error.is_taken() => return Err(error),
            Err(error) => tracing::debug!(%error, "no IPv6"),
        }
        Ok(Self { sockets, port })
    }
}

fn listen(address: IpAddr, port: u16) -> Result<std::net::TcpListener, ListenError> {
    let address = SocketAddr::new(address, port);
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        // It listens already, for fewer.
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source| ListenError { address, source })
}

/// A server that listens, and is not yet served.
pub(crate) struct Server {
    listeners: Listeners,
    links: Arc<Links>,
}

impl Server {
    pub(crate) fn new(listeners: Listeners, token: String) -> Self {
        Self { listeners, links: Arc::new(Links::new(token)) }
    }

    /// Makes a link that opens the page once; returns its path.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn link(&self) -> Result<String, getrandom::Error> {
        self.links.make(Instant::now())
    }

    /// Serves the page and these tools until a signal asks the process to leave (SIGTERM, SIGINT, SIGHUP).
    ///
    /// # Errors
    /// The runtime, its threads or the signal handlers could not be set up.
    pub(crate) fn run(self, app: Arc<App>, tools: Vec<Tool>) -> io::Result<()> {
        let Self { listeners, links } = self;
        // Tools run on threads of their own, so that this one is enough.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let closing = CancellationToken::new();
        let served = runtime.block_on(async {
            cancel_on_signals(&closing)?;
            let threads = Arc::new(CallThreads::new()?);
            let gate = Gate::new(app.home.clone(), listeners.port, links.token(), PAGE, Arc::clone(&threads));
            let gate = Arc::new(gate);
            let state = Arc::new(ApiState::new(app, tools, Arc::clone(&threads), closing.clone())?);
            let opening = Router::new()
                .route("/open/{code}", get(links::follow))
                .route("/api/link", post(links::make))
                .method_not_allowed_fallback(api::wrong_method)
                .with_state((links, threads));
            let router = Router::new()
                .route("/", get(async || Html(PAGE)))
                .merge(opening)
                .merge(api::router(state))
                .fallback(api::not_found)
                .layer(middleware::from_fn_with_state(gate, gate::pass));
            serve(listeners, router, &closing).await
        });
        // Not awaited: a call under way goes on until the process ends, and what it starts is made for that.
        runtime.shutdown_background();
        served
    }
}

async fn serve(listeners: Listeners, router: Router, closing: &CancellationToken) -> io::Result<()> {
    let sockets = listeners.sockets.into_iter().map(TcpListener::from_std).collect::<io::Result<Vec<_>>>()?;
    let connections = Arc::new(Connections::new());
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            (stream, place) = next_connection(&sockets, &connections) => {
                tasks.spawn(serve_connection(stream, place, router.clone(), closing.clone()));
                // What has come on those that are open is read before more are accepted.
                yield_now().await;
            }
        }
    }
    drop(sockets);
    let _ = timeout(LAST_ANSWERS_TIMEOUT, async { while tasks.join_next().await.is_some() {} }).await;
    Ok(())
}

/// Waits for a connection, and for a place for it.
async fn next_connection(sockets: &[TcpListener], connections: &Arc<Connections>) -> (TcpStream, Place) {
    loop {
        let accepted = match sockets {
            [one, other] => {
                tokio::select! { accepted = one.accept() => accepted, accepted = other.accept() => accepted }
            }
            [one, ..] => one.accept().await,
            [] => std::future::pending().await,
        };
        match accepted {
            Ok((stream, _)) => return (stream, connections.place().await),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, place: Place, router: Router, closing: CancellationToken) {
    // Events are short, and waited for.
    let _ = stream.set_nodelay(true);
    let ends = stream.peer_addr().ok().zip(stream.local_addr().ok()).map(|(peer, ours)| Ends { peer, ours });
    let mut connection = place.connection.clone();
    connection.ends = ends;
    let served = connection.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let answering = served.answering();
        request.extensions_mut().insert(served.clone());
        let answer = TowerToHyperService::new(router.clone()).call(request);
        async move {
            let answer = answer.await;
            drop(answering);
            answer
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(Impatient::new(stream, connection.clone())), service);
    let mut serving = pin!(serving);
    tokio::select! {
        // It fails when its client goes, or is too slow.
        _ = &mut serving => return,
        () = connection.evicted.cancelled() => return,
        () = connection.is_overdue() => return,
        () = closing.cancelled() => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await;
}
