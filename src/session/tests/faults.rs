//! What goes wrong is an error or mended, never taken for "no session".

use super::*;

#[test]
fn a_deleted_socket_is_recovered() {
    for name in ["home".to_owned(), "long/".repeat(30)] {
        let Some(place) = Place::named(&name) else { return };
        place.open("job-1").unwrap();
        let server = place.server().unwrap();
        let delete = || match place.socket().parent().filter(|refuge| refuge.starts_with("/tmp/moadim-")) {
            Some(refuge) if refuge != place.home.root() => std::fs::remove_dir_all(refuge).unwrap(),
            _ => std::fs::remove_file(place.socket()).unwrap(),
        };
        delete();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(place.host.list().unwrap(), names(["job-1"])));
            }
        });
        delete();
        place.open("job-2").unwrap();
        delete();
        place.host.close("job-1").unwrap();
        assert_eq!(place.host.list().unwrap(), names(["job-2"]));
        assert_eq!(place.server(), Some(server));
    }
}

#[test]
fn a_server_that_cannot_be_called_back_is_not_taken_for_none() {
    let Some(place) = Place::new() else { return };
    place.open("job-1").unwrap();
    let aside = place.home.root().join("aside");
    std::fs::rename(place.socket(), &aside).unwrap();
    let record = place.home.root().join("tmux.json");
    std::fs::write(&record, "{").unwrap();
    let error = place.host.list().unwrap_err().to_string();
    assert!(error.contains("tmux.json is damaged"), "{error}");
    std::fs::remove_file(&record).unwrap();
    if cfg!(target_os = "linux") {
        assert!(matches!(place.host.list(), Err(SessionError::Unreachable { .. })));
        assert!(matches!(place.open("job-2"), Err(SessionError::Unreachable { .. })));
    }
    std::fs::rename(&aside, place.socket()).unwrap();
    place.open("job-2").unwrap();
    std::fs::remove_file(place.socket()).unwrap();
    assert_eq!(place.host.list().unwrap(), names(["job-1", "job-2"]), "the record was made anew");
}

#[test]
fn what_lies_in_the_sockets_place_is_an_error_that_names_it() {
    let Some(place) = Place::new() else { return };
    place.open("job-1").unwrap();
    std::fs::remove_file(place.socket()).unwrap();
    std::fs::write(place.socket(), "").unwrap();
    let told = |result: Result<(), SessionError>| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("tmux.sock") && error.contains("move it away"), "{error}");
    };
    told(place.host.list().map(|_| ()));
    told(place.host.close("job-1"));
    told(place.open("job-2"));
    told(place.host.shut_down_if_idle());
    std::fs::remove_file(place.socket()).unwrap();
    assert_eq!(place.host.list().unwrap(), names(["job-1"]));
}

#[test]
fn a_killed_server_is_none_and_is_followed_by_another() {
    let Some(place) = Place::new() else { return };
    place.open("job-1").unwrap();
    let server = place.server().unwrap();
    kill_process(server, Signal::KILL).unwrap();
    // A process that it has just forked may hold its socket for a moment: a client gets through, and it is an error.
    wait_until("no server counts as no session", || place.host.list().is_ok_and(|names| names.is_empty()));
    assert!(!is_tmux(server));
    place.host.close("job-1").unwrap();
    place.open("job-2").unwrap();
    assert_eq!(place.host.list().unwrap(), names(["job-2"]));
}

#[test]
fn a_client_that_is_ended_before_its_answer_is_not_taken_for_one_that_heard_of_no_sessions() {
    let Some(place) = Place::new() else { return };
    place.open("job-1").unwrap();
    let pid = place.home.root().join("pid");
    let host = place.with_fake(&noting_its_pid(&place.tmux, &pid));
    let server = place.server().unwrap();
    let cut_off = while_its_client_is_ended(server, &pid, || host.server.list(in_a_minute()));
    assert!(matches!(cut_off, Err(SessionError::Refused { .. })), "{cut_off:?}");
    std::fs::remove_file(&pid).unwrap();
    let cut_off = while_its_client_is_ended(server, &pid, || host.server.shut_down_if_idle(in_a_minute()));
    assert!(matches!(cut_off, Err(SessionError::Refused { .. })), "{cut_off:?}");
    assert_eq!(host.list().unwrap(), names(["job-1"]));
}

#[test]
fn a_hanging_tmux_is_bounded() {
    let Some(place) = Place::new() else { return };
    let hanging = place.with_fake("sleep 60");
    let _listener = std::os::unix::net::UnixListener::bind(place.socket()).unwrap();
    let log = place.log("job-1", "");
    let begun = Instant::now();
    let is_bounded = |result: Result<(), SessionError>| {
        // Well before it would go by itself.
        let in_time = begun.elapsed() < Duration::from_secs(30);
        assert!(in_time && matches!(result, Err(SessionError::TimedOut { .. })), "{result:?}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| is_bounded(hanging.open("job-1", &log, log.parent().unwrap(), in_a_minute())));
        scope.spawn(|| is_bounded(hanging.list().map(|_| ())));
        scope.spawn(|| is_bounded(hanging.close("job-1")));
        scope.spawn(|| {
            is_bounded(users::sessions_below(hanging.server.program.as_ref().unwrap(), None, patience()).map(|_| ()))
        });
    });
    std::fs::remove_file(place.socket()).unwrap();
}

#[test]
fn a_tmux_that_cannot_be_understood_is_an_error() {
    let Some(place) = Place::new() else { return };
    place.open("job-1").unwrap();
    let strange = place.with_fake("echo 'the moon is full' >&2; exit 1");
    let error = strange.list().unwrap_err().to_string();
    assert!(error.contains("the moon is full") && error.contains("tmux -N -S"), "{error}");
    assert!(matches!(strange.close("job-1"), Err(SessionError::Refused { .. })));
    assert!(matches!(strange.shut_down_if_idle(), Err(SessionError::Refused { .. })));
}

#[test]
fn a_server_that_does_not_start_is_an_error() {
    let Some(place) = Place::new() else { return };
    let log = place.log("job-1", "");
    let open = |launcher: Launcher| {
        let host = SessionHost::with_program(&place.home, SessionHostSetting::Auto, launcher, Some(place.tmux.clone()));
        host.open("job-1", &log, log.parent().unwrap(), in_a_minute()).unwrap_err()
    };
    let failing =
        Launcher { program: "/bin/sh".into(), arguments: vec!["-c".into(), "echo no room >&2; exit 1".into()] };
    assert!(open(failing).to_string().contains("no room"));
    let missing = Launcher { program: "/nowhere/launcher".into(), arguments: Vec::new() };
    assert!(open(missing).to_string().contains("/nowhere/launcher"));
    let gone = place.host.open("job-1", &log, &place.home.root().join("missing"), in_a_minute()).unwrap_err();
    assert!(gone.to_string().contains("missing"), "{gone}");
}
