//! Windows: opened, exact, attached to, closed.

use super::*;

#[test]
fn a_session_shows_its_log_as_it_grows() {
    let Some(place) = Place::new() else { return };
    assert_eq!(place.host.list().unwrap(), names([]));
    place.open("job-1").unwrap();
    wait_until("what was in the log is shown", || place.shows("job-1").contains("begun job-1"));
    let log = place.home.workbenches().join("job-1/agent.log");
    writeln!(File::options().append(true).open(log).unwrap(), "and goes on").unwrap();
    wait_until("what is appended is shown", || place.shows("job-1").contains("and goes on"));
    let directory = place.says(&["display-message", "-p", "-t", "=job-1:", "#{pane_current_path}"]);
    assert_eq!(Path::new(&directory), place.home.workbenches().join("job-1").canonicalize().unwrap());
    assert!(place.host.version().is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())));
}

#[test]
fn names_are_exact() {
    let Some(place) = Place::new() else { return };
    place.open("job-10").unwrap();
    place.host.close("job-1").unwrap();
    assert_eq!(place.host.list().unwrap(), names(["job-10"]));
    place.open("job-1").unwrap();
    assert!(place.open("job-1").unwrap_err().to_string().contains("duplicate session"));
    place.host.close("job-1").unwrap();
    assert_eq!(place.host.list().unwrap(), names(["job-10"]));
    place.host.close("job-10").unwrap();
    place.host.close("job-10").unwrap();
    assert_eq!(place.host.list().unwrap(), names([]));
    for name in ["job:1", "job.1", "*", "$0", ""] {
        assert!(matches!(place.open(name), Err(SessionError::Name { .. })), "{name}");
        assert!(matches!(place.host.close(name), Err(SessionError::Name { .. })), "{name}");
    }
}

#[test]
fn a_home_may_have_any_name() {
    let long = "long/".repeat(30);
    for name in ["it's #(touch /tmp/no) %H \"ünï\" $HOME;", "new\nline", long.as_str(), "semicolon\\;", "-"] {
        let Some(place) = Place::named(name) else { return };
        place.open("job-1").unwrap();
        place.open("job-2").unwrap();
        wait_until("the log is shown", || place.shows("job-1").contains("begun job-1"));
        assert_eq!(place.host.list().unwrap(), names(["job-1", "job-2"]), "{name}");
        attaches(&place, "job-2");
        place.host.close("job-1").unwrap();
        assert_eq!(place.host.list().unwrap(), names(["job-2"]), "{name}");
        let refuge = place.socket().parent().unwrap().to_owned();
        drop(place);
        assert!(!refuge.exists() || !refuge.starts_with("/tmp/moadim-"), "{} is left", refuge.display());
    }
    let Some(place) = Place::named(std::ffi::OsStr::from_bytes(b"not utf-8 \xff")) else { return };
    place.open("job-1").unwrap();
    assert!(place.host.attach_command("job-1").unwrap().contains("/tmp/moadim-"));
}

#[test]
fn a_terminal_is_copied_from_its_first_byte_whatever_its_files_are_called() {
    for name in ["it's #(touch /tmp/no) #[x] %H \"ünï\" $HOME;".as_bytes(), b"new\nline", b"not utf-8 \xff"] {
        let Some(place) = Place::named(std::ffi::OsStr::from_bytes(name)) else { return };
        let log = place.log("job-1", "");
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let mut sink = words(&["sh", "-c", "exec cat >> \"$0\""]);
        sink.push(log.clone().into());
        let command = words(&["sh", "-c", "echo $0; tty; read line; echo \"got $line\"", "a b;"]);
        place.host.open_terminal("job-1", &command, &sink, place.home.root(), in_a_minute()).unwrap();
        let logged = || std::fs::read_to_string(&log).unwrap();
        wait_until("the terminal is copied", || logged().contains("/dev/"));
        assert!(logged().starts_with("a b;\r\n/dev/"), "{}", logged());
        place.says(&["send-keys", "-t", "=job-1:", "typed", "Enter"]);
        wait_until("what is typed arrives", || logged().ends_with("typed\r\ngot typed\r\n"));
        wait_until("the window goes with its command", || place.host.list().unwrap() == names([]));
    }
    let Some(place) = Place::new() else { return };
    let missing = place.home.root().join("missing");
    let refused =
        place.host.open_terminal("job-1", &["true".into()], &["cat".into()], &missing, in_a_minute()).unwrap_err();
    assert!(matches!(refused, SessionError::Io { .. }), "{refused}");
    let detached = SessionHost::with_program(&place.home, SessionHostSetting::Detached, launcher(), None);
    let refused = detached
        .open_terminal("job-1", &["true".into()], &["cat".into()], place.home.root(), in_a_minute())
        .unwrap_err();
    assert!(matches!(refused, SessionError::NoTmux { .. }), "{refused}");
}

#[test]
fn a_log_whose_name_ends_with_a_semicolon_is_shown() {
    let Some(place) = Place::new() else { return };
    let log = place.home.root().join("log;");
    std::fs::write(&log, "semicolon\n").unwrap();
    place.host.open("job-1", &log, place.home.root(), in_a_minute()).unwrap();
    wait_until("the log is shown", || place.shows("job-1").contains("semicolon"));
}

