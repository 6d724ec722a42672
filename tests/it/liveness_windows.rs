//! What goes wrong with tmux around a run that is alive underneath: in no case is its workbench removed, or the run called
//! finished, not even with a retention of a second that has passed.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{
    Host, Live, PATIENCE, Server, TestHome, copy_program, give_to_nobody, kept_because, root_may_become_another_user,
    run_as_nobody, wait_for,
};
use serde_json::json;

/// A home with windows and a server that finds its tmux in the scripts of the test, and hardly anything else.
struct Windowed {
    server: Server,
    // Dropped last: it looks whether anything is left.
    home: TestHome,
}

impl Windowed {
    fn start() -> Option<Self> {
        let home = Host::Tmux.home()?;
        home.configure("session_host = \"tmux\"\nkill_grace_secs = 1\nwatchdog_interval_secs = 600\n");
        for name in ["sh", "sleep", "tmux"] {
            use_real(&home, name);
        }
        let mut command = home.command();
        command.env("PATH", home.scripts());
        Some(Self { server: Server::start_with(command), home })
    }

    fn replace_tmux(&self, script: Option<&str>) {
        let _ = std::fs::remove_file(self.home.scripts().join("tmux"));
        if let Some(script) = script {
            self.home.script("tmux", script);
        }
    }

    /// Runs a client of our own server with the real tmux.
    fn tmux(&self, words: &[&str]) -> bool {
        crate::harness::tmux(&self.home.root().join("tmux.sock"), words).status.success()
    }

    /// Waits until a run can be watched, or until it cannot.
    #[track_caller]
    fn await_window(&self, run: &str, there: bool) {
        wait_for(PATIENCE, "its window to come or go", || {
            (self.tmux(&["has-session", "-t", &format!("=moadim-{run}")]) == there).then_some(())
        });
    }

    /// Starts another run, whose window cannot be opened, and returns why.
    fn windowless(&mut self) -> String {
        let run = self.server.trigger("next");
        let problem = window_problem(&mut self.server, &run);
        assert_eq!(self.server.stop(&run)["status"], "stopped");
        problem
    }

    /// Makes an old workbench as another program leaves it, with a session on the user's own server.
    fn start_foreign(&self) -> String {
        let run = make_foreign(&self.home);
        self.users_tmux(&["new-session", "-d", "-s", &format!("moadim-{run}"), "sleep 300"]);
        run
    }

    fn users_tmux(&self, words: &[&str]) {
        let mut command = Command::new("tmux");
        command.env_remove("TMUX").env("TMUX_TMPDIR", self.home.tmux_directory()).args(["-f", "/dev/null"]).args(words);
        assert!(command.output().unwrap().status.success(), "{words:?}");
    }
}

/// Returns why a run that is alive has no window, once that is known.
fn window_problem(server: &mut Server, run: &str) -> String {
    wait_for(PATIENCE, "why it has no window", || {
        let shown = server.ok("get_run", json!({ "run": run }));
        assert_eq!(shown["run"]["status"], "running", "{shown}");
        shown["window_problem"].as_str().map(str::to_owned)
    })
}

/// Makes an old workbench as another program leaves it.
fn make_foreign(home: &TestHome) -> String {
    let run = "theirs-1000000000".to_owned();
    home.write(format!("workbenches/{run}/agent.log"), "theirs\n");
    let log = File::options().append(true).open(home.workbench(&run).join("agent.log")).unwrap();
    log.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    run
}

/// Puts a real program among the scripts of the test.
fn use_real(home: &TestHome, name: &str) {
    let path = std::env::var("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.exists()).unwrap();
    std::fs::create_dir_all(home.scripts()).unwrap();
    let _ = std::fs::remove_file(home.scripts().join(name));
    std::os::unix::fs::symlink(real, home.scripts().join(name)).unwrap();
}

/// Longer than tmux's answers are waited for, and much shorter than it hangs.
const BOUND: Duration = Duration::from_secs(30);

#[test]
fn a_tmux_that_is_gone_strange_forbidden_or_hung_is_no_evidence() {
    let Some(mut windowed) = Windowed::start() else { return };
    let live = Live::start(&windowed.home, &mut windowed.server, "Live");
    let theirs = windowed.start_foreign();
    windowed.server.create("Next", "sleep 300", json!({}));
    let asked = windowed.home.scratch().join("asked");
    let hung = format!("echo \"$@\" >> {}; exec sleep 300", asked.display());
    let faults = [
        (None, "was not found", "cannot run"),
        (Some("echo 'the moon is full' >&2; exit 1"), "the moon is full", "the moon is full"),
        (
            Some("echo 'error connecting to /x (Permission denied)' >&2; exit 1"),
            "Permission denied",
            "Permission denied",
        ),
        (Some(&hung), "in time", "in time"),
    ];
    for (script, words, of_the_window) in faults {
        windowed.replace_tmux(script);
        let Windowed { home, server } = &mut windowed;
        let began = Instant::now();
        let report = live.assert_spared(home, server, "running", None);
        assert!(began.elapsed() < BOUND, "{words}: {:?}", began.elapsed());
        let kept = kept_because(&report, &theirs);
        assert!(kept.contains("its state is unknown") && kept.contains(words), "{kept}");
        let began = Instant::now();
        let problem = windowed.windowless();
        assert!(began.elapsed() < BOUND && problem.contains(of_the_window), "{:?}: {problem}", began.elapsed());
    }
    // Each is waited for: one by the clean-up, one for the window.
    let asked = std::fs::read_to_string(asked).unwrap();
    assert!(asked.lines().count() <= 2, "{asked}");
    // A run ends all the same, whatever becomes of its window.
    let began = Instant::now();
    assert_eq!(windowed.server.stop(&live.run)["status"], "stopped");
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    use_real(&windowed.home, "tmux");
    assert!(kept_because(&windowed.server.clean_up(), &theirs).contains("alive"));
}

#[test]
fn a_socket_that_was_deleted_or_replaced_is_no_evidence_and_another_server_opens() {
    let Some(mut windowed) = Windowed::start() else { return };
    let live = Live::start(&windowed.home, &mut windowed.server, "Live");
    let theirs = windowed.start_foreign();
    let socket = windowed.home.root().join("tmux.sock");
    windowed.server.create("Next", "sleep 300", json!({}));
    windowed.await_window(&live.run, true);

    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "").unwrap();
    let report = live.assert_spared(&windowed.home, &mut windowed.server, "running", None);
    assert!(kept_because(&report, &theirs).contains("alive"), "{report}");
    let problem = windowed.windowless();
    assert!(problem.contains("tmux.sock") && problem.contains("move it away"), "{problem}");

    std::fs::remove_file(&socket).unwrap();
    let next = windowed.server.trigger("next");
    windowed.await_window(&next, true);
    std::fs::remove_file(&socket).unwrap();
    live.assert_spared(&windowed.home, &mut windowed.server, "running", None);
    for run in [&next, &live.run] {
        assert_eq!(windowed.server.stop(run)["status"], "stopped");
    }
    // Windows leave with their runs, also where nobody can reach their server.
    wait_for(PATIENCE, "both servers to leave", || {
        let follows = |one: &crate::harness::Seen| one.command.contains(" follow ");
        (!windowed.home.processes().iter().any(follows)).then_some(())
    });
}

