//! Clients hear of changes, whichever process changes it.

use std::time::{Duration, Instant};

use crate::harness::{Era, Server, TestHome, text};
use serde_json::{Value, json};

const UPDATED: &str = "notifications/resources/updated";
const LIST_CHANGED: &str = "notifications/resources/list_changed";
/// How soon a change must be reported.
const SOON: Duration = Duration::from_secs(1);
/// How soon even on a busy machine.
const AT_LAST: Duration = Duration::from_secs(15);

/// A client of either era, subscribed to some resources.
struct Listener {
    server: Server,
    era: Era,
    /// Of the subscription, in the modern era.
    subscription: Option<u64>,
}

impl Listener {
    fn start(home: &TestHome, era: &Era) -> Self {
        Self { server: Server::start_in(home, era.clone()), era: era.clone(), subscription: None }
    }

    /// Subscribes to resources, and to the lists.
    fn subscribe(&mut self, uris: &[&str]) {
        if self.era == Era::Modern {
            let wishes = json!({ "resourcesListChanged": true, "resourceSubscriptions": uris });
            let id = self.server.send("subscriptions/listen", json!({ "notifications": wishes }));
            let acknowledged = self.server.next_unasked();
            assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged", "{acknowledged}");
            assert_eq!(acknowledged["params"]["notifications"], wishes);
            assert_eq!(subscription(&acknowledged), Some(id));
            self.subscription = Some(id);
        } else {
            self.server.request("resources/list", json!({})).unwrap();
            for uri in uris {
                assert_eq!(self.server.request("resources/subscribe", json!({ "uri": uri })).unwrap(), json!({}));
            }
        }
    }

    /// Drops what was reported before.
    fn settle(&mut self) {
        self.server.unasked_within(2 * SOON);
    }

    /// Waits until a resource is reported; returns what was reported before it.
    #[track_caller]
    fn wait_for(&mut self, uri: &str) {
        let subscription_id = self.subscription;
        self.server.wait_for_unasked(|message| {
            assert_eq!(subscription(message), subscription_id, "{message}");
            message["method"] == UPDATED && message["params"]["uri"] == uri
        });
    }
}

fn subscription(message: &Value) -> Option<u64> {
    message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].as_u64()
}

fn reports_of(messages: &[Value], uri: &str) -> usize {
    messages.iter().filter(|message| message["method"] == UPDATED && message["params"]["uri"] == uri).count()
}

fn in_both_eras(test: impl Fn(&TestHome, &mut Listener)) {
    for era in [Era::Legacy("2025-11-25"), Era::Modern] {
        let home = TestHome::detached("");
        test(&home, &mut Listener::start(&home, &era));
    }
}

#[test]
fn the_whole_life_of_a_run_is_told_whoever_makes_it() {
    in_both_eras(|home, listener| {
        let mut other = Server::start(home);
        let gate = home.scratch().join("gate");
        let until = |name: &str| format!("while [ ! -e {}-{name} ]; do sleep 0.02; done; echo {name}", gate.display());
        let acts = ["print", "reprint", "end"];
        let routine = other.create("Told", &acts.map(until).join("; "), json!({ "ttl_secs": 1 }));
        let of_routine = format!("moadim://routines/{routine}");
        listener.subscribe(&[&of_routine]);
        listener.settle();

        let run = other.trigger(&routine);
        let began = Instant::now();
        listener.wait_for(&of_routine);
        assert!(began.elapsed() < AT_LAST, "its start was reported after {:?}", began.elapsed());

        let (of_run, log) = (format!("moadim://runs/{run}"), format!("moadim://runs/{run}/log"));
        listener.subscribe(&[&of_run, &log]);
        let mut took = acts.map(|act| {
            listener.settle();
            let uri = if act == "end" { &of_run } else { &log };
            std::fs::write(format!("{}-{act}", gate.display()), "").unwrap();
            let began = Instant::now();
            listener.server.wait_for_unasked(|message| message["params"]["uri"] == **uri);
            began.elapsed()
        });
        took.sort();
        assert!(took[0] < SOON && took[2] < AT_LAST, "{acts:?} were reported after {took:?}, in some order");
        other.wait_for_run(&run, "succeeded");
        listener.settle();

        crate::harness::wait_for(crate::harness::PATIENCE, "the workbench to be due", || {
            other.clean_up()["removed"][0].as_object().cloned()
        });
        listener.server.wait_for_unasked(|message| message["params"]["uri"] == of_run);
        let seen = listener.server.request("resources/read", json!({ "uri": of_run })).unwrap();
        assert!(text(&seen["contents"][0]["text"]).contains("\"reaped\""), "{seen}");
    });
}