/// Runs the attach command in a shell on a terminal, and waits until the server counts a client.
fn attaches(place: &Place, name: &str) {
    let mut terminal = on_a_terminal(&place.host.attach_command(name).unwrap());
    let clients = || place.says(&["list-clients", "-t", &format!("={name}"), "-F", "#{client_session}"]);
    wait_until("somebody is attached", || clients() == name);
    place.by_hand(&["detach-client", "-s", &format!("={name}")]);
    terminal.wait().unwrap();
}

fn on_a_terminal(line: &str) -> Child {
    let mut command = Command::new("script");
    if cfg!(target_os = "linux") {
        command.args(["-qec", line, "/dev/null"]);
    } else {
        command.args(["-q", "/dev/null", "sh", "-c", line]);
    }
    command.env("TERM", "xterm").env_remove("TMUX").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn attaching_to_what_is_gone_starts_no_server() {
    let Some(place) = Place::new() else { return };
    let status = on_a_terminal(&place.host.attach_command("job-1").unwrap()).wait().unwrap();
    assert!(!status.success());
    assert!(!place.socket().exists());
}

#[test]
fn many_may_open_at_once() {
    let Some(place) = Place::new() else { return };
    let servers: BTreeSet<_> = std::thread::scope(|scope| {
        let place = &place;
        let openers: Vec<_> = (0..20)
            .map(|n| {
                scope.spawn(move || {
                    place.open(&format!("job-{n}")).unwrap();
                    place.server().unwrap().as_raw_nonzero()
                })
            })
            .collect();
        openers.into_iter().map(|opener| opener.join().unwrap()).collect()
    });
    assert_eq!(servers.len(), 1);
    assert_eq!(place.host.list().unwrap(), (0..20).map(|n| format!("job-{n}")).collect());
}

#[test]
fn opening_and_shutting_down_at_once_loses_no_session() {
    let Some(place) = Place::new() else { return };
    std::thread::scope(|scope| {
        let place = &place;
        for thread in 0..3 {
            scope.spawn(move || {
                for n in 0..6 {
                    let name = format!("job-{thread}-{n}");
                    place.open(&name).unwrap();
                    assert!(place.host.server.list(in_a_minute()).unwrap().contains(&name), "{name} was shut down");
                    place.host.server.close(&name, in_a_minute()).unwrap();
                }
            });
        }
        scope.spawn(move || {
            for _ in 0..12 {
                place.host.server.shut_down_if_idle(in_a_minute()).unwrap();
            }
        });
    });
}

#[test]
fn an_idle_server_goes_and_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    place.host.shut_down_if_idle().unwrap();
    place.open("job-1").unwrap();
    let server = place.server().unwrap();
    place.host.shut_down_if_idle().unwrap();
    assert_eq!(place.server(), Some(server), "a server with a session stays");
    place.host.close("job-1").unwrap();
    place.host.shut_down_if_idle().unwrap();
    assert!(!is_tmux(server));
    let left: BTreeSet<_> =
        std::fs::read_dir(place.home.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.as_bytes().starts_with(b"tmux.") || *name == *"tmux.conf"), "{left:?}");
    place.open("job-2").unwrap();
    assert_eq!(place.host.list().unwrap(), names(["job-2"]));
}

#[test]
fn closing_and_listing_start_nothing() {
    let Some(place) = Place::new() else { return };
    let trace = place.home.root().join("trace");
    let host = place.with_fake(&format!("touch '{}'", trace.display()));
    host.close("job-1").unwrap();
    assert_eq!(host.list().unwrap(), names([]));
    host.shut_down_if_idle().unwrap();
    assert!(!trace.exists() && !place.socket().exists());
}

#[test]
fn a_server_inherits_nothing_secret_and_carries_its_own_cookie() {
    let Some(place) = Place::new() else { return };
    place.open("job-1").unwrap();
    let environment = place.says(&["show-environment", "-g"]);
    for line in environment.lines() {
        let name = line.split('=').next().unwrap();
        let allowed =
            ["HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TMPDIR", "TERM", "PWD", "SHLVL", "_", "OLDPWD"];
        assert!(allowed.contains(&name) || name.starts_with("LC_") || name == "MOADIM_COOKIE", "{line}");
    }
    let cookie = environment.lines().find_map(|line| line.strip_prefix("MOADIM_COOKIE=")).unwrap();
    assert!(cookie.len() == 32 && cookie.bytes().all(|byte| byte.is_ascii_hexdigit()), "{cookie}");
    assert_eq!(place.says(&["show-environment", "-t", "=job-1"]), "");
    assert_eq!(place.says(&["show-options", "-s", "exit-empty"]), "exit-empty off");
    assert_eq!(std::fs::metadata(place.home.root().join("tmux.conf")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_configuration_has_no_errors() {
    let Some(place) = Place::new() else { return };
    place.open("job-1").unwrap();
    let checked = place.by_hand(&["source-file", "-n", place.home.root().join("tmux.conf").to_str().unwrap()]);
    assert!(checked.status.success() && checked.stderr.is_empty() && checked.stdout.is_empty(), "{checked:?}");
    let options = place.says(&["show-options", "-g"]);
    for wanted in ["history-limit 10000", "mouse on", "remain-on-exit off", "destroy-unattached off"] {
        let found = options.contains(wanted) || place.says(&["show-options", "-gw"]).contains(wanted);
        assert!(found, "{wanted}");
    }
}
