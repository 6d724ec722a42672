//! Processes of a run that hide what they would be recognised by: their supervisor is killed, and their run is alive all the same.

use std::path::Path;
use std::time::Duration;

use crate::harness::{
    PATIENCE, Scene, Server, TestHome, copy_program, give_to_nobody, root_may_become_another_user, run_as_nobody, text,
    wait_for, wait_until,
};
use serde_json::json;

/// A daemon whose first thread ends, while another one goes on writing into the workbench.
const HEADLESS: &str = "
import ctypes, os, threading, time
os.setsid()
def write():
    while True:
        open('written', 'a').write('x'); time.sleep(0.05)
threading.Thread(target=write).start()
open('there', 'w').write(str(os.getpid()))
ctypes.CDLL(None).pthread_exit(None)
";

/// A daemon without the cookie.
const BARE: &str = "
import os, time
os.setsid()
open('there', 'w').write(str(os.getpid()))
time.sleep(600)
";

/// A daemon whose environment nobody of its own user may read, as with a key agent.
const HIDDEN: &str = "
import ctypes, os, time
os.setsid()
ctypes.CDLL(None).prctl(4, 0)
open('there', 'w').write(str(os.getpid()))
time.sleep(600)
";

/// Returns a prompt that starts a daemon as an orphan, and hangs.
fn prompt(daemon: &str, through: &str) -> String {
    format!(
        "cat > daemon.py <<'END'\n{daemon}\nEND\n({through} python3 daemon.py > /dev/null 2>&1 < /dev/null &)\nexec sleep 300"
    )
}

/// Kills the supervisor and the agent of a run once its daemon is there, and makes sure that the daemon keeps it alive until it is
/// stopped.
fn kept_alive(home: &TestHome, server: &mut Server, title: &str, prompt: &str, is_written_down: bool) {
    let run = server.start_run(title, prompt, json!({ "ttl_secs": 1 }));
    let workbench = home.workbench(&run);
    let read = |path: &Path| std::fs::read_to_string(path).ok().filter(|text| !text.is_empty());
    let pid = wait_for(PATIENCE, "the daemon", || read(&workbench.join("there")));
    if is_written_down {
        wait_for(PATIENCE, "the daemon to be written down", || {
            let record = home.json(format!("running/{run}/processes.json"))?;
            record["processes"]["known"].to_string().contains(&format!("\"pid\":{pid},")).then_some(())
        });
    }
    let [supervisor, agent] = ["supervisor", "agent"].map(|who| home.noted(&run, who));
    supervisor.kill();
    agent.kill();
    wait_until("both to be gone", || !supervisor.id.is_alive() && !agent.id.is_alive());
    wait_until("its retention to pass", || {
        let stamp: u64 = run.rsplit_once('-').unwrap().1.parse().unwrap();
        moadim_mcp::clock::UnixSeconds::now().0 > stamp + 2
    });
    let report = server.clean_up();
    let seen = server.run(&run);
    assert_eq!(seen["status"], "running", "{seen} {report}");
    assert!(text(&seen["status_reason"]).contains(&format!("pid {pid}")), "{seen}");
    assert!(workbench.exists() && Path::new("/proc").join(&pid).exists());
    assert_eq!(server.stop(&run)["status"], "stopped");
    // A process that ended is there until its new parent has noticed.
    wait_for(Duration::from_secs(20), "the daemon's end", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map_or("X", |(_, rest)| &rest[..1]);
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        (matches!(state, "X" | "Z") && threads <= 1).then_some(())
    });
}

#[test]
fn a_daemon_without_its_first_thread_or_without_the_cookie_keeps_its_run_alive() {
    let (home, mut server) = Scene::new().config("watchdog_interval_secs = 600\n").start();
    kept_alive(&home, &mut server, "Headless", &prompt(HEADLESS, ""), false);
    kept_alive(&home, &mut server, "Bare", &prompt(BARE, "env -i PATH=/usr/bin:/bin:/usr/local/bin"), true);
}

#[test]
fn a_daemon_that_hides_its_environment_keeps_its_run_alive() {
    if !root_may_become_another_user() {
        return;
    }
    let home = TestHome::detached("watchdog_interval_secs = 600\n");
    let program = home.scratch().join("moadim-mcp");
    copy_program(env!("CARGO_BIN_EXE_moadim-mcp"), &program);
    give_to_nobody(home.scratch());
    let mut server = Server::start_with(run_as_nobody(&home.command_of(&program)));
    kept_alive(&home, &mut server, "Hidden", &prompt(HIDDEN, ""), true);
}