#[test]
fn a_chatty_agent_costs_at_most_two_notifications_a_second() {
    in_both_eras(|_, listener| {
        let prompt = "while :; do echo line; sleep 0.005; done";
        let run = listener.server.start_run("Chatty", prompt, json!({}));
        let (of_run, log) = (format!("moadim://runs/{run}"), format!("moadim://runs/{run}/log"));
        let began = Instant::now();
        listener.subscribe(&[&of_run, &log, "moadim://routines/chatty", "moadim://health"]);
        // The run's start is reported too, on a busy machine late; a print that were reported by more than the log would be so
        // each time.
        let (mut of_log, mut in_a_row) = (0, 0);
        while in_a_row < 5 {
            let reported = listener.server.next_unasked();
            let is_of_log = reports_of(std::slice::from_ref(&reported), &log) == 1;
            of_log += u128::from(is_of_log);
            in_a_row = if is_of_log { in_a_row + 1 } else { 0 };
            let most = 2 * began.elapsed().as_millis() / 1000 + 1;
            assert!(of_log <= most, "{of_log} > {most}");
            assert!(began.elapsed() < 4 * AT_LAST, "a print is reported of by more than the log: {reported}");
        }
        listener.server.stop(&run);
    });
}

#[test]
fn lists_that_change_are_told() {
    in_both_eras(|home, listener| {
        listener.subscribe(&["moadim://routines/other"]);
        listener.settle();
        Server::start(home).create("New", "true", json!({}));
        let reported = listener.server.wait_for_unasked(|_| true);
        assert_eq!(
            (&reported["method"], subscription(&reported)),
            (&json!(LIST_CHANGED), listener.subscription),
            "{reported}"
        );
    });
}

#[test]
fn nothing_is_told_that_nobody_asked_for() {
    in_both_eras(|home, listener| {
        let mut other = Server::start(home);
        let run = other.start_run("Quiet", "echo x", json!({}));
        other.wait_for_run(&run, "succeeded");
        assert!(listener.server.unasked_within(SOON).is_empty());
    });
}

#[test]
fn a_subscription_ends_when_it_is_cancelled() {
    in_both_eras(|home, listener| {
        let uri = "moadim://routines/gone";
        listener.subscribe(&[uri]);
        if let Some(id) = listener.subscription {
            listener.server.notify("notifications/cancelled", json!({ "requestId": id }));
            listener.server.request("tools/list", json!({})).unwrap();
        } else {
            listener.server.request("resources/unsubscribe", json!({ "uri": uri })).unwrap();
        }
        listener.settle();
        Server::start(home).create("Gone", "true", json!({}));
        assert_eq!(reports_of(&listener.server.unasked_within(2 * SOON), uri), 0);
    });
}

#[test]
fn what_cannot_be_watched_is_refused_or_left_out() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    for uri in ["file:///etc/passwd", "moadim://runs/nonsense"] {
        let error = server.request("resources/subscribe", json!({ "uri": uri })).unwrap_err();
        assert_eq!((error.code, &error.data["uri"]), (-32002, &json!(uri)), "{error:?}");
    }
    let mut server = Server::start_modern(&home);
    let wishes =
        json!({ "resourceSubscriptions": ["file:///etc/passwd", "moadim://health"], "toolsListChanged": true });
    server.send("subscriptions/listen", json!({ "notifications": wishes }));
    let accepted = server.next_unasked()["params"]["notifications"].clone();
    assert_eq!(accepted, json!({ "resourceSubscriptions": ["moadim://health"] }));
    assert_eq!(server.request("resources/subscribe", json!({ "uri": "moadim://health" })).unwrap_err().code, -32601);
}

#[test]
fn subscriptions_apart_are_told_apart() {
    let home = TestHome::detached("");
    let mut server = Server::start_modern(&home);
    let mut listen = |uri: &str| {
        let id = server.send("subscriptions/listen", json!({ "notifications": { "resourceSubscriptions": [uri] } }));
        assert_eq!(subscription(&server.next_unasked()), Some(id));
        id
    };
    let (one, other) = (listen("moadim://routines/one"), listen("moadim://routines/other"));
    let mut writer = Server::start(&home);
    for title in ["One", "Other"] {
        writer.create(title, "true", json!({}));
    }
    let reported = server.unasked_within(3 * SOON);
    let whose = |id| -> Vec<_> {
        reported
            .iter()
            .filter(|message| subscription(message) == Some(id))
            .map(|reported| reported["params"]["uri"].clone())
            .collect()
    };
    assert!(whose(one).iter().all(|uri| uri == "moadim://routines/one") && !whose(one).is_empty(), "{reported:?}");
    assert!(
        whose(other).iter().all(|uri| uri == "moadim://routines/other") && !whose(other).is_empty(),
        "{reported:?}"
    );
}

#[test]
fn an_open_subscription_and_a_wait_do_not_hold_up_the_end() {
    in_both_eras(|_, listener| {
        let run = listener.server.start_run("Endless", "exec sleep 300", json!({}));
        listener.subscribe(&["moadim://health"]);
        listener.server.send_call("wait_run", json!({ "run": run, "timeout_secs": 50 }));
        listener.server.request("resources/templates/list", json!({})).unwrap();
        listener.server.close_stdin();
        listener.server.assert_leaves();
    });
}
