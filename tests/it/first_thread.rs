//! A daemon whose first thread has ended works on: its run lives, whichever thread is killed, and ends with it.

use crate::harness::{Live, PATIENCE, Scene, wait_for, wait_until};
use moadim_mcp::process_tree::ProcessId;

/// Tells its pid once only its second thread is left, which writes on in the workbench.
const DAEMON: &str = "\
import ctypes, os, threading, time
def work():
    while open('/proc/self/stat').read().rsplit(')', 1)[1].split()[0] != 'Z': time.sleep(0.01)
    open('pid.new', 'w').write(str(os.getpid()))
    os.rename('pid.new', 'pid')
    while True:
        open('work', 'a').write('x')
        time.sleep(0.05)
threading.Thread(target=work).start()
ctypes.CDLL(None).pthread_exit(None)
";

#[test]
fn a_daemon_whose_first_thread_has_ended_keeps_its_run_alive() {
    let (home, mut server) = Scene::unwatched().start();
    home.write("daemon.py", DAEMON);
    let prompt = format!("setsid python3 {} & exec sleep 301", home.root().join("daemon.py").display());
    let live = Live::start_with(&home, &mut server, "Headless", &prompt);
    let written = home.workbench(&live.run).join("pid");
    let pid = wait_for(PATIENCE, "the daemon", || std::fs::read_to_string(&written).ok());
    let daemon = ProcessId::of(pid.parse().unwrap()).expect("it lives");

    let supervisor = home.noted(&live.run, "supervisor");
    supervisor.kill();
    live.agent.kill();
    wait_until("both to be gone", || !supervisor.id.is_alive() && !live.agent.id.is_alive());
    live.outlive_its_retention();
    let report = server.clean_up();
    let seen = server.run(&live.run);
    assert_eq!(seen["status"], "running", "{seen} {report}");
    assert!(daemon.is_alive() && home.workbench(&live.run).exists(), "{report}");

    assert_eq!(server.stop(&live.run)["status"], "stopped");
    assert!(!daemon.is_alive());
    assert_eq!(home.history(&live.run).len(), 1);
}
