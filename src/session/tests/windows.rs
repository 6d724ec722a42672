//! Windows: opened, exact, attached to, gone with their command.

use super::*;

#[test]
fn a_window_executes_its_words_and_goes_with_them() {
    let Some(place) = Place::new() else { return };
    place.open("job-1").unwrap();
    wait_until("the window shows something", || place.shows("job-1").contains("begun job-1"));
    let directory = place.says(&["display-message", "-p", "-t", "=job-1:", "#{pane_current_path}"]);
    assert_eq!(Path::new(&directory), place.home.root().canonicalize().unwrap());
    let server = place.server().unwrap();
    place.let_go("job-1");
    wait_until("the server leaves with its last window", || !is_tmux(server));
    assert!(!place.host.has_window("job-1"));
    place.open("job-1").unwrap();
}

#[test]
fn a_server_that_an_older_build_left_leaves_with_its_last_window_too() {
    let Some(place) = Place::new() else { return };
    place.open("old").unwrap();
    place.says(&["set-option", "-s", "exit-empty", "off"]);
    let server = place.server().unwrap();
    place.open("job-1").unwrap();
    place.let_go("old");
    place.let_go("job-1");
    wait_until("the server leaves with its last window", || !is_tmux(server));
}

#[test]
fn names_are_exact() {
    let Some(place) = Place::new() else { return };
    place.open("job-10").unwrap();
    assert!(place.host.has_window("job-10") && !place.host.has_window("job-1"));
    place.open("job-1").unwrap();
    assert!(place.open("job-1").unwrap_err().to_string().contains("duplicate session"));
}

#[test]
fn a_home_may_have_any_name() {
    let long = "long/".repeat(30);
    for name in ["it's #(touch /tmp/no) %H \"ünï\" $HOME;", "new\nline", long.as_str(), "semicolon\\;", "-"] {
        let Some(place) = Place::named(name) else { return };
        place.open("job-1").unwrap();
        place.open("job-2").unwrap();
        wait_until("the window shows something", || place.shows("job-1").contains("begun job-1"));
        attaches(&place, "job-2");
    }
    let Some(place) = Place::named(std::ffi::OsStr::from_bytes(b"not utf-8 \xff")) else { return };
    place.open("job-1").unwrap();
    assert!(place.host.attach_command("job-1").unwrap().contains("/tmp/moadim-"));
}

#[test]
fn a_word_that_ends_with_a_semicolon_is_a_word() {
    let Some(place) = Place::new() else { return };
    let words = ["sh", "-c", "echo \"<$1>\"; exec sleep 60", "sh", "a b;"].map(OsString::from);
    place.host.open("job-1", &words).unwrap();
    wait_until("the word is shown", || place.shows("job-1").contains("<a b;>"));
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
    assert!(!status.success() && !place.host.has_window("job-1"));
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
    assert!((0..20).all(|n| place.host.has_window(&format!("job-{n}"))));
}

#[test]
fn windows_that_end_at_once_open_however_many_there_are() {
    let Some(place) = Place::new() else { return };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let place = &place;
            scope.spawn(move || {
                for n in 0..10 {
                    let words = ["true".into(), "now".into()];
                    let windows = &place.host.windows;
                    windows.open(&format!("job-{thread}-{n}"), &words, in_a_minute()).unwrap();
                }
            });
        }
    });
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
    assert_eq!(std::fs::metadata(place.home.root().join("tmux.conf")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_configuration_has_no_errors() {
    let Some(place) = Place::new() else { return };
    place.open("job-1").unwrap();
    let checked = place.by_hand(&["source-file", "-n", place.home.root().join("tmux.conf").to_str().unwrap()]);
    assert!(checked.status.success() && checked.stderr.is_empty() && checked.stdout.is_empty(), "{checked:?}");
    assert_eq!(place.says(&["show-options", "-s", "exit-empty"]), "exit-empty on");
    let options = place.says(&["show-options", "-g"]);
    for wanted in ["history-limit 10000", "mouse on", "remain-on-exit off", "destroy-unattached off"] {
        let found = options.contains(wanted) || place.says(&["show-options", "-gw"]).contains(wanted);
        assert!(found, "{wanted}");
    }
}