/// Permissions bind no root, so the program is nobody's here, which may not even read the original of it.
#[test]
fn a_socket_that_forbids_us_is_no_evidence() {
    let Some(home) = Host::Tmux.home().filter(|_| root_may_become_another_user()) else { return };
    home.configure("session_host = \"tmux\"\nkill_grace_secs = 1\nwatchdog_interval_secs = 600\n");
    std::fs::create_dir(home.scripts()).unwrap();
    let program = home.scripts().join("moadim-mcp");
    copy_program(env!("CARGO_BIN_EXE_moadim-mcp"), &program);
    give_to_nobody(home.scratch());
    let mut server = Server::start_with(run_as_nobody(&home.command_of(&program)));
    let live = Live::start(&home, &mut server, "Live");
    server.create("Next", "sleep 300", json!({}));
    let theirs = make_foreign(&home);
    give_to_nobody(&home.workbench(&theirs));
    // The server of that user's own.
    let users = home.tmux_directory().join("tmux-65534");
    std::fs::create_dir_all(&users).unwrap();
    std::os::unix::net::UnixListener::bind(users.join("default")).unwrap();
    give_to_nobody(&home.tmux_directory());

    let socket = home.root().join("tmux.sock");
    wait_for(PATIENCE, "the window", || socket.exists().then_some(()));
    let allow =
        |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    allow(&socket, 0o000);
    allow(&users.join("default"), 0o000);
    allow(&users, 0o700);
    let report = live.assert_spared(&home, &mut server, "running", None);
    let kept = kept_because(&report, &theirs);
    assert!(kept.contains("its state is unknown") && kept.contains("Permission denied"), "{kept}");
    let next = server.trigger("next");
    let problem = window_problem(&mut server, &next);
    assert!(problem.contains("Permission denied"), "{problem}");
    for run in [&next, &live.run] {
        assert_eq!(server.stop(run)["status"], "stopped");
    }
    std::fs::remove_file(users.join("default")).unwrap();
}

#[test]
fn other_sessions_and_a_persons_windows_say_nothing() {
    let Some(mut windowed) = Windowed::start() else { return };
    let live = Live::start_with(
        &windowed.home,
        &mut windowed.server,
        "Live",
        "until [ -e \"$HOME/go\" ]; do sleep 0.05; done",
    );
    let name = format!("moadim-{}", live.run);
    windowed.users_tmux(&["new-session", "-d", "-s", &name, "sleep 300"]);
    let crowd = (0..60).map(|number| format!("moadim-{}{number}", live.run)).collect::<Vec<_>>();
    let words: Vec<&str> =
        crowd.iter().flat_map(|name| ["new-session", "-d", "-s", name.as_str(), "sleep 300", ";"]).collect();
    windowed.users_tmux(&words[..words.len() - 1]);
    live.assert_spared(&windowed.home, &mut windowed.server, "running", None);
    windowed.await_window(&live.run, true);
    assert!(windowed.tmux(&["new-window", "-d", "-t", &format!("={name}:"), "sleep 300"]));
    live.assert_spared(&windowed.home, &mut windowed.server, "running", None);

    std::fs::write(windowed.home.user().join("go"), "").unwrap();
    windowed.server.wait_for_run(&live.run, "succeeded");
    assert!(!windowed.home.entry(&live.run).exists());
    windowed.users_tmux(&["has-session", "-t", &format!("={name}")]);
    // Its own window leaves, and those that remain keep nothing.
    let removed = wait_for(PATIENCE, "the retention to pass", || {
        let report = windowed.server.clean_up();
        (report["removed"] != json!([])).then_some(report)
    });
    assert_eq!(removed["removed"][0]["run"], live.run);
    assert!(!windowed.home.workbench(&live.run).exists());
}
