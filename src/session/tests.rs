//! Sessions on a real tmux, each test in its own home and with its own server.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::*;

/// Returns tmux, or skips loudly; with `MOADIM_REQUIRE_TMUX=1` its absence is a failure.
pub(super) fn require_tmux() -> Option<PathBuf> {
    let found = client::find("tmux");
    if found.is_none() {
        assert!(std::env::var_os("MOADIM_REQUIRE_TMUX").is_none_or(|value| value != "1"), "tmux is not installed");
        eprintln!("SKIPPED: tmux is not installed");
    }
    found
}

/// Polls until `condition` holds.
pub(super) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Stands in for the program's own `detach`.
fn launcher() -> Launcher {
    let words = ["-c", r#"("$@" >/dev/null 2>&1 </dev/null &)"#, "launcher"];
    Launcher { program: "/bin/sh".into(), arguments: words.map(OsString::from).to_vec() }
}

/// A home whose server dies with it.
struct Place {
    _dir: TempDir,
    home: Home,
    tmux: PathBuf,
    host: SessionHost,
}

impl Place {
    fn named(name: impl AsRef<Path>) -> Option<Self> {
        let tmux = require_tmux()?;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join(name)).unwrap();
        let host = SessionHost::with_program(&home, SessionHostSetting::Auto, launcher(), Some(tmux.clone()));
        assert_eq!(host.kind(), HostKind::Tmux, "{}", host.why());
        Some(Self { _dir: dir, home, tmux, host })
    }

    fn new() -> Option<Self> {
        Self::named("home")
    }

    fn log(&self, name: &str, text: &str) -> PathBuf {
        let directory = self.home.workbenches().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let log = directory.join("agent.log");
        std::fs::write(&log, text).unwrap();
        log
    }

    fn open(&self, name: &str) -> Result<(), SessionError> {
        let log = self.log(name, &format!("begun {name}\n"));
        self.host.open(name, &log, log.parent().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.host.server.place().socket().to_owned()
    }

    fn by_hand(&self, arguments: &[&str]) -> Output {
        Command::new(&self.tmux).arg("-N").arg("-S").arg(self.socket()).args(arguments).output().unwrap()
    }

    fn says(&self, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.by_hand(arguments).stdout).trim().to_owned()
    }

    fn shows(&self, name: &str) -> String {
        self.says(&["capture-pane", "-p", "-J", "-t", &format!("={name}:")])
    }

    fn server(&self) -> Option<Pid> {
        self.says(&["display-message", "-p", "#{pid}"]).parse().ok().and_then(Pid::from_raw)
    }

    fn with_fake(&self, script: &str) -> SessionHost {
        let fake = self.home.root().join("fake-tmux");
        let version = "[ \"$1\" = -V ] && { echo 'tmux 3.3a'; exit; }";
        std::fs::write(&fake, format!("#!/bin/sh\n{version}\n{script}\n")).unwrap();
        std::fs::set_permissions(&fake, PermissionsExt::from_mode(0o700)).unwrap();
        SessionHost::with_program(&self.home, SessionHostSetting::Auto, launcher(), Some(fake))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.by_hand(&["kill-server"]).status.success() {
            let deadline = Instant::now() + Duration::from_secs(5);
            while self.server().is_some() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.host.shut_down_if_idle();
    }
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

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
fn a_log_whose_name_ends_with_a_semicolon_is_shown() {
    let Some(place) = Place::new() else { return };
    let log = place.home.root().join("log;");
    std::fs::write(&log, "semicolon\n").unwrap();
    place.host.open("job-1", &log, place.home.root()).unwrap();
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
                    assert!(place.host.list().unwrap().contains(&name), "{name} was shut down");
                    place.host.close(&name).unwrap();
                }
            });
        }
        scope.spawn(move || {
            for _ in 0..12 {
                place.host.shut_down_if_idle().unwrap();
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

fn is_tmux(process: Pid) -> bool {
    let pid = process.as_raw_nonzero().to_string();
    let output = Command::new("ps").args(["-o", "stat=,comm=", "-p", &pid]).output().unwrap().stdout;
    let state = String::from_utf8(output).unwrap();
    !state.starts_with('Z') && state.contains("tmux")
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
    wait_until("the server is gone", || !is_tmux(server));
    assert_eq!(place.host.list().unwrap(), names([]));
    place.host.close("job-1").unwrap();
    place.open("job-2").unwrap();
    assert_eq!(place.host.list().unwrap(), names(["job-2"]));
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

#[test]
fn a_hanging_tmux_is_bounded() {
    let Some(place) = Place::new() else { return };
    let hanging = place.with_fake("sleep 60");
    let _listener = std::os::unix::net::UnixListener::bind(place.socket()).unwrap();
    let log = place.log("job-1", "");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let is_bounded = |result: Result<(), SessionError>| {
            let in_time = begun.elapsed() < PATIENCE + Duration::from_secs(3);
            assert!(in_time && matches!(result, Err(SessionError::TimedOut { .. })), "{result:?}");
        };
        scope.spawn(move || is_bounded(hanging.open("job-1", &log, log.parent().unwrap())));
        let hanging = place.with_fake("sleep 60");
        scope.spawn({
            let hanging = hanging.clone();
            move || is_bounded(hanging.list().map(|_| ()))
        });
        scope.spawn(move || is_bounded(hanging.close("job-1")));
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
        host.open("job-1", &log, log.parent().unwrap()).unwrap_err()
    };
    let failing =
        Launcher { program: "/bin/sh".into(), arguments: vec!["-c".into(), "echo no room >&2; exit 1".into()] };
    assert!(open(failing).to_string().contains("no room"));
    let missing = Launcher { program: "/nowhere/launcher".into(), arguments: Vec::new() };
    assert!(open(missing).to_string().contains("/nowhere/launcher"));
    let gone = place.host.open("job-1", &log, &place.home.root().join("missing")).unwrap_err();
    assert!(gone.to_string().contains("missing"), "{gone}");
}

#[test]
fn without_tmux_auto_is_detached_and_tmux_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("home")).unwrap();
    let (log, directory) = (home.root().join("log"), home.root());
    let host = |setting, program| SessionHost::with_program(&home, setting, launcher(), program);

    let auto = host(SessionHostSetting::Auto, None);
    assert_eq!((auto.kind(), auto.why(), auto.version()), (HostKind::Detached, "tmux was not found on PATH", None));
    auto.open("job-1", &log, directory).unwrap();
    auto.close("job-1").unwrap();
    assert_eq!((auto.list().unwrap(), auto.attach_command("job-1")), (names([]), None));

    let forced = host(SessionHostSetting::Tmux, None);
    assert_eq!((forced.kind(), forced.attach_command("job-1")), (HostKind::Tmux, None));
    let error = forced.open("job-1", &log, directory).unwrap_err().to_string();
    assert!(error.contains("was not found") && error.contains("config.toml"), "{error}");

    let broken = host(SessionHostSetting::Auto, Some("/bin/false".into()));
    assert_eq!(broken.kind(), HostKind::Detached);
    assert!(broken.why().contains("/bin/false"), "{}", broken.why());
}

#[test]
fn sessions_from_before_the_setting_changed_are_seen_and_closed() {
    let Some(place) = Place::new() else { return };
    place.open("job-1").unwrap();
    let without = SessionHost::with_program(&place.home, SessionHostSetting::Auto, launcher(), None);
    assert!(matches!(without.list(), Err(SessionError::NoTmux { .. })), "they are there, but cannot be listed");
    let tmux = Some(place.tmux.clone());
    let detached = SessionHost::with_program(&place.home, SessionHostSetting::Detached, launcher(), tmux);
    assert_eq!(detached.kind(), HostKind::Detached);
    assert_eq!(detached.list().unwrap(), names(["job-1"]));
    detached.close("job-1").unwrap();
    detached.shut_down_if_idle().unwrap();
    assert_eq!(without.list().unwrap(), names([]));
}

#[test]
fn an_old_tmux_is_told_from_a_new_one() {
    for (version, numbers) in [
        ("3.3a", Some((3, 3))),
        ("next-3.5", Some((3, 5))),
        ("2.9", Some((2, 9))),
        ("3.10", Some((3, 10))),
        ("master", None),
    ] {
        assert_eq!(major_and_minor(version), numbers, "{version}");
    }
    let dir = tempfile::tempdir().unwrap();
    let fake = dir.path().join("tmux");
    for (says, usable) in [("tmux 3.2", true), ("tmux master", true), ("tmux 3.1c", false), ("screen 4.0", false)] {
        std::fs::write(&fake, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        std::fs::set_permissions(&fake, PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(probe(Some(&fake)).is_ok(), usable, "{says}: {:?}", probe(Some(&fake)));
    }
}

#[test]
fn kinds_are_written_as_they_are_printed() {
    for kind in [HostKind::Tmux, HostKind::Detached] {
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
    }
}
