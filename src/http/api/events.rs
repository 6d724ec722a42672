//! `GET /api/events`: what changed in the home, as server-sent events.
//!
//! One thread looks for all clients, and only while there are any. What it finds is collected for each until it takes it: a slow
//! client gets fewer events, and misses no change.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::mem::take;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::ApiState;
use super::refusal::Refusal;
use crate::mcp::resources;
use crate::mcp::watches::{Watch, Watches};
use crate::query::changes::Topic;
use crate::query::survey::Survey;
use crate::run::context::App;

/// How long a client may hear nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How many topics one event names. If there are more, it names the lists alone, which stand for everything.
const MAX_TOPICS: usize = 200;

/// The name of the lists in an event.
pub(super) const LISTS: &str = "moadim://";

pub(super) struct Events {
    watches: Watches<Feed>,
    /// What is looked at for all clients, while there is one.
    feed: Mutex<Weak<Feed>>,
}

struct Feed {
    survey: Mutex<Survey>,
    listeners: Mutex<Vec<Weak<Listener>>>,
}

/// What changed since a client's last event.
#[derive(Default)]
struct Listener {
    changed: Mutex<BTreeSet<Topic>>,
    has_changed: Notify,
}

impl Watch for Feed {
    fn look(&self) {
        let changed = lock(&self.survey).look();
        if changed.is_empty() {
            return;
        }
        lock(&self.listeners).retain(|listener| {
            let Some(listener) = listener.upgrade() else { return false };
            listener.note(&changed);
            true
        });
    }

    fn has_looked(&self) {}
}

impl Listener {
    fn note(&self, changed: &BTreeSet<Topic>) {
        let mut noted = lock(&self.changed);
        noted.extend(changed.iter().cloned());
        if noted.len() > MAX_TOPICS {
            *noted = BTreeSet::from([Topic::Lists, Topic::Health, Topic::Usage]);
        }
        self.has_changed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    /// Starts the thread that looks.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { watches: Watches::start()?, feed: Mutex::default() })
    }

    /// Notes all changes for a client from now on.
    fn listen(&self, app: &App) -> Listening {
        let listener = Arc::new(Listener::default());
        let mut current = lock(&self.feed);
        let feed = current.upgrade().unwrap_or_else(|| {
            let mut survey = Survey::new(app.home.clone(), Arc::clone(&app.routines));
            survey.look();
            let feed = Arc::new(Feed { survey: Mutex::new(survey), listeners: Mutex::default() });
            *current = Arc::downgrade(&feed);
            self.watches.add(&feed);
            feed
        });
        lock(&feed.listeners).push(Arc::downgrade(&listener));
        Listening { listener, _feed: feed }
    }
}

/// A client's place; the thread looks as long as there is one.
struct Listening {
    listener: Arc<Listener>,
    _feed: Arc<Feed>,
}

pub(super) async fn answer(State(state): State<Arc<ApiState>>) -> Result<Response, Refusal> {
    if state.closing.is_cancelled() {
        return Err(Refusal::unavailable("the server is shutting down; connect again once it is back"));
    }
    let for_thread = Arc::clone(&state);
    let listening = state.calls.run("listening", move |_| for_thread.events.listen(&for_thread.app)).await?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(stream(listening, sender, state.closing.clone()));
    let kind = HeaderValue::from_static("text/event-stream");
    Ok(([(CONTENT_TYPE, kind)], Body::new(Stream(receiver))).into_response())
}

/// Sends a client what changes, until it goes or the server shuts down.
async fn stream(listening: Listening, sender: mpsc::Sender<Bytes>, closing: CancellationToken) {
    let listener = &listening.listener;
    let send = async {
        // From here on the client misses nothing.
        let mut event = Bytes::from_static(b": listening\n\n");
        while sender.send(event).await.is_ok() {
            event = loop {
                let Ok(()) = tokio::time::timeout(KEEP_ALIVE, listener.has_changed.notified()).await else {
                    break Bytes::from_static(b":\n\n");
                };
                let topics = take(&mut *lock(&listener.changed));
                if !topics.is_empty() {
                    break changed(&topics).into();
                }
            };
        }
    };
    tokio::select! {
        () = closing.cancelled() => {}
        () = sender.closed() => {}
        () = send => {}
    }
}

/// Returns the event that names these topics.
fn changed(topics: &BTreeSet<Topic>) -> String {
    let names = topics.iter().map(|topic| resources::uri(topic).unwrap_or_else(|| LISTS.to_owned()));
    format!("event: changed\ndata: {}\n\n", json!({ "topics": names.collect::<Vec<_>>() }))
}

/// A body that comes in pieces.
struct Stream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "not within 30 s: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn an_event_names_its_topics_by_their_uris() {
        let run: crate::run::id::RunId = "a-7".parse().unwrap();
        let topics = BTreeSet::from([Topic::Lists, Topic::Usage, Topic::Run(run.clone()), Topic::Log(run)]);
        assert_eq!(
            changed(&topics),
            "event: changed\ndata: {\"topics\":[\"moadim://\",\"moadim://usage\",\"moadim://runs/a-7\",\
             \"moadim://runs/a-7/log\"]}\n\n"
        );
    }

    #[test]
    fn what_a_slow_client_has_not_taken_stays_bounded() {
        let listener = Listener::default();
        for n in 0..10 * MAX_TOPICS {
            listener.note(&BTreeSet::from([Topic::Run(format!("a-{n}").parse().unwrap())]));
            let noted = lock(&listener.changed);
            assert!(noted.len() <= MAX_TOPICS && (n < MAX_TOPICS || noted.contains(&Topic::Lists)), "{}", noted.len());
        }
    }

    #[test]
    fn all_clients_share_a_look_and_nothing_is_looked_at_once_they_have_gone() {
        let (_dir, app) = App::example();
        let events = Events::new().unwrap();
        let (one, other) = (events.listen(&app), events.listen(&app));
        assert!(Arc::ptr_eq(&one._feed, &other._feed));
        std::fs::create_dir(app.home.routines().join("a")).unwrap();
        one._feed.look();
        // The thread may be at a look that found it first.
        for listening in [&one, &other] {
            wait_until("the client has the change", || lock(&listening.listener.changed).contains(&Topic::Lists));
        }
        drop(other);
        let feed = Arc::downgrade(&one._feed);
        drop(one);
        wait_until("nothing is looked at", || feed.upgrade().is_none());
    }
}
