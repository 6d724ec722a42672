//! What goes wrong with a window is an error, and nothing else.

use super::*;

#[test]
fn what_lies_in_the_sockets_place_is_an_error_that_names_it() {
    let Some(place) = Place::new() else { return };
    std::fs::write(place.socket(), "").unwrap();
    let error = place.open("job-1").unwrap_err().to_string();
    assert!(error.contains("tmux.sock") && error.contains("move it away"), "{error}");
    std::fs::remove_file(place.socket()).unwrap();
    place.open("job-1").unwrap();
}

#[test]
fn a_killed_server_is_followed_by_another() {
    let Some(place) = Place::new() else { return };
    place.open("job-1").unwrap();
    let server = place.server().unwrap();
    kill_process(server, Signal::KILL).unwrap();
    wait_until("the server is gone", || !is_tmux(server));
    // A process that it has just forked may hold its socket for a moment.
    wait_until("another window opens", || place.open("job-2").is_ok());
    assert!(place.host.has_window("job-2") && !place.host.has_window("job-1"));
}

#[test]
fn a_hanging_tmux_is_bounded() {
    let Some(place) = Place::new() else { return };
    let hanging = place.with_fake("exec sleep 60");
    let begun = Instant::now();
    let result = hanging.open("job-1", &["true".into()]);
    assert!(matches!(result, Err(SessionError::TimedOut { .. })), "{result:?}");
    // Well before it would go by itself.
    assert!(!hanging.has_window("job-1") && begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_tmux_that_cannot_be_understood_is_an_error() {
    let Some(place) = Place::new() else { return };
    let strange = place.with_fake("echo 'the moon is full' >&2; exit 1");
    let error = strange.open("job-1", &["true".into()]).unwrap_err().to_string();
    assert!(error.contains("the moon is full") && error.contains("tmux -N -S"), "{error}");
}

#[test]
fn a_server_that_is_leaving_is_waited_out_five_times() {
    let Some(place) = Place::new() else { return };
    let count = place.home.root().join("count");
    let says = "echo x >> COUNT; [ $(wc -l < COUNT) -ge TIMES ] && exit; echo 'server exited unexpectedly' >&2; exit 1";
    let fake = |times: &str| {
        let _ = std::fs::remove_file(&count);
        let script = says.replace("COUNT", &format!("'{}'", count.display())).replace("TIMES", times);
        place.with_fake(&script).open("job-1", &["true".into()])
    };
    fake("5").unwrap();
    let error = fake("6").unwrap_err().to_string();
    assert!(error.contains("exited unexpectedly"), "{error}");
}
